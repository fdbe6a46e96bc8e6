//! Sessions move between nodes of one store, and nobody loses a packet.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dataplane_user::api::{DrainHow, LeftOver, MoveResult};
use jumpgate_tests::address::Family;
use jumpgate_tests::fleet::{self, Options};
use jumpgate_tests::gateway::Gateway;
use jumpgate_tests::probe;
use jumpgate_tests::require_root;
use jumpgate_tests::swarm::Swarm;
use jumpgate_tests::together::Together;
use jumpgate_tests::topology::Cluster;

const PATIENCE: Duration = Duration::from_secs(20);

struct Scene {
    swarm: Swarm,
    _gateways: Vec<Gateway>,
    nodes: Together,
    _network: Cluster,
}

impl Scene {
    fn new(count: u8, clients: u8) -> Result<Self> {
        let network = Cluster::builder().nodes(count).build()?;
        let mut nodes = Together::new(&network)?;
        let options = Options::default();
        for node in network.nodes() {
            nodes.start(&network, node, &fleet::config(&network, node, &options))?;
        }
        nodes.wait_for_next_hops()?;
        let mut gateways = Vec::new();
        for node in network.nodes() {
            let socket = nodes.socket(node.name())?;
            gateways.push(fleet::gateway(&network, node, socket, &options)?);
        }
        let mut swarm = fleet::swarm(&network, Family::V4, 1, clients)?;
        swarm.open(PATIENCE)?;
        Ok(Self { swarm, _gateways: gateways, nodes, _network: network })
    }

    /// Lets every client send for a while, and takes in what is answered.
    fn traffic(&mut self, rounds: usize) -> Result<()> {
        for _ in 0..rounds {
            self.swarm.send();
            self.swarm.receive_for(Duration::from_millis(2))?;
        }
        Ok(())
    }

    /// Nothing is lost, and nothing was delivered twice.
    fn check(&mut self) -> Result<()> {
        self.swarm.settle(PATIENCE)?;
        let counts = self.swarm.counts();
        if counts.unanswered() > 0 {
            for node in ["a", "b", "c"] {
                let Ok(mut api) = self.nodes.api(node) else { continue };
                let stats = api.stats()?;
                for (service, counts) in &stats.services {
                    println!(
                        "{node} {service} {:?} {:?} {:?}",
                        counts.verdicts, counts.admissions, counts.egress
                    );
                }
                println!("{node} lost {:?} hold {:?}", stats.lost, api.status()?.hold);
            }
        }
        ensure!(counts.unanswered() == 0 && counts.duplicates == 0, "{counts:?}");
        ensure!(counts.strange == 0 && counts.stale == 0, "{counts:?}");
        Ok(())
    }

    /// The sessions that are answered on a node.
    fn sessions_on(&self, node: &str) -> Vec<String> {
        let is_there = |client: &&jumpgate_tests::client::Client| {
            client.place().is_some_and(|place| place.node == node)
        };
        let clients = self.swarm.clients().iter().filter(is_there);
        let id = |client: &jumpgate_tests::client::Client| {
            ownership::SessionId::new(client.session().expect("it is open")).to_string()
        };
        clients.map(id).collect()
    }
}

#[test]
fn sessions_are_handed_over_under_load_and_back() -> Result<()> {
    require_root!();
    let mut scene = Scene::new(2, 20)?;
    scene.traffic(20)?;
    let moving = scene.sessions_on("a");
    ensure!(!moving.is_empty(), "node a has sessions");
    let before = scene.nodes.api("a")?.session(&moving[0])?.context("a session")?;
    for (from, to) in [("a", "b"), ("b", "a")] {
        for session in &moving {
            let mut api = scene.nodes.api(from)?;
            let (session, to) = (session.clone(), to.to_owned());
            let moved = std::thread::spawn(move || api.hand_over(&session, &to));
            while !moved.is_finished() {
                scene.traffic(1)?;
            }
            let moved = moved.join().expect("it has not panicked")?;
            ensure!(
                matches!(moved, MoveResult::HandedOver | MoveResult::HandedOverWithoutContext),
                "{moved:?}"
            );
        }
        scene.traffic(10)?;
        scene.check()?;
        let there = scene.sessions_on(to);
        ensure!(moving.iter().all(|session| there.contains(session)), "all are on node {to}");
        let resumed = probe::until(PATIENCE, || {
            let state = scene.nodes.api(to).and_then(|mut api| Ok(api.session(&moving[0])?));
            state.is_ok_and(|state| state.is_some_and(|it| it.is_here && it.hold == "ACTIVE"))
        });
        ensure!(resumed, "{:?}", scene.nodes.api(to)?.session(&moving[0])?);
    }
    let after = scene.nodes.api("a")?.session(&moving[0])?.context("a session")?;
    // FREEZE, HANDOFF and RESUME, twice.
    ensure!(after.version == before.version + 6, "{before:?} {after:?}");
    ensure!(after.owner == before.owner && after.state == before.state, "{before:?} {after:?}");
    scene.nodes.verify()?;
    Ok(())
}

#[test]
fn a_node_is_drained_under_load_and_takes_its_share_again() -> Result<()> {
    require_root!();
    let mut scene = Scene::new(3, 60)?;
    scene.traffic(20)?;
    ensure!(!scene.sessions_on("a").is_empty(), "node a has sessions");
    let how = DrainHow { within_ms: 60_000, left_over: LeftOver::Move, per_second: None };
    scene.nodes.api("a")?.drain("a", Some(how))?;
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        scene.traffic(5)?;
        let status = scene.nodes.api("a")?.drain_status()?;
        if status.is_safe_to_stop {
            ensure!(status.handed_over + status.in_haste > 0, "{status:?}");
            ensure!(status.terminated == 0, "{status:?}");
            break;
        }
        ensure!(std::time::Instant::now() < end, "{status:?}");
    }
    scene.traffic(10)?;
    scene.check()?;
    ensure!(scene.sessions_on("a").is_empty(), "{:?}", scene.sessions_on("a"));
    ensure!(scene.nodes.status("a")?.sessions == 0);

    scene.nodes.api("b")?.undrain("a")?;
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        scene.traffic(5)?;
        let (status, drain) = (scene.nodes.status("a")?, scene.nodes.api("a")?.drain_status()?);
        if status.slots > 20_000 && !scene.sessions_on("a").is_empty() && !drain.is_draining {
            break;
        }
        ensure!(std::time::Instant::now() < end, "{status:?} {drain:?}");
    }
    scene.traffic(10)?;
    scene.check()?;
    scene.nodes.verify()?;
    Ok(())
}

#[test]
fn thousands_of_sessions_leave_a_node_that_is_drained() -> Result<()> {
    require_root!();
    const SESSIONS: usize = 3_000;
    let scene = Scene::new(3, 6)?;
    let opened: usize = std::thread::scope(|scope| {
        let open = || -> Result<usize> {
            let mut api = scene.nodes.api("a")?;
            for _ in 0..SESSIONS / 6 {
                api.open("echo4", 0)?;
            }
            Ok(SESSIONS / 6)
        };
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum::<Result<usize>>()
    })?;
    ensure!(opened == SESSIONS);
    let started = std::time::Instant::now();
    scene.nodes.api("a")?.drain("a", None)?;
    let safe = probe::until(PATIENCE, || {
        scene
            .nodes
            .api("a")
            .is_ok_and(|mut api| api.drain_status().is_ok_and(|it| it.is_safe_to_stop))
    });
    let status = scene.nodes.api("a")?.drain_status()?;
    ensure!(safe, "{status:?}");
    println!("drained in {:?}: {status:?}", started.elapsed());
    ensure!(
        status.handed_over + status.in_haste >= SESSIONS && status.terminated == 0,
        "{status:?}"
    );
    let mut nodes = scene.nodes;
    nodes.verify()?;
    Ok(())
}
