//! An application over AF_XDP: a service of the native protocol that repeats what its clients send.
//!
//! ```text
//! af_xdp_echo /run/jumpgate/a.sock eth0 0
//! ```
//!
//! serves queue 0 of eth0 for all services with `deliver = "af_xdp"`. Run it once for each queue.

use anyhow::{Context, Result, bail};
use dataplane_ebpf::dissect::native::{Header, TYPE_DATA, TYPE_OPEN, TYPE_OPENED};
use dataplane_user::{
    af_xdp::{Options, Port},
    api::Client,
};
use ownership::SessionId;
use std::{collections::BTreeMap, env, path::Path, time::Duration};

fn main() -> Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [daemon, interface, queue] = &arguments[..] else {
        bail!("usage: af_xdp_echo SOCKET INTERFACE QUEUE");
    };
    let mut daemon = Client::connect(Path::new(daemon))?;
    let queue = queue.parse().context("QUEUE is a number")?;
    let mut port = Port::open(&mut daemon, &Options::new(interface, queue))?;
    println!("zero-copy: {}", port.is_zero_copy());
    let names: BTreeMap<u16, String> =
        port.services().map(|(index, name)| (index, name.to_owned())).collect();
    // Owner epoch and state_version of each session, which its answers carry.
    let mut owners = BTreeMap::new();
    loop {
        port.wait(Duration::from_secs(1))?;
        port.receive(|datagram, sender| {
            let Some((asked, payload)) = Header::decode(datagram.payload()) else { return };
            let (kind, session, payload) = match asked.kind {
                TYPE_OPEN => {
                    let Ok(opened) = daemon.open(&names[&datagram.service()], 0) else { return };
                    let Ok(session) = opened.session.parse::<SessionId>() else { return };
                    owners.insert(session.bytes(), (opened.epoch, opened.version));
                    // The client knows its answer by the bytes that it chose.
                    (TYPE_OPENED, session.bytes(), &asked.session[..])
                }
                TYPE_DATA => (TYPE_DATA, asked.session, payload),
                _ => return,
            };
            let owner = owners.get(&session).copied();
            let (header, length) = Header { kind, session, owner }.encode();
            // What may not be sent is counted; the client asks again.
            if let Err(error) = sender.reply(datagram, &[&header[..length], payload]) {
                eprintln!("{}: {error}", datagram.client());
            }
        })?;
        if port.lease().is_none() {
            eprintln!(
                "this node may not deliver; a daemon with new tables needs a new registration"
            );
        }
    }
}
