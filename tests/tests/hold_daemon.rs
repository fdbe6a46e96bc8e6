//! Daemons hold sessions on request: nothing of them is in flight then, what was held comes out
//! once, and no daemon that ends or dies takes anything with it but what it had in its own memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, Map, MapData};
use dataplane_ebpf::table::{Entry, Place, WAYS};
use dataplane_user::api::Client as Api;
use dataplane_user::dataplane::counters::Counts;
use dataplane_user::hold::Totals;
use jumpgate_tests::address::Family;
use jumpgate_tests::daemon::Daemon;
use jumpgate_tests::fleet::{self, Fleet, Options};
use jumpgate_tests::probe;
use jumpgate_tests::require_root;
use jumpgate_tests::swarm::Swarm;
use jumpgate_tests::topology::{Cluster, Node};

const PATIENCE: Duration = Duration::from_secs(10);
const CLIENTS: u8 = 24;
const A: usize = 0;

/// Two nodes and clients with open sessions.
struct Scene {
    swarm: Swarm,
    fleet: Fleet,
    cluster: Cluster,
    /// Node a's sessions.
    ids: Vec<String>,
}

impl Scene {
    /// Node a's daemon with these arguments.
    fn new(arguments: &[&str]) -> Result<Self> {
        let cluster = Cluster::builder().nodes(2).build()?;
        cluster.route_vips_to(&[A])?;
        let mut fleet = Fleet { gateways: Vec::new(), daemons: Vec::new() };
        let options = Options::default();
        for (index, node) in cluster.nodes().iter().enumerate() {
            let config = fleet::config(&cluster, node, &options);
            let arguments = if index == A { arguments } else { &[] };
            let daemon = Daemon::start_with(&cluster, node, &config, arguments)?;
            fleet.gateways.push(fleet::gateway(&cluster, node, daemon.socket(), &options)?);
            fleet.daemons.push(daemon);
        }
        fleet.wait_for_next_hops()?;
        let mut swarm = fleet::swarm(&cluster, Family::V4, 1, CLIENTS)?;
        swarm.open(PATIENCE)?;
        let rows = Api::connect(fleet.daemons[A].socket())?.sessions(None)?;
        let ids: Vec<_> = rows.into_iter().map(|row| row.session).collect();
        // Node b has the others; they are not disturbed.
        ensure!(ids.len() > 1 && ids.len() < usize::from(CLIENTS), "{} of {CLIENTS}", ids.len());
        Ok(Self { swarm, fleet, cluster, ids })
    }

    fn api(&self) -> Result<Api> {
        Ok(Api::connect(self.fleet.daemons[A].socket())?)
    }

    fn totals(&self) -> Result<Totals> {
        self.fleet.status(A)?.hold.context("a keeper")
    }

    /// How many packets are held, if it is so many of each of node a's sessions.
    fn of_each(&self, count: usize) -> u64 {
        (count * self.ids.len()) as u64
    }

    /// What node a's applications were delivered.
    fn delivered(&self) -> Result<u64> {
        let stats = self.fleet.stats(A)?;
        let counts = stats.services.values();
        Ok(counts.filter_map(|counts| counts.admissions.get("delivered")).sum())
    }

    /// As many packets of every client.
    fn send(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            self.swarm.send();
            self.swarm.poll(Duration::from_millis(1))?;
        }
        Ok(())
    }

    /// A successor of node a's daemon, which is gone.
    fn succeed(&mut self) -> Result<()> {
        let node = &self.cluster.nodes()[A];
        let config = fleet::config(&self.cluster, node, &Options::default());
        self.fleet.daemons[A] = Daemon::start(&self.cluster, node, &config)?;
        Ok(())
    }

    /// Everything was answered, but for so many packets, and nothing twice.
    fn is_whole_but(&mut self, lost: u64) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while self.swarm.counts().unanswered() > lost && Instant::now() < end {
            self.swarm.poll(Duration::from_millis(10))?;
        }
        // What should not come, either.
        self.swarm.receive_for(Duration::from_millis(50))?;
        let counts = self.swarm.counts();
        ensure!(
            counts.unanswered() == lost && counts.duplicates == 0 && counts.unsent == 0,
            "{lost} are to be lost: {counts:?}, {:?}, {:?}",
            self.totals()?,
            self.fleet.stats(A)?
        );
        ensure!(counts.stale == 0 && counts.strange == 0 && counts.astray == 0, "{counts:?}");
        Ok(())
    }
}

/// Clients that send all the time.
struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Swarm>>,
}

impl Load {
    fn start(mut swarm: Swarm) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stops = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stops.load(Ordering::Relaxed) {
                swarm.send();
                swarm.receive_for(Duration::from_millis(2))?;
            }
            Ok(swarm)
        });
        Self { stop, thread }
    }

    fn stop(self) -> Result<Swarm> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

#[test]
fn sessions_are_held_and_released_under_load_and_nothing_is_lost() -> Result<()> {
    require_root!();
    let mut scene = Scene::new(&[])?;
    let load = Load::start(std::mem::take(&mut scene.swarm));
    let mut api = scene.api()?;
    let mut held = 0;
    for round in 0..5 {
        std::thread::sleep(Duration::from_millis(20));
        let quiet = api.hold(&scene.ids, PATIENCE)?;
        // Of one CPU or two: the application's at the data port, and the daemon's own at the control port.
        ensure!([2, 4].contains(&quiet.markers), "{quiet:?}");
        let delivered = scene.delivered()?;
        std::thread::sleep(Duration::from_millis(30));
        ensure!(scene.delivered()? == delivered, "round {round}: not quiet");
        let totals = scene.totals()?;
        ensure!(totals.sessions == scene.ids.len() && totals.waiting > 0, "{totals:?}");
        let counts = api.release(&scene.ids, None)?;
        ensure!(counts.held > 0 && counts.here == counts.held && counts.lost() == 0, "{counts:?}");
        held += counts.held;
    }
    scene.swarm = load.stop()?;
    scene.is_whole_but(0)?;
    let totals = scene.totals()?;
    ensure!(totals.sessions == 0 && totals.waiting == 0 && totals.unclaimed == 0, "{totals:?}");
    ensure!(totals.counts.here == held, "{held}: {totals:?}");
    Ok(())
}

#[test]
fn a_marker_that_nobody_acknowledges_is_named_and_a_release_makes_it_whole_again() -> Result<()> {
    require_root!();
    let mut scene = Scene::new(&[])?;
    let load = Load::start(std::mem::take(&mut scene.swarm));
    let mut api = scene.api()?;
    scene.fleet.gateways[A].acknowledge(false);
    let waits = std::thread::scope(|scope| {
        let ids = &scene.ids;
        let waits = scope.spawn(move || api.hold(ids, Duration::from_secs(1)));
        // Whoever else asks, or renews the lease, does not wait meanwhile.
        std::thread::sleep(Duration::from_millis(200));
        let asked = Instant::now();
        let status = scene.fleet.status(A)?;
        ensure!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
        ensure!(status.fence_open_ms > 0, "{status:?}");
        ensure!(!waits.is_finished(), "nobody has answered");
        Ok(waits.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let error = waits.err().context("nobody acknowledges")?.to_string();
    ensure!(error.contains("no acknowledgement of the marker"), "{error}");
    ensure!(error.contains("service 1, data port, CPU "), "{error}");
    ensure!(error.contains("stay held until they are released"), "{error}");
    ensure!(scene.totals()?.sessions == scene.ids.len());

    let mut api = scene.api()?;
    let refused = api.mint(&scene.ids[0]).err().context("it is held")?.to_string();
    ensure!(refused.contains("is held"), "{refused}");
    let counts = api.release(&scene.ids, None)?;
    ensure!(counts.held > 0 && counts.here == counts.held, "{counts:?}");
    let refused = api.release(&scene.ids, None).err().context("released twice")?.to_string();
    ensure!(refused.contains("is not held"), "{refused}");
    scene.fleet.gateways[A].acknowledge(true);
    api.hold(&scene.ids[..1], PATIENCE)?;
    // Those that are held already may be among those that are to be.
    api.hold(&scene.ids, PATIENCE)?;
    api.release(&scene.ids, None)?;
    scene.swarm = load.stop()?;
    scene.is_whole_but(0)
}

/// Kills a daemon that has taken `taken` packets of each held session out of the ring.
fn killed(taken: usize) -> Result<()> {
    let mut scene = Scene::new(&[])?;
    scene.api()?.hold(&scene.ids, PATIENCE)?;
    scene.send(taken)?;
    let lost = scene.of_each(taken);
    ensure!(probe::until(PATIENCE, || scene.totals().is_ok_and(|totals| totals.waiting == lost)));
    // It looks at the ring no more.
    scene.fleet.daemons[A].pause()?;
    scene.send(20)?;
    scene.fleet.daemons[A].kill()?;
    scene.send(10)?;
    let held = scene.of_each(taken + 30);
    ensure!(scene.swarm.counts().unanswered() >= held, "they were not: {:?}", scene.swarm.counts());
    scene.succeed()?;
    scene.send(10)?;
    scene.is_whole_but(lost)?;
    let log = scene.fleet.daemons[A].log();
    ensure!(log.contains("an earlier daemon held sessions"), "it does not say so");
    let totals = scene.totals()?;
    ensure!(totals.sessions == 0 && totals.unclaimed == 0 && totals.counts.here > 0, "{totals:?}");
    // They can be held again.
    scene.api()?.hold(&scene.ids, PATIENCE)?;
    scene.api()?.release(&scene.ids, None)?;
    scene.send(1)?;
    scene.is_whole_but(lost)
}

#[test]
fn what_is_in_the_ring_of_a_daemon_that_was_killed_is_delivered_by_its_successor() -> Result<()> {
    require_root!();
    killed(0)
}

#[test]
fn no_more_is_lost_with_a_daemon_that_was_killed_than_it_had_taken_out_of_the_ring() -> Result<()> {
    require_root!();
    killed(5)
}

/// Makes one of the sessions that are held on a node one of which the tables do not know whose it is: as it is while
/// it comes, or while its move is not decided.
fn disown_one(node: &Node) -> Result<()> {
    node.mounts().run(node.namespace(), || {
        let mut folders = std::fs::read_dir("/sys/fs/bpf/jumpgate/a/maps")?;
        let folder = folders.next().context("no maps are pinned")??.path();
        let map = MapData::from_pin(folder.join("SESSIONS"))?;
        let mut table: Array<_, [u64; 2 * WAYS]> = Map::Array(map).try_into()?;
        for index in 0..table.len() {
            let mut bucket = table.get(&index, 0)?;
            for way in 0..WAYS {
                let (key, value) = (bucket[2 * way], &mut bucket[2 * way + 1]);
                if let Some(Entry { place: Place::Hold { cpu, .. }, epoch }) =
                    Entry::unpack(*value >> 16).filter(|_| key >> 17 != 0)
                {
                    let entry = Entry { place: Place::Hold { cpu, ours: false }, epoch };
                    *value = entry.pack() << 16 | *value & 0xffff;
                    return Ok(table.set(index, bucket, 0)?);
                }
            }
        }
        anyhow::bail!("nothing is held")
    })
}

#[test]
fn a_successor_releases_what_is_its_own_by_the_store() -> Result<()> {
    require_root!();
    let mut scene = Scene::new(&[])?;
    scene.api()?.hold(&scene.ids, PATIENCE)?;
    scene.fleet.daemons[A].kill()?;
    disown_one(&scene.cluster.nodes()[A])?;
    scene.succeed()?;
    ensure!(probe::until(PATIENCE, || scene.totals().is_ok_and(|totals| totals.sessions == 0)));
    scene.send(10)?;
    scene.is_whole_but(0)
}

#[test]
fn a_daemon_that_ends_releases_what_it_holds() -> Result<()> {
    require_root!();
    let mut scene = Scene::new(&["--stay"])?;
    scene.api()?.hold(&scene.ids, PATIENCE)?;
    scene.send(20)?;
    let waiting = scene.of_each(20);
    ensure!(probe::until(PATIENCE, || scene.totals().is_ok_and(|t| t.waiting == waiting)));
    scene.fleet.daemons[A].stop()?;
    ensure!(scene.fleet.daemons[A].log().contains("the daemon ends"), "it says nothing");
    ensure!(scene.swarm.settle(PATIENCE)?, "{:?}", scene.swarm.counts());
    // Nobody holds anything, without a daemon.
    scene.send(5)?;
    scene.succeed()?;
    scene.send(5)?;
    scene.is_whole_but(0)?;
    ensure!(scene.totals()?.counts.held == 0, "{:?}", scene.totals()?);
    Ok(())
}

#[test]
fn sessions_are_released_to_another_node() -> Result<()> {
    require_root!();
    let mut scene = Scene::new(&[])?;
    let mut api = scene.api()?;
    let version = 7;
    api.hold(&scene.ids, PATIENCE)?;
    scene.send(10)?;
    let waiting = scene.of_each(10);
    ensure!(probe::until(PATIENCE, || scene.totals().is_ok_and(|t| t.waiting == waiting)));
    let refused = api.release(&scene.ids, Some(("b", 0))).err().context("no newer")?.to_string();
    ensure!(refused.contains("version"), "{refused}");
    let refused = api.release(&scene.ids, Some(("a", version))).err().context("here")?.to_string();
    ensure!(refused.contains("is this node"), "{refused}");
    let counts = api.release(&scene.ids, Some(("b", version)))?;
    ensure!(counts.away == waiting && counts.lost() == 0, "{counts:?}");
    let a = scene.fleet.status(A)?;
    // Their wire ids lead to node b now.
    ensure!((a.sessions, a.entries) == (0, scene.ids.len()), "{a:?}");
    // Node b was not told of them, so it refuses what comes, all of it, rather than send it back.
    let refused = |count| {
        let stats = scene.fleet.stats(1)?;
        let of = |counts: &Counts| counts.verdicts.get("not-newer").copied().unwrap_or(0);
        let found: u64 = stats.services.values().map(of).sum();
        Ok::<_, anyhow::Error>(found == count)
    };
    ensure!(probe::until(PATIENCE, || refused(waiting).is_ok_and(|all| all)));
    scene.swarm.send();
    let all = waiting + scene.of_each(1);
    ensure!(probe::until(PATIENCE, || refused(all).is_ok_and(|all| all)), "newer packets stay");
    Ok(())
}
