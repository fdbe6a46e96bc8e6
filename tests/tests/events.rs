//! What the daemon is told of refused packets: every one, or how many more there were.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::programs::{TestRun, TestRunOptions};
use dataplane_ebpf::dissect::native::{Header, TYPE_DATA, TYPE_OPEN};
use dataplane_ebpf::event::{Event, RING, Reason};
use dataplane_ebpf::shim::Shim;
use dataplane_ebpf::verdict::{Admission, Verdict};
use dataplane_user::api::{Client as Api, EventRow, EventTotal, Events};
use dataplane_user::dataplane::events::{Refused, Told};
use dataplane_user::dataplane::object::Object;
use dataplane_user::dataplane::services::{Delivery, Limits, Protocol, Service, rows};
use dataplane_user::dataplane::{Dataplane, LoadOptions};
use jumpgate_tests::address::{Family, vip};
use jumpgate_tests::corpus::packet::Packet;
use jumpgate_tests::corpus::payload;
use jumpgate_tests::daemon::Daemon;
use jumpgate_tests::echo::pin_to;
use jumpgate_tests::fleet::{self, Fleet, Options};
use jumpgate_tests::forged::{Forger, wrap};
use jumpgate_tests::probe;
use jumpgate_tests::require_root;
use jumpgate_tests::rig::{self, Rig};
use jumpgate_tests::topology::Cluster;
use ownership::{NodeIndex, Placement};

const PATIENCE: Duration = Duration::from_secs(10);
/// How often each packet meets a program whose ring nobody reads; more than a budget.
const PACKETS: u64 = 10;

const HOUR: Duration = Duration::from_secs(3600);

/// Longer than a window of the programs' budgets: 256 ticks, of 10 ms at most.
const WINDOW: Duration = Duration::from_millis(2_700);

fn data(session: [u8; 16]) -> Vec<u8> {
    let (bytes, length) = Header { kind: TYPE_DATA, session, owner: None }.encode();
    bytes[..length].to_vec()
}

/// A client host's socket.
fn client(cluster: &Cluster, family: Family) -> Result<UdpSocket> {
    let host = &cluster.clients()[0];
    host.namespace()
        .run(|| UdpSocket::bind((host.address(family), 0)))
        .context("binding a client's socket")
}

fn events(daemon: &Daemon) -> Result<Events> {
    let mut api = Api::connect(daemon.socket())?;
    let mut all = Events::default();
    loop {
        let after = all.events.last().map_or(0, |event| event.number);
        let Events { events, missed, totals } = api.events(after)?;
        all.totals = totals;
        all.missed += missed;
        if events.is_empty() {
            return Ok(all);
        }
        all.events.extend(events);
    }
}

fn total<'a>(events: &'a Events, what: &str) -> Result<&'a EventTotal> {
    events.totals.iter().find(|total| total.what == what).with_context(|| format!("{events:?}"))
}

/// Sends packets of no session until the node has counted so many of them.
fn flood(client: &UdpSocket, server: SocketAddr, fleet: &Fleet, packets: u64) -> Result<u64> {
    let end = Instant::now() + PATIENCE;
    loop {
        for session in 0..packets {
            client.send_to(&data([session as u8; 16]), server)?;
        }
        let mut counted = 0;
        let settled = probe::until(Duration::from_secs(2), || {
            counted = fleet.count("no-session").unwrap_or(0);
            counted >= packets
        });
        if settled {
            return Ok(counted);
        }
        ensure!(Instant::now() < end, "{counted} of {packets} were counted");
    }
}

#[test]
fn of_a_flood_a_few_packets_are_told_and_the_others_are_counted() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).build()?;
    let fleet = Fleet::start(&cluster, &Options::default())?;
    let daemon = &fleet.daemons[0];
    let client = client(&cluster, Family::V4)?;
    let server = SocketAddr::new(cluster.vip(Family::V4), fleet::PORT);
    // A packet through veth stays on its sender's CPU, and each CPU has a budget of its own.
    pin_to(0)?;
    flood(&client, server, &fleet, 500)?;
    // The first of the next window says what was suppressed before it, on its own CPU.
    thread::sleep(WINDOW);
    client.send_to(&data([9; 16]), server)?;
    let mut told = Events::default();
    let done = probe::until(PATIENCE, || {
        told = events(daemon).unwrap_or_default();
        told.events.last().is_some_and(|event| event.suppressed > 0)
    });
    ensure!(done, "{told:?}");

    let counted = fleet.count("no-session")?;
    let EventTotal { told: events, suppressed, class, place, service, .. } =
        total(&told, "no-session")?;
    ensure!(events + suppressed == counted, "{events} + {suppressed} of {counted}");
    ensure!(*suppressed > 400, "{suppressed} of {counted}");
    ensure!(class == "POLICY_EVENT" && place == "xdp", "{told:?}");
    ensure!(service.as_deref() == Some("echo4"), "{told:?}");
    let rows: Vec<_> = told.events.iter().filter(|event| event.what == "no-session").collect();
    ensure!(rows.len() as u64 == *events, "{} events of {events}", rows.len());
    let carried: u64 = rows.iter().map(|event| event.suppressed).sum();
    ensure!(carried <= *suppressed && carried > 0, "{carried} of {suppressed}");
    let source = client.local_addr()?.to_string();
    for row in rows {
        let EventRow { source: from, interface, slot, key, service, .. } = row;
        ensure!(from.as_ref() == Some(&source), "{row:?}");
        ensure!(interface.as_deref() == Some("eth0"), "{row:?}");
        ensure!(slot.is_some() && key.is_some(), "{row:?}");
        ensure!(service.as_deref() == Some("echo4"), "{row:?}");
    }

    let logged = probe::until(PATIENCE, || {
        daemon.log().lines().any(|line| line.contains("no-session") && line.contains(&source))
    });
    ensure!(logged, "{}", daemon.log());
    // A line a second at most, and together they speak of every packet.
    let packets = |log: &str| -> u64 {
        let lines = log.lines().filter(|line| line.contains("no-session"));
        let field = |line: &str| -> Option<u64> {
            line.split("packets=").nth(1)?.split_whitespace().next()?.parse().ok()
        };
        lines.filter_map(field).sum()
    };
    let all = probe::until(PATIENCE, || packets(&daemon.log()) == counted);
    ensure!(all, "{counted} packets, but {}", daemon.log());
    Ok(())
}

#[test]
fn a_forged_shim_is_a_security_event_that_names_its_sender() -> Result<()> {
    require_root!();
    for family in Family::ALL {
        let cluster = Cluster::builder().nodes(1).underlay(family).build()?;
        let fleet = Fleet::start(&cluster, &Options::default())?;
        let daemon = &fleet.daemons[0];
        let host = &cluster.clients()[0];
        let address = host.address(family);
        let forger = Forger::new(host.namespace(), address)?;
        let underlay = cluster.underlay_address(&cluster.nodes()[0]);
        forger.send(&wrap(Shim::new(3, 2, 1, 0, 0, false), b"nothing"), underlay)?;
        let mut told = Events::default();
        let done = probe::until(PATIENCE, || {
            told = events(daemon).unwrap_or_default();
            !told.events.is_empty()
        });
        ensure!(done, "{told:?}");
        let [event] = &told.events[..] else { anyhow::bail!("{told:?}") };
        ensure!(event.what == "shim-sender" && event.class == "SECURITY_EVENT", "{event:?}");
        ensure!(event.service.is_none() && event.slot.is_none(), "{event:?}");
        let source: SocketAddr = event.source.as_deref().context("a source")?.parse()?;
        ensure!(source.ip() == address, "{event:?}");

        let mut command = daemon.command()?;
        command.arg("events").arg("--socket").arg(daemon.socket()).stdin(Stdio::null());
        let text = String::from_utf8(command.output()?.stdout)?;
        for part in ["SECURITY_EVENT xdp shim-sender from", &source.to_string(), "on eth0"] {
            ensure!(text.contains(part), "no {part:?} in {text}");
        }
        command.arg("--json");
        let text = String::from_utf8(command.output()?.stdout)?;
        ensure!(serde_json::from_str::<EventRow>(&text)? == *event, "{text}");
    }
    Ok(())
}

#[test]
fn the_selectors_drops_are_told_too() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).build()?;
    let node = &cluster.nodes()[0];
    let server = SocketAddr::new(cluster.vip(Family::V6), 7000);
    let mut rig = Rig::new(&cluster, node, server, &Placement::all_to(rig::index(node)?), 7)?;
    let (session, key) = rig.draw(1);
    rig.own(key, 1, 1)?;
    let client = client(&cluster, Family::V6)?;
    // Late by the exact clock: the selector's to drop.
    rig.arm(HOUR, Duration::ZERO);
    let late = Reason::Admission(Admission::Late);
    let told = |rig: &Rig, reason| -> Result<_> { Ok(rig.dataplane.events.told(1, reason)?) };
    for _ in 0..50 {
        client.send_to(&data(session), server)?;
    }
    let done = probe::until(PATIENCE, || rig.admission(Admission::Late).is_ok_and(|n| n == 50));
    ensure!(done, "{} late", rig.admission(Admission::Late)?);
    let sum = told(&rig, late)?;
    ensure!(sum.told + sum.suppressed == 50 && sum.suppressed > 0, "{sum:?}");
    let Refused { event, reason, suppressed } =
        rig.dataplane.events.take_next().context("an event")?;
    ensure!(reason == late && suppressed == 0 && event.service == 1, "{event:?}");
    ensure!(event.slot == key.slot && event.hash == key.hash, "{event:?}");
    let source = client.local_addr()?;
    ensure!(event.port == source.port().to_be(), "{event:?} from {source}");
    let SocketAddr::V6(v6) = source else { anyhow::bail!("{source}") };
    ensure!(event.source.bytes() == v6.ip().octets(), "{event:?} from {source}");
    Ok(())
}

/// A ring that nobody reads fills up: from then on everything is suppressed, and counted.
#[test]
fn a_full_ring_loses_no_count() -> Result<()> {
    require_root!();
    let address = vip(Family::V4);
    let services: Vec<_> = (1..=63)
        .map(|index| Service {
            index,
            name: format!("service-{index}"),
            address: (address, 7000 + index).into(),
            control_port: None,
            limits: Limits::default(),
            protocol: Protocol::Native,
            delivery: Delivery::Socket,
            enforces_binding: false,
            cluster_seed: 7,
        })
        .collect();
    let mut dataplane = Dataplane::load(LoadOptions {
        object: Object::Daemon,
        sessions: 1,
        cpus: vec![0],
        queue: 192,
        bindings: false,
        hold_ring: 4096,
        log_packets: false,
    })?;
    let node = NodeIndex::new(1)?;
    let (seed, rows) = rows(&services, Ipv4Addr::new(10, 1, 0, 1).into())?;
    dataplane.set_services(seed, &rows);
    dataplane.set_placement(&Placement::all_to(node));
    dataplane.set_identity(node);
    // Budgets are a CPU's own: on one, the ring must not fill up too soon or too late.
    pin_to(0)?;
    let payloads = [
        (Verdict::NoWireId, b"short".to_vec()),
        (Verdict::NoSession, data([1; 16])),
        (Verdict::FenceShut, payload::native(TYPE_OPEN, &[1; 16])),
    ];
    let mut expected = 0;
    for service in &services {
        for (_, payload) in &payloads {
            let client = (Ipv4Addr::new(203, 0, 113, 9).into(), 40_000);
            let to = (address, service.address.port());
            let frame = Packet::new(client, to, payload.clone()).frame();
            let ran = dataplane.program("jumpgate")?.test_run(TestRunOptions {
                data_in: Some(&frame),
                repeat: PACKETS as u32,
                ..TestRunOptions::default()
            })?;
            ensure!(ran.return_value == 1, "dropped, not {}", ran.return_value);
            expected += PACKETS;
        }
    }
    let mut sum = Told::default();
    for service in &services {
        for (verdict, _) in &payloads {
            let of = dataplane.events.told(service.index, Reason::Verdict(*verdict))?;
            let counted = dataplane.counters.verdict(service.index, *verdict)?;
            ensure!(of.told + of.suppressed == counted, "{of:?} of {counted}");
            sum.told += of.told;
            sum.suppressed += of.suppressed;
        }
    }
    // The kernel keeps 8 bytes before each, and never fills the last byte.
    let room = (u64::from(RING) - 1) / (size_of::<Event>() as u64 + 8);
    ensure!(sum.told + sum.suppressed == expected, "{sum:?} of {expected}");
    ensure!(sum.told == room, "{sum:?}: the ring has room for {room}");
    let mut read = 0;
    while dataplane.events.take_next().is_some() {
        read += 1;
    }
    ensure!(read == sum.told, "{read} events of {sum:?}");
    Ok(())
}
