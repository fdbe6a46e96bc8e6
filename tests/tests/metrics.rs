//! A node shows its counters and its health over HTTP.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dataplane_ebpf::verdict::Verdict;
use dataplane_user::api::{Client as Api, Stats};
use jumpgate_tests::address::Family;
use jumpgate_tests::config::{Config, Metrics};
use jumpgate_tests::daemon::Daemon;
use jumpgate_tests::fleet::{self, Options};
use jumpgate_tests::http;
use jumpgate_tests::netns::Namespace;
use jumpgate_tests::probe;
use jumpgate_tests::require_root;
use jumpgate_tests::topology::Cluster;

const PATIENCE: Duration = Duration::from_secs(10);
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9472);

/// Samples by their name and labels.
type Samples = BTreeMap<String, f64>;

fn scrape(namespace: &Namespace) -> Result<Samples> {
    let (status, text) = http::get(namespace, LISTEN, "/metrics")?;
    ensure!(status == 200, "{status} {text}");
    ensure!(text.ends_with("# EOF\n"), "not whole: {text}");
    let mut samples = Samples::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').context("a sample without a value")?;
        let twice = samples.insert(name.to_owned(), value.parse()?);
        ensure!(twice.is_none(), "{name} stands twice");
    }
    Ok(samples)
}

fn sample(samples: &Samples, name: &str) -> Result<f64> {
    samples.get(name).copied().with_context(|| format!("no {name} in {samples:#?}"))
}

/// What samples with this name have counted, by service and reason; those of 0 are left out.
fn counted(samples: &Samples, name: &str) -> Result<BTreeMap<(String, String), u64>> {
    let mut counted = BTreeMap::new();
    let head = format!("jumpgate_{name}_total{{node=\"a\",");
    for (labels, &value) in samples.iter().filter(|(name, _)| name.starts_with(&head)) {
        let label = |name: &str| -> Result<String> {
            let (_, rest) = labels.split_once(&format!("{name}=\"")).context("a label")?;
            Ok(rest.split('"').next().unwrap_or_default().to_owned())
        };
        if value > 0.0 {
            counted.insert((label("service")?, label("reason")?), value as u64);
        }
    }
    Ok(counted)
}

fn expected<'a>(
    stats: &'a Stats,
    counts: impl Fn(&'a dataplane_user::dataplane::counters::Counts) -> &'a BTreeMap<String, u64>,
) -> BTreeMap<(String, String), u64> {
    let services = stats.services.iter().map(|(name, counts)| (name.clone(), counts));
    services
        .chain([(String::new(), &stats.other)])
        .flat_map(|(service, of)| {
            counts(of)
                .iter()
                .map(move |(reason, &count)| ((service.clone(), reason.clone()), count))
        })
        .collect()
}

#[test]
fn what_is_scraped_is_what_the_command_line_shows() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(2).build()?;
    cluster.route_vips_to(&[0])?;
    let node = &cluster.nodes()[0];
    let options = Options::default();
    // All sessions are this node's.
    let config = |node, metrics| {
        let mut config = fleet::config(&cluster, node, &options);
        config.nodes[1].weight = Some(0);
        Config { metrics, ..config }
    };
    let daemon = Daemon::start(&cluster, node, &config(node, Some(Metrics { listen: LISTEN })))?;
    let _gateway = fleet::gateway(&cluster, node, daemon.socket(), &options)?;
    let b = &cluster.nodes()[1];
    let _other = Daemon::start(&cluster, b, &config(b, None))?;

    let mut api = Api::connect(daemon.socket())?;
    let knows_b =
        probe::until(PATIENCE, || api.status().is_ok_and(|status| status.nodes[0].mac.is_some()));
    ensure!(knows_b, "the way to node b");
    let mut swarm = fleet::swarm(&cluster, Family::V4, 1, 8)?;
    swarm.open(PATIENCE)?;
    for _ in 0..50 {
        swarm.send();
        ensure!(swarm.settle(PATIENCE)?, "unanswered");
    }
    // Of no session.
    let server = SocketAddr::new(cluster.vip(Family::V4), fleet::PORT);
    cluster.clients()[0].namespace().run(|| -> Result<()> {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        (0..30).try_for_each(|_| socket.send_to(b"nobody", server).map(drop))?;
        Ok(())
    })?;
    let told = |stats: &Stats| expected(stats, |counts| &counts.verdicts);
    // Until nothing comes any more.
    let mut same = None;
    let quiet = probe::until(PATIENCE, || {
        let Ok(before) = api.stats() else { return false };
        let Ok(samples) = scrape(node.namespace()) else { return false };
        let is_quiet = api.stats().is_ok_and(|after| after == before);
        same = Some((before, samples));
        is_quiet
    });
    let (stats, samples) = same.context("nothing was scraped")?;
    ensure!(quiet, "it never comes to rest");

    let verdicts = told(&stats);
    ensure!(verdicts.values().sum::<u64>() > 400, "{verdicts:?}");
    ensure!(counted(&samples, "packets")? == verdicts, "{samples:#?}\n{verdicts:?}");
    let admissions = expected(&stats, |counts| &counts.admissions);
    let scraped = counted(&samples, "admissions")?;
    ensure!(!admissions.is_empty() && scraped == admissions, "{scraped:?} {admissions:?}");
    let egress = expected(&stats, |counts| &counts.egress);
    let scraped = counted(&samples, "egress_packets")?;
    ensure!(!egress.is_empty() && scraped == egress, "{scraped:?} {egress:?}");
    for (reason, count) in &stats.lost {
        let name = format!("jumpgate_lost_packets_total{{node=\"a\",reason=\"{reason}\"}}");
        ensure!(sample(&samples, &name)? == *count as f64, "{name}");
    }
    // Every verdict is there from the beginning, so that its first packet is an increase.
    for verdict in Verdict::ALL {
        let reason = verdict.name();
        let name =
            format!("jumpgate_packets_total{{node=\"a\",service=\"echo4\",reason=\"{reason}\"}}");
        sample(&samples, &name)?;
    }
    let status = api.status()?;
    let here = |name: &str| sample(&samples, &format!("jumpgate_{name}{{node=\"a\"}}"));
    ensure!(here("sessions")? == status.sessions as f64);
    ensure!(here("table_entries")? == status.entries as f64);
    ensure!(here("table_capacity")? == status.capacity as f64);
    ensure!(here("epoch")? == f64::from(status.epoch));
    ensure!(here("slots")? == status.slots as f64);
    let margin = here("lease_margin_seconds")?;
    ensure!((0.1..=10.0).contains(&margin), "{margin}");
    let with = |name: &str, labels: &str| {
        sample(&samples, &format!("jumpgate_{name}{{node=\"a\",{labels}}}"))
    };
    ensure!(with("peer_standing", "peer=\"a\",standing=\"accepting\"")? == 1.0);
    ensure!(with("peer_standing", "peer=\"a\",standing=\"fenced\"")? == 0.0);
    ensure!(with("peer_next_hop", "peer=\"b\"")? == 1.0);
    ensure!(with("interface", "interface=\"eth0\",mode=\"native\"")? == 1.0);
    ensure!(with("sockets", "service=\"echo4\"")? == 2.0);
    ensure!(with("build_info", &format!("version=\"{}\"", status.version))? == 1.0);
    ensure!(with("store_latency_seconds_count", "operation=\"read\"")? > 0.0);
    let beats = "jumpgate_store_latency_seconds_count{node=\"a\",operation=\"heartbeat\"}";
    let beats = || scrape(node.namespace()).is_ok_and(|all| all.get(beats) > Some(&0.0));
    ensure!(probe::until(PATIENCE, beats), "no heartbeat is timed");
    Ok(())
}

#[test]
fn health_is_answered_and_what_is_no_request_is_not() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).build()?;
    let node = &cluster.nodes()[0];
    let mut config = fleet::config(&cluster, node, &Options::default());
    config.metrics = Some(Metrics { listen: LISTEN });
    let _daemon = Daemon::start(&cluster, node, &config)?;
    let namespace = node.namespace();
    ensure!(http::get(namespace, LISTEN, "/healthz")? == (200, "healthy\n".to_owned()));
    let (status, ready) = http::get(namespace, LISTEN, "/readyz")?;
    ensure!(status == 200 && ready.starts_with("ready: the lease is open for "), "{ready}");
    let (status, text) = http::get(namespace, LISTEN, "/")?;
    ensure!(status == 404 && text.contains("/metrics"), "{status} {text}");
    let refused = |request: &str| http::ask(namespace, LISTEN, request.as_bytes());
    let posted = refused("POST /metrics HTTP/1.1\r\nHost: node\r\nContent-Length: 0\r\n\r\n")?;
    ensure!(posted.starts_with("HTTP/1.1 405 "), "{posted}");
    let long = refused(&format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", "x".repeat(10_000)))?;
    ensure!(long.starts_with("HTTP/1.1 431 "), "{long}");
    // Those that say nothing keep nobody away for longer than they may take.
    let idle = || -> Result<Vec<TcpStream>> {
        let connect = |_| -> Result<TcpStream> {
            let mut stream = TcpStream::connect(LISTEN)?;
            stream.write_all(b"GET /metr")?;
            Ok(stream)
        };
        (0..20).map(connect).collect()
    };
    let _idle = namespace.run(idle)?;
    let answered = probe::until(Duration::from_secs(30), || {
        http::get(namespace, LISTEN, "/healthz").is_ok_and(|(status, _)| status == 200)
    });
    ensure!(answered, "idle connections keep others away");
    Ok(())
}
