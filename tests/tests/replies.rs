//! A corpus of packets that a node sends through the kernel's program at egress and through the
//! decision in userspace, on the same tables: both must agree.

use std::collections::{BTreeSet, HashSet};

use anyhow::{Context, Result, ensure};
use dataplane_ebpf::event::Reason;
use dataplane_ebpf::node::Address;
use dataplane_ebpf::service::SERVICES;
use dataplane_ebpf::verdict::Egress;
use dataplane_user::dataplane::events::{Refused, Told};
use dataplane_user::dataplane::{Dataplane, wire_address};
use jumpgate_tests::address::Family;
use jumpgate_tests::corpus::from_clients::client;
use jumpgate_tests::corpus::replies::{Reply, cases};
use jumpgate_tests::corpus::sending::{ETHERNET, Sending};
use jumpgate_tests::corpus::tables::load;
use jumpgate_tests::require_root;

fn corpus(underlay: Family) -> Vec<Reply> {
    Family::ALL.into_iter().flat_map(|family| cases(underlay, family)).collect()
}

fn try_all(underlay: Family) -> Result<()> {
    let mut sending = Sending::new(load(underlay, [1, 1])?);
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
        sending.apply(case.state);
        let expected = (case.egress, case.service);
        check(&case.name, sending.agree(&case.frame, true), expected);
        // The same on an interface without a link layer, where only IP's version says what it is.
        let is_ip = !case.name.ends_with("ARP") && !case.name.ends_with("version 5");
        if case.ip == ETHERNET && is_ip {
            let name = format!("{}, from its IP header on", case.name);
            check(&name, sending.agree(&case.frame[case.ip..], false), expected);
        }
    }
    sending.check_counters()?;
    check_events(&mut sending.dataplane)?;
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
    let mut sending = Sending::new(load(Family::V4, [1, 1])?);
    for case in corpus(Family::V4).iter().filter(|case| case.typical) {
        sending.apply(case.state);
        for length in 0..case.frame.len().min(160) {
            let cut = &case.frame[..length];
            sending
                .agree(cut, true)
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
