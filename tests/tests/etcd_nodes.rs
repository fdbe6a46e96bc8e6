//! Nodes in processes of their own on a real etcd: their sessions move, in each of the two strategies.

#[path = "etcd/mod.rs"]
mod etcd;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use dataplane_user::api::{Client as Api, DrainHow, LeftOver};
use dataplane_user::secrets::SecretsFile;
use jumpgate_tests::address::Family;
use jumpgate_tests::config::Store;
use jumpgate_tests::daemon::Daemon;
use jumpgate_tests::fleet::{self, Fleet, Options};
use jumpgate_tests::require_root;
use jumpgate_tests::swarm::Swarm;
use jumpgate_tests::topology::Cluster;

const PATIENCE: Duration = Duration::from_secs(30);

struct Scene {
    swarm: Swarm,
    fleet: Fleet,
    /// Before the network that it is in.
    _etcd: etcd::cluster::Cluster,
    _network: Cluster,
}

/// `None` without etcd.
fn scene(sessions: &'static str) -> Result<Option<Scene>> {
    let network = Cluster::builder().build()?;
    let Some(etcd) = etcd::start(&network)? else { return Ok(None) };
    let options = Options::default();
    let secrets = network.scratch().join("secrets");
    SecretsFile::make(&secrets)?;
    let mut fleet = Fleet { gateways: Vec::new(), daemons: Vec::new() };
    for node in network.nodes() {
        let mut config = fleet::config(&network, node, &options);
        config.cluster.secrets = Some(secrets.clone());
        config.store = Some(Store { kind: "etcd", members: etcd.urls(), sessions: Some(sessions) });
        fleet.daemons.push(Daemon::start(&network, node, &config)?);
    }
    for (node, daemon) in network.nodes().iter().zip(&fleet.daemons) {
        fleet.gateways.push(fleet::gateway(&network, node, daemon.socket(), &options)?);
    }
    fleet.wait_for_next_hops()?;
    let mut swarm = fleet::swarm(&network, Family::V4, 1, 30)?;
    swarm.open(PATIENCE)?;
    Ok(Some(Scene { swarm, fleet, _etcd: etcd, _network: network }))
}

impl Scene {
    fn api(&self, node: usize) -> Result<Api> {
        Ok(Api::connect(self.fleet.daemons[node].socket())?)
    }

    fn traffic(&mut self, rounds: usize) -> Result<()> {
        for _ in 0..rounds {
            self.swarm.send();
            self.swarm.receive_for(Duration::from_millis(3))?;
        }
        Ok(())
    }

    fn check(&mut self) -> Result<()> {
        self.swarm.settle(PATIENCE)?;
        let counts = self.swarm.counts();
        ensure!(counts.unanswered() == 0 && counts.duplicates == 0, "{counts:?}");
        ensure!(counts.strange == 0 && counts.stale == 0, "{counts:?}");
        Ok(())
    }

    fn on(&self, node: &str) -> usize {
        let clients = self.swarm.clients().iter();
        clients.filter(|client| client.place().is_some_and(|place| place.node == node)).count()
    }
}

fn a_node_is_drained_and_comes_back(sessions: &'static str) -> Result<()> {
    let Some(mut scene) = scene(sessions)? else { return Ok(()) };
    scene.traffic(20)?;
    ensure!(scene.on("a") > 0, "node a has sessions");
    let how = DrainHow { within_ms: 60_000, left_over: LeftOver::Move, per_second: None };
    scene.api(0)?.drain("a", Some(how))?;
    let end = Instant::now() + PATIENCE;
    loop {
        scene.traffic(5)?;
        let status = scene.api(0)?.drain_status()?;
        if status.is_safe_to_stop {
            ensure!(status.terminated == 0, "{status:?}");
            break;
        }
        ensure!(Instant::now() < end, "{status:?}");
    }
    scene.traffic(10)?;
    scene.check()?;
    ensure!(scene.on("a") == 0, "{} are on node a", scene.on("a"));
    scene.api(1)?.undrain("a")?;
    let end = Instant::now() + PATIENCE;
    while scene.on("a") == 0 {
        scene.traffic(5)?;
        ensure!(Instant::now() < end, "node a takes no share");
    }
    scene.traffic(10)?;
    scene.check()
}

#[test]
fn a_node_is_drained_and_comes_back_with_sessions_of_its_own() -> Result<()> {
    require_root!();
    a_node_is_drained_and_comes_back("own")
}

#[test]
fn a_node_is_drained_and_comes_back_with_shared_sessions() -> Result<()> {
    require_root!();
    a_node_is_drained_and_comes_back("shared")
}
