//! A corpus of packets that a node sends through the kernel's program at egress and through the
//! decision in userspace, on the same tables: both must agree.

use std::collections::{BTreeSet, HashSet};

use anyhow::{Context, Result, bail, ensure};
use aya::programs::{TestRun, TestRunOptions};
use dataplane_ebpf::egress::{Sent, reply};
use dataplane_ebpf::event::Reason;
use dataplane_ebpf::frame::Frame;
use dataplane_ebpf::node::Address;
use dataplane_ebpf::service::SERVICES;
use dataplane_ebpf::verdict::Egress;
use dataplane_user::dataplane::clock::boottime;
use dataplane_user::dataplane::events::{Refused, Told};
use dataplane_user::dataplane::{Dataplane, wire_address};
use jumpgate_tests::address::Family;
use jumpgate_tests::corpus::from_clients::client;
use jumpgate_tests::corpus::replies::{Reply, cases};
use jumpgate_tests::corpus::tables::{State, load};
use jumpgate_tests::require_root;

const ETHERNET: usize = 14;
const TCX_NEXT: i32 = -1;
const TCX_DROP: i32 = 2;

fn corpus(underlay: Family) -> Vec<Reply> {
    Family::ALL.into_iter().flat_map(|family| cases(underlay, family)).collect()
}

fn apply(state: State, dataplane: &Dataplane) {
    state.apply(dataplane);
    if state == State::Shut {
        let local = dataplane.memory.local_row();
        // Just now.
        local.arm(local.fence(), boottime().as_nanos() as u64);
    }
}

/// The least that the kernel's test run takes: an Ethernet header, and the IP header that it names.
fn shortest(frame: &[u8]) -> usize {
    match frame.get(12..ETHERNET) {
        Some([0x08, 0x00]) => ETHERNET + 20,
        Some([0x86, 0xdd]) => ETHERNET + 40,
        _ => ETHERNET + 1,
    }
}

/// Runs a packet both ways; fails unless both agree, and returns what became of it.
fn agree(dataplane: &mut Dataplane, frame: &[u8], ethernet: bool) -> Result<(Egress, u16)> {
    let now = || boottime().as_nanos() as u64;
    let sent = Sent { frame: &Frame::new(frame), ethernet };
    let decided = reply(&sent, now, &dataplane.memory);
    let (egress, service) =
        decided.map_or((Egress::Other, 0), |decided| (decided.egress, decided.service));
    if frame.len() < shortest(frame) {
        return Ok((egress, service));
    }
    let before = dataplane.counters.egress(service, egress)?;
    let mut out = vec![0; frame.len()];
    let program = dataplane.classifier(if ethernet { "egress" } else { "egress_ip" })?;
    let ran = program.test_run(TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut out),
        ..TestRunOptions::default()
    })?;
    if dataplane.counters.egress(service, egress)? != before + 1 {
        let counts = dataplane.counters.service(service, false)?.egress;
        bail!("userspace says {egress:?} of service {service}, the kernel counted {counts:?}");
    }
    let expected = if egress.is_sent() { TCX_NEXT } else { TCX_DROP };
    ensure!(ran.return_value.cast_signed() == expected, "{egress:?} became {}", ran.return_value);
    ensure!(out == frame, "changed the packet");
    Ok((egress, service))
}

fn try_all(underlay: Family) -> Result<()> {
    let mut dataplane = load(underlay, [1, 1])?;
    let mut failures = Vec::new();
    let mut check = |name: &str, tried: Result<(Egress, u16)>, expected| {
        let tried = tried.and_then(|found| {
            ensure!(found == expected, "expected {expected:?}, got {found:?}");
            Ok(())
        });
        failures.extend(tried.context(name.to_owned()).err().map(|error| format!("{error:#}")));
    };
    let cases = corpus(underlay);
    for case in &cases {
        apply(case.state, &dataplane);
        let expected = (case.egress, case.service);
        check(&case.name, agree(&mut dataplane, &case.frame, true), expected);
        // The same on an interface without a link layer, where only IP's version says what it is.
        let is_ip = !case.name.ends_with("ARP") && !case.name.ends_with("version 5");
        if case.ip == ETHERNET && is_ip {
            let name = format!("{}, from its IP header on", case.name);
            check(&name, agree(&mut dataplane, &case.frame[case.ip..], false), expected);
        }
    }
    check_events(&mut dataplane)?;
    println!("{} replies over {underlay:?}", cases.len());
    ensure!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
    Ok(())
}

/// Every reply that was dropped was told of or counted; where its session was looked for, with the
/// client that it was to go to.
fn check_events(dataplane: &mut Dataplane) -> Result<()> {
    for service in 0..SERVICES as u16 {
        for &egress in Egress::ALL.iter().filter(|egress| !egress.is_sent()) {
            let Told { told, suppressed } =
                dataplane.events.told(service, Reason::Egress(egress))?;
            let counted = dataplane.counters.egress(service, egress)?;
            ensure!(told + suppressed == counted, "{egress:?}: {told}, {suppressed} of {counted}");
        }
    }
    let clients = Family::ALL.map(client);
    let mut named = 0;
    while let Some(Refused { event, reason, .. }) = dataplane.events.take_next() {
        let known = clients.iter().any(|&(address, port)| {
            event.source == wire_address(address) && event.port == port.to_be()
        });
        // Bound sessions have clients of their own.
        let somebody = event.source != Address::default() && event.port != 0;
        let unread = reason == Reason::Egress(Egress::Unreadable);
        ensure!(somebody != unread, "{event:?}");
        named += u64::from(known);
    }
    ensure!(named > 20, "{named} events name a client");
    Ok(())
}

#[test]
fn kernel_and_userspace_agree_on_every_reply() -> Result<()> {
    require_root!();
    Family::ALL.into_iter().try_for_each(try_all)
}

#[test]
fn kernel_and_userspace_agree_on_replies_cut_at_every_byte() -> Result<()> {
    require_root!();
    let mut dataplane = load(Family::V4, [1, 1])?;
    for case in corpus(Family::V4).iter().filter(|case| case.typical) {
        apply(case.state, &dataplane);
        for length in 0..case.frame.len().min(160) {
            let cut = &case.frame[..length];
            agree(&mut dataplane, cut, true)
                .with_context(|| format!("{}, cut to {length} bytes", case.name))?;
        }
    }
    Ok(())
}

#[test]
fn everything_that_can_become_of_a_reply_has_its_packet() {
    let seen: HashSet<Egress> = corpus(Family::V4).iter().map(|case| case.egress).collect();
    // The segments of a large send are not in one piece of memory: tests/egress.rs sends one.
    let missing: Vec<_> = Egress::ALL
        .iter()
        .filter(|egress| **egress != Egress::Mixed && !seen.contains(egress))
        .collect();
    assert!(missing.is_empty(), "no packet for {missing:?}");
}

#[test]
fn every_reply_has_a_name_of_its_own() {
    let cases = corpus(Family::V6);
    let names: BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
    assert_eq!(names.len(), cases.len());
    assert!(cases.len() >= 120, "{} cases", cases.len());
}
