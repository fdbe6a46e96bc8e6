//! A daemon that starts afresh after one that was killed: the old epoch ends there and then.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dataplane_ebpf::dissect::native::{Header, TYPE_DATA};
use dataplane_user::api::Client as Api;
use jumpgate_tests::address::Family;
use jumpgate_tests::daemon::Daemon;
use jumpgate_tests::fleet::{self, Fleet, Options, PORT};
use jumpgate_tests::require_root;
use jumpgate_tests::topology::{Cluster, Node};

/// Whether the application answers a packet of a session that is sent on the node itself. Such a
/// packet meets no XDP, only the selector on the application's sockets.
fn is_answered(cluster: &Cluster, node: &Node, session: [u8; 16]) -> Result<bool> {
    let server = SocketAddr::new(cluster.vip(Family::V4), PORT);
    let (header, length) = Header { kind: TYPE_DATA, session, owner: None }.encode();
    let packet = [&header[..length], &7_u64.to_be_bytes()].concat();
    node.namespace().run(|| {
        let socket = UdpSocket::bind((server.ip(), 0)).context("binding")?;
        socket.set_read_timeout(Some(Duration::from_millis(300)))?;
        // Under load an answer may take its time; what is refused never comes.
        for _ in 0..10 {
            socket.send_to(&packet, server)?;
            if socket.recv(&mut [0; 256]).is_ok() {
                return Ok(true);
            }
        }
        Ok(false)
    })
}

#[test]
fn sockets_that_were_not_handed_over_get_nothing_more_under_the_old_lease() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).build()?;
    let options = Options::default();
    let mut fleet = Fleet::start(&cluster, &options)?;
    let node = &cluster.nodes()[0];
    let mut swarm = fleet::swarm(&cluster, Family::V4, 1, 1)?;
    swarm.open(Duration::from_secs(10))?;
    let session = swarm.clients_mut()[0].session().context("a session")?;
    ensure!(is_answered(&cluster, node, session)?, "the application answers to begin with");

    fleet.daemons[0].kill()?;
    // The lease of the dead daemon, 10 seconds long, goes on.
    ensure!(is_answered(&cluster, node, session)?, "a crash alone ends nothing");

    let config = fleet::config(&cluster, node, &options);
    let successor = Daemon::start_with(&cluster, node, &config, &["--fresh"])?;
    let status = Api::connect(successor.socket())?.status()?;
    ensure!(status.epoch == 2 && status.fence_open_ms > 0, "{status:?}");
    ensure!(!is_answered(&cluster, node, session)?, "the old epoch still delivers");
    Ok(())
}
