//! `jumpgate explain`: what the loaded program would do with a packet, without doing it.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Output};
use std::slice;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dataplane_ebpf::explain::{Target, find_wire_id};
use dataplane_ebpf::frame::Frame;
use dataplane_ebpf::verdict::Verdict;
use dataplane_ebpf::wire_id::WireId;
use dataplane_user::api::{Client as Api, Request};
use dataplane_user::config::Config as Loaded;
use dataplane_user::dataplane::explain;
use dataplane_user::dataplane::simulate::{Simulated, XdpResult};
use jumpgate_tests::address::Family;
use jumpgate_tests::config::first_placement;
use jumpgate_tests::config::{Config, Service};
use jumpgate_tests::corpus::kernel::{Kernel, SHORTEST, with_kernel};
use jumpgate_tests::corpus::packet::Packet;
use jumpgate_tests::corpus::tables::State;
use jumpgate_tests::corpus::{Case, corpus, payload};
use jumpgate_tests::daemon::{Daemon, binary};
use jumpgate_tests::fleet::Fleet;
use jumpgate_tests::require_root;
use jumpgate_tests::topology::Cluster;
use serde_json::Value;

const PORT: u16 = 7000;

struct Scene {
    fleet: Fleet,
    cluster: Cluster,
    client: IpAddr,
    server: SocketAddr,
    /// Of node a, on CPU 1.
    session: String,
    id: [u8; 16],
}

impl Scene {
    fn new() -> Result<Self> {
        let cluster = Cluster::builder().nodes(2).build()?;
        let service = Service::native("game", cluster.vip(Family::V4), PORT);
        let quic = Service {
            protocol: "quic",
            id_length: Some(8),
            control_port: Some(444),
            ..Service::native("web", cluster.vip(Family::V6), 443)
        };
        let bound = Service {
            binding: Some("enforce"),
            ..Service::native("bound", cluster.vip(Family::V4), PORT + 1)
        };
        let mut fleet = Fleet { gateways: Vec::new(), daemons: Vec::new() };
        for node in cluster.nodes() {
            let config =
                Config::of(&cluster, node, &[service.clone(), quic.clone(), bound.clone()]);
            fleet.daemons.push(Daemon::start(&cluster, node, &config)?);
        }
        fleet.wait_for_next_hops()?;
        let session = Api::connect(fleet.daemons[0].socket())?.open("game", 1)?.session;
        let id = session.parse::<ownership::SessionId>()?.bytes();
        let client = cluster.clients()[0].address(Family::V4);
        let server = SocketAddr::new(service.address, service.port);
        Ok(Self { fleet, cluster, client, server, session, id })
    }

    fn packet(&self, id: &[u8; 16]) -> Packet {
        let payload = payload::native(0, id);
        Packet::new((self.client, 5000), (self.server.ip(), self.server.port()), payload)
    }

    fn run(&self, node: usize, arguments: &[&str]) -> Result<Output> {
        let socket = self.fleet.daemons[node].socket();
        let mut command = Command::new(binary()?);
        command.arg("explain").arg("--socket").arg(socket).args(arguments);
        command.output().context("running jumpgate explain")
    }

    fn explain(&self, node: usize, arguments: &[&str]) -> Result<Vec<Value>> {
        let output = self.run(node, &[arguments, &["--json"]].concat())?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// An id in one of node a's slots that no session has.
    fn unknown(&self) -> Result<[u8; 16]> {
        let config = Loaded::load(self.fleet.daemons[0].config())?;
        let (placement, this) = (first_placement(&config)?, config.this_node().index);
        let services = config.services();
        let seed =
            services.iter().find(|service| service.name == "game").context("a service")?.seed();
        std::iter::repeat_with(rand::random::<[u8; 16]>)
            .find(|id| {
                let key = WireId::from_bytes(id).expect("16 bytes are an id").key(seed);
                placement.slots()[usize::from(key.slot)].owner == Some(this)
            })
            .context("an id")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A capture file with these frames (the format of libpcap 2.4, microseconds).
fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        file.extend(word.to_le_bytes());
    }
    for frame in frames {
        for word in [1, 2, frame.len() as u32, frame.len() as u32] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame);
    }
    file
}

#[test]
fn a_packet_is_explained_and_not_counted() -> Result<()> {
    require_root!();
    let scene = Scene::new()?;
    // The services' counters: whatever else the network carries is counted beside them.
    let counts =
        || -> Result<_> { Ok([scene.fleet.stats(0)?.services, scene.fleet.stats(1)?.services]) };
    let before = counts()?;
    let frame = hex(&scene.packet(&scene.id).frame());

    let [here] = &scene.explain(0, &[&frame])?[..] else { anyhow::bail!("one packet") };
    ensure!(here["verdict"] == "local" && here["goes"] == "to CPU 1 of this node", "{here}");
    ensure!(here["service"] == "game" && here["protocol"] == "native", "{here}");
    ensure!(here["wire_id"] == hex(&scene.id).as_str() && here["slot_owner"] == "a", "{here}");
    let entry = here["entry"].as_str().context("an entry")?;
    ensure!(
        entry.starts_with("here, CPU 1, epoch ") && entry.ends_with("state_version 1"),
        "{entry}"
    );
    ensure!(here["interface"] == "eth0", "{here}");

    let [there] = &scene.explain(1, &[&frame])?[..] else { anyhow::bail!("one packet") };
    ensure!(there["verdict"] == "forward-slot" && there["entry"] == "none", "{there}");
    ensure!(there["goes"] == "to node a through eth0" && there["slot_owner"] == "a", "{there}");
    ensure!(there["key"] == here["key"] && there["slot"] == here["slot"], "{there}");

    let unknown = hex(&scene.packet(&scene.unknown()?).frame());
    let [refused] = &scene.explain(0, &[&unknown])?[..] else { anyhow::bail!("one packet") };
    ensure!(refused["verdict"] == "no-session" && refused["goes"] == "nowhere", "{refused}");
    let [other] = &scene.explain(0, &[&"00".repeat(60)])?[..] else { anyhow::bail!("one packet") };
    ensure!(other["verdict"] == "pass" && other["service"].is_null(), "{other}");

    // For people, with colons or blanks between the digits.
    let output = scene.run(1, &[&format!("{} {}", &frame[..8], &frame[8..])])?;
    let text = String::from_utf8(output.stdout)?;
    for part in ["forward-slot: ", "to node a through eth0", "game (native)", &hex(&scene.id)] {
        ensure!(text.contains(part), "no {part:?} in:\n{text}");
    }
    ensure!(counts()? == before, "explaining was counted");
    for node in 0..2 {
        ensure!(Api::connect(scene.fleet.daemons[node].socket())?.events(0)?.events.is_empty());
    }

    // What cannot be explained is said.
    for (arguments, part) in [
        (vec!["zz"], "not hexadecimal"),
        (vec!["00"], "14 to"),
        (vec![&*frame, "--interface", "lo"], "not attached"),
        (vec!["--session", &"00".repeat(16)], "owns no session"),
    ] {
        let output = scene.run(0, &arguments)?;
        let error = String::from_utf8(output.stderr)?;
        ensure!(!output.status.success() && error.contains(part), "{arguments:?}: {error}");
    }
    Ok(())
}

#[test]
fn sessions_that_are_held_or_elsewhere_are_explained() -> Result<()> {
    require_root!();
    let scene = Scene::new()?;
    let mut api = Api::connect(scene.fleet.daemons[0].socket())?;
    let reason = |verdict: Verdict| verdict.explanation().trim();

    let elsewhere = scene.unknown()?;
    let row = Request::AddRow {
        service: "game".to_owned(),
        id: hex(&elsewhere),
        node: "b".to_owned(),
        version: 7,
    };
    api.done(&row, None)?;
    let frame = hex(&scene.packet(&elsewhere).frame());
    let [there] = &scene.explain(0, &[&frame])?[..] else { anyhow::bail!("one packet") };
    ensure!(there["verdict"] == "forward-row", "{there}");
    ensure!(there["reason"] == reason(Verdict::ForwardRow), "{there}");
    ensure!(there["entry"] == "on node b, state_version 7", "{there}");
    ensure!(there["goes"] == "to node b through eth0" && there["slot_previous"].is_null());

    // It is held although its application does not answer the marker; that is what the error is.
    let unquiet = api.hold(slice::from_ref(&scene.session), Duration::from_millis(100));
    let frame = hex(&scene.packet(&scene.id).frame());
    let [held] = &scene.explain(0, &[&frame])?[..] else { anyhow::bail!("one packet") };
    ensure!(
        held["verdict"] == "held" && held["goes"] == "into the hold ring",
        "{held} {unquiet:?}"
    );
    ensure!(held["reason"] == reason(Verdict::Held), "{held}");
    let entry = held["entry"].as_str().context("an entry")?;
    ensure!(entry.starts_with("held here, CPU 1, epoch 1, "), "{entry}");
    Ok(())
}

#[test]
fn files_and_sessions_are_explained() -> Result<()> {
    require_root!();
    let scene = Scene::new()?;
    let frame = scene.packet(&scene.id).frame();
    let tagged = Packet { tags: vec![0x8100], ..scene.packet(&scene.id) }.frame();
    let file = scene.cluster.scratch().join("some.pcap");
    let frames: Vec<_> = (0..40).flat_map(|_| [frame.clone(), tagged.clone()]).collect();
    fs::write(&file, pcap(&frames))?;
    let path = file.to_str().context("a path in UTF-8")?;
    let explained = scene.explain(0, &["--pcap", path])?;
    ensure!(explained.len() == 80);
    ensure!(explained.iter().all(|one| one["verdict"] == "local"), "{explained:?}");
    fs::write(&file, b"no capture")?;
    let error = String::from_utf8(scene.run(0, &["--pcap", path])?.stderr)?;
    ensure!(error.contains("some.pcap"), "{error}");

    let [native] = &scene.explain(0, &["--session", &scene.session])?[..] else {
        anyhow::bail!("one wire id");
    };
    ensure!(
        native["verdict"] == "local" && native["wire_id"] == scene.session.as_str(),
        "{native}"
    );

    // A session with a wire id of its protocol beside the SessionID.
    let mut api = Api::connect(scene.fleet.daemons[0].socket())?;
    let session = api.open("web", 0)?.session;
    let minted = api.mint(&session)?;
    let [control, quic] = &scene.explain(0, &["--session", &session])?[..] else {
        anyhow::bail!("two wire ids");
    };
    ensure!(control["protocol"] == "control port" && control["verdict"] == "local", "{control}");
    ensure!(quic["wire_id"] == minted.as_str() && quic["protocol"] == "quic", "{quic}");
    ensure!(quic["verdict"] == "local" && quic["slot"] == control["slot"], "{quic}");

    // Where bindings are enforced, the packet is the bound client's.
    let session = api.open_for("bound", 0, Some((scene.client, 5000).into()))?.session;
    for (bound, verdict) in [(true, "local"), (false, "unbound")] {
        if !bound {
            api.bind(&session, None)?;
        }
        let explained = scene.explain(0, &["--session", &session])?;
        ensure!(explained[0]["verdict"] == verdict, "{explained:?}");
    }
    Ok(())
}

/// The program that explains says of a packet what the one that steers has just done with it.
fn explained_alike(kernel: &mut Kernel, case: &Case, done: &Simulated) -> Result<()> {
    if !(SHORTEST..=explain::LONGEST).contains(&case.frame.len()) {
        return Ok(());
    }
    let ingress = kernel.interfaces[usize::from(case.elsewhere)];
    let explained = kernel.dataplane.explain(&case.frame, ingress)?;
    if done.verdict == Verdict::RateLimited {
        // Buckets are not asked.
        let is_let_through =
            matches!(explained.verdict, Verdict::Local | Verdict::New | Verdict::ControlUnknown);
        ensure!(is_let_through && matches!(explained.target, Target::Cpu(_)), "{explained:?}");
        return Ok(());
    }
    let (expected, result) = match done.verdict {
        // Nor those of answers.
        Verdict::TooBig if case.state == State::Limited => (Verdict::TooBigAnswered, XdpResult::Tx),
        verdict => (verdict, done.result),
    };
    ensure!((explained.verdict, explained.service) == (expected, done.service), "{explained:?}");
    let goes = match explained.target {
        Target::Kernel => XdpResult::Pass,
        // The program drops what it has put into the ring.
        Target::Nowhere | Target::Held => XdpResult::Drop,
        Target::Cpu(_) | Target::AfXdp => XdpResult::Redirect,
        Target::Sender => XdpResult::Tx,
        Target::Node { ifindex, .. } if ifindex == ingress => XdpResult::Tx,
        Target::Node { .. } => XdpResult::Redirect,
    };
    ensure!(goes == result, "{explained:?}");
    let found = find_wire_id(&Frame::new(&case.frame), &kernel.dataplane.memory);
    if let Some((id, row)) = found.filter(|_| explained.key.hash != 0) {
        ensure!(id.key(row.seed) == explained.key, "another id: {id:?}");
        let (bytes, length) = id.to_bytes();
        ensure!(WireId::from_bytes(&bytes[..length]) == Some(id), "{bytes:02x?}");
    }
    Ok(())
}

fn every_packet_is_explained_as_it_is_steered(family: Family) -> Result<()> {
    with_kernel(family, |kernel| {
        let mut failures = Vec::new();
        for case in &corpus(family) {
            let tried = kernel.try_case(case).and_then(|done| explained_alike(kernel, case, &done));
            let tried = tried.with_context(|| case.name.clone());
            failures.extend(tried.err().map(|error| format!("{error:#}")));
        }
        ensure!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
        Ok(())
    })
}

#[test]
fn every_packet_is_explained_as_it_is_steered_over_ipv4() -> Result<()> {
    require_root!();
    every_packet_is_explained_as_it_is_steered(Family::V4)
}

#[test]
fn every_packet_is_explained_as_it_is_steered_over_ipv6() -> Result<()> {
    require_root!();
    every_packet_is_explained_as_it_is_steered(Family::V6)
}
