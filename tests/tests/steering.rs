//! Real clients through real nodes: sessions stay where they are while clients change address.

use std::time::Duration;

use anyhow::{Result, ensure};
use dataplane_user::api::Client as Api;
use jumpgate_tests::address::Family;
use jumpgate_tests::fleet::{self, Fleet, Options};
use jumpgate_tests::require_root;
use jumpgate_tests::topology::Cluster;

const PATIENCE: Duration = Duration::from_secs(10);
const CLIENTS: u8 = 60;

fn sessions_stay_on_their_node_and_cpu(underlay: Family) -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().underlay(underlay).build()?;
    let fleet = Fleet::start(&cluster, &Options::default())?;
    for family in Family::ALL {
        let mut swarm = fleet::swarm(&cluster, family, 1, CLIENTS)?;
        swarm.open(PATIENCE)?;
        let host = &cluster.clients()[0];
        for round in 1..=3 {
            swarm.send();
            ensure!(swarm.settle(PATIENCE)?, "{family:?}: {:?}", swarm.counts());
            for (n, client) in (0..CLIENTS).zip(swarm.clients_mut()) {
                // Every client gets an address of its own, and another port with it.
                client.rebind(host.pool_address(family, round * CLIENTS + 1 + n))?;
            }
        }
        swarm.send();
        ensure!(swarm.settle(PATIENCE)?, "{family:?}: {:?}", swarm.counts());
        let counts = swarm.counts();
        ensure!(counts.opened == 60 && counts.answered == 240, "{family:?}: {counts:?}");
        ensure!(counts.moved_sessions == 0, "{family:?}: {counts:?}");
        ensure!(counts.duplicates + counts.strange == 0, "{family:?}: {counts:?}");
        let mut nodes: Vec<_> = swarm
            .clients_mut()
            .iter()
            .filter_map(|client| client.place())
            .map(|place| (place.node.clone(), place.cpu))
            .collect();
        nodes.sort();
        nodes.dedup();
        ensure!(nodes.len() == 6, "{family:?}: sessions on all nodes and CPUs, not {nodes:?}");
    }
    // The proof that packets were processed on their session's CPU, and that they had to be
    // forwarded for it.
    ensure!(fleet.count("wrong-cpu")? == 0, "{:?}", fleet.stats(0)?);
    ensure!(fleet.count("forward-slot")? > 100, "{:?}", fleet.stats(0)?);
    ensure!(fleet.count("delivered")? == 480, "{:?}", fleet.stats(0)?);
    // The same counters, CPU by CPU, add up to that.
    let mut delivered = 0;
    for daemon in &fleet.daemons {
        let stats = Api::connect(daemon.socket())?.stats_by_cpu()?;
        for counts in stats.services.values() {
            let cpus = &counts.admissions_by_cpu["delivered"];
            ensure!(cpus.iter().filter(|&&count| count > 0).count() == 2, "{stats:?}");
            delivered += cpus.iter().sum::<u64>();
        }
    }
    ensure!(delivered == 480, "{delivered} by CPU");
    Ok(())
}

#[test]
fn sessions_stay_over_an_ipv4_underlay() -> Result<()> {
    sessions_stay_on_their_node_and_cpu(Family::V4)
}

#[test]
fn sessions_stay_over_an_ipv6_underlay() -> Result<()> {
    sessions_stay_on_their_node_and_cpu(Family::V6)
}
