//! Clusters and stores for tests.

use crate::{
    cluster::{Cluster, Options, Programs},
    network::Network,
};
use ownership::store::{
    Fault, Position, Seen,
    etcd::{Etcd, EtcdConfig, OpenError},
};
use std::{
    io::Write,
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
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

/// A network of the calling thread's own.
///
/// Whoever is not root may still be it in a user namespace, which takes a process of its own: then the
/// test has been run there, and `None` says that nothing is left to do here.
///
/// # Panics
///
/// If the test failed there; if there is no such namespace in CI.
pub fn own_network(test: &str) -> Option<Network> {
    if let Some(network) = Network::own() {
        return Some(network);
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user"]);
    let may = unshare.arg("true").status().is_ok_and(|status| status.success());
    if !may {
        let why = "this takes root, or user namespaces";
        assert!(std::env::var_os("CI").is_none(), "{why}, and CI must not skip it");
        say(&format!("skipped: {why}"));
        return None;
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user"]).arg(std::env::current_exe().expect("this program"));
    let output = unshare.args(["--exact", test]).output().expect("the test");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "{test}, as root in a namespace: {said}");
    None
}

/// The test that calls this, as its harness calls it.
#[macro_export]
macro_rules! this_test {
    () => {{
        fn here() {}
        let path = std::any::type_name_of_val(&here);
        let path = path.strip_suffix("::here").unwrap_or(path);
        let path = path.strip_suffix("::{{closure}}").unwrap_or(path);
        // Without the crate.
        path.split_once("::").map_or(path, |(_, path)| path)
    }};
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

/// Opens a store that nobody has seen before, however long a busy machine lets the members take.
pub async fn open(config: &EtcdConfig) -> Etcd {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        match Etcd::open(config, FRESH).await {
            Err(OpenError::Unavailable(Fault::Unreachable | Fault::Overloaded))
                if Instant::now() < until => {}
            opened => return opened.expect("a store on etcd"),
        }
    }
}

/// For tests that need every answer.
pub fn patient(config: EtcdConfig) -> EtcdConfig {
    EtcdConfig { deadline: Duration::from_secs(20), ..config }
}

/// A new and empty store on the shared cluster.
pub async fn new_store() -> Option<Etcd> {
    Some(open(&patient(config(shared()?.urls()))).await)
}
