//! Clusters and stores for tests.

use crate::{
    cluster::{Cluster, Options, Programs},
    network::Network,
};
use ownership::store::{
    Position, Seen,
    etcd::{Etcd, EtcdConfig},
};
use std::{
    io::Write,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

/// Nothing was seen of the store yet.
pub const FRESH: Seen = Seen::new(Position::START);

/// A cluster of the test's own, to be mistreated; `None` if there is no etcd here.
///
/// # Panics
///
/// If there is none in CI.
pub fn cluster(members: usize, options: Options) -> Option<Cluster> {
    let Some(programs) = Programs::find() else {
        let why = "there is no etcd and etcdctl here: `cargo xtask setup` brings them";
        assert!(std::env::var_os("CI").is_none(), "{why}, and CI must not skip this");
        say(&format!("skipped: {why}"));
        return None;
    };
    Some(Cluster::start(programs, members, options))
}

/// A network of the calling thread's own; `None`, said on stderr, without root.
pub fn own_network() -> Option<Network> {
    let network = Network::own();
    if network.is_none() {
        say("skipped: cutting connections needs root");
    }
    network
}

/// Says something about the running test, which its harness would show only if the test failed.
fn say(what: &str) {
    // It names a test's thread after the test.
    let test = thread::current().name().unwrap_or_default().to_owned();
    let _ = writeln!(std::io::stderr(), "{test}: {what}");
}

/// The cluster of three that all tests share which leave it as it is.
pub fn shared() -> Option<&'static Cluster> {
    static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
    match SHARED.get_or_init(|| Programs::find().and_then(|_| cluster(3, Options::default()))) {
        Some(cluster) => Some(cluster),
        // Says so for this test.
        None => cluster(3, Options::default()).map(|_| unreachable!("it was not there before")),
    }
}

/// A part of a cluster that nobody else has.
pub fn config(urls: impl IntoIterator<Item = String>) -> EtcdConfig {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let prefix = format!("test-{}/", NEXT.fetch_add(1, Ordering::Relaxed));
    EtcdConfig { prefix, ..EtcdConfig::new(urls) }
}

/// Opens a store that nobody has seen before.
pub async fn open(config: &EtcdConfig) -> Etcd {
    Etcd::open(config, FRESH).await.expect("a store on etcd")
}

/// A new and empty store on the shared cluster.
pub async fn new_store() -> Option<Etcd> {
    Some(open(&config(shared()?.urls())).await)
}
