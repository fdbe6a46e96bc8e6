//! Delivery to AF_XDP sockets: who gets packets, who may send, and until when. Here with daemons; with a
//! port in the test's own hands in `port`.

mod client;
mod port;

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use anyhow::{Context, Result, ensure};
use dataplane_ebpf::dissect::native::{TYPE_CONTROL, TYPE_DATA};
use dataplane_user::af_xdp::{OpenError, Options, Port, PortError};
use dataplane_user::api::{Client as Api, Request};
use jumpgate_tests::address::Family;
use jumpgate_tests::config::{self, Config};
use jumpgate_tests::daemon::Daemon;
use jumpgate_tests::fleet;
use jumpgate_tests::gateway::{Gateway, Serving};
use jumpgate_tests::inbox::Inbox;
use jumpgate_tests::swarm::Swarm;
use jumpgate_tests::topology::{Cluster, Node};
use jumpgate_tests::xsk::{XskGateway, bind};
use jumpgate_tests::{probe, require_root};

use client::{Client, PATIENCE, take};

/// The port of the service with sockets.
const PLAIN: u16 = 7500;

/// The echo services by AF_XDP, and one with sockets.
fn config(cluster: &Cluster, node: &Node) -> Config {
    let mut config = fleet::config(cluster, node, &fleet::Options::default());
    for service in &mut config.services {
        (service.deliver, service.control) = (Some("af_xdp"), Some("application"));
    }
    config.services.push(config::Service::native("plain", cluster.vip(Family::V4), PLAIN));
    config
}

/// A node's daemon with applications of both kinds.
struct Served {
    xsk: Option<XskGateway>,
    _plain: Gateway,
    daemon: Daemon,
}

impl Served {
    fn start(cluster: &Cluster, node: &Node, queues: u32) -> Result<Self> {
        let daemon = Daemon::start(cluster, node, &config(cluster, node))?;
        let namespace = node.namespace();
        let clients = Family::ALL.map(|family| cluster.clients()[0].pool_address(family, 1));
        let xsk = XskGateway::start(namespace, node.name(), daemon.socket(), queues, &clients)?;
        let plain = Serving {
            service: "plain".to_owned(),
            address: (cluster.vip(Family::V4), PLAIN).into(),
        };
        let plain = Gateway::start(namespace, node.name(), daemon.socket(), &[plain], 2)?;
        Ok(Self { xsk: Some(xsk), _plain: plain, daemon })
    }

    /// What ports have counted, of all services together.
    fn count(&self, what: &str) -> Result<u64> {
        let stats = Api::connect(self.daemon.socket())?.stats()?;
        let counts = stats.services.values().chain([&stats.other]);
        Ok(counts.filter_map(|counts| counts.af_xdp.get(what)).sum())
    }

    fn verdict(&self, what: &str) -> Result<u64> {
        let stats = Api::connect(self.daemon.socket())?.stats()?;
        Ok(stats.services.values().filter_map(|counts| counts.verdicts.get(what)).sum())
    }
}

/// Clients that send round after round; every packet is answered by its session's node.
fn all_answered(swarm: &mut Swarm, rounds: u32) -> Result<()> {
    for _ in 0..rounds {
        swarm.send();
        ensure!(swarm.settle(PATIENCE)?, "{:?}", swarm.counts());
    }
    let counts = swarm.counts();
    let strange = counts.moved_sessions + counts.duplicates + counts.strange + counts.stale;
    ensure!(strange == 0, "{counts:?}");
    Ok(())
}

fn sessions_are_served_wherever_their_packets_enter(underlay: Family, queues: u32) -> Result<()> {
    let cluster = Cluster::builder().nodes(2).underlay(underlay).queues(queues).build()?;
    let nodes = cluster.nodes();
    let served: Vec<_> =
        nodes.iter().map(|node| Served::start(&cluster, node, queues)).collect::<Result<_>>()?;
    for node in &served {
        let mut api = Api::connect(node.daemon.socket())?;
        let known = probe::until(PATIENCE, || {
            api.status().is_ok_and(|status| status.nodes.iter().all(|node| node.mac.is_some()))
        });
        ensure!(known, "{:?}", api.status()?.nodes);
    }
    let mut swarms: Vec<_> = Family::ALL
        .map(|family| fleet::swarm(&cluster, family, 1, 20))
        .into_iter()
        .collect::<Result<_>>()?;
    for swarm in &mut swarms {
        swarm.open(PATIENCE)?;
    }
    // First sprayed, then all by way of either node: the other one's are forwarded.
    for entries in [&[0, 1][..], &[0], &[1]] {
        cluster.route_vips_to(entries)?;
        for swarm in &mut swarms {
            all_answered(swarm, 3)?;
        }
    }
    for node in ["a", "b"] {
        let owned = |swarm: &Swarm| {
            swarm.clients().iter().filter_map(|client| client.place()).any(|at| at.node == node)
        };
        ensure!(swarms.iter().all(owned), "node {node} owns no session");
    }
    let (mut delivered, mut sent, mut forwarded) = (0, 0, 0);
    for node in &served {
        delivered += node.count("delivered")?;
        sent += node.count("sent")?;
        forwarded += node.verdict("forward-slot")?;
        ensure!(node.count("bad-checksum")? + node.count("not-owner")? == 0);
    }
    ensure!(delivered == 2 * 20 * 9, "{delivered} delivered");
    ensure!(sent >= delivered + 2 * 20, "{sent} sent");
    ensure!(forwarded > 2 * 20 * 3, "{forwarded} forwarded");

    // A service with sockets beside it is what it was.
    let host = &cluster.clients()[0];
    let client = |n: u8| {
        let server = SocketAddr::new(cluster.vip(Family::V4), PLAIN);
        let address = host.pool_address(Family::V4, 100 + n);
        jumpgate_tests::client::Client::new(host.namespace(), address, server)
    };
    let mut plain = Swarm::new((0..10u8).map(client).collect::<Result<_>>()?);
    plain.open(PATIENCE)?;
    all_answered(&mut plain, 3)?;
    ensure!(served[0].count("delivered")? + served[1].count("delivered")? == delivered);
    Ok(())
}

#[test]
fn sessions_are_served_wherever_their_packets_enter_over_ipv4() -> Result<()> {
    require_root!();
    sessions_are_served_wherever_their_packets_enter(Family::V4, 1)
}

#[test]
fn sessions_are_served_by_a_port_on_each_queue_over_ipv6() -> Result<()> {
    require_root!();
    sessions_are_served_wherever_their_packets_enter(Family::V6, 2)
}

#[test]
fn the_end_of_the_lease_and_of_a_port_end_the_service() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).build()?;
    let node = &cluster.nodes()[0];
    let mut served = Served::start(&cluster, node, 1)?;
    let mut swarm = fleet::swarm(&cluster, Family::V4, 1, 10)?;
    swarm.open(PATIENCE)?;
    all_answered(&mut swarm, 1)?;

    // A port that is closed leaves its queue to nobody. It is closed when the processes are that were
    // just forked by other tests here.
    served.xsk = None;
    let answered = swarm.counts().answered;
    let refused = probe::until(PATIENCE, || {
        swarm.send();
        served.verdict("no-xsk").is_ok_and(|count| count > 0)
    });
    ensure!(refused && swarm.counts().answered == answered, "{:?}", swarm.counts());
    // Another one takes it over.
    let clients = [cluster.clients()[0].pool_address(Family::V4, 1)];
    let restarted =
        XskGateway::start(node.namespace(), node.name(), served.daemon.socket(), 1, &clients)?;
    let mut swarm = fleet::swarm(&cluster, Family::V4, 20, 10)?;
    swarm.open(PATIENCE)?;
    all_answered(&mut swarm, 1)?;
    drop(restarted);

    // A daemon that starts anew: the port has to be registered again, and its sessions are gone.
    let mut port = node.namespace().run(|| {
        let mut port = bind(&Options::new("eth0", 0))?;
        port.register(&mut Api::connect(served.daemon.socket())?)?;
        anyhow::Ok(port)
    })?;
    ensure!(port.lease().is_some());
    ensure!(port.service_name(1) == Some("echo4") && port.service_name(3).is_none());
    served.daemon.stop()?;
    ensure!(port.lease().is_none(), "the fence of a stopped daemon is open");
    served.daemon = Daemon::start(&cluster, node, &config(&cluster, node))?;
    swarm.send();
    let mut api = Api::connect(served.daemon.socket())?;
    port.register(&mut api)?;
    ensure!(port.lease().is_some());
    let session = api.open("echo4", 0)?.session.parse::<ownership::SessionId>()?.bytes();
    let client = Client::new(&cluster, Family::V4)?;
    client.send(TYPE_DATA, session, 7)?;
    ensure!(take(&mut port, PATIENCE)?.iter().map(|got| got.mark).eq([7]));
    Ok(())
}

#[test]
fn a_daemon_that_takes_over_from_another_leaves_ports_as_they_are() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).build()?;
    let node = &cluster.nodes()[0];
    let mut served = Served::start(&cluster, node, 1)?;
    let mut swarm = fleet::swarm(&cluster, Family::V4, 1, 10)?;
    swarm.open(PATIENCE)?;
    all_answered(&mut swarm, 2)?;
    let delivered = served.count("delivered")?;
    served.daemon.kill()?;
    all_answered(&mut swarm, 1)?;
    served.daemon = Daemon::start(&cluster, node, &config(&cluster, node))?;
    all_answered(&mut swarm, 2)?;
    ensure!(served.count("delivered")? == delivered + 30, "{}", served.count("delivered")?);
    Ok(())
}

#[test]
fn what_cannot_be_served_is_refused_with_the_reason() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).build()?;
    let node = &cluster.nodes()[0];
    let mut daemon = Daemon::start(&cluster, node, &config(&cluster, node))?;
    let mut api = Api::connect(daemon.socket())?;
    let namespace = node.namespace();
    let udp = namespace.run(|| UdpSocket::bind("127.0.0.1:0"))?;
    let mut refused = |interface: &str, queue, words: &str| -> Result<()> {
        let error = api.add_xsk(interface, queue, udp.as_fd()).expect_err("refused").to_string();
        ensure!(error.contains(words), "{error}");
        Ok(())
    };
    refused("eth7", 0, "not attached to an interface \"eth7\", only to eth0")?;
    refused("eth0", 256, "queue 256 cannot be served by AF_XDP: only 0 to 255")?;
    refused("eth0", 0, "must be an AF_XDP socket")?;
    let error = api.done(&Request::AddXsk { interface: "eth0".into(), queue: 0 }, None);
    let error = error.expect_err("refused").to_string();
    ensure!(error.contains("no file descriptor"), "{error}");

    // Sockets are for the control port only.
    let echo = &config(&cluster, node).services[0];
    let error = Inbox::open(namespace, daemon.socket(), echo, false, 1).expect_err("refused");
    ensure!(format!("{error:#}").contains("delivers to AF_XDP sockets"), "{error:#}");
    let control = Inbox::open(namespace, daemon.socket(), echo, true, 2)?;
    let session = api.open("echo4", 1)?.session.parse::<ownership::SessionId>()?.bytes();
    let client = Client::new(&cluster, Family::V4)?;
    client.send_to(fleet::CONTROL_PORT, TYPE_CONTROL, session, 9)?;
    let received = control.receive(PATIENCE)?.context("a control message")?;
    ensure!((received.cpu, received.payload[20]) == (1, 9), "{received:?}");

    // A queue has one socket, and must be there.
    let open = |queue| namespace.run(|| Port::bind(&Options::new("eth0", queue)));
    let mut first = open(0)?;
    for queue in [0, 1] {
        ensure!(matches!(open(queue), Err(OpenError::Bind { .. })), "queue {queue}");
    }
    let options = Options { frames: 100, ..Options::new("eth0", 0) };
    let odd = namespace.run(|| Port::bind(&options)).err().context("refused")?;
    ensure!(odd.to_string().contains("must be a power of two"), "{odd}");
    // Nothing is delivered or sent before the port is registered.
    ensure!(matches!(first.receive(|_, _| {}), Err(PortError::NotRegistered)));

    // Where no service delivers to AF_XDP.
    daemon.stop()?;
    let plain = fleet::config(&cluster, node, &fleet::Options::default());
    let daemon = Daemon::start(&cluster, node, &plain)?;
    let error = first.register(&mut Api::connect(daemon.socket())?).expect_err("refused");
    let error = format!("{:#}", anyhow::Error::from(error));
    ensure!(error.contains("no service here delivers to AF_XDP sockets"), "{error}");
    Ok(())
}
