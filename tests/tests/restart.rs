//! A daemon that ends leaves nothing behind; one that is killed leaves what the next one takes over.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use dataplane_ebpf::abi::SCHEMA;
use dataplane_ebpf::dissect::native::{Header, TYPE_DATA};
use dataplane_user::api::Client as Api;
use jumpgate_tests::address::Family;
use jumpgate_tests::config::Config;
use jumpgate_tests::daemon::Daemon;
use jumpgate_tests::fleet::{self, Fleet, Options};
use jumpgate_tests::inbox::Inbox;
use jumpgate_tests::ip::Batch;
use jumpgate_tests::mounts::BPFFS;
use jumpgate_tests::probe;
use jumpgate_tests::require_root;
use jumpgate_tests::topology::{Cluster, Node};
use jumpgate_tests::xdp;
use nix::net::if_::if_nametoindex;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(10);

/// The id of the XDP program on a node's first link.
fn program(node: &Node) -> Result<Option<u64>> {
    program_on(node, "eth0")
}

fn program_on(node: &Node, link: &str) -> Result<Option<u64>> {
    let output = node.namespace().command("ip").args(["-json", "link", "show", link]).output()?;
    let links: Value = serde_json::from_slice(&output.stdout).context("reading `ip -json link`")?;
    ensure!(links[0]["ifname"] == link, "{links}");
    Ok(links[0]["xdp"]["prog"]["id"].as_u64())
}

/// A network of one node with two links, and the configuration that attaches to both.
fn two_links() -> Result<(Cluster, Config)> {
    let cluster = Cluster::builder().nodes(1).uplinks(2).build()?;
    let config = fleet::config(&cluster, &cluster.nodes()[0], &Options::default());
    ensure!(config.interfaces.len() == 2, "{:?}", config.interfaces);
    Ok((cluster, config))
}

/// Where a link of node a is pinned.
fn pin(link: &str) -> String {
    format!("{BPFFS}/jumpgate/a/links/{link}")
}

/// Where the fence of a link of node a is pinned.
fn fence_pin(node: &Node, link: &str) -> Result<String> {
    let ifindex = node.namespace().run(|| if_nametoindex(link))?;
    Ok(pin(&format!("{ifindex}:egress")))
}

/// Where the links of a node are pinned: steering and fence of each.
fn pins_of(node: &Node, links: &[&str]) -> Result<Vec<String>> {
    let mut pins: Vec<_> = links.iter().map(|link| pin(link)).collect();
    for link in links {
        pins.push(fence_pin(node, link)?);
    }
    pins.sort();
    Ok(pins)
}

/// Gives a link of a node another name.
fn rename(node: &Node, from: &str, to: &str) -> Result<()> {
    let mut batch = Batch::new();
    batch.add(format!("link set {from} down"));
    batch.add(format!("link set {from} name {to}"));
    batch.add(format!("link set {to} up"));
    batch.run(node.namespace())
}

/// The links that are pinned on a node's bpffs.
fn pins(node: &Node) -> Result<Vec<String>> {
    let mut pins = all_pins(node)?;
    let maps = format!("/jumpgate/a/maps/v{SCHEMA}-");
    pins.retain(|path| !path.contains(&maps));
    Ok(pins)
}

/// What is pinned on a node's bpffs.
fn all_pins(node: &Node) -> Result<Vec<String>> {
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
        found.sort();
        Ok(())
    }
    node.mounts().run(node.namespace(), || {
        let mut found = Vec::new();
        walk(Path::new(BPFFS), &mut found)?;
        Ok(found)
    })
}

/// The pins of the XDP program's links.
fn steering(node: &Node) -> Result<Vec<String>> {
    let mut pins = pins(node)?;
    pins.retain(|pin| !pin.ends_with(":egress"));
    Ok(pins)
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
    ensure!(pins(node)? == pins_of(node, &["eth0"])?, "{:?}", pins(node)?);
    ensure!(all_pins(node)?.len() > 5, "{:?}", all_pins(node)?);
    ensure!(fleet.daemons[0].socket().exists());

    fleet.daemons[0].stop()?;
    ensure!(program(node)?.is_none(), "the program is still on eth0");
    ensure!(all_pins(node)?.is_empty(), "{:?}", all_pins(node)?);
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
fn a_new_epoch_begins_after_a_daemon_that_ended_and_with_one_that_is_told_to() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).build()?;
    let node = &cluster.nodes()[0];
    let config = fleet::config(&cluster, node, &Options::default());
    let mut epochs = Vec::new();
    let mut programs = Vec::new();
    // How each is told to start, and how it ends.
    for (arguments, ends) in [(&[][..], true), (&[], false), (&[], false), (&["--fresh"], false)] {
        let mut daemon = Daemon::start_with(&cluster, node, &config, arguments)?;
        let mut api = Api::connect(daemon.socket())?;
        epochs.push(api.status()?.epoch);
        programs.extend(program(node)?);
        if ends {
            daemon.stop()?;
        } else {
            daemon.kill()?;
            ensure!(program(node)? == programs.last().copied(), "the pin keeps the program");
        }
    }
    ensure!(epochs == [1, 2, 2, 3], "{epochs:?}");
    programs.dedup();
    ensure!(programs.len() == 4, "each daemon brings its own program: {programs:?}");
    Ok(())
}

#[test]
fn an_application_hands_the_same_sockets_to_the_next_daemon() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).build()?;
    let node = &cluster.nodes()[0];
    let mut config = fleet::config(&cluster, node, &Options::default());
    config.services[1].control = Some("application");
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

#[test]
fn a_program_left_on_a_link_that_is_configured_no_longer_is_taken_off() -> Result<()> {
    require_root!();
    for pins_stay in [true, false] {
        let (cluster, mut config) = two_links()?;
        let node = &cluster.nodes()[0];
        let mut daemon = Daemon::start(&cluster, node, &config)?;
        daemon.kill()?;
        ensure!(program_on(node, "eth1")?.is_some(), "the pin keeps the program");

        config.interfaces.pop();
        config.pins.enabled = Some(pins_stay);
        // Tables cannot be taken over without a pin.
        let arguments: &[&str] = if pins_stay { &[] } else { &["--fresh"] };
        let daemon = Daemon::start_with(&cluster, node, &config, arguments)?;
        Api::connect(daemon.socket())?.status()?;
        ensure!(program_on(node, "eth1")?.is_none(), "the program is still on eth1");
        ensure!(program(node)?.is_some());
        // Replies may leave by both.
        let mut expected = match pins_stay {
            true => vec![pin("eth0"), fence_pin(node, "eth0")?, fence_pin(node, "eth1")?],
            false => vec![],
        };
        expected.sort();
        ensure!(pins(node)? == expected, "{:?}", pins(node)?);
        ensure!(pins_stay || all_pins(node)?.is_empty(), "{:?}", all_pins(node)?);
        ensure!(daemon.log().contains("an earlier daemon's program was left there: detached"));
    }
    Ok(())
}

#[test]
fn a_link_that_took_the_name_of_another_gets_its_own_program() -> Result<()> {
    require_root!();
    let (cluster, mut config) = two_links()?;
    let node = &cluster.nodes()[0];
    config.interfaces.pop();
    let mut daemon = Daemon::start(&cluster, node, &config)?;
    daemon.kill()?;

    rename(node, "eth0", "old0")?;
    rename(node, "eth1", "eth0")?;
    let daemon = Daemon::start(&cluster, node, &config)?;
    Api::connect(daemon.socket())?.status()?;
    ensure!(program(node)?.is_some(), "nothing is on eth0");
    ensure!(program_on(node, "old0")?.is_none(), "the program is still on the link of before");
    ensure!(steering(node)? == [pin("eth0")], "{:?}", pins(node)?);
    Ok(())
}

#[test]
fn a_link_whose_name_has_a_dot_is_pinned_too() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).build()?;
    let node = &cluster.nodes()[0];
    let mut config = fleet::config(&cluster, node, &Options::default());
    // As a VLAN's would be; not every kernel has those.
    Batch::new().add("link add name eth0.7 type bridge").run(node.namespace())?;
    config.interfaces[0].name = "eth0.7".to_owned();
    config.interfaces[0].mode = "skb";
    for _ in 0..2 {
        let mut daemon = Daemon::start(&cluster, node, &config)?;
        daemon.kill()?;
        ensure!(program_on(node, "eth0.7")?.is_some(), "the pin keeps the program");
        ensure!(steering(node)? == [pin("eth0%2e7")], "{:?}", pins(node)?);
    }
    Ok(())
}

#[test]
fn a_link_taken_over_is_reported_in_the_mode_that_it_has() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).build()?;
    let node = &cluster.nodes()[0];
    let mut config = fleet::config(&cluster, node, &Options::default());
    for (first, second, mode) in [("skb", "auto", "skb"), ("native", "skb", "native")] {
        config.interfaces[0].mode = first;
        let mut daemon = Daemon::start(&cluster, node, &config)?;
        daemon.kill()?;
        config.interfaces[0].mode = second;
        let mut daemon = Daemon::start(&cluster, node, &config)?;
        let output = daemon
            .command()?
            .args(["status", "--json", "--config"])
            .arg(daemon.config())
            .output()?;
        let status: Value = serde_json::from_slice(&output.stdout).context("reading the status")?;
        ensure!(status["interfaces"][0]["mode"] == mode, "{first}, then {second}: {status}");
        let is_said = status["warnings"].to_string().contains("eth0 runs in the kernel's generic");
        ensure!(is_said == (second == "auto"), "{status}");
        daemon.stop()?;
    }
    Ok(())
}

#[test]
fn a_start_that_fails_leaves_the_program_that_it_took_over() -> Result<()> {
    require_root!();
    let (cluster, mut config) = two_links()?;
    let node = &cluster.nodes()[0];
    let both = config.interfaces.clone();
    config.interfaces.pop();
    let mut daemon = Daemon::start(&cluster, node, &config)?;
    daemon.kill()?;
    let first = program(node)?;
    ensure!(first.is_some());

    // A socket that cannot be made is noticed before anything is touched.
    let socket = std::mem::replace(&mut config.api.socket, "/proc/jumpgate/api.sock".into());
    ensure!(Daemon::start(&cluster, node, &config).is_err());
    ensure!(program(node)? == first, "the program is another one");
    config.api.socket = socket;

    // The second link is taken when the first has been taken over.
    let other = xdp::Attached::new(node.namespace(), "eth1", &xdp::PASS)?;
    config.interfaces = both;
    ensure!(Daemon::start(&cluster, node, &config).is_err());
    ensure!(daemon.log().contains("another XDP program is attached to eth1"));
    ensure!(program(node)?.is_some(), "forwarding ended");
    ensure!(steering(node)? == [pin("eth0")], "{:?}", pins(node)?);

    drop(other);
    let daemon = Daemon::start(&cluster, node, &config)?;
    Api::connect(daemon.socket())?.status()?;
    ensure!(pins(node)? == pins_of(node, &["eth0", "eth1"])?, "{:?}", pins(node)?);
    Ok(())
}
