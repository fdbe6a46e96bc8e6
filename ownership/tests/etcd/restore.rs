//! A cluster that is restored from a backup hands its old revisions out again.

use crate::{
    cluster::{Cluster, Options},
    conformance::world::{World, context, id, next, register},
    fixture::{cluster, config, open},
};
use etcd_client::Client;
use ownership::store::{
    Fault, Generation, Outcome, Seen, Sessions, Store,
    etcd::{Etcd, EtcdConfig, OpenError},
    recover::{self, Ended},
};
use std::{fs::File, io::Write, path::PathBuf};

async fn snapshot(cluster: &Cluster) -> PathBuf {
    let path = cluster.dir().join("snapshot");
    let mut file = File::create(&path).unwrap();
    let mut client = Client::connect([cluster.url(0)], None).await.unwrap();
    let mut parts = client.snapshot().await.unwrap();
    while let Some(part) = parts.message().await.unwrap() {
        file.write_all(part.blob()).unwrap();
    }
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_store_is_refused_until_a_new_generation_begins() {
    let Some(mut cluster) = cluster(3, Options::default()) else { return };
    let config: EtcdConfig = config(cluster.urls());
    let world = World::new(open(&config).await).await;
    let born = world.born(1).await;
    let backup = snapshot(&cluster).await;
    let attached = world.won(&next(&born, world.one)).await;
    world.born(2).await;
    let lost = register(&world.store, 3).await;
    let seen = Seen::new(world.store.seen());
    cluster.restore_all(&backup);

    // Whoever is connected finds out before anything is written, and so does whoever connects.
    let write = next(&attached, world.one);
    assert_eq!(world.commit(&write).await, Outcome::Unavailable(Fault::Older));
    assert_eq!(world.store.get(id(1)).await, Err(Fault::Older));
    match Etcd::open(&config, seen).await.map(drop) {
        Err(OpenError::Older(older)) => assert_eq!(older.seen, seen.position()),
        opened => panic!("{opened:?}"),
    }

    // A recovery: by somebody who accepts what is there, however old it is.
    let recovered = open(&config).await;
    assert_eq!(recovered.get(id(1)).await, Ok(Some(born)));
    assert_eq!(recovered.get(id(2)).await, Ok(None));
    assert_eq!(recover::begin(&recovered, seen.position()).await, Ok(Generation(2)));
    let by = register(&recovered, 1).await.identity();
    assert!(by.owner.epoch > lost.epoch, "no epoch is drawn twice");
    let ended = recover::end_older(&recovered, by, || context(by.owner)).await.unwrap();
    assert_eq!(ended, Ended { nodes: 1, sessions: 1, ..Ended::default() });

    let store = Etcd::open(&config, seen).await.expect("the new generation");
    assert!(store.seen() > seen.position());
    assert_eq!(store.commit(vec![write]).await, [Outcome::Fenced]);
    assert!(store.get(id(1)).await.unwrap().unwrap().record.is_terminated());
    // The one that was refused stays so.
    assert_eq!(world.store.get(id(1)).await, Err(Fault::Older));
}
