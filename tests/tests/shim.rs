//! Forged and stale forwarded packets are refused and counted, and reach nobody.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dataplane_ebpf::dissect::native::{Header, TYPE_DATA};
use dataplane_ebpf::shim::Shim;
use dataplane_ebpf::verdict::Verdict;
use dataplane_ebpf::wire_id::WireId;
use dataplane_user::api::{Client as Api, Request};
use dataplane_user::cluster::{Backend, Beacon, Lease};
use dataplane_user::config::{Config as Loaded, Store};
use jumpgate_tests::address::Family;
use jumpgate_tests::config::first_placement;
use jumpgate_tests::config::{Config, Service};
use jumpgate_tests::daemon::Daemon;
use jumpgate_tests::fleet::Fleet;
use jumpgate_tests::forged::{Forger, datagram, wrap};
use jumpgate_tests::inbox::Inbox;
use jumpgate_tests::ip::Batch;
use jumpgate_tests::probe;
use jumpgate_tests::require_root;
use jumpgate_tests::rig::{self, Rig};
use jumpgate_tests::topology::Cluster;
use ownership::lease::LeaseTimes;
use ownership::store::{Position, Seen};
use ownership::{NodeIndex, Placement};

const PATIENCE: Duration = Duration::from_secs(5);
const EPOCH: u32 = 42;
const A: u16 = 1;
const B: u16 = 2;
const C: u16 = 3;

/// A shim as node b sends it, and what can be changed about it.
#[derive(Clone, Copy)]
struct Fields {
    hops: u8,
    sender: u16,
    revision: u32,
    epoch: u32,
    version: u64,
    second_chance: bool,
}

const GOOD: Fields =
    Fields { hops: 3, sender: B, revision: 1, epoch: 0, version: 0, second_chance: false };

impl Fields {
    fn shim(self) -> Shim {
        let Self { hops, sender, revision, epoch, version, second_chance } = self;
        Shim::new(hops, sender, revision, epoch, version, second_chance)
    }
}

/// Daemons on three nodes; node a has a session on CPU 1, and others only knock.
struct Scene {
    cluster: Cluster,
    fleet: Fleet,
    inbox: Inbox,
    /// At node b's underlay address, and at node c's.
    b: Forger,
    c: Forger,
    client: SocketAddr,
    server: SocketAddr,
    session: [u8; 16],
    /// In a slot of node c, but no session.
    elsewhere: [u8; 16],
}

/// Begins so many epochs in the store of a node that has not started yet.
fn draw_epochs(config: &Config, epochs: u32) -> Result<()> {
    let path = config.state.path.join(format!("{}.store", config.node));
    let index = config.nodes.iter().find(|node| node.name == config.node).context("itself")?.index;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(async {
        let (node, seen) = (NodeIndex::new(index)?, Seen::new(Position::START));
        let backend = Arc::new(Backend::open(&Store::Embedded { path }, node, seen).await?);
        for _ in 0..epochs {
            let beacon = Arc::new(Beacon::new(LeaseTimes::default()));
            Lease::register(Arc::clone(&backend), node, &config.node, beacon).await?;
        }
        Ok(())
    })
}

impl Scene {
    fn new(family: Family) -> Result<Self> {
        let cluster = Cluster::builder().underlay(family).uplinks(2).build()?;
        let nodes = cluster.nodes();
        let service = Service::native("forged", cluster.vip(family), 7000);
        let mut fleet = Fleet { gateways: Vec::new(), daemons: Vec::new() };
        for node in nodes {
            let mut config = Config::of(&cluster, node, std::slice::from_ref(&service));
            for other in &mut config.nodes {
                other.interface = Some("eth0".to_owned());
            }
            draw_epochs(&config, EPOCH - 1)?;
            fleet.daemons.push(Daemon::start(&cluster, node, &config)?);
        }
        fleet.wait_for_next_hops()?;
        ensure!(fleet.status(0)?.epoch == EPOCH, "{:?}", fleet.status(0)?);
        let daemon = &fleet.daemons[0];
        let inbox = Inbox::open(nodes[0].namespace(), daemon.socket(), &service, false, 2)?;
        let opened = Api::connect(daemon.socket())?.open(&service.name, 1)?;
        let session = opened.session.parse::<ownership::SessionId>()?.bytes();

        let config = Loaded::load(daemon.config())?;
        let (placement, seed) = (first_placement(&config)?, config.services()[0].seed());
        let owner = |id: &[u8; 16]| {
            let key = WireId::from_bytes(id).expect("16 bytes are an id").key(seed);
            placement.slots()[usize::from(key.slot)].owner.map(|owner| owner.get())
        };
        ensure!(owner(&session) == Some(A));
        let elsewhere = std::iter::repeat_with(rand::random)
            .find(|id| owner(id) == Some(C))
            .context("an id")?;
        let forger = |index: usize| {
            Forger::new(nodes[index].namespace(), cluster.underlay_address(&nodes[index]))
        };
        let (b, c) = (forger(1)?, forger(2)?);
        let client = SocketAddr::new(cluster.clients()[0].address(family), 5000);
        let server = SocketAddr::new(service.address, service.port);
        Ok(Self { cluster, fleet, inbox, b, c, client, server, session, elsewhere })
    }

    fn inner(&self, session: [u8; 16], mark: u8) -> Vec<u8> {
        let (bytes, length) = Header { kind: TYPE_DATA, session, owner: None }.encode();
        datagram(self.client, self.server, &[&bytes[..length], &[mark]].concat())
    }

    fn packet(&self, fields: Fields) -> Vec<u8> {
        wrap(fields.shim(), &self.inner(self.session, 0))
    }

    /// Sends to node a, and demands that exactly this is counted there.
    fn refused(&self, forger: &Forger, payload: &[u8], verdict: Verdict) -> Result<()> {
        let before = self.verdict(verdict)?;
        forger.send(payload, self.cluster.underlay_address(&self.cluster.nodes()[0]))?;
        let counted =
            probe::until(PATIENCE, || self.verdict(verdict).is_ok_and(|now| now > before));
        ensure!(counted, "not refused as {verdict:?}: {:?}", self.fleet.stats(0)?);
        ensure!(self.verdict(verdict)? == before + 1);
        Ok(())
    }

    fn verdict(&self, verdict: Verdict) -> Result<u64> {
        let stats = self.fleet.stats(0)?;
        let counts = stats.services.values().chain([&stats.other]);
        Ok(counts.filter_map(|counts| counts.verdicts.get(verdict.name())).sum())
    }

    /// Sends to node a, and demands that this is what the application gets next: nothing that was
    /// sent earlier to the same session reached it.
    fn delivered(&self, fields: Fields, mark: u8) -> Result<()> {
        let payload = wrap(fields.shim(), &self.inner(self.session, mark));
        self.b.send(&payload, self.cluster.underlay_address(&self.cluster.nodes()[0]))?;
        let received = self.inbox.receive(PATIENCE)?;
        ensure!(
            received.as_ref().is_some_and(|got| {
                got.cpu == 1 && got.from == self.client && got.payload[20..] == [mark]
            }),
            "packet {mark}: {received:?}",
        );
        Ok(())
    }
}

fn what_is_forged_or_stale_is_refused(family: Family) -> Result<()> {
    let scene = Scene::new(family)?;
    let Scene { b, c, .. } = &scene;
    scene.delivered(GOOD, 1)?;
    scene.delivered(Fields { epoch: EPOCH, version: 1, hops: 0, ..GOOD }, 2)?;

    // Who sent it.
    for sender in [0, 9, 4095, 4096, u16::MAX] {
        scene.refused(b, &scene.packet(Fields { sender, ..GOOD }), Verdict::ShimSender)?;
    }
    scene.refused(b, &scene.packet(Fields { sender: C, ..GOOD }), Verdict::ShimSender)?;
    scene.refused(b, &scene.packet(Fields { sender: A, ..GOOD }), Verdict::ShimSender)?;
    scene.refused(c, &scene.packet(GOOD), Verdict::ShimSender)?;
    let host = &scene.cluster.clients()[0];
    let stranger = Forger::new(host.namespace(), host.address(family))?;
    scene.refused(&stranger, &scene.packet(GOOD), Verdict::ShimSender)?;

    // What it looks like.
    let good = scene.packet(GOOD);
    for (at, value) in [(0, 0x00), (0, 0x20), (0, 0xf0), (1, 4), (1, 255)] {
        let mut bad = good.clone();
        bad[at] = value;
        scene.refused(b, &bad, Verdict::ShimMalformed)?;
    }
    for length in [0, 1, 31, 32] {
        scene.refused(b, &good[..length], Verdict::ShimMalformed)?;
    }
    // The client's packet within is cut short, or for nobody here.
    scene.refused(b, &good[..good.len() - 1], Verdict::Malformed)?;
    let nobody = SocketAddr::new(scene.server.ip(), 9);
    let packet = wrap(GOOD.shim(), &datagram(scene.client, nobody, b"hello"));
    scene.refused(b, &packet, Verdict::ShimMalformed)?;
    // A shim within a shim.
    let node = scene.cluster.underlay_address(&scene.cluster.nodes()[0]);
    let again = SocketAddr::new(node, dataplane_ebpf::service::ENCAP_PORT);
    let packet = wrap(GOOD.shim(), &datagram(b_address(&scene), again, &good));
    scene.refused(b, &packet, Verdict::ShimMalformed)?;

    // What its sender knew.
    let stale = [
        (Fields { epoch: EPOCH - 1, ..GOOD }, Verdict::ShimEpochOld),
        (Fields { epoch: EPOCH + 1, ..GOOD }, Verdict::ShimEpochNew),
        (Fields { epoch: u32::MAX, ..GOOD }, Verdict::ShimEpochNew),
        (Fields { version: 2, ..GOOD }, Verdict::ShimVersionNew),
        (Fields { version: u64::MAX, ..GOOD }, Verdict::ShimVersionNew),
    ];
    for (fields, verdict) in stale {
        scene.refused(b, &scene.packet(fields), verdict)?;
    }
    let away = |fields: Fields| wrap(fields.shim(), &scene.inner(scene.elsewhere, 0));
    scene.refused(b, &away(GOOD), Verdict::NotNewer)?;
    let by_row = Fields { revision: 2, version: 1, ..GOOD };
    scene.refused(b, &away(by_row), Verdict::NotNewer)?;
    // It may be that the slot is this node's by now, and that it has not heard of it: the owner that it knows
    // of is asked.
    let asked = scene.verdict(Verdict::SecondChance)?;
    scene.refused(b, &away(Fields { revision: 2, ..GOOD }), Verdict::SecondChance)?;
    ensure!(scene.verdict(Verdict::SecondChance)? == asked + 1);
    let second = Fields { second_chance: true, ..GOOD };
    scene.refused(b, &away(second), Verdict::SecondChanceMissed)?;
    // With newer knowledge it would go on, were it not forwarded too often already.
    let old = Fields { revision: 0, ..GOOD };
    scene.refused(b, &away(Fields { hops: 0, ..old }), Verdict::HopLimit)?;
    let forwarded = scene.verdict(Verdict::ForwardSlot)?;
    scene.refused(b, &away(Fields { hops: 1, ..old }), Verdict::ForwardSlot)?;
    ensure!(scene.verdict(Verdict::ForwardSlot)? == forwarded + 1);

    // Where it came in: the right packet by the wrong link.
    let (near, far) = match family {
        Family::V4 => ("10.1.0.2/32", "10.2.0.2"),
        Family::V6 => ("fd00:1::2/128", "fd00:2::2"),
    };
    Batch::new()
        .add(format!("route add {near} via {far} dev node-a-1"))
        .run(scene.cluster.router())?;
    scene.refused(b, &good, Verdict::ShimInterface)?;
    Batch::new()
        .add(format!("route del {near} via {far} dev node-a-1"))
        .run(scene.cluster.router())?;

    // All that time nothing reached the application.
    scene.delivered(GOOD, 3)?;
    ensure!(scene.inbox.take()?.is_none());
    let stats = scene.fleet.stats(0)?;
    let counts = &stats.services["forged"];
    ensure!(counts.verdicts["local"] == 3 && counts.admissions["delivered"] == 3, "{stats:?}");
    ensure!(counts.admissions.len() == 1, "{stats:?}");

    // A row leads on only what was sent by an older version of it.
    let id = scene.elsewhere.iter().map(|byte| format!("{byte:02x}")).collect();
    let (service, node) = ("forged".to_owned(), "c".to_owned());
    let row = Request::AddRow { service, id, node, version: 5 };
    Api::connect(scene.fleet.daemons[0].socket())?.done(&row, None)?;
    for (version, verdict) in
        [(4, Verdict::ForwardRow), (5, Verdict::NotNewer), (6, Verdict::NotNewer)]
    {
        scene.refused(b, &away(Fields { version, ..GOOD }), verdict)?;
    }
    Ok(())
}

fn b_address(scene: &Scene) -> SocketAddr {
    SocketAddr::new(scene.cluster.underlay_address(&scene.cluster.nodes()[1]), 5000)
}

#[test]
fn what_is_forged_or_stale_is_refused_over_ipv4() -> Result<()> {
    require_root!();
    what_is_forged_or_stale_is_refused(Family::V4)
}

#[test]
fn what_is_forged_or_stale_is_refused_over_ipv6() -> Result<()> {
    require_root!();
    what_is_forged_or_stale_is_refused(Family::V6)
}

#[test]
fn an_older_version_of_the_session_is_refused() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(2).build()?;
    let [a, b] = [&cluster.nodes()[0], &cluster.nodes()[1]];
    let server = SocketAddr::new(cluster.vip(Family::V4), 7000);
    let mut rig = Rig::new(&cluster, a, server, &Placement::all_to(rig::index(a)?), EPOCH)?;
    rig.arm(Duration::from_secs(3600), Duration::from_secs(3600));
    let (session, key) = rig.draw(1);
    rig.own(key, 0, 7)?;
    let forger = Forger::new(b.namespace(), cluster.underlay_address(b))?;
    let client = SocketAddr::new(cluster.clients()[0].address(Family::V4), 5000);
    for (version, verdict) in [
        (6, Verdict::ShimVersionOld),
        (8, Verdict::ShimVersionNew),
        (7, Verdict::Local),
        (0, Verdict::Local),
    ] {
        let (bytes, length) = Header { kind: TYPE_DATA, session, owner: None }.encode();
        let inner = datagram(client, server, &[&bytes[..length], &[version as u8]].concat());
        let before = rig.verdict(verdict)?;
        forger
            .send(&wrap(Fields { version, ..GOOD }.shim(), &inner), cluster.underlay_address(a))?;
        let counted =
            probe::until(PATIENCE, || rig.verdict(verdict).is_ok_and(|now| now == before + 1));
        ensure!(counted, "version {version} is not {verdict:?}");
    }
    for version in [7, 0] {
        let received = rig.inbox.receive(PATIENCE)?;
        ensure!(received.as_ref().is_some_and(|got| got.payload[20] == version), "{received:?}");
    }
    Ok(())
}
