//! What an application sends leaves the node only while the node may own the session.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dataplane_ebpf::dissect::native::{Header, TYPE_CONTROL, TYPE_DATA};
use dataplane_user::api::{Client as Api, Request};
use jumpgate_tests::address::Family;
use jumpgate_tests::config::{Config, Egress, Fence, Service, Sessions};
use jumpgate_tests::daemon::Daemon;
use jumpgate_tests::inbox::Inbox;
use jumpgate_tests::ip::Batch;
use jumpgate_tests::probe;
use jumpgate_tests::require_root;
use jumpgate_tests::topology::{Cluster, Node};
use jumpgate_tests::xdp::{Attached, TCX_NEXT, TCX_PASS};
use socket2::SockRef;

const PATIENCE: Duration = Duration::from_secs(5);
/// What takes this long to come does not come.
const SILENCE: Duration = Duration::from_millis(150);
const LEASE: Duration = Duration::from_millis(800);
const MARGIN: Duration = Duration::from_millis(50);

/// A node with a daemon, its applications, and a client that only listens.
struct Site {
    cluster: Cluster,
    config: Config,
    daemon: Daemon,
    native: Inbox,
    control: Inbox,
    quic: Inbox,
    client: UdpSocket,
}

impl Site {
    fn new(family: Family) -> Result<Self> {
        Self::with(family, |_, _| Ok(()))
    }

    /// Prepares the node and its configuration before the daemon starts.
    fn with(
        family: Family,
        prepare: impl FnOnce(&Node, &mut Config) -> Result<()>,
    ) -> Result<Self> {
        let cluster = Cluster::builder().nodes(1).build()?;
        let vip = cluster.vip(family);
        let native = Service {
            control_port: Some(7001),
            control: Some("application"),
            ..Service::native("native", vip, 7000)
        };
        let quic = Service { protocol: "quic", ..Service::native("quic", vip, 7002) };
        let node = &cluster.nodes()[0];
        let mut config = Config::of(&cluster, node, &[native.clone(), quic.clone()]);
        config.sessions = Some(Sessions { cpus: Some(vec![0]), ..Sessions::default() });
        config.fence =
            Some(Fence { lease: LEASE, renew: Duration::from_millis(100), margin: MARGIN });
        prepare(node, &mut config)?;
        let daemon = Daemon::start(&cluster, node, &config)?;
        let open =
            |service, control| Inbox::open(node.namespace(), daemon.socket(), service, control, 1);
        let [native, control, quic] =
            [open(&native, false)?, open(&native, true)?, open(&quic, false)?];
        let host = &cluster.clients()[0];
        let client = host.namespace().run(|| UdpSocket::bind((host.address(family), 0)))?;
        client.set_read_timeout(Some(SILENCE))?;
        // The default holds some 200 packets.
        SockRef::from(&client).set_recv_buffer_size(4 << 20)?;
        let site = Self { cluster, config, daemon, native, control, quic, client };
        // The first packets may wait for a neighbour.
        let there = probe::until(PATIENCE, || {
            site.quic.send(0, b"first", site.to()).is_ok() && site.receive().is_some()
        });
        ensure!(there, "nothing reaches the client: {:?}", site.egress("quic"));
        while site.receive().is_some() {}
        Ok(site)
    }

    fn to(&self) -> SocketAddr {
        self.client.local_addr().expect("a bound socket")
    }

    fn api(&self) -> Result<Api> {
        Ok(Api::connect(self.daemon.socket())?)
    }

    fn node(&self) -> &Node {
        &self.cluster.nodes()[0]
    }

    fn open(&self) -> Result<[u8; 16]> {
        let session: ownership::SessionId = self.api()?.open("native", 0)?.session.parse()?;
        Ok(session.bytes())
    }

    fn close(&self, session: [u8; 16]) -> Result<()> {
        let session = text(session);
        Ok(self.api()?.done(&Request::Close { session }, None)?)
    }

    /// The next datagram that the client gets, if one comes soon.
    fn receive(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 65_536];
        let length = self.client.recv(&mut buffer).ok()?;
        buffer.truncate(length);
        Some(buffer)
    }

    /// How many of a service's packets became this at egress.
    fn count(&self, service: &str, what: &str) -> Result<u64> {
        Ok(self.egress(service)?.get(what).copied().unwrap_or(0))
    }

    fn egress(&self, service: &str) -> Result<std::collections::BTreeMap<String, u64>> {
        Ok(self.api()?.stats()?.services[service].egress.clone())
    }

    /// Demands that the application's reply reaches the client, or does not.
    fn expect(&self, inbox: &Inbox, reply: &[u8], arrives: bool) -> Result<()> {
        inbox.send(0, reply, self.to())?;
        let received = self.receive();
        let expected = arrives.then(|| reply.to_vec());
        ensure!(received == expected, "{arrives}: {received:02x?}, {:?}", self.egress("native"));
        Ok(())
    }

    /// Sends a reply of every kind; `mark` tells it from others.
    fn send_all(&self, session: [u8; 16], mark: u8) -> Result<()> {
        self.native.send(0, &named(TYPE_DATA, session, &[mark]), self.to())?;
        self.control.send(0, &named(TYPE_CONTROL, session, &[mark]), self.to())?;
        self.quic.send(0, &[0x40, mark], self.to())
    }

    /// How many packets wait at the client.
    fn drain(&self) -> usize {
        std::iter::from_fn(|| self.receive()).count()
    }
}

/// A SessionID as the API writes it.
fn text(session: [u8; 16]) -> String {
    ownership::SessionId::new(session).to_string()
}

/// A packet from server to client.
fn named(kind: u8, session: [u8; 16], rest: &[u8]) -> Vec<u8> {
    let (bytes, length) = Header { kind, session, owner: Some((1, 1)) }.encode();
    [&bytes[..length], rest].concat()
}

/// Sends on until well after the deadline of a daemon that stood still at `still`; demands that
/// what is sent while the lease holds arrives, and nothing after it. Returns how much was sent in
/// all and how much arrived.
fn outlive_the_lease(site: &Site, session: [u8; 16], still: Instant) -> Result<(usize, usize)> {
    let mut sent = 0;
    let mut send = |until: &dyn Fn(usize) -> bool| -> Result<usize> {
        let mut rounds = 0;
        while !until(rounds) {
            site.send_all(session, 1)?;
            rounds += 1;
            std::thread::sleep(Duration::from_millis(5));
        }
        sent += 3 * rounds;
        Ok(3 * rounds)
    };
    let early = send(&|_| Instant::now() >= still + LEASE / 2)?;
    let open = site.drain();
    ensure!(early > 0 && open == early, "{open} of {early} arrived while the lease held");
    send(&|_| Instant::now() >= still + LEASE - MARGIN)?;
    let last = site.drain();
    let late = send(&|rounds| rounds == 20)?;
    let shut = site.drain();
    ensure!(shut == 0, "{shut} of {late} left after the deadline");
    Ok((sent, open + last))
}

#[test]
fn nothing_leaves_after_the_deadline_of_a_stopped_daemon_and_everything_before() -> Result<()> {
    require_root!();
    for family in Family::ALL {
        let site = Site::new(family)?;
        let session = site.open()?;
        site.daemon.pause()?;
        let (sent, arrived) = outlive_the_lease(&site, session, Instant::now())?;

        site.daemon.resume()?;
        let mut shut = 0;
        for service in ["native", "quic"] {
            shut += site.count(service, "shut")?;
        }
        ensure!(shut as usize == sent - arrived, "{sent} sent, {arrived} arrived, {shut} counted");
        let renewed = || site.api().and_then(|mut api| Ok(api.status()?.fence_open_ms > 0));
        ensure!(probe::until(PATIENCE, || renewed().is_ok_and(|open| open)));
        site.send_all(session, 2)?;
        ensure!(site.drain() == 3, "the lease is held again, but replies are dropped");
    }
    Ok(())
}

#[test]
fn the_fence_holds_when_the_daemon_was_killed() -> Result<()> {
    require_root!();
    let mut site = Site::new(Family::V4)?;
    let session = site.open()?;
    site.daemon.kill()?;
    outlive_the_lease(&site, session, Instant::now())?;

    // The next daemon opens it again.
    let node = &site.cluster.nodes()[0];
    site.daemon = Daemon::start(&site.cluster, node, &site.config)?;
    site.expect(&site.native, &named(TYPE_DATA, session, b"from the same epoch"), true)?;

    // One that starts afresh does too, but for sessions of the epoch before.
    site.daemon.kill()?;
    site.daemon = Daemon::start_with(&site.cluster, node, &site.config, &["--fresh"])?;
    site.expect(&site.quic, b"from the new epoch", true)?;
    site.expect(&site.native, &named(TYPE_DATA, session, b"from the old one"), false)?;
    ensure!(site.count("native", "no-session")? == 1, "{:?}", site.egress("native")?);
    Ok(())
}

#[test]
fn replies_of_sessions_that_are_not_here_are_dropped_and_others_pass() -> Result<()> {
    require_root!();
    let elsewhere = |node: &Node, config: &mut Config| -> Result<()> {
        let other = IpAddr::from(match node.address(Family::V4) {
            IpAddr::V4(_) => [10, 1, 9, 2],
            IpAddr::V6(_) => unreachable!("an IPv4 address"),
        });
        let mut section = config.nodes[0].clone();
        (section.name, section.index, section.address) = ("b".into(), 2, other);
        section.weight = Some(0);
        config.nodes.push(section);
        Ok(())
    };
    let site = Site::with(Family::V4, elsewhere)?;
    let [stays, closed, moved] = [site.open()?, site.open()?, site.open()?];
    let reply = |session| named(TYPE_DATA, session, b"a reply");
    for session in [stays, closed, moved] {
        site.expect(&site.native, &reply(session), true)?;
    }
    site.close(closed)?;
    site.close(moved)?;
    let (service, id, node) = ("native".to_owned(), text(moved), "b".to_owned());
    site.api()?.done(&Request::AddRow { service, id, node, version: 2 }, None)?;
    site.expect(&site.native, &reply(closed), false)?;
    site.expect(&site.native, &reply(moved), false)?;
    site.expect(&site.native, b"no header at all", false)?;
    // That it is not here is what a control port may have to say.
    site.expect(&site.control, &named(TYPE_CONTROL, moved, b"not here"), true)?;
    site.expect(&site.native, &reply(stays), true)?;
    let counts = site.egress("native")?;
    let expected = [("no-session", 1), ("no-wire-id", 1), ("not-owner", 1), ("passed", 5)];
    let expected = expected.map(|(what, count)| (what.to_owned(), count));
    ensure!(counts == expected.clone().into(), "{counts:?}");
    Ok(())
}

/// Lets one send make datagrams of this size (UDP_SEGMENT, Linux 4.18).
fn segment(socket: &UdpSocket, size: i32) -> Result<()> {
    const SOL_UDP: i32 = 17;
    const UDP_SEGMENT: i32 = 103;
    // SAFETY: the value is an integer of the given size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            SOL_UDP,
            UDP_SEGMENT,
            (&raw const size).cast(),
            size_of::<i32>() as u32,
        )
    };
    ensure!(result == 0, "UDP_SEGMENT: {}", std::io::Error::last_os_error());
    Ok(())
}

#[test]
fn a_large_send_leaves_if_all_of_its_datagrams_are_of_one_session_of_this_node() -> Result<()> {
    require_root!();
    for family in Family::ALL {
        let site = Site::new(family)?;
        let [one, other] = [site.open()?, site.open()?];
        let datagram = |session, mark| named(TYPE_DATA, session, &[mark; 968]);
        let train = |sessions: &[[u8; 16]]| -> Vec<Vec<u8>> {
            sessions.iter().zip(1..).map(|(session, mark)| datagram(*session, mark)).collect()
        };
        let send = |train: &[Vec<u8>]| -> Result<Vec<Vec<u8>>> {
            let socket = site.native.socket(0);
            segment(socket, 1000)?;
            socket.send_to(&train.concat(), site.to())?;
            segment(socket, 0)?;
            Ok(std::iter::from_fn(|| site.receive()).collect())
        };
        let of_one = train(&[one; 40]);
        ensure!(send(&of_one)? == of_one, "{:?}", site.egress("native")?);
        let mut last = train(&[one; 5]);
        last.last_mut().expect("five").truncate(40);
        ensure!(send(&last)? == last, "a shorter last one: {:?}", site.egress("native")?);
        // As many as the kernel makes of one send.
        segment(site.native.socket(0), 100)?;
        let datagram = |mark| named(TYPE_DATA, one, &[mark; 68]);
        let longest: Vec<_> = (0..128).map(datagram).collect();
        site.native.socket(0).send_to(&longest.concat(), site.to())?;
        segment(site.native.socket(0), 0)?;
        let received: Vec<_> = std::iter::from_fn(|| site.receive()).collect();
        ensure!(received == longest, "{}: {:?}", received.len(), site.egress("native")?);
        for mixed in [[one, other, one], [one, one, other], [other, one, one]] {
            ensure!(send(&train(&mixed))?.is_empty(), "{:?}", site.egress("native")?);
        }
        ensure!(site.count("native", "mixed-sessions")? == 3, "{:?}", site.egress("native")?);
        site.close(one)?;
        ensure!(send(&of_one)?.is_empty(), "{:?}", site.egress("native")?);
        ensure!(site.count("native", "no-session")? == 1, "{:?}", site.egress("native")?);
    }
    Ok(())
}

#[test]
fn a_reply_in_fragments_is_fenced_by_its_first() -> Result<()> {
    require_root!();
    for family in Family::ALL {
        let site = Site::new(family)?;
        let session = site.open()?;
        let reply = named(TYPE_DATA, session, &[7; 5000]);
        // An IPv6 router does not fragment: it tells of its MTU, and drops the first ones.
        let arrives = probe::until(PATIENCE, || {
            site.native.send(0, &reply, site.to()).is_ok()
                && site.receive().as_ref() == Some(&reply)
        });
        ensure!(arrives, "{:?}", site.egress("native")?);
        site.close(session)?;
        site.expect(&site.native, &reply, false)?;
        ensure!(site.count("native", "no-session")? == 1, "{:?}", site.egress("native")?);
    }
    Ok(())
}

#[test]
fn no_earlier_program_can_let_a_reply_leave() -> Result<()> {
    require_root!();
    let mut before = None;
    let mut site = Site::with(Family::V4, |node, _| {
        before = Some(Attached::at_egress(node.namespace(), "eth0", &TCX_PASS)?);
        Ok(())
    })?;
    let unknown = named(TYPE_DATA, [9; 16], b"no such session");
    site.expect(&site.native, &unknown, false)?;

    // One that came in front of it meanwhile: the next daemon is first again.
    site.daemon.kill()?;
    let node = &site.cluster.nodes()[0];
    let after = Attached::at_egress(node.namespace(), "eth0", &TCX_PASS)?;
    site.expect(&site.native, &unknown, true)?;
    site.daemon = Daemon::start(&site.cluster, node, &site.config)?;
    site.expect(&site.native, &unknown, false)?;
    // Both daemons' packets.
    ensure!(site.count("native", "no-session")? == 2, "{:?}", site.egress("native")?);
    drop((before, after));
    site.expect(&site.native, &unknown, false)
}

#[test]
fn the_fence_is_never_off_while_the_next_daemon_puts_its_own_in_front() -> Result<()> {
    require_root!();
    let mut site = Site::new(Family::V4)?;
    site.daemon.kill()?;
    let node = &site.cluster.nodes()[0];
    // Whoever is not first has to be replaced.
    let before = Attached::at_egress(node.namespace(), "eth0", &TCX_NEXT)?;
    let (socket, to) = (site.native.socket(0).try_clone()?, site.to());
    let unknown = named(TYPE_DATA, [9; 16], b"no such session");
    let is_over = AtomicBool::new(false);
    let (daemon, sent) = std::thread::scope(|scope| {
        let flood = scope.spawn(|| -> Result<u64> {
            let mut sent = 0;
            while !is_over.load(Ordering::Relaxed) {
                socket.send_to(&unknown, to)?;
                sent += 1;
                std::thread::sleep(Duration::from_micros(200));
            }
            Ok(sent)
        });
        let daemon = Daemon::start(&site.cluster, node, &site.config);
        is_over.store(true, Ordering::Relaxed);
        (daemon, flood.join().expect("no panic"))
    });
    site.daemon = daemon?;
    drop(before);
    let sent = sent?;
    ensure!(site.drain() == 0 && sent > 0, "some of {sent} left");
    let dropped = site.count("native", "no-session")? + site.count("native", "shut")?;
    ensure!(dropped == sent, "{dropped} of {sent}: {:?}", site.egress("native")?);
    Ok(())
}

/// A daemon, with pins or without, notices whoever comes in front of its fence.
fn the_fence_comes_in_front_again(pinned: bool) -> Result<()> {
    let site = Site::with(Family::V4, |_, config| {
        config.pins.enabled = Some(pinned);
        Ok(())
    })?;
    let session = site.open()?;
    let unknown = named(TYPE_DATA, [9; 16], b"no such session");
    let fenced = || -> Result<bool> {
        site.native.send(0, &unknown, site.to())?;
        Ok(site.receive().is_none())
    };
    let mut others = Vec::new();
    for _ in 0..2 {
        others.push(Attached::at_egress(site.node().namespace(), "eth0", &TCX_PASS)?);
        ensure!(probe::until(PATIENCE, || fenced().unwrap_or(false)), "{}", site.daemon.log());
    }
    site.expect(&site.native, &named(TYPE_DATA, session, b"a reply"), true)?;
    ensure!(site.api()?.status()?.egress == ["eth0"]);

    // And is never off while it does: one that leaves all to later programs comes.
    let before = site.daemon.log().matches("put in front again").count();
    others.push(Attached::at_egress(site.node().namespace(), "eth0", &TCX_NEXT)?);
    let mut sent = 0;
    let noticed = || site.daemon.log().matches("put in front again").count() > before;
    let end = Instant::now() + PATIENCE;
    while !noticed() && Instant::now() < end {
        for _ in 0..100 {
            site.native.send(0, &unknown, site.to())?;
            sent += 1;
        }
    }
    ensure!(noticed(), "{}", site.daemon.log());
    ensure!(sent > 0 && site.drain() == 0, "some of {sent} left");
    drop(others);
    site.expect(&site.native, &unknown, false)
}

#[test]
fn the_fence_comes_in_front_of_programs_that_came_before_it() -> Result<()> {
    require_root!();
    the_fence_comes_in_front_again(true)
}

#[test]
fn the_fence_comes_in_front_without_pins_too() -> Result<()> {
    require_root!();
    the_fence_comes_in_front_again(false)
}

#[test]
fn an_interface_that_gave_its_name_away_stays_fenced() -> Result<()> {
    require_root!();
    let mut site = Site::new(Family::V4)?;
    let node = &site.cluster.nodes()[0];
    let session = site.open()?;
    let known = named(TYPE_DATA, session, b"a reply");
    let unknown = named(TYPE_DATA, [9; 16], b"no such session");
    let run = |commands: &[&str]| {
        let mut batch = Batch::new();
        for command in commands {
            batch.add(command);
        }
        batch.run(node.namespace())
    };
    let fenced = |site: &Site| -> Result<Vec<String>> { Ok(site.api()?.status()?.egress) };
    let expect_fenced = |site: &Site, names: &[&str]| -> Result<()> {
        let there = probe::until(PATIENCE, || fenced(site).is_ok_and(|fenced| fenced == names));
        ensure!(there, "{:?} instead of {names:?}", fenced(site)?);
        Ok(())
    };
    // By its index, the first is the first.
    run(&["link set eth0 name old0", "link add eth0 type bridge"])?;
    expect_fenced(&site, &["old0", "eth0"])?;
    site.expect(&site.native, &unknown, false)?;
    site.expect(&site.native, &known, true)?;

    // The next daemon takes it over under whatever name, and takes away what is of none.
    site.daemon.kill()?;
    run(&["link delete eth0", "link set old0 name eth0"])?;
    site.daemon = Daemon::start(&site.cluster, node, &site.config)?;
    expect_fenced(&site, &["eth0"])?;
    let log = site.daemon.log();
    let swept = log.matches("an earlier daemon's program was left there: detached").count();
    ensure!(swept == 1, "{log}");
    site.expect(&site.native, &unknown, false)?;
    site.expect(&site.native, &known, true)
}

#[test]
fn interfaces_that_come_are_fenced_and_those_that_go_are_forgotten() -> Result<()> {
    require_root!();
    let site = Site::new(Family::V4)?;
    let fenced = || -> Result<Vec<String>> { Ok(site.api()?.status()?.egress) };
    ensure!(fenced()? == ["eth0"], "{:?}", fenced()?);
    for _ in 0..2 {
        Batch::new().add("link add later type bridge").run(site.node().namespace())?;
        let both = || fenced().is_ok_and(|names| names == ["eth0", "later"]);
        ensure!(probe::until(PATIENCE, both), "{:?}", fenced()?);
        Batch::new().add("link delete later").run(site.node().namespace())?;
        let one = || fenced().is_ok_and(|names| names == ["eth0"]);
        ensure!(probe::until(PATIENCE, one), "{:?}", fenced()?);
    }
    Ok(())
}

#[test]
fn only_named_interfaces_are_fenced_where_names_are_given() -> Result<()> {
    require_root!();
    let site = Site::with(Family::V4, |node, config| {
        config.egress = Some(Egress { interfaces: vec!["named".into(), "absent".into()] });
        let mut batch = Batch::new();
        batch.add("link add named type bridge").add("link add other type bridge");
        batch.run(node.namespace())
    })?;
    let status = site.api()?.status()?;
    let mut names = status.egress.clone();
    names.sort();
    ensure!(names == ["eth0", "named"], "{status:?}");
    let warned = status.warnings.iter().any(|warning| warning.starts_with("absent is to be"));
    ensure!(warned, "{status:?}");
    Ok(())
}

/// A tunnel interface, whose packets have no Ethernet header, with the test at its other end.
struct Tun(std::fs::File);

impl Tun {
    fn open(node: &Node, name: &str) -> Result<Self> {
        const IFF_TUN: i16 = 1;
        const IFF_NO_PI: i16 = 0x1000;
        const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
        let file = node.namespace().run(|| -> Result<std::fs::File> {
            let mut options = std::fs::File::options();
            let file = options.read(true).write(true).open("/dev/net/tun")?;
            let mut request = [0_u8; 40];
            request[..name.len()].copy_from_slice(name.as_bytes());
            request[16..18].copy_from_slice(&(IFF_TUN | IFF_NO_PI).to_ne_bytes());
            // SAFETY: the request is a struct ifreq, which the kernel reads and writes.
            let result = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) };
            ensure!(result == 0, "TUNSETIFF: {}", std::io::Error::last_os_error());
            Ok(file)
        });
        Ok(Self(file.context("making a tun interface")?))
    }

    /// The next packet that leaves by it with this payload at its end, if one comes soon.
    fn receive(&mut self, payload: &[u8]) -> Result<bool> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::{io::Read, os::fd::AsFd};
        let end = Instant::now() + SILENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now()).as_millis() as u16;
            let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, PollTimeout::from(left))? == 0 {
                return Ok(false);
            }
            let mut packet = [0; 2048];
            let length = self.0.read(&mut packet)?;
            if packet[..length].ends_with(payload) {
                return Ok(true);
            }
        }
    }
}

#[test]
fn replies_through_a_tunnel_without_ethernet_headers_are_fenced_too() -> Result<()> {
    require_root!();
    let mut tun = None;
    let site = Site::with(Family::V4, |node, _| {
        tun = Some(Tun::open(node, "tun0")?);
        let mut batch = Batch::new();
        batch.add("link set tun0 up");
        batch.add("route add 192.0.2.0/24 dev tun0");
        batch.run(node.namespace())
    })?;
    let mut tun = tun.context("made before the daemon started")?;
    let [stays, closed] = [site.open()?, site.open()?];
    site.close(closed)?;
    let far: SocketAddr = "192.0.2.99:5000".parse()?;
    let reply = |session| named(TYPE_DATA, session, b"through the tunnel");
    site.native.send(0, &reply(stays), far)?;
    ensure!(tun.receive(&reply(stays))?, "{:?}", site.egress("native")?);
    site.native.send(0, &reply(closed), far)?;
    ensure!(!tun.receive(&reply(closed))?, "{:?}", site.egress("native")?);
    ensure!(site.count("native", "no-session")? == 1, "{:?}", site.egress("native")?);
    Ok(())
}
