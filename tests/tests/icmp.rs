//! ICMP: clients learn what fits, and what routers say about a service's packets reaches the kernel
//! of the session's owner, whichever node the router picked.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dataplane_ebpf::dissect::native::{Header, TYPE_DATA};
use dataplane_ebpf::encap::{OVERHEAD_V4, OVERHEAD_V6};
use dataplane_user::api::Client as Api;
use jumpgate_tests::address::Family;
use jumpgate_tests::config::{Config, Service};
use jumpgate_tests::daemon::Daemon;
use jumpgate_tests::fleet::Fleet;
use jumpgate_tests::inbox::Inbox;
use jumpgate_tests::ip::Batch;
use jumpgate_tests::path_mtu;
use jumpgate_tests::probe;
use jumpgate_tests::require_root;
use jumpgate_tests::topology::{Builder, Cluster};
use nix::sys::socket::{setsockopt, sockopt};

const PATIENCE: Duration = Duration::from_secs(5);

/// How long an error of the client's host is waited for before its packet is sent again.
const AGAIN: Duration = Duration::from_millis(1500);
const A: usize = 0;
const B: usize = 1;
const PORT: u16 = 7000;
/// Of a service whose packets to clients do not name their session.
const UNNAMED_PORT: u16 = 7010;
/// The same of one that enforces bindings.
const BOUND_PORT: u16 = 7020;

/// Two nodes; the router sends everything to node b, and node a owns the session.
struct Scene {
    cluster: Cluster,
    fleet: Fleet,
    /// Of node a.
    inbox: Inbox,
    client: UdpSocket,
    server: SocketAddr,
    session: [u8; 16],
}

/// Whose packets name their session in either direction, and whose replies do not.
fn services(cluster: &Cluster, family: Family) -> [Service; 3] {
    let unnamed = |name, port| Service {
        protocol: "offset",
        id_length: Some(6),
        ..Service::native(name, cluster.vip(family), port)
    };
    let bound = Service { binding: Some("enforce"), ..unnamed("bound", BOUND_PORT) };
    [Service::native("icmp", cluster.vip(family), PORT), unnamed("unnamed", UNNAMED_PORT), bound]
}

impl Scene {
    fn new(family: Family, network: Builder) -> Result<Self> {
        let cluster = network.nodes(2).build()?;
        let services = services(&cluster, family);
        let service = &services[0];
        let mut fleet = Fleet { gateways: Vec::new(), daemons: Vec::new() };
        for node in cluster.nodes() {
            let config = Config::of(&cluster, node, &services);
            fleet.daemons.push(Daemon::start(&cluster, node, &config)?);
        }
        fleet.wait_for_next_hops()?;
        let daemon = &fleet.daemons[A];
        let inbox =
            Inbox::open(cluster.nodes()[A].namespace(), daemon.socket(), service, false, 2)?;
        let opened = Api::connect(daemon.socket())?.open(&service.name, 0)?;
        let session = opened.session.parse::<ownership::SessionId>()?.bytes();
        let server = SocketAddr::new(service.address, service.port);
        let host = &cluster.clients()[0];
        let client = host.namespace().run(|| UdpSocket::bind((host.address(family), 0)))?;
        client.connect(server)?;
        client.set_read_timeout(Some(PATIENCE))?;
        cluster.route_vips_to(&[B])?;
        Ok(Self { cluster, fleet, inbox, client, server, session })
    }

    /// A packet of the session that makes an IP packet of `length` bytes.
    fn packet(&self, length: usize) -> Vec<u8> {
        let (bytes, header) =
            Header { kind: TYPE_DATA, session: self.session, owner: None }.encode();
        let mut packet = bytes[..header].to_vec();
        packet.resize(length - if self.server.is_ipv4() { 28 } else { 48 }, 7);
        packet
    }

    fn verdict(&self, node: usize, verdict: &str) -> Result<u64> {
        let stats = self.fleet.stats(node)?;
        let counts = stats.services.values().chain([&stats.other]);
        Ok(counts.filter_map(|counts| counts.verdicts.get(verdict)).sum())
    }

    /// What node a's kernel knows of the way to the client.
    fn known_mtu(&self) -> Result<u32> {
        let node = self.cluster.nodes()[A].namespace();
        path_mtu::known(node, self.server.ip(), self.client.local_addr()?)
    }

    /// Sends from node a to the client, in packets of the session.
    fn reply(&self, length: usize) -> io::Result<usize> {
        let socket = self.inbox.sockets().next().expect("two sockets");
        socket.send_to(&self.packet(length), self.client.local_addr()?)
    }
}

fn is_too_long(result: &io::Result<usize>) -> bool {
    result.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EMSGSIZE))
}

fn a_client_learns_what_fits(underlay: Family, family: Family) -> Result<()> {
    let network = Cluster::builder().underlay(underlay).node_mtu(1500);
    let scene = Scene::new(family, network)?;
    let overhead = if underlay == Family::V4 { OVERHEAD_V4 } else { OVERHEAD_V6 };
    let fits = 1500 - overhead;
    path_mtu::never_fragment(&scene.client)?;

    scene.client.send(&scene.packet(fits))?;
    let received = scene.inbox.receive(PATIENCE)?.context("what fits arrives")?;
    ensure!(received.payload == scene.packet(fits));
    ensure!(path_mtu::of_socket(&scene.client)? == 1500);

    // A byte more is lost, but the client's kernel hears why.
    scene.client.send(&scene.packet(fits + 1))?;
    let error = scene.client.recv(&mut [0; 16]);
    ensure!(is_too_long(&error), "{error:?}");
    let known = path_mtu::of_socket(&scene.client)?;
    ensure!(known as usize == fits, "an MTU of {known}, not {fits}");
    ensure!(is_too_long(&scene.client.send(&scene.packet(fits + 1))));
    scene.client.send(&scene.packet(fits))?;
    let received = scene.inbox.receive(PATIENCE)?.context("what fits arrives again")?;
    ensure!(received.payload == scene.packet(fits));
    ensure!(scene.verdict(B, "too-big-answered")? == 1 && scene.verdict(B, "too-big")? == 0);
    ensure!(scene.verdict(B, "forward-slot")? == 2 && scene.verdict(A, "local")? == 2);
    Ok(())
}

#[test]
fn a_client_learns_what_fits_over_ipv4() -> Result<()> {
    require_root!();
    a_client_learns_what_fits(Family::V4, Family::V4)
}

#[test]
fn a_client_learns_what_fits_over_ipv6() -> Result<()> {
    require_root!();
    a_client_learns_what_fits(Family::V6, Family::V6)
}

#[test]
fn a_client_of_ipv6_learns_what_fits_over_ipv4() -> Result<()> {
    require_root!();
    a_client_learns_what_fits(Family::V4, Family::V6)
}

#[test]
fn a_program_tells_what_fits_without_its_daemon_and_so_does_the_next_one() -> Result<()> {
    require_root!();
    let network = Cluster::builder().underlay(Family::V4).node_mtu(1500);
    let mut scene = Scene::new(Family::V4, network)?;
    let node = &scene.cluster.nodes()[B];
    let next = Config::of(&scene.cluster, node, &services(&scene.cluster, Family::V4));
    let host = &scene.cluster.clients()[0];
    for round in 0..3 {
        let daemon = &mut scene.fleet.daemons[B];
        daemon.kill()?;
        if round > 0 {
            *daemon = Daemon::start(&scene.cluster, node, &next)?;
        }
        // Each time from an address of whose path nothing is known.
        let local = host.pool_address(Family::V4, round + 1);
        scene.client = host.namespace().run(|| UdpSocket::bind((local, 0)))?;
        scene.client.connect(scene.server)?;
        scene.client.set_read_timeout(Some(PATIENCE))?;
        Batch::new().add("route flush cache").run(host.namespace())?;
        path_mtu::never_fragment(&scene.client)?;
        scene.client.send(&scene.packet(1500))?;
        let error = scene.client.recv(&mut [0; 16]);
        ensure!(is_too_long(&error), "round {round}: {error:?}");
    }
    ensure!(scene.verdict(B, "too-big-answered")? == 3 && scene.verdict(B, "too-big")? == 0);
    Ok(())
}

/// The last link to the client is narrow: the router in front of it says so to the VIP, and a node
/// that does not own the session gets the message.
fn the_owner_learns_what_fits(underlay: Family, family: Family) -> Result<()> {
    let network = Cluster::builder().underlay(underlay).client_mtu(1300);
    let scene = Scene::new(family, network)?;
    for socket in scene.inbox.sockets() {
        path_mtu::never_fragment(socket)?;
    }
    ensure!(scene.known_mtu()? == 1600);
    scene.reply(1400)?;
    let known = probe::until(PATIENCE, || scene.known_mtu().is_ok_and(|mtu| mtu == 1300));
    ensure!(known, "the owner believes in {}: {:?}", scene.known_mtu()?, scene.fleet.stats(B)?);
    ensure!(is_too_long(&scene.reply(1301)));
    scene.reply(1300)?;
    let mut buffer = [0; 2048];
    let length = scene.client.recv(&mut buffer)?;
    ensure!(buffer[..length] == scene.packet(1300));
    ensure!(scene.verdict(B, "icmp-forward")? == 1 && scene.verdict(A, "icmp-local")? == 1);
    Ok(())
}

#[test]
fn the_owner_learns_what_fits_over_ipv4() -> Result<()> {
    require_root!();
    the_owner_learns_what_fits(Family::V4, Family::V4)
}

#[test]
fn the_owner_learns_what_fits_over_ipv6() -> Result<()> {
    require_root!();
    the_owner_learns_what_fits(Family::V6, Family::V6)
}

#[test]
fn the_owner_of_ipv4_sessions_learns_what_fits_over_ipv6() -> Result<()> {
    require_root!();
    the_owner_learns_what_fits(Family::V6, Family::V4)
}

/// Replies that name no session: where bindings are enforced, the session's own node knows by the
/// client whose they are; another node does not, and leaves the message to its own kernel.
fn the_owner_knows_its_clients(family: Family) -> Result<()> {
    let scene = Scene::new(family, Cluster::builder().client_mtu(1300))?;
    let (host, node) = (&scene.cluster.clients()[0], &scene.cluster.nodes()[A]);
    let daemon = &scene.fleet.daemons[A];
    let [.., service] = services(&scene.cluster, family);
    let inbox = Inbox::open(node.namespace(), daemon.socket(), &service, false, 2)?;
    for socket in inbox.sockets() {
        path_mtu::never_fragment(socket)?;
    }
    let mut api = Api::connect(daemon.socket())?;
    // Of whose paths nothing is known.
    for (n, entry, verdict, learns) in [(1, A, "icmp-local", true), (2, B, "icmp-unknown", false)] {
        let client = SocketAddr::new(host.pool_address(family, n), 4000);
        api.open_for(&service.name, 1, Some(client))?;
        scene.cluster.route_vips_to(&[entry])?;
        let counted = || scene.verdict(entry, verdict).is_ok_and(|count| count == 1);
        inbox.send(0, &[7; 1350], client)?;
        ensure!(probe::until(PATIENCE, counted), "{:?}", scene.fleet.stats(entry)?);
        let known =
            || path_mtu::known(node.namespace(), scene.server.ip(), client).unwrap_or_default();
        match learns {
            true => ensure!(probe::until(PATIENCE, || known() == 1300), "it knows of {}", known()),
            false => ensure!(known() == 1600, "it knows of {}", known()),
        }
    }
    // Nobody listens at the client: its host says so about what does fit.
    let client = SocketAddr::new(host.pool_address(family, 3), 4000);
    api.open_for(&service.name, 1, Some(client))?;
    scene.cluster.route_vips_to(&[A])?;
    inbox.send(0, &[7; 1200], client)?;
    let closed = || scene.verdict(A, "icmp-local").is_ok_and(|count| count == 2);
    ensure!(probe::until(PATIENCE, closed), "{:?}", scene.fleet.stats(A)?);
    ensure!(scene.verdict(A, "icmp-unknown")? == 0 && scene.verdict(B, "icmp-forward")? == 0);
    Ok(())
}

#[test]
fn the_owner_knows_its_clients_over_ipv4() -> Result<()> {
    require_root!();
    the_owner_knows_its_clients(Family::V4)
}

#[test]
fn the_owner_knows_its_clients_over_ipv6() -> Result<()> {
    require_root!();
    the_owner_knows_its_clients(Family::V6)
}

/// A client that is gone: its host says so, and the owner's application hears of it.
fn the_owner_hears_of_a_closed_port(family: Family) -> Result<()> {
    let mut scene = Scene::new(family, Cluster::builder())?;
    for socket in scene.inbox.sockets() {
        match family {
            Family::V4 => setsockopt(socket, sockopt::Ipv4RecvErr, &true)?,
            Family::V6 => setsockopt(socket, sockopt::Ipv6RecvErr, &true)?,
        }
    }
    let gone = scene.client.local_addr()?;
    let host = &scene.cluster.clients()[0];
    let other = host.namespace().run(|| UdpSocket::bind((host.address(family), 0)))?;
    drop(std::mem::replace(&mut scene.client, other));
    let refused = || -> Option<io::Error> {
        // Whichever of the sockets: the kernel picks one by a hash.
        let mut results = scene.inbox.sockets().map(|socket| socket.recv(&mut [0; 16]));
        results
            .find_map(|result| result.err().filter(|error| error.kind() != ErrorKind::WouldBlock))
    };
    ensure!(refused().is_none());
    let socket = scene.inbox.sockets().next().context("two sockets")?;
    let mut error = None;
    let mut sent = None;
    let heard = probe::until(PATIENCE, || {
        // The client's host limits how many errors it sends: one that never came to a node is asked for again.
        let is_silent = || scene.verdict(B, "icmp-forward").is_ok_and(|count| count == 0);
        let is_due = |at: &Instant| at.elapsed() > AGAIN && is_silent();
        if sent.as_ref().is_none_or(is_due) {
            sent = socket.send_to(&scene.packet(100), gone).is_ok().then(Instant::now);
        }
        error = refused();
        error.is_some()
    });
    ensure!(heard, "nothing heard: {:?} {:?}", scene.fleet.stats(A)?, scene.fleet.stats(B)?);
    let error = error.context("heard")?;
    ensure!(error.kind() == ErrorKind::ConnectionRefused, "{error}");
    ensure!(scene.verdict(B, "icmp-forward")? == 1 && scene.verdict(A, "icmp-local")? == 1);

    // What does not tell its session stays where the router sent it.
    let node = scene.cluster.nodes()[A].namespace();
    let unnamed = node.run(|| UdpSocket::bind((scene.server.ip(), UNNAMED_PORT)))?;
    unnamed.send_to(&scene.packet(100), gone)?;
    let counted =
        probe::until(PATIENCE, || scene.verdict(B, "icmp-unknown").is_ok_and(|count| count == 1));
    ensure!(counted, "{:?}", scene.fleet.stats(B)?);

    // And the VIP still answers who asks it, and says which ports are closed.
    probe::reachable(host.namespace(), &[scene.server.ip()], PATIENCE)?;
    ensure!(scene.verdict(B, "icmp-unknown")? == 1 && refused().is_none());
    Ok(())
}

#[test]
fn the_owner_hears_of_a_closed_port_over_ipv4() -> Result<()> {
    require_root!();
    the_owner_hears_of_a_closed_port(Family::V4)
}

#[test]
fn the_owner_hears_of_a_closed_port_over_ipv6() -> Result<()> {
    require_root!();
    the_owner_hears_of_a_closed_port(Family::V6)
}
