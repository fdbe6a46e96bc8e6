//! A corpus of packets that a node sends through the kernel's program at egress and through the
//! decision in userspace, on the same tables: both must agree.

use std::collections::{BTreeSet, HashSet};

use anyhow::{Context, Result, bail, ensure};
use aya::programs::{TestRun, TestRunOptions};
use dataplane_ebpf::egress::{Sent, reply};
use dataplane_ebpf::frame::Frame;
use dataplane_ebpf::verdict::Egress;
use dataplane_user::dataplane::Dataplane;
use dataplane_user::dataplane::clock::boottime;
use jumpgate_tests::address::Family;
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
    let (egress, service) = (decided.egress, decided.service);
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
    println!("{} replies over {underlay:?}", cases.len());
    ensure!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
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
