//! A daemon that ends leaves nothing behind, and the next one takes over in a new epoch.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use dataplane_ebpf::dissect::native::{Header, TYPE_DATA};
use dataplane_user::api::Client as Api;
use jumpgate_tests::address::Family;
use jumpgate_tests::daemon::Daemon;
use jumpgate_tests::fleet::{self, Fleet, Options};
use jumpgate_tests::inbox::Inbox;
use jumpgate_tests::mounts::BPFFS;
use jumpgate_tests::probe;
use jumpgate_tests::require_root;
use jumpgate_tests::topology::{Cluster, Node};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(10);

/// The id of the XDP program on a node's link.
fn program(node: &Node) -> Result<Option<u64>> {
    let output = node.namespace().command("ip").args(["-json", "link", "show", "eth0"]).output()?;
    let links: Value = serde_json::from_slice(&output.stdout).context("reading `ip -json link`")?;
    ensure!(links[0]["ifname"] == "eth0", "{links}");
    Ok(links[0]["xdp"]["prog"]["id"].as_u64())
}

/// What is pinned on a node's bpffs.
fn pins(node: &Node) -> Result<Vec<String>> {
    fn walk(folder: &Path, found: &mut Vec<String>) -> Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                walk(&entry.path(), found)?;
            } else {
                found.push(entry.path().display().to_string());
            }
        }
        // The kernel's own.
        found.retain(|path| !path.ends_with(".debug"));
        Ok(())
    }
    node.mounts().run(node.namespace(), || {
        let mut found = Vec::new();
        walk(Path::new(BPFFS), &mut found)?;
        Ok(found)
    })
}

#[test]
fn sigterm_takes_everything_out_of_the_kernel() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(2).build()?;
    let node = &cluster.nodes()[0];
    ensure!(program(node)?.is_none());
    let mut fleet = Fleet::start(&cluster, &Options::default())?;
    cluster.route_vips_to(&[0])?;
    let mut swarm = fleet::swarm(&cluster, Family::V4, 1, 20)?;
    swarm.open(PATIENCE)?;
    swarm.send();
    ensure!(swarm.settle(PATIENCE)?, "{:?}", swarm.counts());
    ensure!(program(node)?.is_some());
    ensure!(pins(node)? == [format!("{BPFFS}/jumpgate/a/eth0")], "{:?}", pins(node)?);
    ensure!(fleet.daemons[0].socket().exists());

    fleet.daemons[0].stop()?;
    ensure!(program(node)?.is_none(), "the program is still on eth0");
    ensure!(pins(node)?.is_empty(), "{:?}", pins(node)?);
    ensure!(!fleet.daemons[0].socket().exists(), "the socket is still there");

    // The application is still there, but gets nothing any more.
    let before = swarm.counts();
    swarm.send();
    swarm.receive_for(Duration::from_millis(200))?;
    let after = swarm.counts();
    ensure!(after.sent == before.sent + 20 && after.answered == before.answered, "{after:?}");
    Ok(())
}

#[test]
fn every_daemon_of_a_node_has_a_higher_epoch() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).build()?;
    let node = &cluster.nodes()[0];
    let config = fleet::config(&cluster, node, &Options::default());
    let mut epochs = Vec::new();
    let mut programs = Vec::new();
    for round in 0..3 {
        let mut daemon = Daemon::start(&cluster, node, &config)?;
        let mut api = Api::connect(daemon.socket())?;
        epochs.push(api.status()?.epoch);
        programs.extend(program(node)?);
        // However it ends.
        if round == 0 {
            daemon.stop()?;
        } else {
            daemon.kill()?;
            ensure!(program(node)? == programs.last().copied(), "the pin keeps the program");
        }
    }
    ensure!(epochs == [1, 2, 3], "{epochs:?}");
    programs.dedup();
    ensure!(programs.len() == 3, "each daemon brings its own program: {programs:?}");
    Ok(())
}

#[test]
fn an_application_hands_the_same_sockets_to_the_next_daemon() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).build()?;
    let node = &cluster.nodes()[0];
    let config = fleet::config(&cluster, node, &Options::default());
    let [service, other] = &config.services[..] else { bail!("{:?}", config.services) };
    let mut daemon = Daemon::start(&cluster, node, &config)?;
    let inbox = Inbox::open(node.namespace(), daemon.socket(), service, false, 2)?;
    let another = Inbox::open(node.namespace(), daemon.socket(), other, true, 2)?;
    let host = &cluster.clients()[0];
    let client = host.namespace().run(|| UdpSocket::bind((host.address(Family::V4), 0)))?;
    for round in 0..5u8 {
        for cpu in [0, 1] {
            let session = Api::connect(daemon.socket())?.open(&service.name, cpu)?.session;
            let session = session.parse::<ownership::SessionId>()?.bytes();
            let (bytes, length) = Header { kind: TYPE_DATA, session, owner: None }.encode();
            let packet = [&bytes[..length], &[round]].concat();
            client.send_to(&packet, (service.address, service.port))?;
            let received = inbox.receive(PATIENCE)?;
            ensure!(
                received.as_ref().is_some_and(|got| got.cpu == cpu && got.payload == packet),
                "round {round}: {received:?}",
            );
        }
        if round % 2 == 0 {
            daemon.kill()?;
        } else {
            daemon.stop()?;
        }
        daemon = Daemon::start(&cluster, node, &config)?;
        // The kernel lets a socket go when the last group has left the earlier daemon's array: so
        // the first attempts may fail.
        let mut waiting = vec![(&inbox, service, false), (&another, other, true)];
        let taken = probe::until(PATIENCE, || {
            waiting.retain(|(inbox, service, control)| {
                inbox.hand_over(daemon.socket(), &service.name, *control).is_err()
            });
            waiting.is_empty()
        });
        ensure!(taken, "round {round}: not taken: {waiting:?}");
    }
    Ok(())
}

#[test]
fn a_node_has_one_daemon_at_a_time() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).build()?;
    let node = &cluster.nodes()[0];
    let config = fleet::config(&cluster, node, &Options::default());
    let daemon = Daemon::start(&cluster, node, &config)?;
    let first = program(node)?;

    let mut second = daemon.command()?;
    second.args(["run", "--config"]).arg(daemon.config()).stdin(Stdio::null());
    let output = second.output()?;
    let message = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(1), "{message}");
    ensure!(message.contains("another daemon runs for this node"), "{message}");
    ensure!(message.contains("stop it first"), "{message}");

    // The first one did not notice.
    ensure!(program(node)? == first);
    let mut api = Api::connect(daemon.socket())?;
    ensure!(api.status()?.epoch == 1 && api.status()?.fence_open_ms > 0);
    Ok(())
}
