//! The fence on the way out: what becomes of a packet that this node sends.
//!
//! A node that may no longer act as owner must not answer either, and its applications do not know
//! that the lease has run out. So a program on every interface asks the same tables by the exact
//! clock. A reply is told by its source: a service's address and port. Where it names its session,
//! it must be this node's too.

use crate::{
    binding::Binding,
    dissect::{Payload, native},
    frame::Frame,
    local::{Fence, Identity},
    parse::{Datagram, Parsed, parse_reply},
    service::{flag, kind, protocol},
    table::{Entry, Place},
    tables::{Lookup, Tables, find_client, find_service, lookup},
    verdict::Egress,
};

/// What becomes of a packet, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The reason, and the index of the counter.
    pub egress: Egress,
    /// The service it counts for; 0 if none.
    pub service: u16,
    /// Where the UDP payload starts in the frame, if its first header names the session.
    pub names_session_at: Option<usize>,
    /// Where it goes; all zeroes where that was not needed.
    pub client: Binding,
}

/// A packet on its way out.
pub struct Sent<'a, 'f> {
    /// The packet, as far as it lies in one piece: see [`Reply::may_be_cut`].
    pub frame: &'a Frame<'f>,
    /// Whether it starts with an Ethernet header; otherwise with the IP header.
    pub ethernet: bool,
}

/// Decides about a packet; `None` if it is not a service's ([`Egress::Other`]). `now` is CLOCK_BOOTTIME
/// in nanoseconds, read for replies only.
#[inline(always)]
pub fn reply<T: Tables>(sent: &Sent, now: impl FnOnce() -> u64, tables: &T) -> Option<Reply> {
    let parsed = parse_reply(sent.frame, sent.ethernet);
    let local = tables.local()?;
    let datagram = match parsed {
        Parsed::Other | Parsed::IcmpError(_) => return None,
        Parsed::Broken(source, _) => {
            let service = find_service(tables, local, source, 0)?;
            return Some(Reply::of(Egress::Unreadable, service.service));
        }
        Parsed::Udp(datagram) => datagram.forget(local.service_seed()),
    };
    let service = find_service(tables, local, datagram.source, datagram.source_port)?;
    if service.kind != kind::DATA && service.kind != kind::CONTROL {
        return None;
    }
    let fence = local.fence();
    if now() >= local.exact_deadline() || fence.epoch() == 0 {
        return Some(Reply::of(Egress::Shut, service.service).to(&datagram));
    }
    let identity = local.identity();
    // What a control port answers may be that the session is not ours.
    if service.kind == kind::DATA && service.protocol == protocol::NATIVE {
        let egress = named(sent.frame, &datagram, service.seed, identity, fence, tables);
        let names_session_at = Some(datagram.payload());
        let reply = Reply::of(egress, service.service).to(&datagram);
        return Some(Reply { names_session_at, ..reply });
    }
    let egress = if service.flags & flag::ENFORCE_BINDING != 0 {
        bound(&datagram, service.seed, identity, fence, tables)
    } else {
        Egress::Passed
    };
    Some(Reply::of(egress, service.service).to(&datagram))
}

/// Where a reply goes.
#[inline(always)]
const fn client_of(datagram: &Datagram) -> Binding {
    Binding { address: datagram.destination, port: datagram.port }
}

/// The packet goes to a client that a session is bound to.
#[inline(always)]
fn bound<T: Tables>(
    datagram: &Datagram,
    seed: u64,
    identity: Identity,
    fence: Fence,
    tables: &T,
) -> Egress {
    if identity.node == 0 {
        return Egress::NotReady;
    }
    match find_client(tables, client_of(datagram), seed, identity.bucket_bits) {
        Lookup::Hit { bits, .. } => owned(bits, fence),
        Lookup::Torn => Egress::Torn,
        Lookup::Miss => Egress::NoSession,
    }
}

/// The packet's first header names the session.
#[inline(always)]
fn named<T: Tables>(
    frame: &Frame,
    datagram: &Datagram,
    seed: u64,
    identity: Identity,
    fence: Fence,
    tables: &T,
) -> Egress {
    let payload = Payload { frame, start: datagram.payload(), length: datagram.payload_length };
    let Some(id) = native::reply(payload) else {
        return Egress::NoWireId;
    };
    if identity.node == 0 {
        return Egress::NotReady;
    }
    match lookup(tables, id.key(seed).hash, identity.bucket_bits) {
        Lookup::Hit { bits, .. } => owned(bits, fence),
        Lookup::Torn => Egress::Torn,
        Lookup::Miss => Egress::NoSession,
    }
}

/// Whether a session with this entry is this node's.
#[inline(always)]
fn owned(bits: u64, fence: Fence) -> Egress {
    match Place::unpack(bits) {
        None => Egress::Torn,
        Some(place) if place.ours().is_none() => Egress::NotOwner,
        Some(_) if Entry::epoch_of(bits) != fence.epoch() => Egress::OldEpoch,
        Some(_) => Egress::Passed,
    }
}

impl Reply {
    /// Of whose headers too little could be read to tell whether it is a service's.
    pub const UNREAD: Self = Self::of(Egress::Unreadable, 0);

    #[inline(always)]
    const fn of(egress: Egress, service: u16) -> Self {
        Self { egress, service, names_session_at: None, client: Binding::NONE }
    }

    /// The same of a datagram to a client.
    #[inline(always)]
    const fn to(self, datagram: &Datagram) -> Self {
        Self { client: client_of(datagram), ..self }
    }

    /// Whether more of the packet could lead to another outcome: a service's packet of which too
    /// little was there to read.
    #[inline(always)]
    pub const fn may_be_cut(&self) -> bool {
        matches!(self.egress, Egress::Unreadable | Egress::NoWireId)
    }
}
