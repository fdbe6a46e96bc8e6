//! The lease is kept in the store: a daemon acts as long as it can renew it there, and no longer.

#[path = "etcd/mod.rs"]
mod etcd;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use dataplane_ebpf::dissect::native::{Header, TYPE_DATA};
use dataplane_user::api::{Client as Api, NodeRow, Standing, Status};
use dataplane_user::cluster::{Backend, Beacon, Lease};
use dataplane_user::config::{EtcdStore, Store as StoreConfig};
use dataplane_user::node::Incarnation;
use dataplane_user::secrets::SecretsFile;
use dataplane_user::takeover::Pinned;
use jumpgate_tests::address::Family;
use jumpgate_tests::config::{Config, Fence, Metrics, Service, Store};
use jumpgate_tests::daemon::Daemon;
use jumpgate_tests::http;
use jumpgate_tests::inbox::Inbox;
use jumpgate_tests::probe;
use jumpgate_tests::require_root;
use jumpgate_tests::topology::{Cluster, Node};
use ownership::lease::{Found, LeaseTimes};
use ownership::model::{OperationId, Time};
use ownership::store::{Attempt, DirectoryWrite, Position, Seen, Store as _};
use ownership::{Epoch, NodeIndex};

const PATIENCE: Duration = Duration::from_secs(20);
const MEMBERS: usize = 3;
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9472);

/// A node whose lease is in etcd, with a session and an application that reads.
struct Scene {
    /// Before the network that it is in.
    etcd: etcd::cluster::Cluster,
    daemon: Daemon,
    network: Cluster,
    config: Config,
    service: Service,
    inbox: Inbox,
    session: String,
}

fn config(
    network: &Cluster,
    node: &Node,
    etcd: &etcd::cluster::Cluster,
    service: &Service,
) -> Result<Config> {
    let mut config = Config::of(network, node, std::slice::from_ref(service));
    // Long enough for a disk that has other things to do.
    config.fence = Some(Fence {
        lease: Duration::from_millis(3_000),
        renew: Duration::from_millis(200),
        margin: Duration::from_millis(50),
    });
    config.store = Some(Store { kind: "etcd", members: etcd.urls(), sessions: None });
    config.metrics = Some(Metrics { listen: METRICS });
    // Nobody may make these up where several machines could have the store.
    let secrets = network.scratch().join("secrets");
    SecretsFile::make(&secrets)?;
    config.cluster.secrets = Some(secrets);
    Ok(config)
}

/// `None` without etcd.
fn scene() -> Result<Option<Scene>> {
    let network = Cluster::builder().nodes(1).build()?;
    let Some(etcd) = etcd::start(&network)? else { return Ok(None) };
    let node = &network.nodes()[0];
    let service = Service::native("game", network.vip(Family::V4), 7000);
    let config = config(&network, node, &etcd, &service)?;
    let daemon = Daemon::start(&network, node, &config)?;
    let inbox = Inbox::open(node.namespace(), daemon.socket(), &service, false, 2)?;
    let session = Api::connect(daemon.socket())?.open("game", 1)?.session;
    let scene = Scene { etcd, daemon, network, config, service, inbox, session };
    scene.deliver()?;
    Ok(Some(scene))
}

impl Scene {
    fn status(&self) -> Result<Status> {
        Ok(Api::connect(self.daemon.socket())?.status()?)
    }

    fn send(&self) -> Result<()> {
        let session = self.session.parse::<ownership::SessionId>()?.bytes();
        let (bytes, length) = Header { kind: TYPE_DATA, session, owner: None }.encode();
        let to = SocketAddr::new(self.service.address, self.service.port);
        let host = &self.network.clients()[0];
        host.namespace().run(|| -> Result<()> {
            let socket = UdpSocket::bind((host.address(Family::V4), 0))?;
            socket.send_to(&bytes[..length], to)?;
            Ok(())
        })
    }

    fn deliver(&self) -> Result<()> {
        self.send()?;
        self.inbox.receive(PATIENCE)?.context("nothing was delivered")?;
        Ok(())
    }

    fn count(&self, verdict: &str) -> Result<u64> {
        let stats = Api::connect(self.daemon.socket())?.stats()?;
        let counts = stats.services.values();
        Ok(counts.filter_map(|counts| counts.verdicts.get(verdict)).sum())
    }

    /// Whether the fence comes to be open, or shut.
    fn await_fence(&self, open: bool) -> Result<()> {
        let is_so = || self.status().is_ok_and(|status| (status.fence_open_ms > 0) == open);
        ensure!(probe::until(PATIENCE, is_so), "{:?}", self.status()?);
        Ok(())
    }

    fn get(&self, path: &str) -> Result<(u16, String)> {
        http::get(self.network.nodes()[0].namespace(), METRICS, path)
    }

    /// Does something with the store, as another node would.
    fn with_store<R: Send, F: Future<Output = Result<R>>>(
        &self,
        work: impl FnOnce(Arc<Backend>) -> F + Send,
    ) -> Result<R> {
        self.network.nodes()[0].namespace().run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let config = StoreConfig::Etcd(EtcdStore {
                    members: self.etcd.urls(),
                    prefix: "jumpgate/".to_owned(),
                    user: None,
                    tls: None,
                    accepts_single_member: false,
                    own_sessions: None,
                });
                let seen = Seen::new(Position::START);
                let backend = Backend::open(&config, NodeIndex::new(2)?, seen).await?;
                work(Arc::new(backend)).await
            })
        })
    }

    /// The next daemon, which begins a new epoch.
    fn restart_anew(&mut self) -> Result<()> {
        let node = &self.network.nodes()[0];
        self.daemon = Daemon::start(&self.network, node, &self.config)?;
        let status = self.status()?;
        ensure!(status.epoch == 2 && status.sessions == 0, "{status:?}");
        ensure!(self.daemon.log().contains("sessions of the daemon before this one are lost"));
        self.inbox.hand_over(self.daemon.socket(), "game", false)?;
        self.session = Api::connect(self.daemon.socket())?.open("game", 0)?.session;
        self.deliver()
    }
}

fn me() -> Result<NodeIndex> {
    Ok(NodeIndex::new(1)?)
}

#[test]
fn a_node_that_is_cut_off_from_the_store_stops_in_time_and_goes_on_when_it_is_back() -> Result<()> {
    require_root!();
    let Some(scene) = scene()? else { return Ok(()) };
    let (status, ready) = scene.get("/readyz")?;
    ensure!(status == 200 && ready.contains("the lease is open for 2."), "{status} {ready}");
    (0..MEMBERS).for_each(|member| scene.etcd.stop(member));
    scene.await_fence(false)?;
    let (status, ready) = scene.get("/readyz")?;
    ensure!(status == 503 && ready.contains("the fence is shut"), "{status} {ready}");
    let (status, health) = scene.get("/healthz")?;
    ensure!(status == 200, "it goes on trying: {health}");
    let refused = scene.count("fence-shut")?;
    scene.send()?;
    let is_refused = || scene.count("fence-shut").is_ok_and(|now| now == refused + 1);
    ensure!(probe::until(PATIENCE, is_refused), "{}", scene.count("fence-shut")?);
    ensure!(scene.inbox.take()?.is_none(), "delivered without a lease");
    ensure!(scene.daemon.log().contains("the lease cannot be renewed"), "it is said");

    (0..MEMBERS).for_each(|member| scene.etcd.go_on(member));
    scene.await_fence(true)?;
    ensure!(scene.get("/readyz")?.0 == 200);
    let (_, metrics) = scene.get("/metrics")?;
    let failures = metrics.lines().find(|line| {
        line.starts_with("jumpgate_store_failures_total{") && line.contains("\"heartbeat\"")
    });
    let failures = failures.and_then(|line| line.rsplit(' ').next()).context("no failures")?;
    ensure!(failures.parse::<u64>()? > 0, "{failures}");
    let status = scene.status()?;
    ensure!(status.epoch == 1 && status.sessions == 1, "in the same epoch: {status:?}");
    scene.deliver()
}

#[test]
fn a_daemon_is_replaced_in_its_epoch_which_the_store_bears_out() -> Result<()> {
    require_root!();
    let Some(mut scene) = scene()? else { return Ok(()) };
    scene.daemon.kill()?;
    scene.daemon = Daemon::start(&scene.network, &scene.network.nodes()[0], &scene.config)?;
    scene.inbox.hand_over(scene.daemon.socket(), "game", false)?;
    let status = scene.status()?;
    ensure!(status.epoch == 1 && status.sessions == 1, "{status:?}");
    scene.deliver()
}

#[test]
fn a_node_whose_epoch_was_ended_stops_and_the_next_daemon_begins_another() -> Result<()> {
    require_root!();
    let Some(mut scene) = scene()? else { return Ok(()) };
    scene.with_store(async |store| {
        let fence = store.fence(me()?).await?.context("it is registered")?;
        let attempt =
            Attempt { by: fence.identity(), now: Time::from_millis(0), operation: OperationId(7) };
        let (write, _) = DirectoryWrite::fence(&fence, attempt);
        ensure!(store.write(write).await.is_won());
        Ok(())
    })?;
    scene.daemon.fail()?;
    ensure!(scene.daemon.log().contains("epoch was ended"), "{}", scene.daemon.log());
    scene.send()?;
    ensure!(scene.inbox.receive(Duration::from_millis(200))?.is_none(), "delivered when over");
    scene.restart_anew()
}

#[test]
fn a_node_and_its_clone_are_not_both_that_node() -> Result<()> {
    require_root!();
    let Some(mut scene) = scene()? else { return Ok(()) };
    // The clone has all that the daemon has recorded of itself.
    let text = fs::read_to_string(scene.config.state.path.join("a.incarnation"))?;
    let recorded = serde_json::from_str::<Incarnation>(&text)?.to_record().context("a record")?;
    let found = Found { boot: recorded.boot, pinned: Some(recorded.identity) };
    let clone = Pinned { recorded, found };
    scene.with_store(async |store| {
        // Its heartbeat may come second, and lose; or right after the daemon's, and win.
        for _ in 0..100 {
            let times = Arc::new(Beacon::new(LeaseTimes::default()));
            match Lease::resume(Arc::clone(&store), clone, times).await? {
                Ok(mut lease) => {
                    if lease.open().await.is_ok() {
                        return Ok(());
                    }
                }
                Err(why) => bail!("it is no clone: {why}"),
            }
        }
        bail!("the clone was never faster")
    })?;
    scene.daemon.fail()?;
    ensure!(scene.daemon.log().contains("somebody else is this node"), "{}", scene.daemon.log());
    scene.send()?;
    ensure!(scene.inbox.receive(Duration::from_millis(200))?.is_none(), "delivered when over");
    scene.restart_anew()?;
    // The clone is over by that, too.
    scene.with_store(async |store| {
        let stands = store.fence(me()?).await?.map(|fence| fence.epoch);
        ensure!(stands == Epoch::new(2), "{stands:?}");
        let refused =
            Lease::resume(store, clone, Arc::new(Beacon::new(LeaseTimes::default()))).await?;
        ensure!(refused.is_err(), "the clone goes on");
        Ok(())
    })
}

/// What a node says of node b.
fn of_b(daemon: &Daemon) -> Result<NodeRow> {
    let nodes = Api::connect(daemon.socket())?.nodes()?;
    nodes.into_iter().find(|row| row.node == "b").context("node b")
}

#[test]
fn nodes_know_each_others_epochs_and_forwarded_packets_name_them() -> Result<()> {
    require_root!();
    let network = Cluster::builder().nodes(2).build()?;
    let Some(etcd) = etcd::start(&network)? else { return Ok(()) };
    let service = Service::native("game", network.vip(Family::V4), 7000);
    let config = |node| config(&network, node, &etcd, &service);
    let configs: Vec<_> = network.nodes().iter().map(config).collect::<Result<_>>()?;
    let start = |index: usize, arguments: &[&str]| {
        Daemon::start_with(&network, &network.nodes()[index], &configs[index], arguments)
    };
    let (a, mut b) = (start(0, &[])?, start(1, &[])?);
    let knows = |epoch: u32| {
        let is_so = || {
            of_b(&a)
                .is_ok_and(|row| row.epoch == Some(epoch) && row.standing == Standing::Accepting)
        };
        ensure!(probe::until(PATIENCE, is_so), "{:?}", of_b(&a)?);
        Ok(())
    };
    // Epochs come from one counter.
    knows(2)?;
    let knows_itself = || of_b(&b).is_ok_and(|row| row.is_this && row.epoch == Some(2));
    ensure!(probe::until(PATIENCE, knows_itself), "{:?}", of_b(&b)?);
    let mut command = a.command()?;
    let shown = command.args(["nodes", "--socket"]).arg(a.socket()).output()?;
    let text = String::from_utf8(shown.stdout)?;
    ensure!(text.contains("a (this)") && text.contains("accepting"), "{text}");

    let frames = |daemon: &Daemon, verdict: &str| -> Result<u64> {
        let stats = Api::connect(daemon.socket())?.stats()?;
        let all = stats.services.values().chain([&stats.other]);
        Ok(all.filter_map(|counts| counts.verdicts.get(verdict)).sum())
    };
    let client = &network.clients()[0];
    let to = SocketAddr::new(service.address, service.port);
    network.route_vips_to(&[0])?;
    for round in 1..=2 {
        let inbox = Inbox::open(network.nodes()[1].namespace(), b.socket(), &service, false, 2)?;
        let id = Api::connect(b.socket())?.open("game", 1)?.session;
        let session = id.parse::<ownership::SessionId>()?.bytes();
        let (bytes, length) = Header { kind: TYPE_DATA, session, owner: None }.encode();
        // Node a may not know the way yet, or the epoch.
        let arrives = probe::until(PATIENCE, || {
            let sent = client.namespace().run(|| {
                let socket = UdpSocket::bind((client.address(Family::V4), 0))?;
                socket.send_to(&bytes[..length], to)
            });
            sent.is_ok() && inbox.receive(Duration::from_millis(100)).is_ok_and(|got| got.is_some())
        });
        ensure!(arrives && frames(&a, "forward-slot")? > 0, "round {round}");
        if round == 2 {
            break;
        }
        // Its epoch is over with it: the next one is another, and node a is told.
        b.kill()?;
        drop(inbox);
        b = start(1, &["--fresh"])?;
        knows(3)?;
    }
    // One that is silent is said to be.
    b.kill()?;
    let is_silent = || of_b(&a).is_ok_and(|row| row.silent_ms.is_some_and(|silent| silent > 1_000));
    ensure!(probe::until(PATIENCE, is_silent), "{:?}", of_b(&a)?);
    Ok(())
}

#[test]
fn a_store_that_was_restored_from_a_backup_is_refused() -> Result<()> {
    require_root!();
    let network = Cluster::builder().nodes(1).build()?;
    let node = &network.nodes()[0];
    let service = Service::native("game", network.vip(Family::V4), 7000);
    let mut config = Config::of(&network, node, std::slice::from_ref(&service));
    config.fence = Some(Fence {
        lease: Duration::from_millis(500),
        renew: Duration::from_millis(100),
        margin: Duration::from_millis(50),
    });
    let store = config.state.path.join("a.store");
    let backup = config.state.path.join("backup");
    let mut daemon = Daemon::start(&network, node, &config)?;
    let session = Api::connect(daemon.socket())?.open("game", 0)?.session;
    daemon.stop()?;
    fs::copy(&store, &backup)?;
    let mut daemon = Daemon::start(&network, node, &config)?;
    ensure!(Api::connect(daemon.socket())?.status()?.epoch == 2);
    daemon.stop()?;
    fs::copy(&backup, &store)?;
    let file = network.scratch().join("a/jumpgate.toml");
    // Its epochs would begin a second time.
    let refused = Daemon::start(&network, node, &config);
    ensure!(refused.is_err(), "it starts");
    let log = fs::read_to_string(network.scratch().join("a/log"))?;
    ensure!(log.contains("restored from a backup"), "{log}");
    // An operator says that all sessions are to end, and then it is taken again.
    let recover = |arguments: &[&str]| -> Result<String> {
        let mut command = node.namespace().command(jumpgate_tests::daemon::binary()?);
        node.mounts().enter(&mut command);
        let output =
            command.args(["store", "recover", "--config"]).arg(&file).args(arguments).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    };
    let refused = recover(&[]).err().context("without a word about the sessions")?.to_string();
    ensure!(refused.contains("--all-sessions-end"), "{refused}");
    let said = recover(&["--all-sessions-end", "--applied", "3"])?;
    ensure!(said.contains("generation 2; 0 nodes and 1 sessions have ended"), "{said}");
    let mut daemon = Daemon::start(&network, node, &config)?;
    let mut api = Api::connect(daemon.socket())?;
    let state = api.session(&session)?.context("a tombstone")?;
    ensure!(state.state == "TERMINATED (OWNER_LOST)", "{state:?}");
    ensure!(api.status()?.revision > 3, "{:?}", api.status()?);
    api.verify_audit()?;
    daemon.stop()?;
    // An index that has a name keeps it.
    fs::remove_file(config.state.path.join("a.seen"))?;
    let mut renamed = config.clone();
    (renamed.node, renamed.nodes[0].name) = ("z".to_owned(), "z".to_owned());
    fs::rename(&store, config.state.path.join("z.store"))?;
    ensure!(Daemon::start(&network, node, &renamed).is_err(), "under another name");
    let log = fs::read_to_string(network.scratch().join("a/log"))?;
    ensure!(log.contains("the node cannot be registered"), "{log}");
    Ok(())
}
