//! The configuration is read again while packets are under way: all of it is taken on, or nothing.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use dataplane_ebpf::dissect::native::{Header, TYPE_DATA, TYPE_OPEN};
use dataplane_user::api::{Client as Api, ClientError};
use jumpgate_tests::address::Family;
use jumpgate_tests::config::{Config, Log, Metrics, NodeSection, Service};
use jumpgate_tests::daemon::Daemon;
use jumpgate_tests::flow::{Flow, Reader, overtaken};
use jumpgate_tests::http;
use jumpgate_tests::inbox::Inbox;
use jumpgate_tests::probe;
use jumpgate_tests::require_root;
use jumpgate_tests::topology::Cluster;
use ownership::SessionId;

const PATIENCE: Duration = Duration::from_secs(10);
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9472);
const SESSIONS: usize = 8;

/// Packets a second that open sessions, and at once.
const RATE: u32 = 2;
const BURST: u32 = 20;
const OPENS: u64 = 100;

/// A node with sessions whose packets are numbered, and an application that notes which it reads.
struct Scene {
    daemon: Daemon,
    cluster: Cluster,
    config: Config,
    server: SocketAddr,
    sessions: Vec<[u8; 16]>,
    reader: Reader,
}

impl Scene {
    fn new() -> Result<Self> {
        let cluster = Cluster::builder().nodes(1).build()?;
        let node = &cluster.nodes()[0];
        let service = Service {
            new_rate: Some(RATE),
            new_burst: Some(BURST),
            ..Service::native("game", cluster.vip(Family::V4), 7000)
        };
        let config = Config::of(&cluster, node, std::slice::from_ref(&service));
        let daemon = Daemon::start(&cluster, node, &config)?;
        let inbox = Inbox::open(node.namespace(), daemon.socket(), &service, false, 2)?;
        let mut api = Api::connect(daemon.socket())?;
        let mut sessions = Vec::new();
        for number in 0..SESSIONS {
            let opened = api.open("game", number as u32 % 2)?;
            sessions.push(opened.session.parse::<SessionId>()?.bytes());
        }
        let server = SocketAddr::new(service.address, service.port);
        let reader = Reader::start(inbox, SESSIONS + 1, |_| {});
        Ok(Self { daemon, cluster, config, server, sessions, reader })
    }

    fn api(&self) -> Result<Api> {
        Ok(Api::connect(self.daemon.socket())?)
    }

    fn flow(&self) -> Result<Flow> {
        let host = &self.cluster.clients()[0];
        let from = [host.address(Family::V4)];
        let pace = Duration::from_micros(500);
        Flow::start(host.namespace(), &from, self.server, &self.sessions, pace)
    }

    /// Stops the flow, and demands that all of it was read, in order.
    fn demand_all(&mut self, flow: Flow) -> Result<()> {
        // Some of it comes after the last change.
        let rounds = flow.sent() + 100;
        ensure!(probe::until(PATIENCE, || flow.sent() >= rounds), "{} rounds", flow.sent());
        let sent = flow.stop()?;
        let all = || {
            self.reader.counts()[..SESSIONS].iter().sum::<usize>() as u64 >= sent * SESSIONS as u64
        };
        let _ = probe::until(PATIENCE, all);
        self.reader.check()?;
        for (session, numbers) in self.reader.log().iter().take(SESSIONS).enumerate() {
            let overtaken = overtaken(numbers, sent)?;
            ensure!(overtaken == 0, "{overtaken} packets of session {session} were overtaken");
        }
        Ok(())
    }

    /// How many packets that open sessions are delivered of as many as come at once.
    fn opens(&self) -> Result<u64> {
        let counts = || -> Result<[u64; 2]> {
            let stats = self.api()?.stats()?;
            let count = |name| stats.services["game"].verdicts.get(name).copied().unwrap_or(0);
            Ok(["new", "rate-limited"].map(count))
        };
        let before = counts()?;
        let host = &self.cluster.clients()[0];
        let socket = host.namespace().run(|| UdpSocket::bind((host.address(Family::V4), 0)))?;
        for number in 0..OPENS {
            let mut session = [0x5a; 16];
            session[..8].copy_from_slice(&number.to_be_bytes());
            let (bytes, length) = Header { kind: TYPE_OPEN, session, owner: None }.encode();
            let mut packet = bytes[..length].to_vec();
            packet.extend((SESSIONS as u32).to_be_bytes());
            packet.extend(number.to_be_bytes());
            socket.send_to(&packet, self.server)?;
        }
        let sum = |[new, limited]: [u64; 2]| new + limited;
        let all = || counts().is_ok_and(|now| sum(now) - sum(before) == OPENS);
        ensure!(probe::until(PATIENCE, all), "{before:?} {:?}", counts()?);
        Ok(counts()?[0] - before[0])
    }

    fn metrics(&self) -> Result<(u16, String)> {
        http::get(self.cluster.nodes()[0].namespace(), METRICS, "/readyz")
    }

    fn logged(&self, text: &str) -> bool {
        probe::until(PATIENCE, || self.daemon.log().contains(text))
    }
}

#[test]
fn what_can_change_does_and_no_packet_is_lost() -> Result<()> {
    require_root!();
    let mut scene = Scene::new()?;
    let limited = scene.opens()?;
    ensure!((1..OPENS / 2).contains(&limited), "{limited} of {OPENS}");
    let flow = scene.flow()?;
    let before = scene.config.clone();
    let mut after = before.clone();
    after.services[0].new_rate = Some(0);
    after.services[0].new_burst = None;
    after.metrics = Some(Metrics { listen: METRICS });
    after.nodes.push(NodeSection {
        name: "z".to_owned(),
        index: 77,
        address: match scene.cluster.underlay_address(&scene.cluster.nodes()[0]) {
            IpAddr::V4(address) => Ipv4Addr::from(u32::from(address) + 100).into(),
            IpAddr::V6(_) => bail!("an IPv4 underlay"),
        },
        weight: Some(0),
        interface: None,
    });
    scene.daemon.rewrite(&after)?;
    let mut command = scene.daemon.command()?;
    let output = command.args(["reload", "--socket"]).arg(scene.daemon.socket()).output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(
        text == "changed: the limits of [[services]], [[nodes]], [metrics]\n",
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(scene.metrics()?.0 == 200);
    let nodes = |scene: &Scene| -> Result<Vec<String>> {
        Ok(scene.api()?.nodes()?.into_iter().map(|row| row.node).collect())
    };
    ensure!(nodes(&scene)? == ["a", "z"], "{:?}", nodes(&scene)?);
    ensure!(scene.opens()? == OPENS, "the limit still holds");
    // A second time there is nothing to do, and the signal does the same.
    ensure!(scene.api()?.reload()?.is_empty());
    let mut again = before.clone();
    again.metrics = Some(Metrics { listen: METRICS });
    scene.daemon.rewrite(&again)?;
    scene.daemon.hang_up()?;
    ensure!(scene.logged("changed=\"the limits of [[services]], [[nodes]]\""), "no word of it");
    ensure!(nodes(&scene)? == ["a"]);
    ensure!(scene.opens()? < OPENS / 2, "no limit holds");
    ensure!(scene.metrics()?.0 == 200, "it stays");
    again.metrics = None;
    scene.daemon.rewrite(&again)?;
    ensure!(scene.api()?.reload()? == ["[metrics]"]);
    ensure!(probe::until(PATIENCE, || scene.metrics().is_err()), "it answers still");
    for _ in 0..20 {
        for config in [&before, &after] {
            scene.daemon.rewrite(config)?;
            scene.api()?.reload()?;
        }
    }
    scene.demand_all(flow)?;
    // What was taken on is what the next daemon finds.
    scene.daemon.kill()?;
    scene.daemon = Daemon::start(&scene.cluster, &scene.cluster.nodes()[0], &after)?;
    let status = scene.api()?.status()?;
    ensure!((status.epoch, status.sessions) == (1, SESSIONS), "{status:?}");
    Ok(())
}

#[test]
fn a_file_that_is_wrong_or_asks_too_much_changes_nothing_and_says_why() -> Result<()> {
    require_root!();
    let mut scene = Scene::new()?;
    let flow = scene.flow()?;
    let refused = |scene: &Scene| -> Result<String> {
        match scene.api()?.reload() {
            Err(ClientError::Refused(reason)) => Ok(reason),
            other => bail!("{other:?}"),
        }
    };
    let nothing_changed = |scene: &Scene| -> Result<()> {
        ensure!(scene.metrics().is_err(), "metrics are on");
        ensure!(scene.opens()? < OPENS / 2, "no limit holds");
        Ok(())
    };
    // All would be well but for one key.
    let mut config = scene.config.clone();
    config.metrics = Some(Metrics { listen: METRICS });
    config.services[0].new_rate = Some(0);
    config.services[0].new_burst = None;
    config.services[0].port = 7100;
    scene.daemon.rewrite(&config)?;
    let reason = refused(&scene)?;
    ensure!(reason.contains("cannot change service \"game\" but for its limits"), "{reason}");
    nothing_changed(&scene)?;
    config.services[0].port = 7000;
    let wrong = config.to_toml()?.replace("[metrics]", "[metric]");
    fs::write(scene.daemon.config(), wrong)?;
    let reason = refused(&scene)?;
    ensure!(reason.contains("did you mean `metrics`?"), "{reason}");
    scene.daemon.hang_up()?;
    ensure!(scene.logged("configuration not read again: nothing has changed"));
    nothing_changed(&scene)?;
    fs::remove_file(scene.daemon.config())?;
    let reason = refused(&scene)?;
    ensure!(reason.contains("No such file"), "{reason}");
    // Another one listens there already.
    let node = scene.cluster.nodes()[0].namespace().clone();
    let _taken = node.run(|| std::net::TcpListener::bind(METRICS))?;
    scene.daemon.rewrite(&config)?;
    let reason = refused(&scene)?;
    ensure!(reason.contains("listening at 127.0.0.1:9472"), "{reason}");
    ensure!(scene.opens()? < OPENS / 2, "no limit holds");
    scene.demand_all(flow)
}

#[test]
fn the_log_is_of_json_and_its_level_changes() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).build()?;
    let node = &cluster.nodes()[0];
    let mut config = Config::of(&cluster, node, &[]);
    config.log = Some(Log { level: "info", format: "json" });
    let daemon = Daemon::start(&cluster, node, &config)?;
    for line in daemon.log().lines() {
        let line: serde_json::Value =
            serde_json::from_str(line).with_context(|| line.to_owned())?;
        ensure!(line["level"].is_string() && line["fields"]["message"].is_string(), "{line}");
    }
    let mut api = Api::connect(daemon.socket())?;
    let told = || daemon.log().matches("configuration read again").count();
    ensure!(api.reload()?.is_empty() && told() == 1, "{}", daemon.log());
    config.log = Some(Log { level: "error", format: "json" });
    daemon.rewrite(&config)?;
    ensure!(api.reload()? == ["[log]"] && api.reload()?.is_empty());
    ensure!(told() == 1, "it still tells of what is no error: {}", daemon.log());
    config.log = Some(Log { level: "error", format: "text" });
    daemon.rewrite(&config)?;
    ensure!(api.reload().is_err() && daemon.log().contains("`format` in [log]"));
    Ok(())
}

#[test]
fn a_node_that_is_added_is_heard_and_one_that_is_removed_no_longer() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(2).build()?;
    cluster.route_vips_to(&[1])?;
    let [a, b] = [0, 1].map(|node| &cluster.nodes()[node]);
    let service = Service::native("game", cluster.vip(Family::V4), 7000);
    let config = |node| {
        let mut config = Config::of(&cluster, node, std::slice::from_ref(&service));
        config.nodes[1].weight = Some(0);
        config
    };
    let with_b = config(a);
    let mut alone = with_b.clone();
    alone.nodes.truncate(1);
    let owner = Daemon::start(&cluster, a, &alone)?;
    let other = Daemon::start(&cluster, b, &config(b))?;
    let inbox = Inbox::open(a.namespace(), owner.socket(), &service, false, 2)?;
    let mut api = Api::connect(owner.socket())?;
    let session = api.open("game", 1)?.session.parse::<SessionId>()?.bytes();
    let (bytes, length) = Header { kind: TYPE_DATA, session, owner: None }.encode();
    let mut of_b = Api::connect(other.socket())?;
    let knows_a =
        || of_b.status().is_ok_and(|status| status.nodes.iter().all(|node| node.mac.is_some()));
    ensure!(probe::until(PATIENCE, knows_a), "node b does not find node a");
    let host = &cluster.clients()[0];
    let socket = host.namespace().run(|| UdpSocket::bind((host.address(Family::V4), 0)))?;
    // By way of node b: whether it is delivered, or else refused as from nobody that is known.
    let is_delivered = |api: &mut Api| -> Result<bool> {
        let refused = |api: &mut Api| -> Result<u64> {
            let stats = api.stats()?;
            let all = stats.services.values().chain([&stats.other]);
            Ok(all.filter_map(|counts| counts.verdicts.get("shim-sender")).sum())
        };
        let before = refused(api)?;
        socket.send_to(&bytes[..length], (service.address, service.port))?;
        let mut delivered = false;
        let settled = probe::until(PATIENCE, || {
            delivered = inbox.take().is_ok_and(|received| received.is_some());
            delivered || refused(api).is_ok_and(|now| now == before + 1)
        });
        ensure!(settled, "neither: {:?}", api.stats()?);
        Ok(delivered)
    };
    ensure!(!is_delivered(&mut api)?, "of a node that is not known");
    for _ in 0..3 {
        for (nodes, is_there) in [(&with_b, true), (&alone, false)] {
            owner.rewrite(nodes)?;
            ensure!(api.reload()? == ["[[nodes]]"]);
            ensure!(is_delivered(&mut api)? == is_there, "is there: {is_there}");
            let finds_b = || api.status().is_ok_and(|status| status.nodes[0].mac.is_some());
            ensure!(!is_there || probe::until(PATIENCE, finds_b), "no way to node b");
        }
    }
    Ok(())
}
