//! The harness itself: what it builds carries packets as its picture says, and vanishes.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jumpgate_tests::address::Family;
use jumpgate_tests::netns::Namespace;
use jumpgate_tests::topology::Cluster;
use jumpgate_tests::{mounts, probe, require_root, sysctl};

const PORT: u16 = 4000;
const PATIENCE: Duration = Duration::from_secs(2);

/// A socket in a namespace that gives up waiting after [`PATIENCE`].
fn socket(namespace: &Namespace, address: IpAddr, port: u16) -> Result<UdpSocket> {
    let socket = namespace
        .run(|| UdpSocket::bind((address, port)))
        .with_context(|| format!("binding {address} port {port} in {}", namespace.name()))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

#[test]
fn a_client_reaches_the_link_address_of_every_node() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().build()?;
    let client = &cluster.clients()[0];
    for family in Family::ALL {
        for node in cluster.nodes() {
            let server = socket(node.namespace(), node.address(family), PORT)?;
            let local = socket(client.namespace(), client.address(family), 0)?;
            local.send_to(b"ping", server.local_addr()?)?;
            let mut packet = [0; 16];
            let (length, from) = server.recv_from(&mut packet).context("the node got nothing")?;
            ensure!(from == local.local_addr()?, "{from} is not the client");
            server.send_to(&packet[..length], from)?;
            let (length, from) = local.recv_from(&mut packet).context("no answer came back")?;
            ensure!(&packet[..length] == b"ping" && from == server.local_addr()?);
        }
    }
    Ok(())
}

#[test]
fn nodes_reach_each_other_through_the_router() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().build()?;
    for family in Family::ALL {
        let addresses: Vec<_> = cluster.nodes().iter().map(|node| node.address(family)).collect();
        for node in cluster.nodes() {
            probe::reachable(node.namespace(), &addresses, PATIENCE)?;
        }
    }
    Ok(())
}

#[test]
fn the_router_sprays_source_ports_over_all_nodes() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().build()?;
    for family in Family::ALL {
        let arrived = spray(&cluster, family, 300)?;
        for node in cluster.nodes() {
            // 100 are expected; an even hash gives fewer than 50 once in a million runs or less.
            let count = arrived.get(node.name()).copied().unwrap_or(0);
            ensure!(count > 50, "{family:?}: node {} got {count}: {arrived:?}", node.name());
        }
    }
    Ok(())
}

#[test]
fn a_node_that_is_routed_around_gets_nothing() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().build()?;
    cluster.route_vips_to(&[0, 2])?;
    for family in Family::ALL {
        let arrived = spray(&cluster, family, 60)?;
        ensure!(!arrived.contains_key("b"), "{family:?}: {arrived:?}");
        ensure!(arrived.len() == 2, "{family:?}: {arrived:?}");
    }
    Ok(())
}

/// Sends packets to the VIP, each from a port of its own, and counts them per node.
fn spray(cluster: &Cluster, family: Family, packets: usize) -> Result<HashMap<&str, usize>> {
    let vip = cluster.vip(family);
    let mut servers = Vec::new();
    for node in cluster.nodes() {
        let server = socket(node.namespace(), vip, PORT)?;
        server.set_nonblocking(true)?;
        servers.push((node.name(), server));
    }
    let client = &cluster.clients()[0];
    let mut arrived = HashMap::new();
    for host in 0..packets {
        let local = socket(client.namespace(), client.address(family), 0)?;
        local.send_to(&host.to_be_bytes(), (vip, PORT))?;
    }
    let mut total = 0;
    let complete = probe::until(PATIENCE, || {
        for (name, server) in &servers {
            while server.recv(&mut [0; 16]).is_ok() {
                *arrived.entry(*name).or_default() += 1;
                total += 1;
            }
        }
        total >= packets
    });
    ensure!(complete, "{family:?}: only {total} of {packets} arrived: {arrived:?}");
    Ok(arrived)
}

#[test]
fn a_client_may_use_every_address_of_its_pool() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).clients(2).build()?;
    for family in Family::ALL {
        let server = socket(cluster.nodes()[0].namespace(), cluster.vip(family), PORT)?;
        for client in cluster.clients() {
            for host in [1, 77, 254] {
                let address = client.pool_address(family, host);
                let local = socket(client.namespace(), address, 0)?;
                local.send_to(b"here", server.local_addr()?)?;
                let (_, from) = server.recv_from(&mut [0; 16])?;
                ensure!(from == local.local_addr()?, "{from} instead of {address}");
                server.send_to(b"there", from)?;
                local.recv(&mut [0; 16]).context("the answer got lost")?;
            }
        }
    }
    Ok(())
}

#[test]
fn links_have_the_shape_that_was_asked_for() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).node_mtu(1800).queues(2).uplinks(2).build()?;
    let node = &cluster.nodes()[0];
    ensure!(node.interfaces() == ["eth0", "eth1"]);
    for interface in node.interfaces() {
        // sysfs in the node's own mounts shows the node's links.
        let (mtu, queues) = node.mounts().run(node.namespace(), || -> Result<_> {
            let path = format!("/sys/class/net/{interface}");
            let queues = fs::read_dir(format!("{path}/queues"))?.count();
            Ok((fs::read_to_string(format!("{path}/mtu"))?, queues))
        })?;
        ensure!(mtu.trim() == "1800", "{interface} has mtu {mtu}");
        ensure!(queues == 4, "{interface} has {queues} queues, not 2 for each direction");
    }
    Ok(())
}

#[test]
fn settings_are_those_of_the_namespace_and_of_no_other() -> Result<()> {
    require_root!();
    let [one, other] = [Namespace::new("one")?, Namespace::new("other")?];
    sysctl::write(&one, &[("ipv4/ip_forward", "1")])?;
    ensure!(sysctl::read(&one, "ipv4/ip_forward")? == "1");
    ensure!(sysctl::read(&other, "ipv4/ip_forward")? == "0");
    Ok(())
}

#[test]
fn pins_are_private_and_survive_the_process_that_made_them() -> Result<()> {
    require_root!();
    let namespace = Namespace::new("pins")?;
    let [mine, yours] = [mounts::Mounts::new(&namespace)?, mounts::Mounts::new(&namespace)?];
    let directory = format!("{}/jumpgate", mounts::BPFFS);
    let mut mkdir = namespace.command("/bin/mkdir");
    mine.enter(mkdir.arg(&directory));
    ensure!(mkdir.status()?.success());
    ensure!(mine.run(&namespace, || fs::exists(&directory))?);
    ensure!(!yours.run(&namespace, || fs::exists(&directory))?);
    ensure!(!fs::exists(&directory)?);
    Ok(())
}
