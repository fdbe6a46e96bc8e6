//! An application with Jumpgate: a service of the native protocol that repeats what its clients send, on all
//! nodes of a cluster, and goes on with sessions that are handed from one to another.
//!
//! ```text
//! echo_gateway /run/jumpgate/a.sock /run/jumpgate/a.sessions.sock echo 198.51.100.1:7000 0,1
//! ```
//!
//! serves the service "echo" on CPUs 0 and 1, those of `sessions.cpus`. `gateway.rs` is the application.

#[expect(dead_code, reason = "tests ask more of it")]
mod gateway;

use anyhow::{Context, Result, bail};
use gateway::{Gateway, Options};
use std::env;

fn main() -> Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [api, sessions_api, service, address, cpus] = &arguments[..] else {
        bail!("usage: echo_gateway API_SOCKET SESSIONS_SOCKET SERVICE ADDRESS:PORT CPU,CPU,...");
    };
    let cpus = cpus.split(',').map(str::parse).collect::<Result<_, _>>();
    let gateway = Gateway::start(Options {
        name: "echo".to_owned(),
        api: api.into(),
        sessions_api: sessions_api.into(),
        service: service.clone(),
        address: address.parse().context("ADDRESS:PORT is an address and a port")?,
        cpus: cpus.context("CPUs are numbers")?,
    })?;
    gateway.wait()
}
