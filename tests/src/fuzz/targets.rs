//! The functions that are fuzzed. Each says what must hold for any input whatever.

use std::cell::RefCell;

use dataplane_ebpf::dissect::native::Header;
use dataplane_ebpf::dissect::reply::dissect_reply;
use dataplane_ebpf::dissect::{Payload, dissect};
use dataplane_ebpf::egress::{Reply, Sent, reply};
use dataplane_ebpf::frame::Frame;
use dataplane_ebpf::node::Address;
use dataplane_ebpf::parse::{Parsed, parse_frame, parse_ip, parse_reply};
use dataplane_ebpf::service::{ServiceRow, kind};
use dataplane_ebpf::verdict::Verdict;
use dataplane_ebpf::wire_id::{ID_MAX, ID_MIN, WireId};
use dataplane_user::config::Config;
use dataplane_user::dataplane::memory::Memory;
use dataplane_user::dataplane::simulate::{Simulated, XdpResult, simulate};

use super::guarded::Guarded;
use super::seeds::{Setting, around, settled};
use crate::address::Family;
use crate::corpus::tables::{State, lift_limits, on_host, refill};

/// The interfaces of the tables without a kernel.
const INTERFACES: [u32; 2] = [1, 2];

/// Where IP packets start at the latest in what a program forwards: behind Ethernet, IPv6, UDP and
/// the shim.
const HEADS: usize = 14 + 40 + 8 + 32;

struct Host {
    memory: [Memory; 2],
    /// The condition of each.
    states: [State; 2],
    guarded: Guarded,
}

thread_local! {
    static GUARDED: RefCell<Guarded> = RefCell::new(Guarded::new());
    static HOST: RefCell<Host> = RefCell::new(Host {
        memory: Family::ALL.map(|family| {
            let mut memory = on_host(family, INTERFACES).expect("tables without a kernel");
            lift_limits(&mut memory);
            memory
        }),
        states: [State::Ready; 2],
        guarded: Guarded::new(),
    });
}

impl Host {
    /// Brings the tables of a setting into its condition.
    fn set(&mut self, setting: Setting) -> usize {
        let at = usize::from(setting.underlay == Family::V6);
        if self.states[at] != setting.state {
            setting.state.apply_to(&self.memory[at]);
            self.states[at] = setting.state;
        }
        at
    }
}

/// Whatever a frame is: offsets lie in the IP packet, and that in the frame.
pub fn parser(input: &[u8]) {
    let parse = |bytes: &[u8]| {
        let frame = Frame::new(bytes);
        let found = [parse_frame(&frame), parse_ip(&frame, 0, bytes.len())];
        (found, [parse_reply(&frame, true), parse_reply(&frame, false)])
    };
    let (whole, replies, length) = GUARDED.with_borrow_mut(|guarded| {
        let (whole, replies) = parse(guarded.at_end(input));
        let bytes = guarded.at_start(input);
        assert_eq!((whole, replies), parse(bytes), "depends on where the frame lies");
        (whole, replies, bytes.len())
    });
    for (parsed, is_whole) in whole.map(|found| (found, true)).into_iter().chain(
        // The kernel may hand over the head of a reply alone.
        replies.map(|found| (found, false)),
    ) {
        let (Parsed::Udp(found) | Parsed::IcmpError(found)) = parsed else { continue };
        let end = found.ip + found.ip_length;
        assert!(found.ip < found.udp && found.udp <= end, "{found:?}");
        if is_whole {
            assert!(end <= length, "{found:?} in {length} bytes");
            assert!(found.udp + 8 + found.payload_length <= end, "{found:?}");
        }
    }
}

/// The first 12 bytes are a service, the rest is a payload: what is found in it is the same whatever
/// lies around it.
pub fn dissectors(input: &[u8]) {
    let Some((head, payload)) = input.split_first_chunk::<12>() else { return };
    let [protocol, id_length, id_offset, flags, lengths @ ..] = *head;
    let service = ServiceRow {
        kind: if flags & 1 == 0 { kind::DATA } else { kind::CONTROL },
        protocol: protocol % 9,
        id_length,
        id_offset,
        unknown_opens: flags >> 1 & 1,
        server_id_lengths: lengths,
        seed: 99,
        ..ServiceRow::EMPTY
    };
    let look = |fill: u8, behind: usize| {
        let mut frame = vec![fill; 42];
        frame[34..36].copy_from_slice(&[0x9c, 0x40]);
        frame.extend(payload);
        frame.resize(frame.len() + behind, fill);
        GUARDED.with_borrow_mut(|guarded| {
            let frame = Frame::new(guarded.at_end(&frame));
            let payload = Payload { frame: &frame, start: 42, length: payload.len() };
            (dissect(payload, Address([1, 2]), &service), dissect_reply(payload, &service))
        })
    };
    let found = look(0x00, 0);
    assert_eq!(found, look(0xff, 0), "depends on what is in front");
    assert_eq!(found, look(0xff, 40), "depends on what is behind");
    if let Some((header, rest)) = Header::decode(payload) {
        let (bytes, length) = header.encode();
        assert_eq!(Header::decode(&bytes[..length]).map(|(header, _)| header), Some(header));
        assert!(rest.len() < payload.len());
    }
    // An id written out and read again is the same one.
    if let Some(bytes) = payload.get(..payload.len().min(ID_MAX)).filter(|b| b.len() >= ID_MIN) {
        // Short ids are read together with what is in front of them, which a payload always has.
        let behind_a_header = [&[0xff; 8], payload].concat();
        let frame = Frame::new(&behind_a_header);
        let whole = Payload { frame: &frame, start: 8, length: payload.len() };
        assert_eq!(whole.id(0, bytes.len()), WireId::from_bytes(bytes));
    }
}

/// A frame of any kind at a node in any condition.
pub fn packet(input: &[u8]) {
    if let Some((setting, frame)) = settled(input) {
        decide(setting, frame);
    }
}

/// What is behind the outer headers of a forwarded packet, which are right.
pub fn decapsulation(input: &[u8]) {
    if let Some((setting, content)) = settled(input) {
        decide(setting, &around(setting.underlay, content));
    }
}

/// An ICMP error, or what is given for one.
pub fn icmp(input: &[u8]) {
    packet(input);
}

fn decide(setting: Setting, frame: &[u8]) {
    HOST.with_borrow_mut(|host| {
        let at = host.set(setting);
        let ingress = INTERFACES[setting.interface];
        let done = simulate(host.guarded.at_end(frame), ingress, &host.memory[at]);
        check(frame, &done);
        if done.verdict == Verdict::TooBigAnswered {
            refill(&host.memory[at]);
        }
        let again = simulate(host.guarded.at_start(frame), ingress, &host.memory[at]);
        assert_eq!(done, again, "depends on where the frame lies");
        if done.verdict == Verdict::TooBigAnswered {
            refill(&host.memory[at]);
        }
    });
}

/// What holds for every frame that is left behind.
fn check(frame: &[u8], done: &Simulated) {
    let is_answer = done.verdict == Verdict::TooBigAnswered;
    let is_dropped = done.verdict.is_reject() && !is_answer || done.verdict == Verdict::Held;
    assert_eq!(done.result == XdpResult::Drop, is_dropped, "{done:?}");
    if matches!(done.result, XdpResult::Pass | XdpResult::Drop) {
        assert_eq!(done.frame, frame, "{:?} has changed the frame", done.verdict);
    } else if is_answer {
        // With the tags of the frame that it answers.
        assert!(done.frame.len() <= 22 + 1_280, "{} bytes of answer", done.frame.len());
    } else {
        let tail = frame.get(HEADS..).unwrap_or_default();
        assert!(done.frame.ends_with(tail), "{:?} has changed the packet", done.verdict);
    }
}

/// A packet on its way out, cut wherever the kernel may cut it.
pub fn egress(input: &[u8]) {
    let Some((setting, frame)) = settled(input) else { return };
    HOST.with_borrow_mut(|host| {
        let at = host.set(setting);
        let memory = &host.memory[at];
        let frame = Frame::new(host.guarded.at_end(frame));
        for ethernet in [true, false] {
            let sent = Sent { frame: &frame, ethernet };
            let open = reply(&sent, || 0, memory);
            let shut = reply(&sent, || u64::MAX, memory);
            let service = |reply: Option<Reply>| reply.map(|reply| reply.service);
            assert_eq!(service(open), service(shut));
            let passes = shut.is_some_and(|shut| shut.egress.is_sent());
            assert!(open == shut || !passes, "{open:?} {shut:?}");
        }
    });
}

/// A configuration file: it is taken, or every problem has its place and a message.
pub fn configuration(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    match Config::parse(&text) {
        Ok(config) => {
            assert_eq!(config.this_node().name, config.node);
            assert_eq!(config.services().len(), config.services.len());
        }
        Err(error) => {
            let message = error.to_string();
            assert!(message.lines().all(|line| line.starts_with("configuration:")), "{message}");
        }
    }
}
