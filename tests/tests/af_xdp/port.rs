//! What a port hands out and sends, by tables that the test changes under it.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dataplane_ebpf::abi::SCHEMA;
use dataplane_ebpf::dissect::native::{TYPE_DATA, TYPE_OPEN};
use dataplane_ebpf::shim::{HOPS, Shim};
use dataplane_ebpf::table::{Entry, Place};
use dataplane_ebpf::verdict::{Admission, Transmission, Verdict};
use dataplane_ebpf::wire_id::Key;
use dataplane_user::af_xdp::{Options, Port, PortError, SendError, Speaker};
use dataplane_user::api::{Answer, Client as Api, Response, Server, XskPlace};
use dataplane_user::dataplane::services::{Delivery, Service};
use jumpgate_tests::address::Family;
use jumpgate_tests::forged::{Forger, datagram, wrap};
use jumpgate_tests::ip::Batch;
use jumpgate_tests::rig::{self, Rig};
use jumpgate_tests::topology::Cluster;
use jumpgate_tests::{probe, require_root};
use ownership::Placement;

use super::client::{Client, Got, PATIENCE, PORT, native, take};

const HOUR: Duration = Duration::from_secs(3600);
const NOW: Duration = Duration::ZERO;

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

/// Shuts node a's interface or opens it again.
fn set_link(scene: &Scene, up: bool) -> Result<()> {
    let mut batch = Batch::new();
    batch.add(format!("link set eth0 {}", if up { "up" } else { "down" }));
    batch.run(scene.cluster.nodes()[0].namespace())
}

#[test]
fn what_the_kernel_has_left_in_its_ring_is_judged_again_before_it_leaves() -> Result<()> {
    require_root!();
    let mut scene = Scene::new(Family::V4)?;
    scene.client.send(TYPE_DATA, scene.session, 1)?;
    let got = scene.take()?;
    let (other, key) = scene.rig.draw(2);
    scene.rig.own(key, 1, 1)?;
    let here = Entry { place: Place::Local { cpu: 0 }, epoch: 7 };
    let away = Entry { place: Place::Remote { node: 2 }, epoch: 7 };
    // What happens to the session while its frame is in the ring, and of which lease that was.
    for (round, entry, lease, refusal) in [
        (1, here, HOUR, None),
        (2, away, HOUR, Some(Transmission::NotOwner)),
        (3, here, NOW, Some(Transmission::Late)),
    ] {
        scene.rig.dataplane.update(scene.key, here, 2);
        let counts = |scene: &Scene| {
            let sent = scene.transmissions(Transmission::Sent);
            (sent, refusal.map(|refusal| scene.transmissions(refusal)))
        };
        let before = counts(&scene);
        set_link(&scene, false)?;
        let (mark, others) = (10 * round, native(TYPE_DATA, other, 10 * round + 1));
        let mut sender = scene.port.sender();
        sender.send(&got.path, got.speaker, &[&native(TYPE_DATA, scene.session, mark)])?;
        sender.send(&got.path, Speaker::Session(key), &[&others])?;
        let error = sender.flush().err().context("the interface is down")?;
        ensure!(error.raw_os_error() == Some(libc::ENETDOWN), "{error}");
        ensure!(counts(&scene) == before, "neither sent nor refused yet");

        scene.rig.dataplane.update(scene.key, entry, 2);
        scene.rig.arm(HOUR, lease);
        set_link(&scene, true)?;
        scene.port.sender().flush()?;
        let (sent, refused) = before;
        // The other session's leaves as long as the lease holds.
        let (sent, refused) = match lease {
            HOUR => (sent + 1 + u64::from(refusal.is_none()), refused.map(|count| count + 1)),
            _ => (sent, refused.map(|count| count + 2)),
        };
        ensure!(counts(&scene) == (sent, refused), "{round}: {:?}", counts(&scene));
        scene.rig.arm(HOUR, HOUR);
        if refusal.is_none() {
            ensure!(scene.client.answer()? == mark);
        }
        if lease == HOUR {
            ensure!(scene.client.answer()? == mark + 1);
        }
        // And the port goes on: nothing else comes before this.
        scene.rig.dataplane.update(scene.key, here, 2);
        ensure!(scene.send(&got, mark + 2)?.is_none());
        ensure!(scene.client.answer()? == mark + 2);
        ensure!(scene.client.is_silent()?);
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
