//! The kernel stops delivering for a daemon that is stopped or dead, and goes on forwarding.

use std::panic::resume_unwind;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use jumpgate_tests::address::Family;
use jumpgate_tests::client::Client;
use jumpgate_tests::config::Fence;
use jumpgate_tests::daemon::Daemon;
use jumpgate_tests::fleet::{self, Fleet, Options};
use jumpgate_tests::require_root;
use jumpgate_tests::swarm::Swarm;
use jumpgate_tests::topology::Cluster;

const PATIENCE: Duration = Duration::from_secs(10);
const CLIENTS: u8 = 40;
/// Long enough that killing a daemon on a busy machine takes no great part of it.
const LEASE: Duration = Duration::from_millis(2000);
const MARGIN: Duration = Duration::from_millis(50);
/// How often every client sends.
const PACE: Duration = Duration::from_millis(20);

fn options() -> Options {
    let fence = Fence { lease: LEASE, renew: Duration::from_millis(150), margin: MARGIN };
    Options { fence: Some(fence), ..Options::default() }
}

/// Clients with sessions on all nodes, whose packets all enter at node a.
struct Scene {
    cluster: Cluster,
    fleet: Fleet,
    swarm: Swarm,
}

/// The answers that clients of node a and those of the other nodes have got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Split {
    sent: [u64; 2],
    answered: [u64; 2],
}

impl Scene {
    fn new(pins: bool) -> Result<Self> {
        let cluster = Cluster::builder().build()?;
        let mut fleet = Fleet { gateways: Vec::new(), daemons: Vec::new() };
        for node in cluster.nodes() {
            let mut config = fleet::config(&cluster, node, &options());
            config.pins.enabled = Some(pins);
            fleet.daemons.push(Daemon::start(&cluster, node, &config)?);
        }
        for (node, daemon) in cluster.nodes().iter().zip(&fleet.daemons) {
            fleet.gateways.push(fleet::gateway(&cluster, node, daemon.socket(), &options())?);
        }
        fleet.wait_for_next_hops()?;
        let mut swarm = fleet::swarm(&cluster, Family::V4, 1, CLIENTS)?;
        swarm.open(PATIENCE)?;
        cluster.route_vips_to(&[0])?;
        swarm.send();
        ensure!(swarm.settle(PATIENCE)?, "{:?}", swarm.counts());
        let scene = Self { cluster, fleet, swarm };
        let [own, others] = [true, false]
            .map(|own| scene.swarm.clients().iter().filter(|client| is_own(client) == own).count());
        ensure!(own > 0 && others > 0, "{own} sessions on node a, {others} elsewhere");
        Ok(scene)
    }

    fn split(&self) -> Split {
        let mut split = Split { sent: [0; 2], answered: [0; 2] };
        for client in self.swarm.clients() {
            let (group, counts) = (usize::from(!is_own(client)), client.counts());
            split.sent[group] += counts.sent;
            split.answered[group] += counts.answered;
        }
        split
    }

    /// Lets every client send, again and again, until `end`.
    fn send_until(&mut self, end: Instant) -> Result<()> {
        while Instant::now() < end {
            self.swarm.send();
            self.swarm.receive_for(PACE)?;
        }
        Ok(())
    }

    /// Sends from just after node a's daemon stood still until after its deadline and beyond;
    /// proves that its sessions were served until the deadline and not after it, and that the
    /// others lost nothing. Returns how many packets of node a's sessions were lost.
    fn outlive_the_lease(&mut self, still: Instant) -> Result<u64> {
        let before = self.split();
        self.send_until(still + LEASE / 2)?;
        let open = self.split();
        ensure!(open.answered[0] > before.answered[0], "not served before the deadline: {open:?}");
        ensure!(open.sent[0] == open.answered[0], "lost before the deadline: {open:?}");

        // The last renewal was before the daemon stood still.
        self.send_until(still + LEASE - MARGIN)?;
        // What was answered before the deadline may still be on its way.
        self.swarm.receive_for(Duration::from_millis(100))?;
        let shut = self.split();
        self.send_until(Instant::now() + Duration::from_millis(300))?;
        self.swarm.receive_for(Duration::from_millis(200))?;
        let after = self.split();
        ensure!(after.sent[0] >= shut.sent[0] + 5, "{after:?}");
        ensure!(after.answered[0] == shut.answered[0], "after the deadline: {shut:?}, {after:?}");
        ensure!(after.sent[1] == after.answered[1], "forwarding lost packets: {after:?}");
        Ok(after.sent[0] - after.answered[0])
    }
}

fn is_own(client: &Client) -> bool {
    client.place().is_some_and(|place| place.node == "a")
}

#[test]
fn a_stopped_daemon_delivers_until_its_deadline_and_forwards_beyond_it() -> Result<()> {
    require_root!();
    let mut scene = Scene::new(true)?;
    scene.fleet.daemons[0].pause()?;
    let lost = scene.outlive_the_lease(Instant::now())?;

    scene.fleet.daemons[0].resume()?;
    let open = jumpgate_tests::probe::until(PATIENCE, || {
        scene.fleet.status(0).is_ok_and(|status| status.fence_open_ms > 0)
    });
    ensure!(open, "the fence does not open again: {:?}", scene.fleet.status(0)?);
    let refused = scene.fleet.count("fence-shut")? + scene.fleet.count("late")?;
    ensure!(refused == lost, "{lost} lost, {refused} counted: {:?}", scene.fleet.stats(0)?);

    let before = scene.split();
    scene.swarm.send();
    scene.swarm.receive_for(Duration::from_millis(200))?;
    let after = scene.split();
    for group in [0, 1] {
        let [sent, answered] = [
            after.sent[group] - before.sent[group],
            after.answered[group] - before.answered[group],
        ];
        ensure!(sent > 0 && sent == answered, "delivers again: {before:?}, {after:?}");
    }
    let counts = scene.swarm.counts();
    ensure!(counts.moved_sessions + counts.duplicates + counts.strange == 0, "{counts:?}");
    Ok(())
}

#[test]
fn a_killed_daemon_delivers_until_its_deadline_and_a_fresh_successor_starts_anew() -> Result<()> {
    require_root!();
    let mut scene = Scene::new(true)?;
    let epoch = scene.fleet.status(0)?.epoch;
    scene.fleet.daemons[0].kill()?;
    scene.outlive_the_lease(Instant::now())?;

    let Scene { cluster, fleet, swarm } = &mut scene;
    let node = &cluster.nodes()[0];
    let config = fleet::config(cluster, node, &options());
    // The application comes back too: what it knew of sessions is void.
    fleet.gateways.remove(0);
    // Packets go on entering at node a while the second daemon takes the pinned program's place.
    let starting = thread::scope(|scope| -> Result<Daemon> {
        let second = scope.spawn(|| Daemon::start_with(cluster, node, &config, &["--fresh"]));
        while !second.is_finished() {
            swarm.send();
            swarm.receive_for(Duration::from_millis(1))?;
        }
        second.join().unwrap_or_else(|panic| resume_unwind(panic))
    });
    fleet.daemons[0] = starting.context("the second daemon")?;
    let gateway = fleet::gateway(cluster, node, fleet.daemons[0].socket(), &options())?;
    fleet.gateways.insert(0, gateway);
    fleet.wait_for_next_hops()?;
    let status = fleet.status(0)?;
    ensure!(status.epoch > epoch, "epoch {} after {epoch}", status.epoch);
    ensure!(status.sessions == 0, "{status:?}");
    swarm.receive_for(Duration::from_millis(200))?;

    let before = scene.split();
    ensure!(before.sent[1] == before.answered[1], "the restart lost packets: {before:?}");

    // A session of the old epoch is gone; those of other nodes were never touched.
    let refused = scene.fleet.count("no-session")?;
    scene.swarm.send();
    scene.swarm.receive_for(Duration::from_millis(300))?;
    let after = scene.split();
    let lost = after.sent[0] - before.sent[0];
    ensure!(after.answered[0] == before.answered[0], "{before:?}, {after:?}");
    ensure!(after.sent[1] == after.answered[1], "{before:?}, {after:?}");
    let refused = scene.fleet.count("no-session")? - refused;
    ensure!(lost > 0 && refused == lost, "{refused} of {lost}: {:?}", scene.fleet.stats(0)?);

    // New sessions open on all nodes, the restarted one included.
    let mut swarm = fleet::swarm(&scene.cluster, Family::V4, 100, CLIENTS)?;
    swarm.open(PATIENCE)?;
    swarm.send();
    ensure!(swarm.settle(PATIENCE)?, "{:?}", swarm.counts());
    ensure!(swarm.clients().iter().any(is_own), "none of {CLIENTS} sessions is on node a");
    Ok(())
}

#[test]
fn without_pins_a_killed_daemon_delivers_nothing_past_its_deadline() -> Result<()> {
    require_root!();
    let mut scene = Scene::new(false)?;
    scene.fleet.daemons[0].kill()?;
    let killed = Instant::now();
    scene.send_until(killed + LEASE - MARGIN)?;
    scene.swarm.receive_for(Duration::from_millis(100))?;
    let shut = scene.split();
    // The program is gone, so the kernel takes in whatever comes to the VIP. The selector is still
    // there.
    scene.send_until(Instant::now() + Duration::from_millis(200))?;
    scene.swarm.receive_for(Duration::from_millis(100))?;
    let after = scene.split();
    ensure!(after.sent[0] > shut.sent[0] && after.sent[1] > shut.sent[1], "{after:?}");
    ensure!(after.answered[0] == shut.answered[0], "delivered late: {shut:?}, {after:?}");
    // Its packets for other nodes are lost without the program, and go to no socket here.
    ensure!(after.answered[1] == shut.answered[1], "delivered to strangers: {after:?}");
    Ok(())
}
