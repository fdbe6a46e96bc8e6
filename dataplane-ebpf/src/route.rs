//! The decision: from a frame and the tables to a verdict. Pure; the same in the kernel, in tests
//! and in fuzzers.

use crate::{
    binding::{Binding, NotClient, check_sender},
    dissect::{Dissected, Payload, dissect, reply::dissect_reply},
    encap::Forward,
    frame::Frame,
    icmp::{self, Quoted},
    limit,
    local::{Identity, LocalRow},
    node::Address,
    parse::{Datagram, ETHERNET, IPV4, IPV6, Parsed, UDP, parse_frame, parse_ip},
    service::{ServiceRow, flag, kind},
    shim::{HOPS, SHIM, Shim},
    slot::SlotWord,
    table::{Entry, Place},
    tables::{Lookup, Tables, find_client, find_service, lookup},
    verdict::Verdict,
    wire_id::Key,
};

/// What is to be done with a packet, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The reason, and the index of the counter.
    pub verdict: Verdict,
    /// The service it counts for; 0 if none.
    pub service: u16,
    /// What to do.
    pub action: Action,
    /// The datagram in the frame as it arrived; empty where the decision needed none.
    pub datagram: Datagram,
    /// The key of its session; [`Key::NONE`] where the decision did not get that far.
    pub key: Key,
}

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Leave it to the kernel.
    Pass,
    /// Drop it.
    Drop,
    /// Give it to an application on this node.
    Deliver {
        /// The CPU; [`NO_CPU`] if it goes to the AF_XDP socket of the queue of its arrival.
        cpu: u32,
        /// Whether another node has forwarded it, so that its encapsulation must go.
        forwarded: bool,
    },
    /// Send it to another node.
    Forward(Forward),
    /// Keep it in the hold ring; see [`crate::hold`].
    Hold,
}

/// Not a CPU: what the packets of services with AF_XDP have for one. A field of its own would cost
/// every other service's packets 2 ns, for the registers that it takes.
pub const NO_CPU: u32 = u32::MAX;

/// A packet on its way through the decision.
struct Packet<'a, T> {
    tables: &'a T,
    local: &'a LocalRow,
    identity: Identity,
    service: &'a ServiceRow,
    datagram: Datagram,
    /// The shim, if another node forwarded the packet.
    shim: Option<Shim>,
    key: Key,
    slot: SlotWord,
    opens: bool,
    /// Whether it is an ICMP error about a packet of the session.
    is_icmp: bool,
}

/// A packet for a service of this node, or for the node itself.
pub struct Arrival<'a> {
    local: &'a LocalRow,
    service: &'a ServiceRow,
    datagram: Datagram,
    is_icmp: bool,
    /// What makes the packet unreadable.
    broken: Option<Verdict>,
}

/// Decides about a frame that arrived on the interface `ingress`.
#[inline(always)]
pub fn route<T: Tables>(frame: &Frame, ingress: u32, tables: &T) -> Decision {
    match Arrival::of(frame, tables) {
        Some(arrival) => arrival.route(frame, ingress, tables),
        None => Decision::PASS,
    }
}

impl<'a> Arrival<'a> {
    /// Reads a frame; `None` if it is the kernel's, for no service of this node.
    ///
    /// A step of its own, so that the exits on the way have no decision to fill in: every packet
    /// would do it for them.
    #[inline(always)]
    pub fn of<T: Tables>(frame: &Frame, tables: &'a T) -> Option<Self> {
        let (datagram, is_icmp) = match parse_frame(frame) {
            Parsed::Other => return None,
            Parsed::Broken(address, verdict) => return Self::broken(address, verdict, tables),
            Parsed::Udp(datagram) => (datagram, false),
            Parsed::IcmpError(icmp) => (icmp, true),
        };
        let local = tables.local()?;
        let datagram = datagram.forget(local.service_seed());
        let service = find_service(tables, local, datagram.destination, datagram.port)?;
        // Port 0 is nobody's.
        if service.kind == kind::ADDRESS && !is_icmp {
            return None;
        }
        Some(Self { local, service, datagram, is_icmp, broken: None })
    }

    /// A packet that cannot be read is refused if its address is a service's, and is none of our
    /// business otherwise.
    #[inline(always)]
    fn broken<T: Tables>(address: Address, verdict: Verdict, tables: &'a T) -> Option<Self> {
        let local = tables.local()?;
        let service = find_service(tables, local, address, 0)?;
        let broken = Some(verdict);
        Some(Self { local, service, datagram: Datagram::NONE, is_icmp: false, broken })
    }

    /// Decides about the packet, which is in this frame.
    #[inline(always)]
    pub fn route<T: Tables>(self, frame: &Frame, ingress: u32, tables: &'a T) -> Decision {
        let Self { local, mut service, datagram: outer, mut is_icmp, broken } = self;
        if let Some(verdict) = broken {
            return Decision::reject(verdict, service.service);
        }
        let noise = local.service_seed();
        let identity = local.identity();
        let mut datagram = outer;
        let mut shim = None;
        if service.kind == kind::ENCAP {
            match unwrap(frame, ingress, &outer, tables, local) {
                Ok(unwrapped) => {
                    datagram = unwrapped.datagram.forget(noise);
                    service = unwrapped.service;
                    shim = Some(unwrapped.shim);
                    is_icmp = unwrapped.is_icmp;
                }
                Err(verdict) => return Decision::reject(verdict, 0).of(outer),
            }
        }
        let mut payload =
            Payload { frame, start: datagram.payload(), length: datagram.payload_length };
        if is_icmp {
            let Some(quoted) = icmp::quoted(frame, &datagram, noise, tables, local) else {
                return match shim {
                    None => Decision::PASS,
                    Some(_) => Decision::reject(Verdict::ShimMalformed, 0).of(datagram),
                };
            };
            Quoted { service, payload } = quoted;
        }
        if identity.node == 0 {
            return Decision::reject(Verdict::NotReady, service.service).of(datagram);
        }
        let dissected = if is_icmp {
            dissect_reply(payload, service).map(|id| Dissected { id, opens: false })
        } else {
            dissect(payload, datagram.source, service)
        };
        let Some(Dissected { id, opens }) = dissected else {
            // Nodes forward only what they have read an id in.
            if is_icmp && shim.is_none() {
                let client = icmp::client(frame, &datagram, &payload);
                let of_client = client
                    .filter(|_| service.flags & flag::ENFORCE_BINDING != 0)
                    .and_then(|client| of_client(client, &datagram, service, local, tables));
                return of_client.unwrap_or(Decision::unknown_icmp(service.service));
            }
            return Decision::reject(Verdict::NoWireId, service.service).of(datagram);
        };
        let key = id.key(service.seed);
        let Some(slot) = tables.slot(key.slot) else {
            return Decision::reject(Verdict::NotReady, service.service).of(datagram);
        };
        Packet { tables, local, identity, service, datagram, shim, key, slot, opens, is_icmp }
            .decide()
    }
}

/// An ICMP error about a packet that does not name its session, to a client that one of this node's is
/// bound to. What is about a session on its way is the kernel's, as if nobody knew.
#[inline(always)]
fn of_client<T: Tables>(
    client: Binding,
    datagram: &Datagram,
    service: &ServiceRow,
    local: &LocalRow,
    tables: &T,
) -> Option<Decision> {
    let bucket_bits = local.identity().bucket_bits;
    let Lookup::Hit { bits, .. } = find_client(tables, client, service.seed, bucket_bits) else {
        return None;
    };
    let Some(Place::Local { cpu }) = Place::unpack(bits) else {
        return None;
    };
    let fence = local.fence();
    let reject = |verdict| Some(Decision::reject(verdict, service.service).of(*datagram));
    if !fence.is_open(tables.jiffies()) {
        return reject(Verdict::FenceShut);
    }
    if Entry::epoch_of(bits) != fence.epoch() {
        return reject(Verdict::EntryEpoch);
    }
    Some(Decision {
        verdict: Verdict::IcmpLocal,
        service: service.service,
        action: Action::Deliver { cpu: cpu as u32, forwarded: false },
        datagram: *datagram,
        key: Key::NONE,
    })
}

/// A forwarded packet without its encapsulation.
struct Unwrapped<'a> {
    datagram: Datagram,
    /// Of an ICMP error that of its address only.
    service: &'a ServiceRow,
    shim: Shim,
    is_icmp: bool,
}

/// Takes the encapsulation off, after checking who sent it.
#[inline(always)]
fn unwrap<'a, T: Tables>(
    frame: &Frame,
    ingress: u32,
    outer: &Datagram,
    tables: &'a T,
    local: &LocalRow,
) -> Result<Unwrapped<'a>, Verdict> {
    // Nodes send no options, extension headers or tags around a shim. With constants here the
    // verifier need not follow every outer header through every inner one.
    let is_v4 = outer.destination.v4().is_some();
    let start = match outer.udp {
        udp if outer.ip == ETHERNET && udp == ETHERNET + IPV4 && is_v4 => ETHERNET + IPV4 + UDP,
        udp if outer.ip == ETHERNET && udp == ETHERNET + IPV6 && !is_v4 => ETHERNET + IPV6 + UDP,
        _ => return Err(Verdict::ShimMalformed),
    };
    if outer.payload_length < SHIM {
        return Err(Verdict::ShimMalformed);
    }
    let shim = frame.read::<Shim>(start).ok_or(Verdict::ShimMalformed)?;
    if !shim.is_valid() {
        return Err(Verdict::ShimMalformed);
    }
    let sender = tables.node(shim.sender.get()).ok_or(Verdict::ShimSender)?;
    if !sender.is_present() || sender.address != outer.source {
        return Err(Verdict::ShimSender);
    }
    if !sender.arrives_on(ingress) {
        return Err(Verdict::ShimInterface);
    }
    let (inner, is_icmp) = match parse_ip(frame, start + SHIM, outer.payload_length - SHIM) {
        Parsed::Udp(datagram) => (datagram, false),
        Parsed::IcmpError(icmp) => (icmp, true),
        Parsed::Broken(_, verdict) => return Err(verdict),
        Parsed::Other => return Err(Verdict::ShimMalformed),
    };
    let service =
        find_service(tables, local, inner.destination, inner.port).ok_or(Verdict::ShimMalformed)?;
    match service.kind {
        kind::DATA | kind::CONTROL => {}
        kind::ADDRESS if is_icmp => {}
        _ => return Err(Verdict::ShimMalformed),
    }
    Ok(Unwrapped { datagram: inner, service, shim, is_icmp })
}

impl<T: Tables> Packet<'_, T> {
    #[inline(always)]
    fn decide(&self) -> Decision {
        if self.slot.has_rows() {
            match lookup(self.tables, self.key.hash, self.identity.bucket_bits) {
                Lookup::Hit { bits, detail, generation } => {
                    let (cpu, is_held) = match Place::unpack(bits) {
                        Some(Place::Local { cpu }) => (cpu, false),
                        Some(Place::Hold { cpu, .. }) => (cpu, true),
                        Some(Place::Remote { node }) => return self.row(node, detail, generation),
                        None => return self.reject(Verdict::EntryTorn),
                    };
                    return self.here(cpu, is_held, Entry::epoch_of(bits), detail, generation);
                }
                Lookup::Torn => return self.reject(Verdict::EntryTorn),
                Lookup::Miss => {}
            }
        }
        if self.slot.owner() == self.identity.node { self.unknown() } else { self.away() }
    }

    /// The session table says that the session is this node's, or on its way from here or to here.
    /// To hold a packet is not to deliver it: that needs no lease.
    #[inline(always)]
    fn here(&self, cpu: u16, is_held: bool, epoch: u32, detail: u32, generation: u16) -> Decision {
        let fence = self.local.fence();
        if let Some(refused) = self.stale(detail, generation) {
            return self.reject(refused);
        }
        if !is_held && !fence.is_open(self.tables.jiffies()) {
            return self.reject(Verdict::FenceShut);
        }
        if epoch != fence.epoch() {
            return self.reject(Verdict::EntryEpoch);
        }
        if self.service.kind == kind::CONTROL && !self.is_within_limit() {
            return self.reject(Verdict::RateLimited);
        }
        // A session that comes here from another node is bound when it has arrived: its selector
        // asks again.
        if let Some(verdict) = self.check_binding(detail, generation)
            && !(is_held && matches!(verdict, Verdict::Unbound | Verdict::EntryTorn))
        {
            return self.reject(verdict);
        }
        if is_held {
            return self.decision(Verdict::Held, Action::Hold);
        }
        self.deliver(Verdict::Local, cpu as u32)
    }

    /// Why the packet's sender is not the session's client, where that matters.
    #[inline(always)]
    fn check_binding(&self, detail: u32, generation: u16) -> Option<Verdict> {
        if self.service.flags & flag::ENFORCE_BINDING == 0 || self.is_icmp {
            return None;
        }
        let Datagram { source: address, source_port: port, .. } = self.datagram;
        let row = self.tables.binding(detail);
        match check_sender(row, generation, Binding { address, port }) {
            Ok(()) => None,
            Err(NotClient::Nobody) => Some(Verdict::Unbound),
            Err(NotClient::Other) => Some(Verdict::TransportOld),
            Err(NotClient::Torn) => Some(Verdict::EntryTorn),
        }
    }

    /// What makes a forwarded packet stale, or too new, for a session of this node.
    #[inline(always)]
    fn stale(&self, detail: u32, generation: u16) -> Option<Verdict> {
        let shim = self.shim?;
        let (known, ours) = (shim.epoch.get(), self.local.fence().epoch());
        if known != 0 && known != ours {
            let old = known < ours;
            return Some(if old { Verdict::ShimEpochOld } else { Verdict::ShimEpochNew });
        }
        let theirs = shim.version.get();
        if theirs == 0 {
            return None;
        }
        let Some(ours) = self.tables.detail(detail).and_then(|row| row.version(generation)) else {
            return Some(Verdict::EntryTorn);
        };
        if theirs == ours {
            return None;
        }
        Some(if theirs < ours { Verdict::ShimVersionOld } else { Verdict::ShimVersionNew })
    }

    /// The session table says that another node owns the session.
    #[inline(always)]
    fn row(&self, node: u16, detail: u32, generation: u16) -> Decision {
        let version = self.tables.detail(detail).and_then(|row| row.version(generation));
        let Some(version) = version else {
            return self.reject(Verdict::EntryTorn);
        };
        if let Some(shim) = self.shim
            && version <= shim.version.get()
        {
            return self.reject(Verdict::NotNewer);
        }
        self.forward(node, Verdict::ForwardRow, version)
    }

    /// The slot is this node's, and the session table has no entry.
    #[inline(always)]
    fn unknown(&self) -> Decision {
        if let Some(shim) = self.shim {
            if shim.revision.get() > self.slot.revision() {
                return self.reject(Verdict::PlacementOld);
            }
            // The sender could not have known better: the slot was its own.
            if shim.is_second_chance() {
                return self.reject(Verdict::SecondChanceMissed);
            }
        }
        if self.opens {
            return self.without_entry(Verdict::New);
        }
        if self.slot.previous() != 0 {
            return self.forward(self.slot.previous(), Verdict::SecondChance, 0);
        }
        // A client that asks about its session is told that there is none.
        if self.service.kind == kind::CONTROL && !self.is_icmp {
            return self.without_entry(Verdict::ControlUnknown);
        }
        self.reject(Verdict::NoSession)
    }

    /// The slot is another node's, and the session table has no entry.
    #[inline(always)]
    fn away(&self) -> Decision {
        let mut verdict = Verdict::ForwardSlot;
        if let Some(shim) = self.shim {
            let (theirs, ours) = (shim.revision.get(), self.slot.revision());
            if ours <= theirs {
                if shim.is_second_chance() {
                    return self.reject(Verdict::SecondChanceMissed);
                }
                let by_row = shim.version.get() != 0;
                if ours == theirs || by_row || self.slot.owner() == shim.sender.get() {
                    return self.reject(Verdict::NotNewer);
                }
                // By a later placement, which has not come here yet, the slot is this node's. Until then its
                // sessions are where they were: there, once.
                verdict = Verdict::SecondChance;
            }
        }
        if self.slot.owner() == 0 {
            return self.reject(Verdict::NoOwner);
        }
        self.forward(self.slot.owner(), verdict, 0)
    }

    #[inline(always)]
    fn without_entry(&self, verdict: Verdict) -> Decision {
        let fence = self.local.fence();
        if !fence.is_open(self.tables.jiffies()) {
            return self.reject(Verdict::FenceShut);
        }
        // The same packet sent twice must meet the same CPU, so the hash chooses.
        let cpus = self.identity.cpus as u32;
        if cpus == 0 {
            return self.reject(Verdict::NoCpu);
        }
        let Some(cpu) = self.tables.cpu((self.key.hash >> 32) as u32 % cpus) else {
            return self.reject(Verdict::NoCpu);
        };
        if !self.is_within_limit() {
            return self.reject(Verdict::RateLimited);
        }
        self.deliver(verdict, cpu)
    }

    /// Whether the source's prefix may send one more packet of this kind.
    #[inline(always)]
    fn is_within_limit(&self) -> bool {
        let limit = self.service.limit;
        if !limit.is_some() {
            return true;
        }
        let ServiceRow { seed, kind, .. } = *self.service;
        match self.tables.limit(limit::index(self.datagram.source, seed, kind)) {
            Some(word) => limit.take(word, self.tables.jiffies()),
            None => true,
        }
    }

    #[inline(always)]
    fn deliver(&self, verdict: Verdict, cpu: u32) -> Decision {
        let verdict = if self.is_icmp { Verdict::IcmpLocal } else { verdict };
        // ICMP errors go to the kernel's stack in any case: AF_XDP ports are for UDP.
        let af_xdp = self.service.flags & flag::AF_XDP != 0 && !self.is_icmp;
        let cpu = if af_xdp { NO_CPU } else { cpu };
        self.decision(verdict, Action::Deliver { cpu, forwarded: self.shim.is_some() })
    }

    #[inline(always)]
    fn forward(&self, node: u16, verdict: Verdict, version: u64) -> Decision {
        let hops = match self.shim {
            None => HOPS - 1,
            Some(shim) if shim.hops > 0 => shim.hops - 1,
            Some(_) => return self.reject(Verdict::HopLimit),
        };
        let forward = Forward {
            node,
            hops,
            second_chance: matches!(verdict, Verdict::SecondChance),
            revision: self.slot.revision(),
            version,
            entropy: self.key.hash,
        };
        let verdict = if self.is_icmp { Verdict::IcmpForward } else { verdict };
        self.decision(verdict, Action::Forward(forward))
    }

    #[inline(always)]
    fn decision(&self, verdict: Verdict, action: Action) -> Decision {
        let Self { service, datagram, key, .. } = *self;
        Decision { verdict, service: service.service, action, datagram, key }
    }

    #[inline(always)]
    fn reject(&self, verdict: Verdict) -> Decision {
        self.decision(verdict, Action::Drop)
    }
}

impl Decision {
    /// Not for a service.
    pub const PASS: Self = Self {
        verdict: Verdict::Pass,
        service: 0,
        action: Action::Pass,
        datagram: Datagram::NONE,
        key: Key::NONE,
    };

    /// An ICMP error about a packet that does not name its session.
    #[inline(always)]
    const fn unknown_icmp(service: u16) -> Self {
        Self { verdict: Verdict::IcmpUnknown, service, ..Self::PASS }
    }

    /// A refusal.
    #[inline(always)]
    pub const fn reject(verdict: Verdict, service: u16) -> Self {
        let action = Action::Drop;
        Self { verdict, service, action, datagram: Datagram::NONE, key: Key::NONE }
    }

    /// The same, about this datagram.
    #[inline(always)]
    const fn of(self, datagram: Datagram) -> Self {
        Self { datagram, ..self }
    }
}
