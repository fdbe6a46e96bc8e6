//! Members that are stopped, killed and cut off under load: every outcome is accounted for, what was
//! acknowledged stays, and all that was seen fits into one order.

use crate::{
    cluster::{Cluster, Options},
    conformance::world::{World, id},
    fixture::{cluster, config, open, own_network, patient},
    load::{Load, SESSIONS},
    network::Network,
    this_test,
};
use ownership::store::{Sessions, etcd::EtcdConfig};
use std::{sync::Arc, time::Duration};
use tokio::{
    runtime::{Builder, Runtime},
    time::sleep,
};

/// Rounds of each kind of mistreatment.
fn rounds() -> usize {
    if std::env::var_os("JUMPGATE_FULL").is_some() { 20 } else { 1 }
}

/// Longer than it takes to choose another leader.
const FAULT: Duration = Duration::from_millis(1500);

/// How long everything is well between two faults.
const PEACE: Duration = Duration::from_millis(700);

/// Has sessions changed through every member while one after the other is mistreated, the leader
/// first.
async fn under_load(mut cluster: Cluster, fault: impl AsyncFn(&mut Cluster, usize)) {
    let config = config(cluster.urls());
    let world = World::new(open(&patient(config.clone())).await).await;
    let births = (0..SESSIONS).map(|number| world.birth(id(number))).collect();
    assert!(world.store.commit(births).await.into_iter().all(|outcome| outcome.is_won()));

    let mut stores = Vec::new();
    for at in 0..3 {
        let mut members = cluster.urls();
        members.rotate_left(at);
        let deadline = Duration::from_millis(800);
        stores.push(Arc::new(open(&EtcdConfig { members, deadline, ..config.clone() }).await));
    }
    let load = Load::start(&stores, 4, world.one);
    for round in 0..rounds() {
        sleep(PEACE).await;
        let leader = cluster.leader().await.unwrap_or(0);
        fault(&mut cluster, (leader + round) % 3).await;
        // The servers are processes: waiting for them must not keep the callers waiting.
        while !(0..3).all(|at| cluster.is_healthy(at)) {
            sleep(Duration::from_millis(100)).await;
        }
    }
    sleep(PEACE).await;
    let history = load.end().await;

    // Whatever is still on its way has arrived before this is answered: no member is mistreated now.
    world.verify().await;
    let count = history.check(&world.log().await);
    assert!(count.won > 20 * rounds(), "{count:?}");
    println!("{count:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_stop_lose_nothing() {
    let Some(cluster) = cluster(3, Options::default()) else { return };
    under_load(cluster, async |cluster, at| {
        cluster.stop(at);
        sleep(FAULT).await;
        cluster.go_on(at);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_are_killed_lose_nothing() {
    let Some(cluster) = cluster(3, Options::default()) else { return };
    under_load(cluster, async |cluster, at| {
        cluster.kill(at);
        sleep(FAULT).await;
        cluster.run(at);
    })
    .await;
}

/// A cluster in namespaces, and a runtime whose threads are in the one that clients are in.
fn in_namespaces(test: &str) -> Option<(Network, Cluster, Runtime)> {
    let network = own_network(test)?;
    let cluster = cluster(3, Options { network: Some(network), ..Options::default() })?;
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    Some((network, cluster, runtime))
}

/// A member that reaches no other one, and that clients still reach.
#[test]
fn members_that_are_cut_off_lose_nothing() {
    let Some((network, cluster, runtime)) = in_namespaces(this_test!()) else { return };
    runtime.block_on(under_load(cluster, async |_, at| {
        network.isolate(at);
        sleep(FAULT).await;
        network.mend();
    }));
}

/// A member that hears the others, and that they do not hear.
#[test]
fn members_that_are_not_heard_lose_nothing() {
    let Some((network, cluster, runtime)) = in_namespaces(this_test!()) else { return };
    runtime.block_on(under_load(cluster, async |_, at| {
        network.mute(at);
        sleep(FAULT).await;
        network.mend();
    }));
}

/// Requests arrive, answers do not: such writes are done, and nobody is told.
#[test]
fn answers_that_are_lost_lose_nothing() {
    let Some((network, cluster, runtime)) = in_namespaces(this_test!()) else { return };
    runtime.block_on(under_load(cluster, async |_, at| {
        network.drop_answers(at);
        sleep(FAULT).await;
        network.mend();
    }));
}
