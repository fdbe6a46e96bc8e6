//! A real etcd for nodes of a test network: the servers that the library's own tests start.

#[path = "../../../ownership/tests/etcd/cluster.rs"]
#[expect(dead_code, reason = "etcd's own tests do more to a cluster")]
pub mod cluster;
#[path = "../../../ownership/tests/etcd/network.rs"]
#[expect(dead_code, reason = "here the members share a network")]
mod network;

use std::net::IpAddr;

use anyhow::{Result, bail, ensure};
use jumpgate_tests::topology::Cluster;

const MEMBERS: usize = 3;

/// An etcd cluster at the underlay address of the first node; `None` without etcd.
pub fn start(network: &Cluster) -> Result<Option<cluster::Cluster>> {
    let Some(programs) = cluster::Programs::find() else {
        let why = "there is no etcd here: `cargo xtask setup` brings it";
        ensure!(std::env::var_os("CI").is_none(), "{why}, and CI must not skip this");
        eprintln!("skipped: {why}");
        return Ok(None);
    };
    let node = &network.nodes()[0];
    let IpAddr::V4(host) = network.underlay_address(node) else { bail!("an IPv4 underlay") };
    let options = cluster::Options { host: Some(host), ..cluster::Options::default() };
    Ok(Some(node.namespace().run(|| cluster::Cluster::start(programs, MEMBERS, options))))
}
