//! What an AF_XDP socket takes, and what its ring has no room for.

use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use dataplane_ebpf::dissect::native::{Header, TYPE_DATA};
use dataplane_ebpf::event::Reason;
use dataplane_ebpf::loss::Loss;
use dataplane_user::af_xdp::{Options, Port};
use dataplane_user::api::{Client as Api, Request};
use jumpgate_tests::address::Family;
use jumpgate_tests::config::{Config, Service};
use jumpgate_tests::daemon::Daemon;
use jumpgate_tests::probe;
use jumpgate_tests::require_root;
use jumpgate_tests::topology::Cluster;
use jumpgate_tests::xsk;
use ownership::SessionId;

use super::scene::PATIENCE;

const PORT: u16 = 7000;

/// How many packets the port's ring holds.
const RING: u32 = 64;

/// What was found of the packets that were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Found {
    handed_out: u64,
    /// By XDP.
    refused: u64,
    /// By the port.
    not_handed_out: u64,
    lost: u64,
}

/// A node that delivers to one port, and a client.
struct Scene {
    port: Port,
    daemon: Daemon,
    client: UdpSocket,
    handed_out: u64,
    /// Keeps the network.
    _cluster: Cluster,
}

impl Scene {
    fn new(family: Family) -> Result<Self> {
        let cluster = Cluster::builder().nodes(1).build()?;
        let node = &cluster.nodes()[0];
        let service = Service::native("ring", cluster.vip(family), PORT);
        let service = Service { deliver: Some("af_xdp"), ..service };
        let daemon = Daemon::start(&cluster, node, &Config::of(&cluster, node, &[service]))?;
        let mut api = Api::connect(daemon.socket())?;
        let options = Options { frames: RING, ..Options::new("eth0", 0) };
        let port = node.namespace().run(|| -> Result<Port> {
            let mut port = xsk::bind(&options)?;
            port.register(&mut api)?;
            Ok(port)
        })?;
        let host = &cluster.clients()[0];
        let client = host.namespace().run(|| UdpSocket::bind((host.address(family), 0)))?;
        client.connect((cluster.vip(family), PORT))?;
        Ok(Self { port, daemon, client, handed_out: 0, _cluster: cluster })
    }

    fn send(&self, session: SessionId, packets: u32) -> Result<()> {
        let (bytes, length) =
            Header { kind: TYPE_DATA, session: session.bytes(), owner: None }.encode();
        for _ in 0..packets {
            self.client.send(&bytes[..length])?;
        }
        Ok(())
    }

    fn found(&self) -> Result<Found> {
        let stats = Api::connect(self.daemon.socket())?.stats()?;
        let counts = &stats.services["ring"];
        let mut found = Found {
            handed_out: self.handed_out,
            lost: stats.lost.get(Loss::XskRefused.name()).copied().unwrap_or(0),
            ..Found::default()
        };
        for reason in Reason::refusals() {
            let (sum, by_name) = match reason {
                Reason::Verdict(_) => (&mut found.refused, &counts.verdicts),
                Reason::Admission(_) => (&mut found.not_handed_out, &counts.af_xdp),
                Reason::Egress(_) => continue,
            };
            *sum += by_name.get(reason.name()).copied().unwrap_or(0);
        }
        ensure!(stats.lost.keys().all(|name| *name == Loss::XskRefused.name()), "{stats:?}");
        Ok(found)
    }

    /// Waits until XDP has steered so many packets in all.
    fn steered(&self, packets: u64) -> Result<()> {
        let steered = || -> Result<u64> {
            let stats = Api::connect(self.daemon.socket())?.stats()?;
            let count = |what| stats.services["ring"].verdicts.get(what).copied().unwrap_or(0);
            Ok(count("local") + count("no-session"))
        };
        ensure!(probe::until(PATIENCE, || steered().is_ok_and(|count| count == packets)));
        Ok(())
    }

    /// Takes what is in the ring, and then everything that was sent must be found, and nothing more a
    /// while later.
    fn settle(&mut self, sent: u64) -> Result<Found> {
        let end = Instant::now() + PATIENCE;
        let mut before = None;
        loop {
            let mut handed_out = 0;
            while self.port.wait(Duration::from_millis(50))? {
                self.port.receive(|_, _| handed_out += 1)?;
            }
            self.handed_out += handed_out;
            let found = self.found()?;
            let Found { handed_out, refused, not_handed_out, lost } = found;
            let sum = handed_out + refused + not_handed_out + lost;
            if sum == sent && before == Some(found) {
                return Ok(found);
            }
            ensure!(sum <= sent && Instant::now() < end, "{sum} of {sent}: {found:?}");
            before = Some(found);
            thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn what_a_full_af_xdp_ring_drops_is_found() -> Result<()> {
    require_root!();
    for family in Family::ALL {
        let mut scene = Scene::new(family)?;
        let mut api = Api::connect(scene.daemon.socket())?;
        let mut sent = 0;
        let mut expected = Found::default();
        // A ring is used round and round.
        for _ in 0..3 {
            let mut open = || -> Result<SessionId> { Ok(api.open("ring", 0)?.session.parse()?) };
            let [stays, goes] = [open()?, open()?];
            scene.send(SessionId::new([7; 16]), 5)?;
            scene.send(goes, 10)?;
            scene.send(stays, 200)?;
            sent += 215;
            scene.steered(sent)?;
            // While its packets are in the ring.
            api.done(&Request::Close { session: goes.to_string() }, None)?;
            let found = scene.settle(sent)?;
            expected.refused += 5;
            expected.not_handed_out += 10;
            expected.handed_out += u64::from(RING) - 10;
            expected.lost += 210 - u64::from(RING);
            ensure!(found == expected, "{family:?}: {found:?}, not {expected:?}");
        }
        // And with room again nothing is lost.
        let session = api.open("ring", 0)?.session.parse()?;
        scene.send(session, RING)?;
        sent += u64::from(RING);
        scene.steered(sent)?;
        expected.handed_out += u64::from(RING);
        ensure!(scene.settle(sent)? == expected);
    }
    Ok(())
}
