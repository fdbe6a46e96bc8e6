//! Grace periods: whoever has waited for one meets no program any more that has read what was there
//! before.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::programs::XdpMode;
use dataplane_ebpf::dissect::native::{Header, TYPE_DATA};
use dataplane_ebpf::table::{Entry, Place};
use dataplane_ebpf::wire_id::{Key, WireId};
use dataplane_user::dataplane::grace::{Method, grace_period, rcu_grace_period};
use dataplane_user::dataplane::object::Object;
use dataplane_user::dataplane::probe::Probe;
use dataplane_user::dataplane::{Dataplane, LoadOptions};
use jumpgate_tests::address::Family;
use jumpgate_tests::echo::pin_to;
use jumpgate_tests::netns::Namespace;
use jumpgate_tests::probe;
use jumpgate_tests::require_root;
use jumpgate_tests::topology::Cluster;
use ownership::NodeIndex;

const PATIENCE: Duration = Duration::from_secs(10);

/// Longer than the program dawdles.
const LATER: Duration = Duration::from_millis(2);

/// Where the probe object's programs keep their numbers; see `bpf/probe.rs`.
const SEED: usize = 3;
const HITS: usize = 4;

/// A node whose program looks a session up long before it counts what it has found. It runs on
/// CPU 1, the test on CPU 0.
struct Scene {
    dataplane: Dataplane,
    probe: Probe,
    key: Key,
    id: [u8; 16],
    cluster: Cluster,
}

impl Scene {
    fn new() -> Result<Self> {
        let cluster = Cluster::builder().nodes(1).build()?;
        let mut dataplane = Dataplane::load(LoadOptions {
            object: Object::Probe,
            sessions: 1,
            cpus: vec![0],
            queue: 192,
            bindings: false,
            hold_ring: 4096,
            log_packets: false,
        })?;
        let (id, seed): ([u8; 16], u64) = (rand::random(), 7);
        let key = WireId::from_bytes(&id).context("16 bytes are an id")?.key(seed);
        dataplane.insert(key, HERE, 1)?;
        dataplane.set_identity(NodeIndex::new(1)?);
        let mut probe = dataplane.probe.take().context("not the probe object")?;
        let mut row = [0; 8];
        row[SEED] = seed;
        probe.set(row);
        let program = dataplane.program("dawdle")?;
        cluster.nodes()[0].namespace().run(|| program.attach("eth0", XdpMode::Driver))?;
        Ok(Self { dataplane, probe, key, id, cluster })
    }

    /// How many packets were counted as the session's while it was here.
    fn hits(&self) -> u64 {
        self.probe.get()[HITS]
    }

    /// Takes the session away again and again, under load. How many packets are counted only after
    /// the wait for those that had found it here, in so many rounds, or until the first one.
    fn late_packets(
        &mut self,
        rounds: usize,
        until_first: bool,
        wait: impl Fn() -> Result<()>,
    ) -> Result<u64> {
        let mut late = 0;
        for _ in 0..rounds {
            let before = self.hits();
            ensure!(probe::until(PATIENCE, || self.hits() > before), "there is no load");
            self.dataplane.update(self.key, AWAY, 1);
            wait()?;
            let then = self.hits();
            thread::sleep(LATER);
            late += self.hits() - then;
            self.dataplane.update(self.key, HERE, 1);
            if until_first && late > 0 {
                break;
            }
        }
        Ok(late)
    }
}

const HERE: Entry = Entry { place: Place::Local { cpu: 0 }, epoch: 1 };
const AWAY: Entry = Entry { place: Place::Remote { node: 9 }, epoch: 1 };

/// Sends packets of a session as fast as they go, from CPU 1: there they are received too, since a
/// veth's packets stay on their CPU.
fn flood(client: &Namespace, server: SocketAddr, id: [u8; 16], over: &AtomicBool) -> Result<()> {
    pin_to(1)?;
    let socket = client.run(|| UdpSocket::bind("0.0.0.0:0"))?;
    let (header, length) = Header { kind: TYPE_DATA, session: id, owner: None }.encode();
    while !over.load(Ordering::Relaxed) {
        socket.send_to(&header[..length], server)?;
    }
    Ok(())
}

#[test]
fn after_a_grace_period_no_program_meets_an_older_entry() -> Result<()> {
    require_root!();
    let mut scene = Scene::new()?;
    let server = SocketAddr::new(scene.cluster.vip(Family::V4), 7000);
    let client = scene.cluster.clients()[0].namespace().clone();
    let (id, over) = (scene.id, AtomicBool::new(false));
    thread::scope(|scope| {
        let load = scope.spawn(|| flood(&client, server, id, &over));
        let mut judge = || -> Result<()> {
            pin_to(0)?;
            let without = scene.late_packets(1_000, true, || Ok(()))?;
            ensure!(without > 0, "without a wait none is late either: the test shows nothing");
            let hop = || {
                let method = grace_period()?;
                ensure!(method == Method::Hop, "{method}");
                Ok(())
            };
            ensure!(scene.late_packets(100, false, hop)? == 0, "after a hop");
            let rcu = || Ok(rcu_grace_period().map(drop)?);
            ensure!(scene.late_packets(20, false, rcu)? == 0, "after RCU");
            Ok(())
        };
        let judged = judge();
        over.store(true, Ordering::Relaxed);
        load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        judged
    })
}
