//! Token buckets in the kernel: a source prefix that sends too much is held to its rate, and others
//! are not.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dataplane_ebpf::dissect::native::{Header, TYPE_CONTROL, TYPE_DATA, TYPE_OPEN};
use dataplane_user::api::Client as Api;
use jumpgate_tests::address::Family;
use jumpgate_tests::config::{Config, Service};
use jumpgate_tests::daemon::Daemon;
use jumpgate_tests::fleet::{CONTROL_PORT, PORT};
use jumpgate_tests::inbox::Inbox;
use jumpgate_tests::probe;
use jumpgate_tests::require_root;
use jumpgate_tests::topology::Cluster;

const PATIENCE: Duration = Duration::from_secs(10);

/// Packets a second and at once: slow enough that a flood is over before the next one is due.
const RATE: u32 = 2;
const BURST: u32 = 20;
const FLOOD: u64 = 200;

/// Nodes whose one service takes little from each prefix. Packets arrive at the first one, and the last
/// one owns every session.
struct Scene {
    cluster: Cluster,
    daemons: Vec<Daemon>,
    _inboxes: [Inbox; 2],
    session: [u8; 16],
}

/// What became of packets at the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    new: u64,
    local: u64,
    limited: u64,
}

impl Scene {
    fn new(family: Family, nodes: u8) -> Result<Self> {
        let cluster = Cluster::builder().nodes(nodes).build()?;
        cluster.route_vips_to(&[0])?;
        let service = Service {
            control_port: Some(CONTROL_PORT),
            control: Some("application"),
            new_rate: Some(RATE),
            new_burst: Some(BURST),
            control_rate: Some(RATE),
            control_burst: Some(BURST),
            ..Service::native("limited", cluster.vip(family), PORT)
        };
        let mut daemons = Vec::new();
        for node in cluster.nodes() {
            let mut config = Config::of(&cluster, node, std::slice::from_ref(&service));
            for other in config.nodes.iter_mut().rev().skip(1) {
                other.weight = Some(0);
            }
            daemons.push(Daemon::start(&cluster, node, &config)?);
        }
        for daemon in &daemons {
            let mut api = Api::connect(daemon.socket())?;
            let mut found = || api.status().is_ok_and(|s| s.nodes.iter().all(|n| n.mac.is_some()));
            ensure!(probe::until(PATIENCE, &mut found), "no way to the other node is found");
        }
        let owner = cluster.nodes().last().context("a node")?.namespace();
        let socket = daemons.last().context("a daemon")?.socket();
        let inbox = |control| Inbox::open(owner, socket, &service, control, 2);
        let inboxes = [inbox(false)?, inbox(true)?];
        let opened = Api::connect(socket)?.open("limited", 1)?;
        let session: ownership::SessionId = opened.session.parse()?;
        Ok(Self { cluster, daemons, _inboxes: inboxes, session: session.bytes() })
    }

    /// What a node has counted under a name.
    fn verdict(&self, node: usize, name: &str) -> Result<u64> {
        let stats = Api::connect(self.daemons[node].socket())?.stats()?;
        Ok(stats.services["limited"].verdicts.get(name).copied().unwrap_or(0))
    }

    fn counts(&self) -> Result<Counts> {
        let owner = self.daemons.last().context("a daemon")?;
        let stats = Api::connect(owner.socket())?.stats()?;
        let verdicts = &stats.services["limited"].verdicts;
        let count = |name: &str| verdicts.get(name).copied().unwrap_or(0);
        Ok(Counts { new: count("new"), local: count("local"), limited: count("rate-limited") })
    }

    /// Sends so many packets of a type from an address, and returns what became of them.
    fn flood(&self, from: IpAddr, kind: u8, packets: u64) -> Result<Counts> {
        let before = self.counts()?;
        let host = &self.cluster.clients()[0];
        let socket = host.namespace().run(|| UdpSocket::bind((from, 0)))?;
        let vip = self.cluster.vip(if from.is_ipv4() { Family::V4 } else { Family::V6 });
        let port = if kind == TYPE_CONTROL { CONTROL_PORT } else { PORT };
        for number in 0..packets {
            let mut session = self.session;
            if kind == TYPE_OPEN {
                session = [0x5a; 16];
                session[..8].copy_from_slice(&number.to_be_bytes());
            }
            let (bytes, length) = Header { kind, session, owner: None }.encode();
            socket.send_to(&bytes[..length], SocketAddr::new(vip, port))?;
        }
        let mut after = before;
        let all = probe::until(PATIENCE, || {
            after = self.counts().unwrap_or(after);
            let sum = |counts: Counts| counts.new + counts.local + counts.limited;
            sum(after) - sum(before) >= packets
        });
        ensure!(all, "{packets} sent: {before:?}, {after:?}");
        Ok(Counts {
            new: after.new - before.new,
            local: after.local - before.local,
            limited: after.limited - before.limited,
        })
    }
}

/// Of a flood that began then, the burst has passed, and no more than the rate in addition.
fn is_held(passed: u64, limited: u64, since: Instant) -> Result<()> {
    let seconds = since.elapsed().as_secs_f64();
    let most = f64::from(BURST) + f64::from(RATE) * seconds;
    ensure!(passed >= BURST.into(), "{passed} passed, {limited} did not");
    ensure!(passed as f64 <= most, "{passed} passed in {seconds} s");
    ensure!(passed + limited == FLOOD, "{passed} + {limited}");
    Ok(())
}

/// Floods by way of the first node, all of which the last one judges.
fn a_prefix_that_floods_is_held(family: Family, nodes: u8) -> Result<Scene> {
    let scene = Scene::new(family, nodes)?;
    let host = &scene.cluster.clients()[0];
    let [one, neighbour] = [1, 2].map(|address| host.pool_address(family, address));
    let other = host.address(family);

    let start = Instant::now();
    let flood = scene.flood(one, TYPE_OPEN, FLOOD)?;
    is_held(flood.new, flood.limited, start)?;
    // The neighbour shares the prefix, and so the blame.
    let theirs = scene.flood(neighbour, TYPE_OPEN, 10)?;
    ensure!(theirs.limited > 0, "{theirs:?}");
    // Whoever is elsewhere is not concerned, nor are packets of sessions.
    let theirs = scene.flood(other, TYPE_OPEN, u64::from(BURST))?;
    ensure!(theirs.limited == 0 && theirs.new == u64::from(BURST), "{theirs:?}");
    let theirs = scene.flood(one, TYPE_DATA, FLOOD)?;
    ensure!(theirs.limited == 0 && theirs.local == FLOOD, "{theirs:?}");

    // The control port has a bucket of its own.
    let start = Instant::now();
    let control = scene.flood(one, TYPE_CONTROL, FLOOD)?;
    is_held(control.local, control.limited, start)?;
    Ok(scene)
}

#[test]
fn a_prefix_that_floods_is_held_to_its_rate_and_others_are_not() -> Result<()> {
    require_root!();
    for family in Family::ALL {
        a_prefix_that_floods_is_held(family, 1).with_context(|| format!("{family:?}"))?;
    }
    Ok(())
}

/// The prefix is the client's, not that of the node that forwards its packets.
#[test]
fn it_is_held_by_the_owner_of_what_other_nodes_forward() -> Result<()> {
    require_root!();
    for family in Family::ALL {
        let scene =
            a_prefix_that_floods_is_held(family, 2).with_context(|| format!("{family:?}"))?;
        let all = 3 * FLOOD + 10 + u64::from(BURST);
        let forwarded = scene.verdict(0, "forward-slot")?;
        ensure!(forwarded == all, "{family:?}: {forwarded} of {all} were forwarded");
        // Nor does the one that forwards ask its own buckets.
        ensure!(scene.verdict(0, "rate-limited")? == 0);
    }
    Ok(())
}
