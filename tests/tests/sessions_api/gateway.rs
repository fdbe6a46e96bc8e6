//! The reference gateway: it serves, goes on after a restart, and hands its sessions over with what it knows of
//! them.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dataplane_user::api::MoveResult;
use jumpgate_tests::address::Family;
use jumpgate_tests::config::Config;
use jumpgate_tests::echo_gateway::{Gateway, Options};
use jumpgate_tests::fleet::{self, PORT};
use jumpgate_tests::probe;
use jumpgate_tests::require_root;
use jumpgate_tests::swarm::Swarm;
use jumpgate_tests::together::Together;
use jumpgate_tests::topology::{Cluster, Node};
use ownership::SessionId;

use crate::scene::PATIENCE;

fn start(network: &Cluster, node: &Node, config: &Config, api: &Path) -> Result<Gateway> {
    let options = Options {
        name: node.name().to_owned(),
        api: api.to_owned(),
        sessions_api: config.sessions_api.socket.clone(),
        service: fleet::service_name(Family::V4).to_owned(),
        address: SocketAddr::new(network.vip(Family::V4), PORT),
        cpus: vec![0, 1],
    };
    let gateway = node.namespace().run(|| Gateway::start(options))?;
    ensure!(probe::until(PATIENCE, || gateway.is_attached()), "it finds no daemon");
    Ok(gateway)
}

fn sessions(swarm: &Swarm, node: &str) -> Vec<SessionId> {
    let is_there = |client: &&jumpgate_tests::client::Client| {
        client.place().is_some_and(|place| place.node == node)
    };
    let clients = swarm.clients().iter().filter(is_there);
    clients.map(|client| SessionId::new(client.session().expect("it is open"))).collect()
}

fn traffic(swarm: &mut Swarm, rounds: usize) -> Result<()> {
    for _ in 0..rounds {
        swarm.send();
        swarm.receive_for(Duration::from_millis(2))?;
    }
    Ok(())
}

fn check(swarm: &mut Swarm) -> Result<()> {
    swarm.settle(PATIENCE)?;
    let counts = swarm.counts();
    ensure!(counts.unanswered() == 0 && counts.duplicates == 0, "{counts:?}");
    ensure!(counts.strange == 0 && counts.stale == 0, "{counts:?}");
    Ok(())
}

#[test]
fn sessions_move_between_gateways_with_what_they_know() -> Result<()> {
    require_root!();
    let network = Cluster::builder().nodes(2).build()?;
    let mut nodes = Together::new(&network)?;
    let mut gateways = Vec::new();
    for node in network.nodes() {
        let config = fleet::config(&network, node, &fleet::Options::default());
        nodes.start(&network, node, &config)?;
        gateways.push(start(&network, node, &config, nodes.socket(node.name())?)?);
    }
    nodes.wait_for_next_hops()?;
    let mut swarm = fleet::swarm(&network, Family::V4, 1, 10)?;
    swarm.open(PATIENCE)?;
    traffic(&mut swarm, 20)?;
    check(&mut swarm)?;
    let moving = sessions(&swarm, "a");
    ensure!(!moving.is_empty(), "node a has sessions");
    for (from, to, way) in [("a", "b", 1), ("b", "a", 2)] {
        let (here, there) =
            if from == "a" { (&gateways[0], &gateways[1]) } else { (&gateways[1], &gateways[0]) };
        for session in &moving {
            let mut api = nodes.api(from)?;
            let (id, node) = (session.to_string(), to.to_owned());
            let moved = std::thread::spawn(move || api.hand_over(&id, &node));
            while !moved.is_finished() {
                traffic(&mut swarm, 1)?;
            }
            let moved = moved.join().expect("it has not panicked")?;
            ensure!(moved == MoveResult::HandedOver, "its context goes with it: {moved:?}");
            ensure!(
                probe::until(PATIENCE, || here.answered(*session).is_none()),
                "it is lost here"
            );
            let known = || there.answered(*session).is_some_and(|answered| answered >= 20 * way);
            ensure!(probe::until(PATIENCE, known), "{:?}", there.answered(*session));
        }
        traffic(&mut swarm, 10)?;
        check(&mut swarm)?;
    }
    // Each packet was counted once, wherever it was answered.
    let sent = swarm.clients()[0].counts().sent;
    for session in moving {
        let answered = gateways[0].answered(session);
        ensure!(answered == Some(sent), "{answered:?} of {sent}");
    }
    Ok(())
}

#[test]
fn a_gateway_goes_on_with_the_next_daemon() -> Result<()> {
    require_root!();
    let network = Cluster::builder().nodes(1).build()?;
    let node = &network.nodes()[0];
    let config = fleet::config(&network, node, &fleet::Options::default());
    let mut daemon = jumpgate_tests::daemon::Daemon::start(&network, node, &config)?;
    let gateway = start(&network, node, &config, daemon.socket())?;
    let mut swarm = fleet::swarm(&network, Family::V4, 1, 5)?;
    swarm.open(PATIENCE)?;
    traffic(&mut swarm, 5)?;
    check(&mut swarm)?;
    daemon.kill()?;
    ensure!(probe::until(PATIENCE, || !gateway.is_attached()), "it notices");
    daemon = jumpgate_tests::daemon::Daemon::start(&network, node, &config)?;
    ensure!(probe::until(PATIENCE, || gateway.is_attached()), "it finds the next one");
    traffic(&mut swarm, 5)?;
    check(&mut swarm)?;
    let mut more = fleet::swarm(&network, Family::V4, 20, 5)?;
    more.open(PATIENCE)?;

    // It dies, and its sessions have lost their clients.
    let session = SessionId::new(swarm.clients()[0].session().context("it is open")?);
    drop(gateway);
    let end = Instant::now() + PATIENCE;
    loop {
        let mut api = dataplane_user::api::Client::connect(daemon.socket())?;
        let state = api.session(&session.to_string())?.context("it is there")?;
        if state.state == "RECOVERING" {
            break;
        }
        ensure!(Instant::now() < end, "{state:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
