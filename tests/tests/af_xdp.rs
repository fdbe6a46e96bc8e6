//! Delivery to AF_XDP sockets: who gets packets, who may send, and until when.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dataplane_ebpf::abi::SCHEMA;
use dataplane_ebpf::dissect::native::{Header, TYPE_CONTROL, TYPE_DATA, TYPE_OPEN};
use dataplane_ebpf::shim::{HOPS, Shim};
use dataplane_ebpf::table::{Entry, Place};
use dataplane_ebpf::verdict::{Admission, Transmission, Verdict};
use dataplane_ebpf::wire_id::Key;
use dataplane_user::af_xdp::{
    OpenError, Options, Path as Route, Port, PortError, SendError, Speaker,
};
use dataplane_user::api::{Answer, Client as Api, Request, Response, Server, XskPlace};
use dataplane_user::dataplane::services::{Delivery, Service};
use jumpgate_tests::address::Family;
use jumpgate_tests::config::{self, Config};
use jumpgate_tests::daemon::Daemon;
use jumpgate_tests::fleet;
use jumpgate_tests::forged::{Forger, datagram, wrap};
use jumpgate_tests::gateway::{Gateway, Serving};
use jumpgate_tests::inbox::Inbox;
use jumpgate_tests::rig::{self, Rig};
use jumpgate_tests::swarm::Swarm;
use jumpgate_tests::topology::{Cluster, Node};
use jumpgate_tests::xsk::{XskGateway, bind};
use jumpgate_tests::{probe, require_root};
use ownership::Placement;

const PATIENCE: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3600);
const NOW: Duration = Duration::ZERO;
const PORT: u16 = 7000;
/// The port of the service with sockets.
const PLAIN: u16 = 7500;

/// The echo services by AF_XDP, and one with sockets.
fn config(cluster: &Cluster, node: &Node) -> Config {
    let mut config = fleet::config(cluster, node, &fleet::Options::default());
    for service in &mut config.services {
        service.deliver = Some("af_xdp");
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

/// A client with one address, which writes native packets by hand.
struct Client {
    socket: UdpSocket,
    vip: IpAddr,
}

impl Client {
    fn new(cluster: &Cluster, family: Family) -> Result<Self> {
        let host = &cluster.clients()[0];
        let socket = host.namespace().run(|| UdpSocket::bind((host.address(family), 0)))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { socket, vip: cluster.vip(family) })
    }

    fn send(&self, kind: u8, session: [u8; 16], mark: u8) -> Result<()> {
        self.send_to(PORT, kind, session, mark)
    }

    fn send_to(&self, port: u16, kind: u8, session: [u8; 16], mark: u8) -> Result<()> {
        self.socket.send_to(&native(kind, session, mark), (self.vip, port))?;
        Ok(())
    }

    /// The mark of the next answer, which comes from the service.
    fn answer(&self) -> Result<u8> {
        let mut buffer = [0; 2048];
        let (length, from) = self.socket.recv_from(&mut buffer)?;
        ensure!(from == SocketAddr::new(self.vip, PORT), "answered by {from}");
        Ok(buffer[length - 1])
    }

    fn is_silent(&self) -> Result<bool> {
        self.socket.set_nonblocking(true)?;
        let silent = self.socket.recv_from(&mut [0; 2048]).is_err();
        self.socket.set_nonblocking(false)?;
        Ok(silent)
    }
}

fn native(kind: u8, session: [u8; 16], mark: u8) -> Vec<u8> {
    let (bytes, length) = Header { kind, session, owner: None }.encode();
    [&bytes[..length], &[mark]].concat()
}

/// What a port has handed out.
struct Got {
    mark: u8,
    path: Route,
    speaker: Speaker,
}

/// Waits for something to be received, and takes what is there.
fn take(port: &mut Port, limit: Duration) -> Result<Vec<Got>> {
    let mut taken = Vec::new();
    port.wait(limit)?;
    port.receive(|datagram, _| {
        let mark = *datagram.payload().last().expect("a native packet");
        taken.push(Got { mark, path: datagram.path(), speaker: datagram.speaker() });
    })?;
    Ok(taken)
}

/// A node without a daemon, a port that its tables are lent to as a daemon does, and a client.
struct Scene {
    cluster: Cluster,
    rig: Rig,
    port: Port,
    client: Client,
    session: [u8; 16],
    key: Key,
}

impl Scene {
    fn new(family: Family) -> Result<Self> {
        Self::with_bindings(family, false)
    }

    fn with_bindings(family: Family, enforces_binding: bool) -> Result<Self> {
        let cluster = Cluster::builder().nodes(2).underlay(family).build()?;
        cluster.route_vips_to(&[0])?;
        let node = &cluster.nodes()[0];
        let server = SocketAddr::new(cluster.vip(family), PORT);
        let placement = Placement::all_to(rig::index(node)?);
        let service = rig::service(&cluster, node, server);
        let service = Service { delivery: Delivery::AfXdp, enforces_binding, ..service };
        let mut rig = Rig::serving(service, &cluster, node, &placement, 7)?;
        rig.arm(HOUR, HOUR);
        let options = Options { frames: 64, ..Options::new("eth0", 0) };
        let mut port = node.namespace().run(|| Port::bind(&options))?;
        rig.dataplane.add_xsk(0, 0, port.as_fd())?;
        lend_tables(&cluster, &rig, &mut port)?;
        let (session, key) = rig.draw(1);
        rig.own(key, 1, 1)?;
        let client = Client::new(&cluster, family)?;
        Ok(Self { cluster, rig, port, client, session, key })
    }

    /// The only packet that is in the ring.
    fn take(&mut self) -> Result<Got> {
        let mut taken = take(&mut self.port, PATIENCE)?;
        ensure!(taken.len() == 1, "{} packets", taken.len());
        Ok(taken.remove(0))
    }

    fn admissions(&self, admission: Admission) -> u64 {
        self.rig.dataplane.counters.xsk_admission(1, admission)
    }

    fn transmissions(&self, transmission: Transmission) -> u64 {
        self.rig.dataplane.counters.xsk_transmission(1, transmission)
    }

    /// Sends now; returns why not.
    fn send(&mut self, to: &Got, mark: u8) -> Result<Option<Transmission>> {
        let mut sender = self.port.sender();
        match sender.send(&to.path, to.speaker, &[&native(TYPE_DATA, self.session, mark)]) {
            Ok(()) => {
                sender.flush()?;
                Ok(None)
            }
            Err(SendError::Refused(reason)) => Ok(Some(reason)),
            Err(error) => Err(error.into()),
        }
    }

    /// A packet of the session from the client, as node b forwards it.
    fn forwarded(&self, spoil: bool) -> Result<Vec<u8>> {
        let from = self.client.socket.local_addr()?;
        let to = SocketAddr::new(self.client.vip, PORT);
        let mut inner = datagram(from, to, &native(TYPE_DATA, self.session, 40));
        if spoil {
            *inner.last_mut().expect("it has bytes") += 1;
        }
        Ok(wrap(Shim::new(HOPS - 1, 2, 1, 7, 1, false), &inner))
    }
}

fn lend_tables(cluster: &Cluster, rig: &Rig, port: &mut Port) -> Result<()> {
    let path = cluster.scratch().join("tables.sock");
    let bindings = rig.service.enforces_binding;
    let place = XskPlace { schema: SCHEMA, services: [(1, "rig".to_owned())].into(), bindings };
    let answer = Answer { response: Response::Xsk(place), fds: rig.dataplane.xsk_tables()? };
    let answer = Mutex::new(Some(answer));
    let _server = Server::start(&path, 0o600, move |_, _| {
        answer.lock().expect("nobody panics").take().expect("one request")
    })?;
    port.register(&mut Api::connect(&path)?)?;
    Ok(())
}

fn late_is_late_whatever_xdp_let_in(family: Family) -> Result<()> {
    let mut scene = Scene::new(family)?;
    scene.client.send(TYPE_DATA, scene.session, 1)?;
    let got = scene.take()?;
    ensure!(got.mark == 1 && got.path.client() == scene.client.socket.local_addr()?);
    ensure!(!got.path.is_forwarded() && got.speaker == Speaker::Session(scene.key));
    ensure!(scene.send(&got, 2)?.is_none());
    ensure!(scene.client.answer()? == 2);

    // The lease has run out, but not yet by the jiffies that XDP reads.
    scene.rig.arm(HOUR, NOW);
    scene.client.send(TYPE_DATA, scene.session, 3)?;
    scene.client.send(TYPE_OPEN, scene.session, 4)?;
    let let_in = || scene.rig.verdict(Verdict::Local).is_ok_and(|count| count == 3);
    ensure!(probe::until(PATIENCE, let_in), "{}", scene.rig.verdict(Verdict::Local)?);
    ensure!(take(&mut scene.port, PATIENCE)?.is_empty());
    ensure!(take(&mut scene.port, NOW)?.is_empty());
    ensure!(scene.admissions(Admission::Late) == 2 && scene.admissions(Admission::Delivered) == 1);
    ensure!(scene.send(&got, 5)? == Some(Transmission::Late));
    ensure!(scene.transmissions(Transmission::Late) == 1 && scene.port.lease().is_none());

    // Frames that waited for the end of the lease are not sent.
    scene.rig.arm(HOUR, HOUR);
    let mut sender = scene.port.sender();
    sender.send(&got.path, got.speaker, &[&native(TYPE_DATA, scene.session, 6)])?;
    scene.rig.arm(HOUR, NOW);
    sender.flush()?;
    ensure!(scene.transmissions(Transmission::Late) == 2);
    ensure!(scene.transmissions(Transmission::Sent) == 1);

    scene.rig.arm(HOUR, HOUR);
    ensure!(scene.send(&got, 7)?.is_none());
    ensure!(scene.client.answer()? == 7 && scene.client.is_silent()?);
    ensure!(scene.transmissions(Transmission::Sent) == 2);
    Ok(())
}

#[test]
fn late_is_late_whatever_xdp_let_in_over_ipv4() -> Result<()> {
    require_root!();
    late_is_late_whatever_xdp_let_in(Family::V4)
}

#[test]
fn late_is_late_whatever_xdp_let_in_over_ipv6() -> Result<()> {
    require_root!();
    late_is_late_whatever_xdp_let_in(Family::V6)
}

#[test]
fn a_session_that_went_elsewhere_is_neither_handed_out_nor_answered() -> Result<()> {
    require_root!();
    let mut scene = Scene::new(Family::V4)?;
    scene.client.send(TYPE_DATA, scene.session, 1)?;
    let got = scene.take()?;
    // It goes while a packet of it is in the ring, and an answer waits.
    scene.client.send(TYPE_DATA, scene.session, 2)?;
    ensure!(scene.port.wait(PATIENCE)?);
    let mut sender = scene.port.sender();
    sender.send(&got.path, got.speaker, &[&native(TYPE_DATA, scene.session, 3)])?;
    let away = Entry { place: Place::Remote { node: 2 }, epoch: 7 };
    let Rig { dataplane, .. } = &mut scene.rig;
    ensure!(dataplane.sessions.update(&dataplane.memory, scene.key, away, 2));
    ensure!(take(&mut scene.port, NOW)?.is_empty());
    ensure!(scene.admissions(Admission::NotOwner) == 1);
    ensure!(scene.transmissions(Transmission::NotOwner) == 1);
    ensure!(scene.send(&got, 4)? == Some(Transmission::NotOwner));

    // Held, and not ours yet; then ours.
    for (ours, refusal) in [(false, Some(Transmission::NotOwner)), (true, None)] {
        let held = Entry { place: Place::Hold { cpu: 0, ours }, epoch: 7 };
        let Rig { dataplane, .. } = &mut scene.rig;
        ensure!(dataplane.sessions.update(&dataplane.memory, scene.key, held, 3));
        ensure!(scene.send(&got, 8)? == refusal, "ours: {ours}");
    }
    ensure!(scene.client.answer()? == 8);
    // Back again, but under an epoch of before; then as it was.
    for (epoch, refusal) in [(6, Some(Transmission::NotOwner)), (7, None)] {
        let here = Entry { place: Place::Local { cpu: 0 }, epoch };
        let Rig { dataplane, .. } = &mut scene.rig;
        ensure!(dataplane.sessions.update(&dataplane.memory, scene.key, here, 3));
        ensure!(scene.send(&got, 5)? == refusal, "epoch {epoch}");
    }
    ensure!(scene.client.answer()? == 5 && scene.client.is_silent()?);
    // The answer to a packet that opens a session is the slot's owner's.
    let (opening, key) = scene.rig.draw(9);
    scene.client.send(TYPE_OPEN, opening, 6)?;
    let got = scene.take()?;
    ensure!(got.speaker == Speaker::Slot(key) && scene.send(&got, 7)?.is_none());
    ensure!(scene.client.answer()? == 7);
    ensure!(scene.admissions(Admission::DeliveredNew) == 1);
    Ok(())
}

#[test]
fn what_was_in_a_ring_while_its_client_attached_elsewhere_is_not_handed_out() -> Result<()> {
    require_root!();
    let mut scene = Scene::with_bindings(Family::V4, true)?;
    let client = scene.client.socket.local_addr()?;
    let elsewhere = SocketAddr::new(client.ip(), client.port() ^ 1);
    let bind = |scene: &Scene, client| scene.rig.dataplane.set_binding(scene.key, client);
    for (mark, bound, admission) in [
        (1, Some(client), Admission::Delivered),
        (2, Some(elsewhere), Admission::TransportOld),
        (3, None, Admission::Unbound),
        (4, Some(client), Admission::Delivered),
    ] {
        ensure!(bind(&scene, Some(client)));
        scene.client.send(TYPE_DATA, scene.session, mark)?;
        ensure!(scene.port.wait(PATIENCE)?);
        ensure!(bind(&scene, bound));
        let before = scene.admissions(admission);
        let taken = take(&mut scene.port, NOW)?;
        ensure!(scene.admissions(admission) == before + 1, "{bound:?}");
        let expected = if bound == Some(client) { &[mark][..] } else { &[] };
        ensure!(taken.iter().map(|got| &got.mark).eq(expected), "{bound:?}");
    }
    Ok(())
}

fn forwarded_packets_come_without_their_encapsulation(family: Family) -> Result<()> {
    let mut scene = Scene::new(family)?;
    let nodes = scene.cluster.nodes();
    let here = scene.cluster.underlay_address(&nodes[0]);
    let forger = Forger::new(nodes[1].namespace(), scene.cluster.underlay_address(&nodes[1]))?;
    forger.send(&scene.forwarded(true)?, here)?;
    ensure!(take(&mut scene.port, PATIENCE)?.is_empty());
    ensure!(scene.admissions(Admission::BadChecksum) == 1);
    forger.send(&scene.forwarded(false)?, here)?;
    let got = scene.take()?;
    ensure!(got.mark == 40 && got.path.client() == scene.client.socket.local_addr()?);
    ensure!(got.path.is_forwarded() && got.path.server().port() == PORT);
    // Whoever sent the frame is no way back to the client.
    ensure!(scene.send(&got, 41)? == Some(Transmission::NoNextHop));
    let client = got.path.client().ip();
    let namespace = scene.cluster.nodes()[0].namespace().clone();
    namespace.run(|| scene.port.find_gateway(client))?;
    ensure!(scene.send(&got, 42)?.is_none());
    ensure!(scene.client.answer()? == 42);
    let nowhere = namespace.run(|| scene.port.find_gateway(here));
    ensure!(matches!(nowhere, Err(PortError::NoGateway(address)) if address == here));

    // What does not fit the link, and more than there is room for.
    let length = if family == Family::V4 { 1600 - 28 } else { 1600 - 48 };
    for (length, fits) in [(length, true), (length + 1, false)] {
        let sent = scene.port.sender().send(&got.path, got.speaker, &[&vec![0; length]]);
        let refused = matches!(sent, Err(SendError::Refused(Transmission::TooBig)));
        ensure!(sent.is_ok() == fits && refused != fits, "{sent:?}");
    }
    scene.port.sender().flush()?;
    ensure!(scene.transmissions(Transmission::Sent) == 2);
    Ok(())
}

#[test]
fn forwarded_packets_come_without_their_encapsulation_over_ipv4() -> Result<()> {
    require_root!();
    forwarded_packets_come_without_their_encapsulation(Family::V4)
}

#[test]
fn forwarded_packets_come_without_their_encapsulation_over_ipv6() -> Result<()> {
    require_root!();
    forwarded_packets_come_without_their_encapsulation(Family::V6)
}

#[test]
fn a_port_knows_when_all_that_was_in_its_ring_is_handed_out() -> Result<()> {
    require_root!();
    let mut scene = Scene::new(Family::V4)?;
    for mark in 0..3 {
        scene.client.send(TYPE_DATA, scene.session, mark)?;
    }
    let arrived = || scene.rig.verdict(Verdict::Local).is_ok_and(|count| count == 3);
    ensure!(probe::until(PATIENCE, arrived));
    let drain = scene.port.drain();
    ensure!(!scene.port.has_drained(&drain));
    ensure!(take(&mut scene.port, PATIENCE)?.len() == 3);
    ensure!(!scene.port.has_drained(&drain), "the ring was not yet seen to be empty");
    ensure!(take(&mut scene.port, NOW)?.is_empty() && scene.port.has_drained(&drain));

    // Or it was never empty, but has been turned over: it holds 64. Rings are used round and round.
    let drain = scene.port.drain();
    for round in 0..8 {
        ensure!(scene.port.has_drained(&drain) == (round > 1), "round {round}");
        for mark in 0..32 {
            scene.client.send(TYPE_DATA, scene.session, mark)?;
        }
        let all = 3 + 32 * (round + 1);
        let arrived = || scene.rig.verdict(Verdict::Local).is_ok_and(|count| count == all);
        ensure!(probe::until(PATIENCE, arrived));
        ensure!(take(&mut scene.port, PATIENCE)?.iter().map(|got| got.mark).eq(0..32));
    }
    Ok(())
}
