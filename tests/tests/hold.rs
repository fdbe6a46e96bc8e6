//! Sessions are held under load: after "quiet" the application gets nothing more of them, and what
//! was held comes out again, all of it, once and in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dataplane_ebpf::hold::RECORD_MIN;
use dataplane_ebpf::table::{Entry, Place};
use dataplane_ebpf::verdict::{Admission, Verdict};
use dataplane_ebpf::wire_id::Key;
use dataplane_ebpf::wire_id_row::Registered;
use dataplane_user::dataplane::Dataplane;
use dataplane_user::dataplane::grace::Method;
use dataplane_user::hold::{
    Bounds, Coming, Counts, HoldError, Keeper, Lend, ReleaseError, Session, Unquiet,
};
use jumpgate_tests::address::Family;
use jumpgate_tests::flow::{Flow, Reader, overtaken};
use jumpgate_tests::probe;
use jumpgate_tests::require_root;
use jumpgate_tests::rig::{self, Rig};
use jumpgate_tests::topology::Cluster;
use ownership::Placement;

const PATIENCE: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3600);
const PACE: Duration = Duration::from_micros(500);
const SESSIONS: usize = 8;
const VERSION: u64 = 7;
const ROOMY: Bounds = Bounds { per_session: 1 << 22, total: 1 << 24 };

/// Nodes with a keeper and a reader each. All slots are node a's, whose sessions the clients use.
struct Scene {
    cluster: Cluster,
    rigs: Vec<Rig>,
    keepers: Vec<Arc<Keeper>>,
    readers: Vec<Reader>,
    server: SocketAddr,
    ids: Vec<[u8; 16]>,
    keys: Vec<Key>,
}

impl Scene {
    fn new(nodes: u8, underlay: Family, bounds: Bounds) -> Result<Self> {
        Self::at_pace(50_000, nodes, underlay, bounds)
    }

    fn at_pace(pace: u32, nodes: u8, underlay: Family, bounds: Bounds) -> Result<Self> {
        let cluster = Cluster::builder().nodes(nodes).underlay(underlay).build()?;
        let server = SocketAddr::new(cluster.vip(Family::V4), 7000);
        let placement = Placement::all_to(rig::index(&cluster.nodes()[0])?);
        let (mut rigs, mut keepers, mut readers) = (Vec::new(), Vec::new(), Vec::new());
        for node in cluster.nodes() {
            let mut rig = Rig::new(&cluster, node, server, &placement, 1)?;
            rig.arm(HOUR, HOUR);
            let keeper = Arc::new(rig.keep(&cluster, node, bounds, pace)?);
            let acknowledges = Arc::clone(&keeper);
            readers.push(Reader::start(rig.inbox.share()?, SESSIONS, move |token| {
                acknowledges.acknowledge(token);
            }));
            rigs.push(rig);
            keepers.push(keeper);
        }
        cluster.route_vips_to(&[0])?;
        let (mut ids, mut keys) = (Vec::new(), Vec::new());
        for session in 0..SESSIONS {
            let (id, key) = rigs[0].draw(session as u16);
            rigs[0].own(key, cpu(session), VERSION)?;
            ids.push(id);
            keys.push(key);
        }
        Ok(Self { cluster, rigs, keepers, readers, server, ids, keys })
    }

    fn load(&self) -> Result<Flow> {
        let host = &self.cluster.clients()[0];
        let from: Vec<_> = (1..4).map(|n| host.pool_address(Family::V4, n)).collect();
        Flow::start(host.namespace(), &from, self.server, &self.ids, PACE)
    }

    fn session(&self, session: usize) -> Session {
        Session { service: 1, cpu: cpu(session), keys: vec![self.keys[session]] }
    }

    fn sessions(&self, which: impl Iterator<Item = usize>) -> Vec<Session> {
        which.map(|session| self.session(session)).collect()
    }

    /// All of them as they come to another node.
    fn coming(&self) -> Vec<Coming> {
        let all = self.ids.iter().zip(&self.keys).enumerate();
        all.map(|(session, (id, &key))| coming(id, key, cpu(session))).collect()
    }

    /// Waits until as many packets were read on all nodes together.
    fn settle(&mut self, count: u64) -> Result<()> {
        let total = || self.readers.iter().map(Reader::total).sum::<usize>() as u64;
        let met = probe::until(PATIENCE, || total() >= count);
        let read = total();
        for reader in &mut self.readers {
            reader.check()?;
        }
        ensure!(
            met,
            "{read} of {count} packets: {:?}, {:?}",
            self.rigs[0].dataplane.counters.service(1, false)?,
            self.keepers[0].totals()
        );
        Ok(())
    }
}

/// A session of one wire id as it comes to another node.
fn coming(id: &[u8], key: Key, cpu: u16) -> Coming {
    let session = Session { service: 1, cpu, keys: vec![key] };
    let registered = Registered::new(id, 1, key.hash).expect("an id is no longer than that");
    Coming { session, wire_ids: vec![registered] }
}

/// Waits until so many more packets of each session were sent.
fn wait_for(flow: &Flow, packets: u64) -> Result<()> {
    let enough = flow.sent() + packets;
    ensure!(probe::until(PATIENCE, || flow.sent() >= enough), "there was no load");
    Ok(())
}

fn cpu(session: usize) -> u16 {
    (session % rig::CPUS as usize) as u16
}

#[test]
fn nothing_is_in_flight_after_quiet_and_what_was_held_is_delivered_here() -> Result<()> {
    require_root!();
    let mut scene = Scene::new(1, Family::V4, ROOMY)?;
    let flow = scene.load()?;
    let (mut in_flight, mut held, mut late) = (0, 0, 0);
    for round in 0..20 {
        std::thread::sleep(Duration::from_millis(7));
        // The application falls behind, so that something is in flight.
        scene.readers[0].pause(true);
        std::thread::sleep(Duration::from_millis(3));
        // Half of them, another half each time: the others are not disturbed.
        let those: Vec<usize> = (0..SESSIONS).filter(|s| (s / 2 + round) % 2 == 0).collect();
        let sessions = scene.sessions(those.iter().copied());
        let before = scene.readers[0].counts();
        let hold = scene.keepers[0].hold(&mut scene.rigs[0].dataplane, &sessions)?;
        let at_hold = scene.readers[0].counts();
        scene.readers[0].pause(false);
        let quiet = hold.quiet(PATIENCE)?;
        ensure!(quiet.method == Method::Hop && quiet.queues == 2, "{quiet:?}");
        let at_quiet = scene.readers[0].counts();
        wait_for(&flow, 2)?;
        std::thread::sleep(Duration::from_millis(15));
        let after = scene.readers[0].counts();
        for session in 0..SESSIONS {
            let (now, then) = (after[session], at_quiet[session]);
            if those.contains(&session) {
                ensure!(now == then, "session {session}: {then} packets, then {now}");
            } else {
                let goes_on = || scene.readers[0].counts()[session] > before[session];
                ensure!(probe::until(PATIENCE, goes_on), "session {session} was disturbed");
            }
        }
        in_flight += those.iter().map(|&s| at_quiet[s] - at_hold[s]).sum::<usize>();
        let released = hold.release_here(&mut scene.rigs[0].dataplane, PATIENCE)?;
        let total = released.total();
        ensure!(total.held > 0 && total.here == total.held && total.lost() == 0, "{released:?}");
        held += total.held;
        late += total.late;
    }
    let sent = flow.stop()?;
    scene.settle(sent * SESSIONS as u64)?;
    let mut out_of_order = 0;
    for (session, numbers) in scene.readers[0].log().iter().enumerate() {
        out_of_order += overtaken(numbers, sent).with_context(|| format!("session {session}"))?;
    }
    println!(
        "{sent} packets of {SESSIONS} sessions each, {held} held, {in_flight} in flight when they \
         were, {out_of_order} overtaken"
    );
    ensure!(in_flight > 0, "nothing was ever in flight: the test shows nothing");
    ensure!(out_of_order <= late, "{out_of_order} were overtaken, {late} may have been");
    let rig = &scene.rigs[0];
    ensure!(rig.verdict(Verdict::Held)? == held && rig.verdict(Verdict::HoldFull)? == 0);
    ensure!(rig.admission(Admission::NotOwner)? == 0, "a packet came out of a queue too late");
    ensure!(rig.admission(Admission::Delivered)? == sent * SESSIONS as u64);
    ensure!(rig.admission(Admission::Marker)? >= 40);
    let totals = scene.keepers[0].totals();
    ensure!(totals.sessions == 0 && totals.waiting == 0 && totals.unclaimed == 0, "{totals:?}");
    Ok(())
}

#[test]
fn what_was_held_comes_out_no_faster_than_its_pace() -> Result<()> {
    require_root!();
    let mut scene = Scene::at_pace(1_000, 1, Family::V4, ROOMY)?;
    let hold = {
        let sessions = scene.sessions(0..SESSIONS);
        scene.keepers[0].hold(&mut scene.rigs[0].dataplane, &sessions)?
    };
    let flow = scene.load()?;
    wait_for(&flow, 30)?;
    let sent = flow.stop()? * SESSIONS as u64;
    let is_held = || scene.keepers[0].totals().waiting == sent;
    ensure!(probe::until(PATIENCE, is_held), "{:?} of {sent}", scene.keepers[0].totals());
    let released = hold.release_here(&mut scene.rigs[0].dataplane, PATIENCE)?;
    // Nothing arrives meanwhile, and no more than 5 ms are made up for.
    let least = Duration::from_millis(sent - 10);
    ensure!(released.total().here == sent && sent >= 200, "{released:?}");
    ensure!(released.took >= least, "{sent} packets in {:?}", released.took);
    scene.settle(sent)
}

/// Lends the data plane, and sees whose the sessions are before anything of them can be sent.
struct Watch<'a> {
    dataplane: &'a mut Dataplane,
    keys: &'a [Key],
    first: Option<Vec<Option<Place>>>,
}

impl Lend for Watch<'_> {
    fn lend<R>(&mut self, work: impl FnOnce(&mut Dataplane) -> R) -> R {
        let result = work(self.dataplane);
        let place = |&key| self.dataplane.get(key).map(|(entry, _)| entry.place);
        self.first.get_or_insert_with(|| self.keys.iter().map(place).collect());
        result
    }
}

fn sessions_move_to_another_node(underlay: Family) -> Result<()> {
    let mut scene = Scene::new(2, underlay, ROOMY)?;
    let flow = scene.load()?;
    wait_for(&flow, 20)?;
    let sessions = scene.sessions(0..SESSIONS);
    let hold = scene.keepers[0].hold(&mut scene.rigs[0].dataplane, &sessions)?;
    hold.quiet(PATIENCE)?;
    let left = scene.readers[0].counts();
    wait_for(&flow, 20)?;

    // Node b holds what comes, too, until its application is ready.
    let epoch = scene.rigs[1].epoch();
    let next = VERSION + 1;
    let coming = scene.coming();
    let coming = scene.keepers[1].expect(&mut scene.rigs[1].dataplane, &coming, epoch, next)?;
    let places = |scene: &Scene, node: usize| {
        let place = |&key| scene.rigs[node].dataplane.get(key).map(|(entry, _)| entry.place);
        scene.keys.iter().map(place).collect::<Vec<_>>()
    };
    let is_hold = |place: &Option<Place>, is: bool| matches!(place, Some(Place::Hold { ours, .. }) if *ours == is);
    ensure!(places(&scene, 0).iter().all(|place| is_hold(place, true)), "node a's still");
    ensure!(places(&scene, 1).iter().all(|place| is_hold(place, false)), "not node b's yet");
    let b = rig::index(&scene.cluster.nodes()[1])?;
    let (dataplane, keys) = (&mut scene.rigs[0].dataplane, &scene.keys);
    let mut watch = Watch { dataplane, keys, first: None };
    let away = hold.release_to(&mut watch, b, next, PATIENCE)?;
    let first = watch.first.context("it was lent")?;
    ensure!(first.iter().all(|place| is_hold(place, false)), "spoken for by both: {first:?}");
    let total = away.total();
    ensure!(total.held > 0 && total.away == total.held && total.lost() == 0, "{away:?}");
    wait_for(&flow, 2)?;
    std::thread::sleep(Duration::from_millis(20));
    ensure!(scene.readers[1].total() == 0, "delivered while it was held");
    let here = coming.release_here(&mut scene.rigs[1].dataplane, PATIENCE)?;
    let there = here.total();
    ensure!(there.held >= total.held && there.here == there.held, "{here:?}");
    wait_for(&flow, 20)?;

    let sent = flow.stop()?;
    scene.settle(sent * SESSIONS as u64)?;
    ensure!(scene.readers[0].counts() == left, "node a's application got more after quiet");
    let mut out_of_order = 0;
    let (a, b) = (scene.readers[0].log(), scene.readers[1].log());
    for (session, (first, then)) in a.iter().zip(&b).enumerate() {
        let numbers = [&first[..], &then[..]].concat();
        out_of_order += overtaken(&numbers, sent).with_context(|| format!("session {session}"))?;
        ensure!(first.len() > 10 && then.len() > 10, "{} and {}", first.len(), then.len());
    }
    println!("{sent} each; {total:?}; {there:?}; {out_of_order} overtaken");
    // What node a forwards itself takes another way through the kernel than what its keeper sends:
    // of each session, the first such packet may overtake.
    ensure!(out_of_order <= total.late + there.late + SESSIONS as u64, "{out_of_order}");
    Ok(())
}

#[test]
fn what_was_held_goes_to_another_node_over_ipv4() -> Result<()> {
    require_root!();
    sessions_move_to_another_node(Family::V4)
}

#[test]
fn what_was_held_goes_to_another_node_over_ipv6() -> Result<()> {
    require_root!();
    sessions_move_to_another_node(Family::V6)
}

#[test]
fn a_session_that_comes_back_takes_the_place_of_its_row_or_leaves_it_as_it_was() -> Result<()> {
    require_root!();
    let mut scene = Scene::new(1, Family::V4, ROOMY)?;
    let mut coming = scene.coming();
    let (keeper, dataplane) = (&scene.keepers[0], &mut scene.rigs[0].dataplane);
    let away = Entry { place: Place::Remote { node: 2 }, epoch: 1 };
    // The first is known as off its home, the last is here still.
    let last = coming.len() - 1;
    let off_home = Registered::new(&scene.ids[0], 1, 0).context("an id")?;
    for &key in &scene.keys[..last] {
        ensure!(dataplane.update_registered(key, away, VERSION, Some(&off_home)));
    }
    let refused = keeper.expect(dataplane, &coming, 1, VERSION + 1).err();
    ensure!(matches!(refused, Some(HoldError::Table(index, _)) if index == last), "{refused:?}");
    for &key in &scene.keys[..last] {
        ensure!(dataplane.get(key) == Some((away, VERSION)));
        ensure!(dataplane.registered(key) == Some(off_home));
    }

    // Nor does a row give way to what is no newer.
    coming.truncate(last);
    let refused = keeper.expect(dataplane, &coming, 1, VERSION).err();
    ensure!(matches!(refused, Some(HoldError::Table(0, _))), "{refused:?}");
    let hold = keeper.expect(dataplane, &coming, 1, VERSION + 1)?;
    for (coming, &key) in coming.iter().zip(&scene.keys) {
        ensure!(dataplane.get(key).is_some_and(is_held));
        ensure!(dataplane.registered(key) == Some(coming.wire_ids[0]), "for a successor");
    }
    hold.release_here(dataplane, PATIENCE)?;
    let flow = scene.load()?;
    wait_for(&flow, 20)?;
    let sent = flow.stop()?;
    scene.settle(sent * SESSIONS as u64)
}

#[test]
fn an_application_that_does_not_answer_is_named_and_its_sessions_stay_held() -> Result<()> {
    require_root!();
    let mut scene = Scene::new(1, Family::V4, ROOMY)?;
    scene.readers[0].pause(true);
    let flow = scene.load()?;
    let sessions = scene.sessions(0..SESSIONS);
    let hold = scene.keepers[0].hold(&mut scene.rigs[0].dataplane, &sessions)?;
    let error = hold.quiet(Duration::from_millis(100)).err().context("nobody answered")?;
    let Unquiet::Unread { queues, .. } = &error else { anyhow::bail!("{error}") };
    ensure!(queues.len() == 2, "{error}");
    ensure!(error.to_string().contains("service 1, data port, CPU 1"), "{error}");
    std::thread::sleep(Duration::from_millis(20));
    ensure!(scene.rigs[0].dataplane.get(scene.keys[0]).is_some_and(is_held));

    // It answers again: the next attempt succeeds.
    scene.readers[0].pause(false);
    hold.quiet(PATIENCE)?;
    let again = scene.keepers[0].hold(&mut scene.rigs[0].dataplane, &sessions[..1]).err();
    ensure!(matches!(again, Some(HoldError::NotHere(0))), "held twice: {again:?}");
    let released = hold.release_here(&mut scene.rigs[0].dataplane, PATIENCE)?;
    ensure!(released.total().lost() == 0, "{released:?}");
    let twice = hold.release_here(&mut scene.rigs[0].dataplane, PATIENCE).err();
    ensure!(matches!(twice, Some(ReleaseError::NotHeld)), "released twice: {twice:?}");
    let sent = flow.stop()?;
    scene.settle(sent * SESSIONS as u64)?;
    for numbers in scene.readers[0].log() {
        overtaken(&numbers, sent)?;
    }
    Ok(())
}

fn is_held((entry, _): (Entry, u64)) -> bool {
    matches!(entry.place, Place::Hold { .. })
}

#[test]
fn a_marker_that_a_full_buffer_drops_is_sent_again() -> Result<()> {
    require_root!();
    let mut scene = Scene::new(1, Family::V4, ROOMY)?;
    // The application stands still until its sockets' buffers have no room.
    scene.readers[0].pause(true);
    let flow = scene.load()?;
    let full = || scene.rigs[0].inbox.dropped().is_ok_and(|drops| drops.iter().all(|&n| n > 0));
    ensure!(probe::until(PATIENCE, full), "the buffers never got full");
    let sessions = scene.sessions(0..SESSIONS);
    let hold = scene.keepers[0].hold(&mut scene.rigs[0].dataplane, &sessions)?;
    let admitted = scene.rigs[0].admission(Admission::Marker)?;
    let quiet = std::thread::scope(|scope| {
        let waits = scope.spawn(|| hold.quiet(PATIENCE));
        std::thread::sleep(Duration::from_millis(50));
        scene.readers[0].pause(false);
        waits.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let read = scene.readers[0].counts();
    wait_for(&flow, 2)?;
    std::thread::sleep(Duration::from_millis(30));
    ensure!(scene.readers[0].counts() == read, "more came after quiet");
    let markers = scene.rigs[0].admission(Admission::Marker)? - admitted;
    ensure!(markers > 2, "{markers} markers for {quiet:?}");
    hold.release_here(&mut scene.rigs[0].dataplane, PATIENCE)?;
    flow.stop()?;
    Ok(())
}

#[test]
fn what_the_ring_has_no_room_for_is_counted_exactly() -> Result<()> {
    require_root!();
    let mut scene = Scene::new(1, Family::V4, ROOMY)?;
    // Held by the table alone: nobody has opened the books, and the keeper sleeps.
    for &key in &scene.keys {
        let held =
            Entry { place: Place::Hold { cpu: 0, ours: true }, epoch: scene.rigs[0].epoch() };
        ensure!(scene.rigs[0].dataplane.update(key, held, VERSION));
    }
    let flow = scene.load()?;
    let verdict = |verdict| scene.rigs[0].verdict(verdict).unwrap_or(0);
    let is_full = || verdict(Verdict::HoldFull) > 1_000;
    ensure!(probe::until(PATIENCE, is_full), "the ring never gets full");
    let sent = flow.stop()? * SESSIONS as u64;
    let seen = || verdict(Verdict::Held) + verdict(Verdict::HoldFull) == sent;
    ensure!(probe::until(PATIENCE, seen), "{sent} sent, {} held", verdict(Verdict::Held));
    // Records of the smallest class: 1 MiB holds so many, less the byte that the kernel keeps free.
    let held = verdict(Verdict::Held);
    ensure!(held == ((1 << 20) - 1) / RECORD_MIN as u64, "{held}");
    // All of them are taken out once the keeper looks, and belong to nobody.
    let (id, key) = scene.rigs[0].draw(9);
    let other = coming(&id, key, 0);
    let hold = scene.keepers[0].expect(&mut scene.rigs[0].dataplane, &[other], 1, VERSION)?;
    let totals = || scene.keepers[0].totals();
    ensure!(probe::until(PATIENCE, || totals().unclaimed == held), "{held}: {:?}", totals());
    ensure!(hold.discard() == Counts::default());
    ensure!(scene.readers[0].total() == 0);
    Ok(())
}

#[test]
fn what_the_bounds_do_not_allow_is_counted_exactly() -> Result<()> {
    require_root!();
    let bounds = Bounds { per_session: 1 << 14, total: 1 << 16 };
    let mut scene = Scene::new(1, Family::V4, bounds)?;
    let sessions = scene.sessions(0..SESSIONS);
    let hold = scene.keepers[0].hold(&mut scene.rigs[0].dataplane, &sessions)?;
    let flow = scene.load()?;
    let overflow = || hold.counts().iter().all(|counts| counts.overflow > 100);
    ensure!(probe::until(PATIENCE, overflow), "{:?}", hold.counts());
    let sent = flow.stop()?;
    let filed = || hold.counts().iter().all(|counts| counts.held == sent);
    ensure!(probe::until(PATIENCE, filed), "{sent} sent: {:?}", hold.counts());
    let totals = scene.keepers[0].totals();
    ensure!(totals.bytes <= bounds.total && totals.bytes + 256 > bounds.total, "{totals:?}");
    ensure!(totals.waiting + totals.counts.overflow == totals.counts.held, "{totals:?}");
    hold.quiet(PATIENCE)?;
    let released = hold.release_here(&mut scene.rigs[0].dataplane, PATIENCE)?;
    let total = released.total();
    ensure!(total.here == totals.waiting && total.held == total.here + total.overflow);
    scene.settle(total.here)?;
    // The oldest were kept.
    for (numbers, counts) in scene.readers[0].log().iter().zip(&released.sessions) {
        ensure!(overtaken(numbers, counts.here)? == 0);
    }
    Ok(())
}
