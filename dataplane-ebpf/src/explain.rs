//! What would become of a packet, and by what: the same decision, without its effects.
//!
//! No counter moves, nothing is told, and token buckets are not asked: they let the packet through.

use crate::{
    answer::Answer,
    binding::BindingRow,
    dissect::{Dissected, Payload, dissect, reply::dissect_reply},
    encap::Forward,
    frame::Frame,
    hold::{HELD_MAX, HeldHeader},
    icmp::quoted,
    local::LocalRow,
    node::{LinkRow, NodeRow},
    parse::{Datagram, Parsed, parse_frame, parse_ip},
    route::{Action, Decision, NO_CPU, route},
    service::{ServiceRow, kind},
    shim::SHIM,
    slot::SlotWord,
    table::{Bucket, DetailRow},
    tables::{Tables, find_service},
    verdict::Verdict,
    wire_id::{Key, WireId},
    word::MapWord,
};

/// What the program finds, as it leaves it in its map.
pub type Words = [u64; 8];

/// What would become of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explained {
    /// What would be counted.
    pub verdict: Verdict,
    /// The service it would count for; 0 if none.
    pub service: u16,
    /// Where it would go.
    pub target: Target,
    /// The key of its session; all zeroes if it names none.
    pub key: Key,
}

/// Where a packet would go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To the kernel, untouched.
    Kernel,
    /// Nowhere.
    Nowhere,
    /// To this CPU.
    Cpu(u32),
    /// To the AF_XDP socket of the queue that it arrives by, if there is one.
    AfXdp,
    /// Back to its sender, turned into the answer that it is too big.
    Sender,
    /// Into the hold ring, if it has room there: its session is on its way.
    Held,
    /// To another node.
    Node {
        /// Its index.
        node: u16,
        /// The index of the interface that leads there.
        ifindex: u32,
    },
}

const KERNEL: u64 = 0;
const NOWHERE: u64 = 1;
const CPU: u64 = 2;
const NODE: u64 = 3;
const AF_XDP: u64 = 4;
const HOLD: u64 = 5;
const SENDER: u64 = 6;

/// Decides about a frame that would arrive on the interface `ingress`.
#[inline(always)]
pub fn explain<T: Tables>(frame: &Frame, ingress: u32, tables: &T) -> Words {
    let decision = route(frame, ingress, &Unlimited(tables));
    let Decision { mut verdict, service, action, datagram, key } = decision;
    let (kind, target, ifindex) = match action {
        Action::Pass => (KERNEL, 0, 0),
        Action::Drop => (NOWHERE, 0, 0),
        Action::Hold => {
            let held = HeldHeader::of(frame, &datagram, key, service, ingress);
            if held.is_some_and(|(header, _)| header.length as usize <= HELD_MAX) {
                (HOLD, 0, 0)
            } else {
                verdict = Verdict::HoldTooLong;
                (NOWHERE, 0, 0)
            }
        }
        Action::Deliver { cpu: NO_CPU, .. } => (AF_XDP, 0, 0),
        Action::Deliver { cpu, .. } => (CPU, cpu as u64, 0),
        Action::Forward(forward) => match forward.plan(frame, &datagram, tables) {
            Ok(plan) => (NODE, forward.node as u64, plan.ifindex() as u64),
            Err(Verdict::TooBig) if is_answered(frame, &forward, &datagram, tables) => {
                verdict = Verdict::TooBigAnswered;
                (SENDER, 0, 0)
            }
            Err(reason) => {
                verdict = reason;
                (NOWHERE, 0, 0)
            }
        },
    };
    [verdict as u64, service as u64, kind, target, ifindex, key.hash, key.slot as u64, 0]
}

/// Whether the sender of a packet that does not fit would be told so.
#[inline(always)]
fn is_answered<T: Tables>(
    frame: &Frame,
    forward: &Forward,
    datagram: &Datagram,
    tables: &T,
) -> bool {
    forward.is_first_hop()
        && forward.mtu(tables).is_some_and(|mtu| Answer::quoted(frame, datagram, mtu).is_some())
}

impl Explained {
    /// What these words say; `None` if it is nothing that this version knows.
    pub fn from_words(words: Words) -> Option<Self> {
        let [verdict, service, kind, target, ifindex, hash, slot, _] = words;
        let target = match kind {
            KERNEL => Target::Kernel,
            NOWHERE => Target::Nowhere,
            CPU => Target::Cpu(target as u32),
            AF_XDP => Target::AfXdp,
            HOLD => Target::Held,
            SENDER => Target::Sender,
            NODE => Target::Node { node: target as u16, ifindex: ifindex as u32 },
            _ => return None,
        };
        let verdict = *Verdict::ALL.get(verdict as usize)?;
        Some(Self {
            verdict,
            service: service as u16,
            target,
            key: Key { hash, slot: slot as u16 },
        })
    }
}

/// The wire id in a packet that has one, or of the packet that an ICMP error quotes, and the row of
/// its service. For people: the decision does not need it twice.
pub fn find_wire_id<'a, T: Tables>(
    frame: &Frame,
    tables: &'a T,
) -> Option<(WireId, &'a ServiceRow)> {
    let local = tables.local()?;
    let noise = local.service_seed();
    let mut parsed = parse_frame(frame);
    if let Parsed::Udp(outer) = parsed
        && let Some(row) = find_service(tables, local, outer.destination, outer.port)
        && row.kind == kind::ENCAP
    {
        let room = outer.payload_length.checked_sub(SHIM)?;
        parsed = parse_ip(frame, outer.payload() + SHIM, room);
    }
    match parsed {
        Parsed::Udp(datagram) => {
            let row = find_service(tables, local, datagram.destination, datagram.port)?;
            let (start, length) = (datagram.payload(), datagram.payload_length);
            let payload = Payload { frame, start, length };
            let Dissected { id, .. } = dissect(payload, datagram.source, row)?;
            Some((id, row))
        }
        Parsed::IcmpError(icmp) => {
            let quoted = quoted(frame, &icmp, noise, tables, local)?;
            Some((dissect_reply(quoted.payload, quoted.service)?, quoted.service))
        }
        _ => None,
    }
}

/// Tables whose token buckets are never empty.
struct Unlimited<'a, T>(&'a T);

impl<T: Tables> Tables for Unlimited<'_, T> {
    #[inline(always)]
    fn local(&self) -> Option<&LocalRow> {
        self.0.local()
    }

    #[inline(always)]
    fn service(&self, row: u32) -> Option<&ServiceRow> {
        self.0.service(row)
    }

    #[inline(always)]
    fn slot(&self, slot: u16) -> Option<SlotWord> {
        self.0.slot(slot)
    }

    #[inline(always)]
    fn bucket(&self, bucket: u32) -> Option<&Bucket> {
        self.0.bucket(bucket)
    }

    #[inline(always)]
    fn detail(&self, index: u32) -> Option<&DetailRow> {
        self.0.detail(index)
    }

    #[inline(always)]
    fn binding(&self, index: u32) -> Option<&BindingRow> {
        self.0.binding(index)
    }

    #[inline(always)]
    fn clients(&self, bucket: u32) -> Option<&Bucket> {
        self.0.clients(bucket)
    }

    #[inline(always)]
    fn node(&self, node: u16) -> Option<&NodeRow> {
        self.0.node(node)
    }

    #[inline(always)]
    fn link(&self, link: u8) -> Option<&LinkRow> {
        self.0.link(link)
    }

    #[inline(always)]
    fn cpu(&self, index: u32) -> Option<u32> {
        self.0.cpu(index)
    }

    #[inline(always)]
    fn limit(&self, _: u32) -> Option<&MapWord> {
        None
    }

    #[inline(always)]
    fn jiffies(&self) -> u64 {
        self.0.jiffies()
    }
}
