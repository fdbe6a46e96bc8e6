//! While a slot moves, its new owner sends what it does not know to the previous owner, once.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Result, ensure};
use dataplane_ebpf::dissect::native::{Header, TYPE_DATA};
use dataplane_ebpf::verdict::{Admission, Verdict};
use jumpgate_tests::address::Family;
use jumpgate_tests::probe;
use jumpgate_tests::require_root;
use jumpgate_tests::rig::{self, Rig};
use jumpgate_tests::topology::Cluster;
use ownership::Placement;
use ownership::placement::Member;

const PATIENCE: Duration = Duration::from_secs(5);
const HOUR: Duration = Duration::from_secs(3600);

struct Scene {
    cluster: Cluster,
    rigs: Vec<Rig>,
    client: UdpSocket,
    server: SocketAddr,
}

impl Scene {
    /// All slots move from node a to node b; node a may not have heard of it.
    fn new(underlay: Family, a_knows: bool) -> Result<Self> {
        let cluster = Cluster::builder().underlay(underlay).build()?;
        let server = SocketAddr::new(cluster.vip(Family::V4), 7000);
        let nodes = cluster.nodes();
        let before = Placement::all_to(rig::index(&nodes[0])?);
        let b = Member { index: rig::index(&nodes[1])?, name: "b".to_owned(), weight: 1 };
        let moving = before.next(&[b])?;
        let mut rigs = Vec::new();
        for node in nodes {
            let stale = node.index() == 0 && !a_knows;
            let placement = if stale { &before } else { &moving };
            let rig = Rig::new(&cluster, node, server, placement, 1)?;
            rig.arm(HOUR, HOUR);
            rigs.push(rig);
        }
        let host = &cluster.clients()[0];
        let client = host.namespace().run(|| UdpSocket::bind((host.address(Family::V4), 0)))?;
        Ok(Self { cluster, rigs, client, server })
    }

    /// Sends a packet of a session so that it enters at a node.
    fn send(&self, entry: usize, session: [u8; 16], mark: u8) -> Result<()> {
        self.cluster.route_vips_to(&[entry])?;
        let (bytes, length) = Header { kind: TYPE_DATA, session, owner: None }.encode();
        self.client.send_to(&[&bytes[..length], &[mark]].concat(), self.server)?;
        Ok(())
    }

    fn verdict(&self, verdict: Verdict) -> Result<u64> {
        self.rigs.iter().map(|rig| rig.verdict(verdict)).sum()
    }

    fn wait_for(&self, verdict: Verdict, count: u64) -> Result<()> {
        let met = probe::until(PATIENCE, || self.verdict(verdict).is_ok_and(|now| now >= count));
        ensure!(met, "{count} × {verdict:?} expected, not {}", self.verdict(verdict)?);
        Ok(())
    }
}

fn the_previous_owner_gets_what_the_new_one_does_not_know(
    underlay: Family,
    a_knows: bool,
) -> Result<()> {
    let mut scene = Scene::new(underlay, a_knows)?;
    let (session, key) = scene.rigs[0].draw(4711);
    scene.rigs[0].own(key, 1, 1)?;
    for entry in [0, 1, 2] {
        scene.send(entry, session, entry as u8)?;
        let received = scene.rigs[0].inbox.receive(PATIENCE)?;
        ensure!(
            received.as_ref().is_some_and(|got| got.cpu == 1 && got.payload[20] == entry as u8),
            "from node {entry}: {received:?}",
        );
    }
    // From b itself, and from c by way of b.
    ensure!(scene.verdict(Verdict::SecondChance)? == 2);
    ensure!(scene.verdict(Verdict::ForwardSlot)? == 1);
    ensure!(scene.verdict(Verdict::Local)? == 3);
    ensure!(scene.rigs[0].admission(Admission::Delivered)? == 3);
    Ok(())
}

#[test]
fn a_session_is_found_at_the_previous_owner() -> Result<()> {
    require_root!();
    the_previous_owner_gets_what_the_new_one_does_not_know(Family::V4, true)
}

#[test]
fn a_session_is_found_at_a_previous_owner_that_has_not_heard_of_the_move() -> Result<()> {
    require_root!();
    the_previous_owner_gets_what_the_new_one_does_not_know(Family::V6, false)
}

#[test]
fn what_neither_owner_knows_is_refused_and_does_not_loop() -> Result<()> {
    require_root!();
    let scene = Scene::new(Family::V4, true)?;
    for (entry, forwards) in [(1, 0), (0, 1), (2, 2)] {
        let (session, _) = scene.rigs[0].draw(9);
        scene.send(entry, session, 0)?;
        scene.wait_for(Verdict::SecondChanceMissed, [2, 1, 3][entry])?;
        // b is asked, and asks a, whichever node the packet enters at. Nothing else happens.
        ensure!(scene.verdict(Verdict::ForwardSlot)? == forwards, "from node {entry}");
        ensure!(scene.rigs[1].verdict(Verdict::SecondChance)? == [2, 1, 3][entry]);
        ensure!(scene.rigs[0].verdict(Verdict::SecondChanceMissed)? == [2, 1, 3][entry]);
    }
    std::thread::sleep(Duration::from_millis(50));
    let all = |verdicts: &[Verdict]| -> Result<u64> {
        verdicts.iter().map(|&verdict| scene.verdict(verdict)).sum()
    };
    use Verdict::{ForwardSlot, HopLimit, NotNewer, SecondChance, SecondChanceMissed};
    ensure!(all(&[ForwardSlot, SecondChance, SecondChanceMissed])? == 2 + 3 + 3);
    ensure!(all(&[HopLimit, NotNewer, Verdict::Local])? == 0);
    Ok(())
}

#[test]
fn a_previous_owner_with_an_older_placement_does_not_say_that_a_session_is_unknown() -> Result<()> {
    require_root!();
    let scene = Scene::new(Family::V4, false)?;
    let (session, _) = scene.rigs[0].draw(9);
    scene.send(1, session, 0)?;
    scene.wait_for(Verdict::PlacementOld, 1)?;
    ensure!(scene.rigs[0].verdict(Verdict::PlacementOld)? == 1);
    ensure!(scene.verdict(Verdict::NoSession)? == 0);
    Ok(())
}
