//! Every packet is found: what was sent was received, or is named among what was refused or lost.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dataplane_ebpf::dissect::native::{Header, TYPE_DATA};
use dataplane_ebpf::event::Reason;
use dataplane_ebpf::loss::Loss;
use dataplane_user::api::{Client as Api, Stats};
use jumpgate_tests::address::Family;
use jumpgate_tests::config::{Config, Service, Sessions};
use jumpgate_tests::corpus::packet::Packet;
use jumpgate_tests::daemon::Daemon;
use jumpgate_tests::echo::{pin_to, shared_socket};
use jumpgate_tests::probe;
use jumpgate_tests::require_root;
use jumpgate_tests::topology::Cluster;
use jumpgate_tests::wire::{Wire, mac};

const PATIENCE: Duration = Duration::from_secs(10);

/// Packets that wait for a CPU.
const QUEUE: u32 = 64;

/// A receive buffer that holds a few packets only.
const SMALL_BUFFER: usize = 8 * 1024;

/// Behind the native header and a packet's number: the kernel looks at the UDP checksum of a short
/// packet before it looks for a socket, and at that of a long one when the application reads.
const SHORT: usize = 0;
const LONG: usize = 300;

/// A node with a service of which one session is on CPU 0 and one on CPU 1, each with a socket; and
/// one of which CPU 1 has none, and one without any.
struct Scene {
    wire: Wire,
    macs: [u8; 12],
    daemon: Daemon,
    /// The first service's on both CPUs, and the second's on CPU 0.
    sockets: [UdpSocket; 3],
    served: Target,
    half: Target,
    unserved: Target,
    client: SocketAddr,
    before: Stats,
    sent: u32,
    received: HashSet<u32>,
    /// Keeps the network.
    _cluster: Cluster,
}

/// A service, and a session of it on each CPU.
#[derive(Clone, Copy)]
struct Target {
    address: SocketAddr,
    sessions: [[u8; 16]; 2],
}

impl Scene {
    fn new(family: Family) -> Result<Self> {
        let cluster = Cluster::builder().nodes(1).build()?;
        let node = &cluster.nodes()[0];
        let names = ["served", "half", "unserved"];
        let services: Vec<_> = (7000..)
            .zip(names)
            .map(|(port, name)| Service::native(name, cluster.vip(family), port))
            .collect();
        let mut config = Config::of(&cluster, node, &services);
        config.sessions =
            Some(Sessions { capacity: None, cpus: Some(vec![0, 1]), queue: Some(QUEUE) });
        let daemon = Daemon::start(&cluster, node, &config)?;
        let mut api = Api::connect(daemon.socket())?;
        let mut targets = Vec::new();
        for service in &services {
            let address = SocketAddr::new(service.address, service.port);
            let mut sessions = [[0; 16]; 2];
            for (cpu, session) in (0..).zip(&mut sessions) {
                let opened = api.open(&service.name, cpu)?.session;
                *session = opened.parse::<ownership::SessionId>()?.bytes();
            }
            targets.push(Target { address, sessions });
        }
        let [served, half, unserved] = targets[..] else { unreachable!("three services") };
        let mut socket = |target: Target, name: &str, cpu| -> Result<UdpSocket> {
            let socket = node.namespace().run(|| shared_socket(target.address))?;
            socket.set_nonblocking(true)?;
            api.add_socket(name, false, cpu, socket.as_fd())?;
            Ok(socket)
        };
        let sockets =
            [socket(served, "served", 0)?, socket(served, "served", 1)?, socket(half, "half", 0)?];
        let before = api.stats()?;
        let port = node.port();
        let macs = [mac(node.namespace(), "eth0")?, mac(cluster.router(), &port)?].concat();
        Ok(Self {
            wire: Wire::open(cluster.router(), &port)?,
            macs: macs.try_into().expect("12 bytes"),
            daemon,
            sockets,
            served,
            half,
            unserved,
            client: SocketAddr::new(cluster.clients()[0].address(family), 4000),
            before,
            sent: 0,
            received: HashSet::new(),
            _cluster: cluster,
        })
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

    fn send(&mut self, target: Target, cpu: usize, rest: usize) -> Result<()> {
        let frame = self.frame(target, cpu, rest);
        Ok(self.wire.send(&frame)?)
    }

    /// Sends one whose bytes at `at`, counted from the end if negative, are wrong.
    fn send_corrupt(&mut self, cpu: usize, rest: usize, at: isize) -> Result<()> {
        let mut frame = self.frame(self.served, cpu, rest);
        let at = if at < 0 { frame.len() - at.unsigned_abs() } else { at as usize };
        frame[at] ^= 0x5a;
        Ok(self.wire.send(&frame)?)
    }

    /// Reads what the sockets hold, and remembers the packets' numbers.
    fn read(&mut self) -> Result<()> {
        let mut buffer = [0; 2048];
        for socket in &self.sockets {
            loop {
                match socket.recv(&mut buffer) {
                    Ok(length) => {
                        ensure!(length >= 24, "a packet of {length} bytes");
                        let number = u32::from_be_bytes(buffer[20..24].try_into()?);
                        ensure!(self.received.insert(number), "packet {number} came twice");
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error).context("receiving"),
                }
            }
        }
        Ok(())
    }

    /// Reads, and then everything that was sent must be found. Returns what was lost and refused.
    fn settle(&mut self) -> Result<Found> {
        let end = Instant::now() + PATIENCE;
        loop {
            self.read()?;
            let found = self.found()?;
            let sum = found.received + found.refused() + found.lost();
            if sum == u64::from(self.sent) {
                return Ok(found);
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
        let now = Api::connect(self.daemon.socket())?.stats()?;
        let mut refused = Vec::new();
        for reason in Reason::refusals() {
            let packets = refusals(&now, reason) - refusals(&self.before, reason);
            if packets > 0 {
                refused.push((reason.name(), packets));
            }
        }
        let lost = Loss::ALL.iter().filter_map(|loss| {
            let of = |stats: &Stats| stats.lost.get(loss.name()).copied().unwrap_or(0);
            let packets = of(&now) - of(&self.before);
            (packets > 0).then_some((*loss, packets))
        });
        Ok(Found { received: self.received.len() as u64, refused, lost: lost.collect() })
    }

    /// Keeps CPU 1 from everything but this for as long as `work` takes: what comes for it has to
    /// wait.
    fn with_busy_cpu<R>(&mut self, work: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
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

    fn small_buffers(&self) -> Result<()> {
        for socket in &self.sockets {
            socket2::SockRef::from(socket).set_recv_buffer_size(SMALL_BUFFER)?;
        }
        Ok(())
    }
}

/// Where packets were found.
#[derive(Debug)]
struct Found {
    received: u64,
    refused: Vec<(&'static str, u64)>,
    lost: Vec<(Loss, u64)>,
}

impl Found {
    fn refused(&self) -> u64 {
        self.refused.iter().map(|(_, packets)| packets).sum()
    }

    fn lost(&self) -> u64 {
        self.lost.iter().map(|(_, packets)| packets).sum()
    }

    fn of(&self, loss: Loss) -> u64 {
        self.lost.iter().find(|(other, _)| *other == loss).map_or(0, |(_, packets)| *packets)
    }

    /// Fails unless this is all that was lost.
    fn only(&self, losses: &[Loss]) -> Result<()> {
        let named: Vec<_> = self.lost.iter().map(|(loss, _)| *loss).collect();
        ensure!(named == losses, "{self:?}");
        Ok(())
    }
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

#[test]
fn without_trouble_everything_arrives() -> Result<()> {
    require_root!();
    for family in Family::ALL {
        let mut scene = Scene::new(family)?;
        for number in 0..200 {
            scene.send(scene.served, number % 2, if number % 3 == 0 { LONG } else { SHORT })?;
            if number % 20 == 0 {
                scene.settle()?;
            }
        }
        let found = scene.settle()?;
        ensure!(found.received == 200, "{family:?}: {found:?}");
        found.only(&[])?;
    }
    Ok(())
}

#[test]
fn what_a_full_cpu_queue_drops_is_found() -> Result<()> {
    require_root!();
    let mut scene = Scene::new(Family::V4)?;
    let burst = 4 * QUEUE;
    scene.with_busy_cpu(|scene| (0..burst).try_for_each(|_| scene.send(scene.served, 1, SHORT)))?;
    let found = scene.settle()?;
    found.only(&[Loss::CpuQueueFull])?;
    // What CPU 1 had taken before it was busy, and what waited.
    ensure!(found.of(Loss::CpuQueueFull) >= u64::from(burst - QUEUE) / 2, "{found:?}");
    ensure!(found.received >= u64::from(QUEUE), "{found:?}");
    Ok(())
}

#[test]
fn what_a_full_socket_buffer_drops_is_found() -> Result<()> {
    require_root!();
    for family in Family::ALL {
        let mut scene = Scene::new(family)?;
        scene.small_buffers()?;
        for batch in 0..10 {
            for _ in 0..20 {
                scene.send(scene.served, batch % 2, LONG)?;
            }
            // Nobody reads, but the CPU's queue must not overflow too.
            let through = |scene: &Scene| -> Result<bool> {
                let stats = Api::connect(scene.daemon.socket())?.stats()?;
                let delivered = stats.services["served"].admissions.get("delivered").copied();
                Ok(delivered.unwrap_or(0) == u64::from(scene.sent))
            };
            ensure!(probe::until(PATIENCE, || through(&scene).unwrap_or(false)));
        }
        let found = scene.settle()?;
        found.only(&[Loss::UdpBufferFull])?;
        ensure!(found.received > 0 && found.received < 100, "{family:?}: {found:?}");
    }
    Ok(())
}

#[test]
fn packets_with_wrong_checksums_are_found() -> Result<()> {
    require_root!();
    for family in Family::ALL {
        let mut scene = Scene::new(family)?;
        for cpu in [0, 1] {
            for rest in [SHORT, LONG] {
                for _ in 0..5 {
                    scene.send(scene.served, cpu, rest)?;
                    // In the payload; of a short packet in its number.
                    scene.send_corrupt(cpu, rest, -1)?;
                }
            }
        }
        let found = scene.settle()?;
        found.only(&[Loss::UdpChecksum])?;
        ensure!(found.of(Loss::UdpChecksum) == 20, "{family:?}: {found:?}");
        ensure!(found.received == 20, "{family:?}: {found:?}");
    }
    Ok(())
}

#[test]
fn packets_with_wrong_ip_headers_are_found() -> Result<()> {
    require_root!();
    let mut scene = Scene::new(Family::V4)?;
    for _ in 0..7 {
        // The checksum itself.
        scene.send_corrupt(0, LONG, 24)?;
        scene.send(scene.served, 0, LONG)?;
    }
    let found = scene.settle()?;
    found.only(&[Loss::IpChecksum])?;
    ensure!(found.of(Loss::IpChecksum) == 7 && found.received == 7, "{found:?}");
    Ok(())
}

#[test]
fn packets_without_a_socket_are_found() -> Result<()> {
    require_root!();
    for family in Family::ALL {
        let mut scene = Scene::new(family)?;
        for _ in 0..6 {
            // The selector refuses these, and the kernel says that nobody has the port.
            scene.send(scene.half, 1, SHORT)?;
            // Of these the selector never hears.
            scene.send(scene.unserved, 0, SHORT)?;
        }
        let found = scene.settle()?;
        found.only(&[Loss::UdpNoPort])?;
        ensure!(found.of(Loss::UdpNoPort) == 6, "{family:?}: {found:?}");
        ensure!(found.refused == [("no-socket", 6)], "{family:?}: {found:?}");
    }
    Ok(())
}

#[test]
fn in_all_trouble_at_once_every_packet_is_found() -> Result<()> {
    require_root!();
    let mut scene = Scene::new(Family::V4)?;
    scene.small_buffers()?;
    scene.with_busy_cpu(|scene| {
        for number in 0..600_usize {
            let cpu = number / 2 % 2;
            match number % 11 {
                0 => scene.send_corrupt(cpu, LONG, -1)?,
                1 => scene.send_corrupt(cpu, SHORT, -1)?,
                2 => scene.send_corrupt(cpu, LONG, 24)?,
                3 => scene.send(scene.half, cpu, SHORT)?,
                4 => scene.send(scene.unserved, cpu, LONG)?,
                5 => scene.send(Target { sessions: [[7; 16]; 2], ..scene.served }, cpu, SHORT)?,
                _ => scene.send(scene.served, cpu, LONG)?,
            }
        }
        Ok(())
    })?;
    let found = scene.settle()?;
    for loss in [
        Loss::CpuQueueFull,
        Loss::IpChecksum,
        Loss::UdpNoPort,
        Loss::UdpChecksum,
        Loss::UdpBufferFull,
    ] {
        ensure!(found.of(loss) > 0, "no {loss:?}: {found:?}");
    }
    let names: Vec<_> = found.refused.iter().map(|(name, _)| *name).collect();
    ensure!(names == ["no-session", "no-socket"], "{found:?}");
    ensure!(found.received > 0, "{found:?}");
    Ok(())
}
