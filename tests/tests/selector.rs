//! What the selector refuses though XDP let it in: by the exact clock, of sessions that went
//! elsewhere, and of clients that did.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dataplane_ebpf::dissect::native::{Header, TYPE_DATA, TYPE_OPEN};
use dataplane_ebpf::table::{Entry, Place};
use dataplane_ebpf::verdict::{Admission, Verdict};
use dataplane_ebpf::wire_id_row::Registered;
use dataplane_user::dataplane::services::Service;
use dataplane_user::hold::{Bounds, Coming, Session};
use jumpgate_tests::address::Family;
use jumpgate_tests::probe;
use jumpgate_tests::require_root;
use jumpgate_tests::rig::{self, Rig};
use jumpgate_tests::topology::Cluster;
use ownership::Placement;

const PATIENCE: Duration = Duration::from_secs(5);
const HOUR: Duration = Duration::from_secs(3600);
const NOW: Duration = Duration::ZERO;

#[test]
fn what_waited_in_a_queue_is_delivered_of_a_held_session_only_while_it_is_ours() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).build()?;
    let node = &cluster.nodes()[0];
    let server = SocketAddr::new(cluster.vip(Family::V4), 7000);
    let placement = Placement::all_to(rig::index(node)?);
    let mut rig = Rig::new(&cluster, node, server, &placement, 7)?;
    let (session, key) = rig.draw(1);
    rig.own(key, 1, 1)?;
    rig.arm(HOUR, HOUR);
    // From the node itself: past XDP, as what was let in before the hold began.
    let inside = node.namespace().run(|| UdpSocket::bind((cluster.vip(Family::V4), 0)))?;
    let (bytes, length) = Header { kind: TYPE_DATA, session, owner: None }.encode();
    let hold = |ours| Entry { place: Place::Hold { cpu: 1, ours }, epoch: 7 };
    // It is delivered or not, on whichever CPU it comes up.
    let passed = |rig: &Rig| {
        Ok::<_, anyhow::Error>(
            rig.admission(Admission::Delivered)? + rig.admission(Admission::WrongCpu)?,
        )
    };
    for (round, ours) in [(1, true), (2, false), (3, true)] {
        ensure!(rig.dataplane.update(key, hold(ours), 1));
        let before = (passed(&rig)?, rig.admission(Admission::NotOwner)?);
        inside.send_to(&[&bytes[..length], &[round]].concat(), server)?;
        let after = (before.0 + u64::from(ours), before.1 + u64::from(!ours));
        let now = || (passed(&rig).unwrap_or(0), rig.admission(Admission::NotOwner).unwrap_or(0));
        ensure!(probe::until(PATIENCE, || now() == after), "{round}: {:?}, not {after:?}", now());
        if ours {
            let received = rig.inbox.receive(PATIENCE)?;
            ensure!(received.as_ref().is_some_and(|got| got.payload[20] == round), "{received:?}");
        }
    }
    Ok(())
}

/// A node whose service enforces bindings, with a session of this key that is bound to nobody yet, and
/// the address of its service.
fn enforcing(cluster: &Cluster) -> Result<(Rig, SocketAddr)> {
    let node = &cluster.nodes()[0];
    let server = SocketAddr::new(cluster.vip(Family::V4), 7000);
    let service = rig::service(cluster, node, server);
    let service = Service { enforces_binding: true, ..service };
    let rig = Rig::serving(service, cluster, node, &Placement::all_to(rig::index(node)?), 7)?;
    rig.arm(HOUR, HOUR);
    Ok((rig, server))
}

#[test]
fn what_waited_in_a_queue_is_delivered_only_if_it_is_of_its_sessions_client_by_then() -> Result<()>
{
    require_root!();
    let cluster = Cluster::builder().nodes(1).build()?;
    let (mut rig, server) = enforcing(&cluster)?;
    let (session, key) = rig.draw(1);
    rig.own(key, 1, 1)?;
    // From the node itself: past XDP, as what was let in before the client attached from elsewhere.
    let namespace = cluster.nodes()[0].namespace();
    let inside = namespace.run(|| UdpSocket::bind((cluster.vip(Family::V4), 0)))?;
    let client = inside.local_addr()?;
    let port = SocketAddr::new(client.ip(), client.port() ^ 1);
    let (bytes, length) = Header { kind: TYPE_DATA, session, owner: None }.encode();
    for (round, bound, refusal) in [
        (1, Some(client), None),
        (2, Some(port), Some(Admission::TransportOld)),
        (3, Some("203.0.113.9:7".parse()?), Some(Admission::TransportOld)),
        (4, None, Some(Admission::Unbound)),
        (5, Some(client), None),
    ] {
        ensure!(rig.dataplane.set_binding(key, bound));
        let before = refusal.map(|refusal| rig.admission(refusal)).transpose()?;
        inside.send_to(&[&bytes[..length], &[round]].concat(), server)?;
        let Some(refusal) = refusal else {
            let received = rig.inbox.receive(PATIENCE)?.context("nothing came")?;
            ensure!(received.payload[20] == round && received.from == client, "{received:?}");
            continue;
        };
        let counted = || rig.admission(refusal).is_ok_and(|count| Some(count - 1) == before);
        ensure!(probe::until(PATIENCE, counted), "{bound:?}: not {}", refusal.name());
        ensure!(rig.inbox.take()?.is_none(), "{bound:?}");
    }
    Ok(())
}

#[test]
fn what_was_held_of_a_session_that_came_is_delivered_only_if_it_is_of_its_client() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).build()?;
    let (mut rig, server) = enforcing(&cluster)?;
    let keeper = rig.keep(
        &cluster,
        &cluster.nodes()[0],
        Bounds { per_session: 1 << 16, total: 1 << 16 },
        50_000,
    )?;
    let host = &cluster.clients()[0];
    let client =
        |n| host.namespace().run(|| UdpSocket::bind((host.pool_address(Family::V4, n), 0)));
    let clients = [client(1)?, client(2)?];
    let address = |client: usize| clients[client].local_addr();
    for (slot, bound) in [(1, Some(0)), (2, Some(1)), (3, None)] {
        let (session, key) = rig.draw(slot);
        let registered = Registered::new(&session, 1, key.hash).context("an id")?;
        let coming = Coming {
            session: Session { service: 1, cpu: 0, keys: vec![key] },
            wire_ids: vec![registered],
        };
        // Nobody has said yet who its client is.
        let hold = keeper.expect(&mut rig.dataplane, &[coming], 7, 1)?;
        let (bytes, length) = Header { kind: TYPE_DATA, session, owner: None }.encode();
        for (mark, client) in (0..).zip(&clients) {
            client.send_to(&[&bytes[..length], &[mark]].concat(), server)?;
        }
        let held = || hold.counts()[0].held == 2;
        ensure!(probe::until(PATIENCE, held), "{:?}", rig.dataplane.counters.service(1, false)?);
        let client = bound.map(address).transpose()?;
        ensure!(rig.dataplane.set_binding(key, client));
        let refusal = if bound.is_some() { Admission::TransportOld } else { Admission::Unbound };
        let before = rig.admission(refusal)?;
        hold.release_here(&mut rig.dataplane, PATIENCE)?;
        let refused = 2 - bound.iter().count() as u64;
        let counted = || rig.admission(refusal).is_ok_and(|count| count == before + refused);
        ensure!(probe::until(PATIENCE, counted), "{bound:?}: {}", rig.admission(refusal)?);
        if let Some(client) = bound {
            let received = rig.inbox.receive(PATIENCE)?.context("nothing came")?;
            ensure!(received.from == address(client)?, "{received:?}");
        }
        ensure!(rig.inbox.take()?.is_none(), "{bound:?}");
    }
    Ok(())
}

#[test]
fn the_selector_drops_what_is_late_by_the_exact_clock_though_xdp_let_it_in() -> Result<()> {
    require_root!();
    for family in Family::ALL {
        let cluster = Cluster::builder().nodes(1).build()?;
        let node = &cluster.nodes()[0];
        let server = SocketAddr::new(cluster.vip(family), 7000);
        let placement = Placement::all_to(rig::index(node)?);
        let mut rig = Rig::new(&cluster, node, server, &placement, 7)?;
        let (session, key) = rig.draw(1);
        rig.own(key, 1, 1)?;
        let host = &cluster.clients()[0];
        let client = host.namespace().run(|| UdpSocket::bind((host.address(family), 0)))?;
        let send = |kind, mark: u8| -> Result<()> {
            let (bytes, length) = Header { kind, session, owner: None }.encode();
            client.send_to(&[&bytes[..length], &[mark]].concat(), server)?;
            Ok(())
        };

        // The lease has run out, but not yet by the jiffies that XDP reads.
        rig.arm(HOUR, NOW);
        send(TYPE_DATA, 1)?;
        send(TYPE_OPEN, 2)?;
        let late = || rig.admission(Admission::Late).is_ok_and(|count| count == 2);
        ensure!(probe::until(PATIENCE, late), "late: {}", rig.admission(Admission::Late)?);
        // An id that is known opens nothing, whatever the packet says.
        ensure!(rig.verdict(Verdict::Local)? == 2 && rig.verdict(Verdict::FenceShut)? == 0);

        // By jiffies it has: nothing gets as far as the selector.
        rig.arm(NOW, HOUR);
        send(TYPE_DATA, 3)?;
        send(TYPE_OPEN, 4)?;
        let shut = || rig.verdict(Verdict::FenceShut).is_ok_and(|count| count == 2);
        ensure!(probe::until(PATIENCE, shut), "shut: {}", rig.verdict(Verdict::FenceShut)?);
        ensure!(rig.verdict(Verdict::Local)? == 2);

        // By neither: what is delivered first is the packet of this step.
        rig.arm(HOUR, HOUR);
        send(TYPE_DATA, 5)?;
        let received = rig.inbox.receive(PATIENCE)?;
        ensure!(
            received.as_ref().is_some_and(|got| got.cpu == 1 && got.payload[20] == 5),
            "{family:?}: {received:?}",
        );
        ensure!(rig.admission(Admission::Late)? == 2 && rig.admission(Admission::Delivered)? == 1);
    }
    Ok(())
}
