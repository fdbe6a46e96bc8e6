//! A node, everything that is sent to it, and where it is found again.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, ensure};
use dataplane_ebpf::dissect::native::{Header, TYPE_DATA};
use dataplane_ebpf::event::Reason;
use dataplane_ebpf::loss::Loss;
use dataplane_ebpf::marker::recognise;
use dataplane_user::api::{Client as Api, Stats};
use dataplane_user::hold::{Counts, Totals};
use jumpgate_tests::address::Family;
use jumpgate_tests::config::{Config, Hold, Service, Sessions};
use jumpgate_tests::corpus::packet::Packet;
use jumpgate_tests::daemon::Daemon;
use jumpgate_tests::echo::{pin_to, shared_socket};
use jumpgate_tests::probe;
use jumpgate_tests::topology::{Builder, Cluster};
use jumpgate_tests::wire::{Wire, mac};
use ownership::SessionId;

pub const PATIENCE: Duration = Duration::from_secs(10);

/// When everything that was counted late has been counted.
const LATER: Duration = Duration::from_millis(100);

/// Packets that wait for a CPU.
pub const QUEUE: u32 = 64;

/// The size of the hold ring.
pub const RING: u64 = 64 << 10;

/// How much of a session is held.
const PER_SESSION: u64 = 16 << 10;

/// A receive buffer that holds a few packets only.
const SMALL_BUFFER: usize = 8 * 1024;

/// Behind the native header and a packet's number: the kernel looks at the UDP checksum of a short
/// packet before it looks for a socket, and at that of a long one when the application reads.
pub const SHORT: usize = 0;
pub const LONG: usize = 300;

/// Nodes' links where packets are held, and what fits them but for the encapsulation, or fits them but
/// not the hold ring.
const MTU: u32 = 2_064;
pub const UNFIT: usize = 1_960;
pub const TOO_LONG: usize = 1_990;

/// The node where packets arrive.
pub const A: usize = 0;

/// A node with a service of which one session is on CPU 0 and one on CPU 1, each with a socket; and
/// one of which CPU 1 has none, and one without any.
pub struct Scene {
    wire: Wire,
    macs: [u8; 12],
    /// Node a's, and node b's where there is one.
    pub daemons: Vec<Daemon>,
    /// The first service's on both CPUs, and the second's on CPU 0.
    sockets: [UdpSocket; 3],
    pub served: Target,
    pub half: Target,
    pub unserved: Target,
    /// Other sessions of the first service: some that are held and released here, and some that are
    /// released to node b.
    pub held: Target,
    pub moving: Target,
    client: SocketAddr,
    /// How each node stood before anything was sent.
    before: Vec<Stood>,
    pub sent: u32,
    received: HashSet<u32>,
    /// The numbers of packets that nobody may receive.
    spoilt: HashSet<u32>,
    /// Keeps the network.
    _cluster: Cluster,
}

/// A service, and a session of it on each CPU.
#[derive(Clone, Copy)]
pub struct Target {
    pub address: SocketAddr,
    pub sessions: [[u8; 16]; 2],
}

impl Target {
    /// New sessions of a service.
    fn new(api: &mut Api, service: &Service) -> Result<Self> {
        let mut sessions = [[0; 16]; 2];
        for (cpu, session) in (0..).zip(&mut sessions) {
            *session = api.open(&service.name, cpu)?.session.parse::<SessionId>()?.bytes();
        }
        Ok(Self { address: SocketAddr::new(service.address, service.port), sessions })
    }

    fn ids(&self) -> Vec<String> {
        self.sessions.iter().map(|&bytes| SessionId::new(bytes).to_string()).collect()
    }
}

impl Scene {
    /// One node.
    pub fn new(family: Family) -> Result<Self> {
        Self::in_network(family, &Cluster::builder().nodes(1), "native", None)
    }

    /// One node, whose program runs in the kernel's generic path.
    pub fn in_generic_path(family: Family) -> Result<Self> {
        Self::in_network(family, &Cluster::builder().nodes(1), "skb", None)
    }

    /// Two nodes, the first of which can hold little.
    pub fn holding(family: Family) -> Result<Self> {
        let network = Cluster::builder().nodes(2).underlay(family).node_mtu(MTU);
        let hold = Hold { ring: kib(RING), per_session: kib(PER_SESSION) };
        Self::in_network(family, &network, "native", Some(&hold))
    }

    fn in_network(
        family: Family,
        network: &Builder,
        mode: &'static str,
        hold: Option<&Hold>,
    ) -> Result<Self> {
        let cluster = network.build()?;
        let node = &cluster.nodes()[A];
        let names = ["served", "half", "unserved"];
        let services: Vec<_> = (7000..)
            .zip(names)
            .map(|(port, name)| Service::native(name, cluster.vip(family), port))
            .collect();
        let mut daemons = Vec::new();
        for node in cluster.nodes() {
            let mut config = Config::of(&cluster, node, &services);
            config.sessions =
                Some(Sessions { capacity: None, cpus: Some(vec![0, 1]), queue: Some(QUEUE) });
            config.hold = hold.cloned();
            config.interfaces.iter_mut().for_each(|interface| interface.mode = mode);
            daemons.push(Daemon::start(&cluster, node, &config)?);
        }
        let mut api = Api::connect(daemons[A].socket())?;
        let mut found = || api.status().is_ok_and(|s| s.nodes.iter().all(|n| n.mac.is_some()));
        ensure!(probe::until(PATIENCE, &mut found), "no way to the other node is found");
        let mut targets = Vec::new();
        for service in [&services[0], &services[0], &services[0], &services[1], &services[2]] {
            targets.push(Target::new(&mut api, service)?);
        }
        let [served, held, moving, half, unserved] = targets[..] else { unreachable!("five") };
        let mut socket = |target: Target, name: &str, cpu| -> Result<UdpSocket> {
            let socket = node.namespace().run(|| shared_socket(target.address))?;
            socket.set_nonblocking(true)?;
            api.add_socket(name, false, cpu, socket.as_fd())?;
            Ok(socket)
        };
        let sockets =
            [socket(served, "served", 0)?, socket(served, "served", 1)?, socket(half, "half", 0)?];
        let port = node.port();
        let macs = [mac(node.namespace(), "eth0")?, mac(cluster.router(), &port)?].concat();
        let mut scene = Self {
            wire: Wire::open(cluster.router(), &port)?,
            macs: macs.try_into().expect("12 bytes"),
            daemons,
            sockets,
            served,
            half,
            unserved,
            held,
            moving,
            client: SocketAddr::new(cluster.clients()[0].address(family), 4000),
            before: Vec::new(),
            sent: 0,
            received: HashSet::new(),
            spoilt: HashSet::new(),
            _cluster: cluster,
        };
        scene.begin()?;
        Ok(scene)
    }

    /// Counts from now on. Nothing may be on its way.
    fn begin(&mut self) -> Result<()> {
        self.before = self.stand()?;
        self.sent = 0;
        self.received.clear();
        self.spoilt.clear();
        Ok(())
    }

    /// How each node stands. The last node comes first, and the sockets must have been read before:
    /// what is seen before it is sent on would be counted twice.
    fn stand(&self) -> Result<Vec<Stood>> {
        let mut stood = Vec::new();
        for daemon in self.daemons.iter().rev() {
            let mut api = Api::connect(daemon.socket())?;
            let stats = api.stats()?;
            stood.push(Stood { stats, hold: api.status()?.hold.context("a keeper")? });
        }
        stood.reverse();
        Ok(stood)
    }

    /// Holds the sessions that are to be held, reads the markers, and counts from then on.
    pub fn hold(&mut self) -> Result<()> {
        let ids = [self.held.ids(), self.moving.ids()].concat();
        let mut api = self.api()?;
        thread::scope(|scope| {
            let holds = scope.spawn(|| api.hold(&ids, PATIENCE));
            while !holds.is_finished() {
                self.read()?;
                thread::sleep(Duration::from_millis(1));
            }
            holds.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            Ok::<_, Error>(())
        })?;
        // A marker that was sent again is in front of these, and nobody's by now.
        for cpu in [0, 1] {
            self.send(self.served, cpu, SHORT)?;
        }
        let mut all = || self.read().map(|()| self.received.len() == 2);
        ensure!(probe::until(PATIENCE, || all().unwrap_or(false)));
        self.begin()
    }

    /// Whether so many packets that are held were taken out of the ring.
    pub fn waits(&self, packets: u64) -> Result<bool> {
        Ok(self.api()?.status()?.hold.context("a keeper")?.counts.held == packets)
    }

    /// Releases the sessions that are to be delivered here.
    pub fn release_here(&self) -> Result<Counts> {
        Ok(self.api()?.release(&self.held.ids(), None)?)
    }

    /// Releases the sessions that are to go to node b, at a newer version.
    pub fn release_away(&self) -> Result<Counts> {
        Ok(self.api()?.release(&self.moving.ids(), Some(("b", 7)))?)
    }

    fn api(&self) -> Result<Api> {
        Ok(Api::connect(self.daemons[A].socket())?)
    }

    /// The next packet of a session, with so much behind its number.
    fn frame(&mut self, target: Target, cpu: usize, rest: usize) -> Vec<u8> {
        let session = target.sessions[cpu];
        let (header, length) = Header { kind: TYPE_DATA, session, owner: None }.encode();
        let mut payload = header[..length].to_vec();
        payload.extend(self.sent.to_be_bytes());
        payload.resize(payload.len() + rest, 0x77);
        self.sent += 1;
        let client = (self.client.ip(), self.client.port());
        let packet = Packet::new(client, (target.address.ip(), target.address.port()), payload);
        let mut frame = packet.frame();
        frame[..12].copy_from_slice(&self.macs);
        frame
    }

    pub fn send(&mut self, target: Target, cpu: usize, rest: usize) -> Result<()> {
        let frame = self.frame(target, cpu, rest);
        Ok(self.wire.send(&frame)?)
    }

    /// Sends one whose byte at `at`, counted from the end if negative, is wrong.
    pub fn send_corrupt(
        &mut self,
        target: Target,
        cpu: usize,
        rest: usize,
        at: isize,
    ) -> Result<()> {
        self.spoilt.insert(self.sent);
        let mut frame = self.frame(target, cpu, rest);
        let at = if at < 0 { frame.len() - at.unsigned_abs() } else { at as usize };
        frame[at] ^= 0x5a;
        Ok(self.wire.send(&frame)?)
    }

    /// Sends one with an IP header that the kernel refuses: a wrong checksum, or a multicast address
    /// for its source.
    pub fn send_misheaded(&mut self, target: Target, cpu: usize) -> Result<()> {
        self.spoilt.insert(self.sent);
        let mut frame = self.frame(target, cpu, LONG);
        match target.address {
            SocketAddr::V4(_) => frame[24] ^= 0x5a,
            SocketAddr::V6(_) => frame[22] = 0xff,
        }
        Ok(self.wire.send(&frame)?)
    }

    /// Reads what the sockets hold, remembers the packets' numbers and acknowledges markers.
    fn read(&mut self) -> Result<()> {
        let mut buffer = [0; 2048];
        for socket in &self.sockets {
            loop {
                match socket.recv(&mut buffer) {
                    Ok(length) => {
                        if let Some(token) = recognise(&buffer[..length]) {
                            self.api()?.acknowledge(token)?;
                            continue;
                        }
                        ensure!(length >= 24, "a packet of {length} bytes");
                        let number = u32::from_be_bytes(buffer[20..24].try_into()?);
                        ensure!(self.received.insert(number), "packet {number} came twice");
                        ensure!(!self.spoilt.contains(&number), "packet {number} was spoilt");
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error).context("receiving"),
                }
            }
        }
        Ok(())
    }

    /// Reads, and then everything that was sent must be found, and nothing more a moment later. Returns
    /// what was lost and refused.
    pub fn settle(&mut self) -> Result<Found> {
        let end = Instant::now() + PATIENCE;
        loop {
            self.read()?;
            let found = self.found()?;
            let sum = found.received + found.refused() + found.lost() + found.kept_or_lost();
            if sum == u64::from(self.sent) {
                // What is still being counted may stand under another name for a moment.
                thread::sleep(LATER);
                self.read()?;
                if self.found()? == found {
                    return Ok(found);
                }
                continue;
            }
            ensure!(
                sum < u64::from(self.sent) && Instant::now() < end,
                "{} packets were sent, {sum} found: {found:?}",
                self.sent
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn found(&self) -> Result<Found> {
        let now = self.stand()?;
        let sum = |count: &dyn Fn(&Stood) -> u64| -> u64 {
            now.iter().zip(&self.before).map(|(now, before)| count(now) - count(before)).sum()
        };
        let refused = Reason::refusals()
            .map(|reason| (reason.name(), sum(&|stood| refusals(&stood.stats, reason))));
        let lost = Loss::ALL.iter().map(|&loss| {
            (loss, sum(&|stood| stood.stats.lost.get(loss.name()).copied().unwrap_or(0)))
        });
        let kept = KEPT.iter().map(|&(name, count)| (name, sum(&|stood| count(&stood.hold))));
        Ok(Found {
            received: self.received.len() as u64,
            refused: refused.filter(|(_, packets)| *packets > 0).collect(),
            lost: lost.filter(|(_, packets)| *packets > 0).collect(),
            kept: kept.filter(|(_, packets)| *packets > 0).collect(),
        })
    }

    /// Keeps CPU 1 from everything but this for as long as `work` takes: what comes for it has to
    /// wait.
    pub fn with_busy_cpu<R>(&mut self, work: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        let stop = AtomicBool::new(false);
        let busy = AtomicBool::new(false);
        pin_to(0)?;
        thread::scope(|scope| {
            scope.spawn(|| {
                let spin = || -> Result<()> {
                    pin_to(1)?;
                    real_time()?;
                    busy.store(true, Ordering::Relaxed);
                    while !stop.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                    Ok(())
                };
                spin().expect("a busy CPU");
            });
            while !busy.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            let result = work(self);
            stop.store(true, Ordering::Relaxed);
            result
        })
    }

    pub fn small_buffers(&self) -> Result<()> {
        for socket in &self.sockets {
            socket2::SockRef::from(socket).set_recv_buffer_size(SMALL_BUFFER)?;
        }
        Ok(())
    }
}

/// How a node stands.
struct Stood {
    stats: Stats,
    hold: Totals,
}

/// A number of packets.
type Count = fn(&Totals) -> u64;

/// What of the held packets neither an application's queue nor another node has got.
const KEPT: [(&str, Count); 8] = [
    ("waiting", |totals| totals.waiting),
    ("overflow", |totals| totals.counts.overflow),
    ("too-big", |totals| totals.counts.too_big),
    ("hop-limit", |totals| totals.counts.hop_limit),
    ("not-newer", |totals| totals.counts.not_newer),
    ("failed", |totals| totals.counts.failed),
    ("discarded", |totals| totals.counts.discarded),
    ("unclaimed", |totals| totals.unclaimed),
];

/// Where packets were found.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    pub received: u64,
    pub refused: Vec<(&'static str, u64)>,
    lost: Vec<(Loss, u64)>,
    /// Held packets that wait, and those that the keeper lost.
    kept: Vec<(&'static str, u64)>,
}

impl Found {
    fn refused(&self) -> u64 {
        self.refused.iter().map(|(_, packets)| packets).sum()
    }

    fn lost(&self) -> u64 {
        self.lost.iter().map(|(_, packets)| packets).sum()
    }

    fn kept_or_lost(&self) -> u64 {
        self.kept.iter().map(|(_, packets)| packets).sum()
    }

    pub fn of(&self, loss: Loss) -> u64 {
        self.lost.iter().find(|(other, _)| *other == loss).map_or(0, |(_, packets)| *packets)
    }

    /// How many packets wait with the keeper, or were lost there, under a name.
    pub fn kept(&self, what: &str) -> u64 {
        self.kept.iter().find(|(name, _)| *name == what).map_or(0, |(_, packets)| *packets)
    }

    /// Fails unless this is all that was lost, by the kernel and by the keeper.
    pub fn only(&self, losses: &[Loss], kept: &[(&str, u64)]) -> Result<()> {
        let named: Vec<_> = self.lost.iter().map(|(loss, _)| *loss).collect();
        ensure!(named == losses && self.kept == kept, "{self:?}");
        Ok(())
    }
}

fn kib(bytes: u64) -> String {
    format!("{}KiB", bytes >> 10)
}

/// How many packets all services together refused for a reason.
fn refusals(stats: &Stats, reason: Reason) -> u64 {
    let counts = stats.services.values().chain([&stats.other]);
    let of = |counts: &dataplane_user::dataplane::counters::Counts| {
        let group = match reason {
            Reason::Verdict(_) => &counts.verdicts,
            Reason::Admission(_) => &counts.admissions,
            Reason::Egress(_) => &counts.egress,
        };
        group.get(reason.name()).copied().unwrap_or(0)
    };
    counts.map(of).sum()
}

/// Lets nothing ordinary run on this thread's CPU while it does.
fn real_time() -> Result<()> {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameters outlive the call; 0 is this thread.
    let set = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameters) };
    ensure!(set == 0, "sched_setscheduler: {}", std::io::Error::last_os_error());
    Ok(())
}
