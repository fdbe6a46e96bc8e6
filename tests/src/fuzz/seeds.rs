//! Where fuzzed inputs start from: the packets of the corpus, and what they are made of.

use dataplane_ebpf::frame::Frame;
use dataplane_ebpf::parse::{Parsed, parse_frame};
use dataplane_ebpf::service::{ENCAP_PORT, ServiceRow, kind};

use crate::address::Family;
use crate::corpus::packet::Packet;
use crate::corpus::tables::{PEER, SELF, State, on_host, underlay};
use crate::corpus::{Case, corpus, icmp, replies};

/// What the first byte of an input says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The family of the underlay.
    pub underlay: Family,
    /// The place of the interface that the packet arrives on: 0 or 1.
    pub interface: usize,
    /// The node's condition.
    pub state: State,
}

/// The conditions in which a packet's verdict depends on nothing else.
const STATES: [State; 4] = [State::Ready, State::Shut, State::NotReady, State::NoCpu];

impl Setting {
    /// The setting of a byte.
    pub fn of(byte: u8) -> Self {
        // The ordinary condition in half of all inputs.
        let state =
            if byte & 0x10 == 0 { State::Ready } else { STATES[usize::from(byte >> 2 & 3)] };
        Self {
            underlay: if byte & 1 == 0 { Family::V4 } else { Family::V6 },
            interface: usize::from(byte >> 1 & 1),
            state,
        }
    }

    /// A byte of this setting.
    pub fn byte(self) -> u8 {
        let state = STATES.iter().position(|state| *state == self.state).unwrap_or(0) as u8;
        u8::from(self.underlay == Family::V6) | (self.interface as u8) << 1 | state << 2 | 0x10
    }
}

/// An input's setting, and the rest of it.
pub fn settled(input: &[u8]) -> Option<(Setting, &[u8])> {
    let (setting, rest) = input.split_first()?;
    Some((Setting::of(*setting), rest))
}

/// A frame that the peer sends with this behind its UDP header.
pub fn around(family: Family, content: &[u8]) -> Vec<u8> {
    let source = (underlay(family, PEER), 0xc123);
    Packet::new(source, (underlay(family, SELF), ENCAP_PORT), content.to_vec()).frame()
}

fn of_case(family: Family, case: &Case) -> Vec<u8> {
    let interface = usize::from(case.elsewhere);
    let setting = Setting { underlay: family, interface, state: case.state };
    [&[setting.byte()], &case.frame[..]].concat()
}

/// All packets, with the node's setting in front.
pub fn packets() -> Vec<Vec<u8>> {
    let of = |family| corpus(family).iter().map(|case| of_case(family, case)).collect::<Vec<_>>();
    Family::ALL.into_iter().flat_map(of).collect()
}

/// All packets.
pub fn frames() -> Vec<Vec<u8>> {
    let frames = Family::ALL.into_iter().flat_map(corpus).map(|case| case.frame);
    let replies = Family::ALL.into_iter().flat_map(|family| replies::cases(family, family));
    frames.chain(replies.map(|reply| reply.frame)).collect()
}

/// What the peer forwards: shim and packet, with the node's setting in front.
pub fn forwarded() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for family in Family::ALL {
        let heads = if family == Family::V4 { 14 + 20 + 8 } else { 14 + 40 + 8 };
        for case in corpus(family).iter().filter(|case| case.name.starts_with("node")) {
            let mut seed = of_case(family, case);
            seed.drain(1..seed.len().min(1 + heads));
            seeds.push(seed);
        }
    }
    seeds
}

/// ICMP errors, with the node's setting in front.
pub fn icmp_errors() -> Vec<Vec<u8>> {
    let of = |family| {
        let errors = Family::ALL.into_iter().flat_map(move |inner| icmp::cases(family, inner));
        errors.map(move |case| of_case(family, &case)).collect::<Vec<_>>()
    };
    Family::ALL.into_iter().flat_map(of).collect()
}

/// Replies, with the node's setting in front.
pub fn replies() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for family in Family::ALL {
        for reply in Family::ALL.into_iter().flat_map(|inner| replies::cases(family, inner)) {
            let setting = Setting { underlay: family, interface: 0, state: reply.state };
            seeds.push([&[setting.byte()], &reply.frame[..]].concat());
        }
    }
    seeds
}

/// Payloads of clients, with their service in front as the target of dissectors takes it.
pub fn payloads() -> Vec<Vec<u8>> {
    let memory = on_host(Family::V4, [1, 2]).expect("tables without a kernel");
    let rows: Vec<ServiceRow> = (0..memory.services.len())
        .filter_map(|row| memory.services.get(row).copied())
        .filter(|row| row.kind == kind::DATA)
        .collect();
    let mut seeds = Vec::new();
    for case in corpus(Family::V4) {
        let Parsed::Udp(found) = parse_frame(&Frame::new(&case.frame)) else { continue };
        let Some(row) = rows.iter().find(|row| row.service == case.service) else { continue };
        let ServiceRow { protocol, id_length, id_offset, unknown_opens, .. } = *row;
        let head = [protocol, id_length, id_offset, unknown_opens << 1];
        let payload = &case.frame[found.payload()..][..found.payload_length];
        seeds.push([&head[..], &row.server_id_lengths, payload].concat());
    }
    seeds
}

/// Configuration files.
pub fn configurations() -> Vec<Vec<u8>> {
    let example = include_str!("../../../docs/jumpgate.toml");
    let active: String = example
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    vec![example.into(), active.into()]
}
