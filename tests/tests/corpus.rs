//! A corpus of packets through the kernel's program and through the decision in userspace, on the
//! same tables: both must agree in verdict, result and bytes.

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, ensure};
use dataplane_ebpf::encap::decapsulate;
use dataplane_ebpf::frame::FrameMut;
use dataplane_ebpf::shim::SHIM;
use dataplane_ebpf::verdict::Verdict;
use dataplane_user::dataplane::simulate::{Simulated, XdpResult};
use jumpgate_tests::address::Family;
use jumpgate_tests::corpus::kernel::{SHORTEST, with_kernel};
use jumpgate_tests::corpus::packet::{MACS, ones_sum, udp_sum};
use jumpgate_tests::corpus::tables::{MTU, PEER, SELF, State, af_xdp_service, underlay};
use jumpgate_tests::corpus::{Case, corpus, overhead};
use jumpgate_tests::require_root;

/// What must be true of a frame that a case leaves behind, checked without the data plane's code.
fn check_output(case: &Case, done: &Simulated, family: Family) -> Result<()> {
    let forwarded_to_us = case.name.starts_with("node");
    let arrived_ip = if forwarded_to_us {
        SHORTEST + outer_headers(&case.frame) + 8 + SHIM
    } else {
        ip_offset(&case.frame)
    };
    match done.result {
        XdpResult::Pass | XdpResult::Drop => {
            ensure!(done.frame == case.frame, "changed a frame that it did not take");
        }
        XdpResult::Redirect
            if matches!(
                done.verdict,
                Verdict::Local | Verdict::New | Verdict::ControlUnknown | Verdict::IcmpLocal
            ) =>
        {
            if !forwarded_to_us {
                ensure!(done.frame == case.frame, "changed a client's frame");
                return Ok(());
            }
            let mut macs = MACS;
            let af_xdp = Family::ALL.map(|family| af_xdp_service(family).index);
            if af_xdp.contains(&case.service) && done.verdict != Verdict::IcmpLocal {
                // The mark of AF_XDP: the source is not the way back to the client.
                macs[6] |= 1;
            }
            ensure!(done.frame[..12] == macs, "lost its MAC addresses");
            ensure!(ip_offset(&done.frame) == SHORTEST, "has tags");
            ensure!(done.frame[14..] == case.frame[arrived_ip..], "is not the client's packet");
        }
        XdpResult::Tx if done.verdict == Verdict::TooBigAnswered => {
            check_answer(&case.frame, &done.frame, MTU - overhead(family))?;
        }
        XdpResult::Tx | XdpResult::Redirect => {
            let inner = encapsulated(&done.frame, family)?;
            ensure!(inner == &case.frame[arrived_ip..], "is not the client's packet");
            let mut back = done.frame[done.frame.len() - inner.len() - SHORTEST..].to_vec();
            decapsulate(&mut FrameMut::new(&mut back), MACS).context("too short to unwrap")?;
            let v4 = case.frame[arrived_ip] >> 4 == 4;
            let ethertype = if v4 { [0x08, 0x00] } else { [0x86, 0xdd] };
            let expected = [&MACS[..], &ethertype, &case.frame[arrived_ip..]].concat();
            ensure!(back == expected, "unwrapped again it is not the client's packet");
        }
    }
    Ok(())
}

/// Checks the answer to a packet that would not fit.
fn check_answer(question: &[u8], answer: &[u8], mtu: usize) -> Result<()> {
    let at = ip_offset(question);
    ensure!(answer.len() < question.len(), "is longer than the question");
    ensure!(answer[..6] == question[6..12] && answer[6..12] == question[..6], "MAC addresses");
    ensure!(answer[12..at] == question[12..at], "VLAN tags");
    let (asked, ip) = (&question[at..], &answer[at..]);
    let (header, most) = match asked[0] >> 4 {
        4 => (20, 576),
        _ => (40, 1280),
    };
    let message = &ip[header..];
    if header == 20 {
        ensure!(ip[0] == 0x45 && ip[9] == 1 && usize::from(be16(ip, 2)) == ip.len(), "header");
        ensure!(ones_sum(&[&ip[..20]]) == 0xffff, "IPv4 checksum");
        ensure!(ip[12..16] == asked[16..20] && ip[16..20] == asked[12..16], "addresses");
        ensure!(ones_sum(&[message]) == 0xffff, "ICMP checksum");
        ensure!(message[..2] == [3, 4] && message[4..6] == [0, 0], "type");
    } else {
        ensure!(ip[0] == 0x60 && ip[6] == 58, "header");
        ensure!(usize::from(be16(ip, 4)) == message.len(), "length");
        ensure!(ip[8..24] == asked[24..40] && ip[24..40] == asked[8..24], "addresses");
        let length = (message.len() as u32).to_be_bytes();
        let sum = ones_sum(&[&ip[8..40], &length, &[0, 0, 0, 58], message]);
        ensure!(sum == 0xffff, "ICMPv6 checksum");
        ensure!(message[..2] == [2, 0] && message[4..6] == [0, 0], "type");
    }
    ensure!(usize::from(be16(message, 6)) == mtu, "MTU {}", be16(message, 6));
    let quoted = &message[8..];
    ensure!(ip.len() <= most && quoted.len() % 8 == 0, "{} bytes", ip.len());
    ensure!(ip.len() + 8 > most.min(asked.len()), "quotes {} of {}", quoted.len(), asked.len());
    ensure!(quoted == &asked[..quoted.len()], "does not quote the packet");
    Ok(())
}

/// Where the IP header starts behind Ethernet and VLAN tags.
fn ip_offset(frame: &[u8]) -> usize {
    let mut at = 12;
    while matches!(frame[at..at + 2], [0x81, 0x00] | [0x88, 0xa8]) {
        at += 4;
    }
    at + 2
}

fn outer_headers(frame: &[u8]) -> usize {
    if frame[14] >> 4 == 4 { 20 } else { 40 }
}

fn be16(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

/// Checks the encapsulation and returns what is inside, with what the frame has behind it.
fn encapsulated(frame: &[u8], family: Family) -> Result<&[u8]> {
    ensure!(frame[..5] == [2, 0, 0, 0, 2] && frame[6..11] == [2, 0, 0, 0, 1], "MAC addresses");
    let ip = &frame[14..];
    let header = outer_headers(frame);
    let (source, destination, length): (IpAddr, IpAddr, usize) = match family {
        Family::V4 => {
            ensure!(frame[12..14] == [0x08, 0x00] && ip[0] == 0x45 && ip[9] == 17, "IPv4 header");
            ensure!(ones_sum(&[&ip[..20]]) == 0xffff, "IPv4 checksum");
            let address =
                |at: usize| IpAddr::from(Ipv4Addr::from([0, 1, 2, 3].map(|byte| ip[at + byte])));
            (address(12), address(16), be16(ip, 2).into())
        }
        Family::V6 => {
            ensure!(frame[12..14] == [0x86, 0xdd] && ip[0] == 0x60 && ip[6] == 17, "IPv6 header");
            let address = |at: usize| -> Result<IpAddr> {
                Ok(Ipv6Addr::from(<[u8; 16]>::try_from(&ip[at..at + 16])?).into())
            };
            (address(8)?, address(24)?, 40 + usize::from(be16(ip, 4)))
        }
    };
    ensure!(source == underlay(family, SELF), "sent by {source}");
    ensure!(destination != source, "sent to itself");
    let udp = &ip[header..length];
    ensure!(be16(udp, 0) >= 0xc000 && be16(udp, 2) == 7471, "ports");
    ensure!(usize::from(be16(udp, 4)) == udp.len(), "UDP length");
    let inner = &udp[8 + SHIM..];
    if be16(udp, 6) != 0 {
        ensure!(udp_sum(source, destination, udp) == 0xffff, "outer UDP checksum");
    } else {
        ensure!(family == Family::V4 || !sums_up(inner), "an outer checksum was left out");
    }
    let shim = &udp[8..8 + SHIM];
    ensure!(shim[0] & 0xfe == 0x10 && shim[1] < 4 && be16(shim, 2) == SELF, "shim {shim:02x?}");
    if destination == underlay(family, PEER) {
        ensure!(shim[8..12] == [0, 0, 0, 3], "the peer's epoch");
    }
    Ok(&ip[header + 8 + SHIM..])
}

/// Whether an outer checksum can be built on the inner one: a checksum, no extension headers and
/// nothing behind UDP.
fn sums_up(packet: &[u8]) -> bool {
    let (udp, is_udp) = match packet[0] >> 4 {
        4 => (usize::from(packet[0] & 0xf) * 4, packet[9] == 17),
        _ => (40, packet[6] == 17),
    };
    let is_icmp = packet[if udp == 40 { 6 } else { 9 }] == if udp == 40 { 58 } else { 1 };
    is_icmp
        || is_udp
            && be16(packet, udp + 6) != 0
            && udp + usize::from(be16(packet, udp + 4)) == packet.len()
}

fn agree_on_all(family: Family) -> Result<()> {
    with_kernel(family, |kernel| {
        let cases = corpus(family);
        let mut failures = Vec::new();
        for case in &cases {
            let tried = kernel
                .try_case(case)
                .and_then(|done| check_output(case, &done, family))
                .with_context(|| case.name.clone());
            failures.extend(tried.err().map(|error| format!("{error:#}")));
        }
        println!("{} cases over {family:?}", cases.len());
        ensure!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
        Ok(())
    })
}

#[test]
fn kernel_and_userspace_agree_on_every_packet_over_ipv4() -> Result<()> {
    require_root!();
    agree_on_all(Family::V4)
}

#[test]
fn kernel_and_userspace_agree_on_every_packet_over_ipv6() -> Result<()> {
    require_root!();
    agree_on_all(Family::V6)
}

fn agree_on_cut_packets(family: Family) -> Result<()> {
    with_kernel(family, |kernel| {
        let mut failures = Vec::new();
        for case in corpus(family).iter().filter(|case| case.typical) {
            let ingress = kernel.interfaces[0];
            for length in 0..case.frame.len().min(220) {
                case.state.apply(&kernel.dataplane);
                let tried = kernel
                    .agree(&case.frame[..length], ingress, 0, None)
                    .and_then(|done| {
                        let untouched = done.frame == case.frame[..length];
                        let kept = matches!(done.result, XdpResult::Pass | XdpResult::Drop);
                        let whole = length >= whole_length(&case.frame);
                        ensure!(whole || (kept && untouched), "{done:02x?}");
                        Ok(())
                    })
                    .with_context(|| format!("{}, cut to {length} bytes", case.name));
                failures.extend(tried.err().map(|error| format!("{error:#}")));
            }
        }
        ensure!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
        Ok(())
    })
}

/// Length of a frame without the padding behind its IP packet.
fn whole_length(frame: &[u8]) -> usize {
    let ip = ip_offset(frame);
    match frame[ip] >> 4 {
        4 => ip + usize::from(be16(frame, ip + 2)),
        _ => ip + 40 + usize::from(be16(frame, ip + 4)),
    }
}

#[test]
fn kernel_and_userspace_agree_on_packets_cut_at_every_byte_over_ipv4() -> Result<()> {
    require_root!();
    agree_on_cut_packets(Family::V4)
}

#[test]
fn kernel_and_userspace_agree_on_packets_cut_at_every_byte_over_ipv6() -> Result<()> {
    require_root!();
    agree_on_cut_packets(Family::V6)
}

#[test]
fn every_verdict_has_its_packet() {
    let cases = corpus(Family::V4);
    let seen: HashSet<Verdict> =
        cases.iter().flat_map(|case| [Some(case.verdict), case.in_kernel]).flatten().collect();
    let missing: Vec<_> = Verdict::ALL.iter().filter(|verdict| !seen.contains(verdict)).collect();
    assert!(missing.is_empty(), "no packet for {missing:?}");
}

#[test]
fn every_packet_has_a_name_of_its_own() {
    for family in Family::ALL {
        let cases = corpus(family);
        let names: BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
        assert_eq!(names.len(), cases.len());
        assert!(cases.len() >= 300, "{} cases", cases.len());
        assert!(cases.iter().any(|case| case.state != State::Ready));
    }
}
