//! A node is lost: no code of it runs. Its sessions end, wait, or go on elsewhere, as the policy says, and it delivers
//! nothing once its lease is over.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use jumpgate_tests::address::Family;
use jumpgate_tests::config::Fence;
use jumpgate_tests::fleet::{self, Options};
use jumpgate_tests::gateway::Gateway;
use jumpgate_tests::require_root;
use jumpgate_tests::swarm::Swarm;
use jumpgate_tests::together::Together;
use jumpgate_tests::topology::Cluster;
use ownership::SessionId;

const PATIENCE: Duration = Duration::from_secs(20);

const FENCE: Fence = Fence {
    lease: Duration::from_millis(1000),
    renew: Duration::from_millis(200),
    margin: Duration::from_millis(50),
};

struct Scene {
    swarm: Swarm,
    _gateways: Vec<Gateway>,
    nodes: Together,
    network: Cluster,
}

impl Scene {
    fn new(on_loss: &'static str) -> Result<Self> {
        let network = Cluster::builder().build()?;
        let mut nodes = Together::new(&network)?;
        let options = Options { fence: Some(FENCE), ..Options::default() };
        for node in network.nodes() {
            let mut config = fleet::config(&network, node, &options);
            for service in &mut config.services {
                service.on_loss = Some(on_loss);
            }
            nodes.start(&network, node, &config)?;
        }
        nodes.wait_for_next_hops()?;
        let mut gateways = Vec::new();
        for node in network.nodes() {
            let socket = nodes.socket(node.name())?;
            gateways.push(fleet::gateway(&network, node, socket, &options)?);
        }
        let mut swarm = fleet::swarm(&network, Family::V4, 1, 30)?;
        swarm.open(PATIENCE)?;
        let mut scene = Self { swarm, _gateways: gateways, nodes, network };
        scene.traffic(Duration::from_millis(200))?;
        ensure!(!scene.of_a().is_empty(), "node a has sessions");
        Ok(scene)
    }

    fn traffic(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.swarm.send();
            self.swarm.receive_for(Duration::from_millis(5))?;
        }
        Ok(())
    }

    /// The clients whose sessions are node a's, by their places in the swarm.
    fn of_a(&self) -> Vec<usize> {
        let clients = self.swarm.clients().iter().enumerate();
        let of_a =
            clients.filter(|(_, client)| client.place().is_some_and(|place| place.node == "a"));
        of_a.map(|(index, _)| index).collect()
    }

    /// Freezes node a, with routers that know it is gone, and waits until its lease is over.
    fn lose_a(&mut self) -> Result<Vec<usize>> {
        let of_a = self.of_a();
        self.network.route_vips_to(&[1, 2])?;
        self.nodes.freeze("a")?;
        self.traffic(FENCE.lease + Duration::from_millis(200))?;
        ensure!(
            self.nodes.status("b")?.fence_open_ms > 0 && self.nodes.status("c")?.fence_open_ms > 0
        );
        Ok(of_a)
    }

    /// Whether all sessions of these clients are answered again, by other nodes than a.
    fn go_on(&mut self, clients: &[usize]) -> Result<bool> {
        let before: Vec<u64> =
            clients.iter().map(|index| self.swarm.clients()[*index].counts().answered).collect();
        self.traffic(Duration::from_millis(50))?;
        let clients = clients.iter().zip(before);
        Ok(clients.into_iter().all(|(index, before)| {
            let client = &self.swarm.clients()[*index];
            client.counts().answered > before && client.place().is_some_and(|it| it.node != "a")
        }))
    }

    fn answered(&self, clients: &[usize]) -> u64 {
        clients.iter().map(|index| self.swarm.clients()[*index].counts().answered).sum()
    }
}

#[test]
fn sessions_of_a_lost_node_are_taken_over_and_it_delivers_nothing_more() -> Result<()> {
    require_root!();
    let mut scene = Scene::new("take_over")?;
    let of_a = scene.lose_a()?;
    // From here on node a may deliver nothing.
    let end = Instant::now() + PATIENCE;
    while !scene.go_on(&of_a)? {
        ensure!(Instant::now() < end, "{:?}", scene.swarm.counts());
    }
    let first = scene.swarm.clients()[of_a[0]].session().expect("it is open");
    let id = SessionId::new(first).to_string();
    let state = [scene.nodes.api("b")?.session(&id)?, scene.nodes.api("c")?.session(&id)?];
    ensure!(state.iter().flatten().any(|state| state.is_here), "{state:?}");
    // It thaws, and finds that its epoch is over.
    scene.nodes.thaw("a")?;
    let ended = scene.nodes.ended("a")?;
    ensure!(ended.is_err(), "it says that it may act no longer");
    ensure!(scene.go_on(&of_a)?, "they go on");
    ensure!(scene.swarm.counts().duplicates == 0, "{:?}", scene.swarm.counts());
    scene.nodes.verify()?;
    Ok(())
}

#[test]
fn sessions_of_a_lost_node_wait_for_it() -> Result<()> {
    require_root!();
    let mut scene = Scene::new("deny")?;
    let of_a = scene.lose_a()?;
    let before = scene.answered(&of_a);
    scene.traffic(3 * FENCE.lease)?;
    ensure!(scene.answered(&of_a) == before, "somebody went on with them");
    // Its next daemon goes on with them, once its own earlier epoch is proven to be over.
    scene.nodes.thaw("a")?;
    ensure!(scene.nodes.ended("a")?.is_err());
    let node = &scene.network.nodes()[0];
    let options = Options { fence: Some(FENCE), ..Options::default() };
    scene.nodes.start(&scene.network, node, &fleet::config(&scene.network, node, &options))?;
    let end = Instant::now() + PATIENCE;
    loop {
        let sessions = scene.nodes.status("a")?.sessions;
        if sessions >= of_a.len() {
            break;
        }
        ensure!(Instant::now() < end, "{sessions} of {}", of_a.len());
        std::thread::sleep(Duration::from_millis(20));
    }
    scene.nodes.verify()?;
    Ok(())
}

#[test]
fn sessions_of_a_lost_node_end() -> Result<()> {
    require_root!();
    let mut scene = Scene::new("terminate")?;
    let of_a = scene.lose_a()?;
    let id = |index: &usize| {
        let session = scene.swarm.clients()[*index].session().expect("it is open");
        SessionId::new(session).to_string()
    };
    let ids: Vec<String> = of_a.iter().map(id).collect();
    let end = Instant::now() + PATIENCE;
    loop {
        let mut api = scene.nodes.api("b")?;
        let mut left = 0;
        for id in &ids {
            let state = api.session(id)?;
            left += usize::from(state.is_none_or(|it| it.state != "TERMINATED (OWNER_LOST)"));
        }
        if left == 0 {
            break;
        }
        ensure!(Instant::now() < end, "{left} of {}", ids.len());
        std::thread::sleep(Duration::from_millis(20));
    }
    scene.nodes.thaw("a")?;
    ensure!(scene.nodes.ended("a")?.is_err(), "it says that it may act no longer");
    scene.nodes.verify()?;
    Ok(())
}
