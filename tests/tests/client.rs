//! The clients against the echo application without Jumpgate: what they count is what happened.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use jumpgate_tests::address::Family;
use jumpgate_tests::client::Client;
use jumpgate_tests::echo::Server;
use jumpgate_tests::require_root;
use jumpgate_tests::swarm::Swarm;
use jumpgate_tests::topology::Cluster;

const PORT: u16 = 4000;
const PATIENCE: Duration = Duration::from_secs(5);
const CLIENTS: u8 = 100;

fn servers(cluster: &Cluster) -> Result<Vec<Server>> {
    let addresses: Vec<_> = cluster.vips().iter().map(|&vip| SocketAddr::new(vip, PORT)).collect();
    let start = |node: &jumpgate_tests::topology::Node| {
        Server::start(node.namespace(), node.name(), &addresses, 1)
    };
    cluster.nodes().iter().map(start).collect()
}

fn swarm(cluster: &Cluster, family: Family) -> Result<Swarm> {
    let host = &cluster.clients()[0];
    let server = SocketAddr::new(cluster.vip(family), PORT);
    let client = |n| Client::new(host.namespace(), host.pool_address(family, 1 + n), server);
    Ok(Swarm::new((0..CLIENTS).map(client).collect::<Result<_>>()?))
}

#[test]
fn without_jumpgate_a_session_stays_until_its_client_moves() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().build()?;
    let _servers = servers(&cluster)?;
    for family in Family::ALL {
        let mut swarm = swarm(&cluster, family)?;
        swarm.open(PATIENCE)?;
        for _ in 0..5 {
            swarm.send();
            ensure!(swarm.settle(PATIENCE)?, "{family:?}: {:?}", swarm.counts());
        }
        let still = swarm.counts();
        ensure!(still.opened == 100 && still.answered == 500, "{family:?}: {still:?}");
        ensure!(still.moved_sessions == 0, "{family:?}: {still:?}");

        let host = &cluster.clients()[0];
        for (n, client) in (0..CLIENTS).zip(swarm.clients_mut()) {
            client.rebind(host.pool_address(family, 101 + n))?;
        }
        swarm.send();
        ensure!(swarm.settle(PATIENCE)?, "{family:?}: {:?}", swarm.counts());
        let moved = swarm.counts();
        // Two of three should land elsewhere.
        ensure!(moved.rebinds == 100 && moved.node_changes > 30, "{family:?}: {moved:?}");
        ensure!(moved.moved_sessions == moved.node_changes, "{family:?}: {moved:?}");
        ensure!(moved.duplicates + moved.stale + moved.strange == 0, "{family:?}: {moved:?}");
    }
    Ok(())
}

#[test]
fn packets_that_nobody_answers_are_counted() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).build()?;
    let servers = servers(&cluster)?;
    let mut swarm = swarm(&cluster, Family::V4)?;
    swarm.open(PATIENCE)?;
    for server in servers {
        server.stop()?;
    }
    swarm.send();
    ensure!(!swarm.settle(Duration::from_millis(100))?);
    let counts = swarm.counts();
    ensure!(counts.sent == 100 && counts.unanswered() == 100, "{counts:?}");
    Ok(())
}

#[test]
fn an_answer_that_is_on_its_way_when_the_client_moves_still_counts() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).build()?;
    let _servers = servers(&cluster)?;
    let mut swarm = swarm(&cluster, Family::V4)?;
    swarm.open(PATIENCE)?;
    swarm.send();
    for client in swarm.clients_mut() {
        client.rebind(client.local_address()?.ip())?;
    }
    ensure!(swarm.settle(PATIENCE)?, "{:?}", swarm.counts());
    Ok(())
}
