//! The last check before an application: what the socket selector decides at the end of a CPU
//! queue, by the exact clock.
//!
//! A packet may have waited in the queue, or been held, while the lease ran out, the session moved or
//! its client attached from elsewhere. So the selector asks the same tables again. "Delivered" means:
//! passed here.

use crate::{
    binding::{Binding, NotClient, check_sender},
    dissect::{Dissected, Payload, dissect},
    frame::Frame,
    local::LocalRow,
    marker::is_marker,
    node::Address,
    parse::UDP,
    service::{ServiceRow, flag, kind},
    table::{Entry, Place},
    tables::{Lookup, Tables, find_service, lookup},
    verdict::Admission,
    wire_id::Key,
};

/// What to do with a datagram, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admit {
    /// The reason, and the index of the counter.
    pub admission: Admission,
    /// The service it counts for; 0 if none.
    pub service: u16,
    /// The socket of this CPU gets it, of the control port's sockets if `control`.
    pub socket: Option<(u32, bool)>,
    /// The key of its session; [`Key::NONE`] where the decision did not get that far.
    pub key: Key,
}

/// A datagram as the selector finds it: from its UDP header on.
pub struct Arrived<'a, 'f> {
    /// The datagram, starting with the UDP header.
    pub frame: &'a Frame<'f>,
    /// The IP packet's source.
    pub source: Address,
    /// The IP packet's destination.
    pub destination: Address,
    /// CLOCK_BOOTTIME in nanoseconds.
    pub now: u64,
    /// The CPU that processes it.
    pub cpu: u32,
}

/// Decides about a datagram.
#[inline(always)]
pub fn admit<T: Tables>(arrived: &Arrived, tables: &T) -> Admit {
    let Some(ports) = arrived.frame.read::<[u16; 4]>(0) else {
        return Admit::drop(Admission::NoWireId, 0);
    };
    let Some(local) = tables.local() else {
        return Admit::drop(Admission::NotReady, 0);
    };
    let Some(service) = find_service(tables, local, arrived.destination, ports[1]) else {
        return Admit::drop(Admission::NoService, 0);
    };
    if service.kind != kind::DATA && service.kind != kind::CONTROL {
        return Admit::drop(Admission::NoService, 0);
    }
    let length = u16::from_be(ports[2]) as usize;
    if length < UDP {
        return service.drop(Admission::NoWireId);
    }
    let Arrived { frame, source, cpu, .. } = *arrived;
    let nonce = local.nonce();
    if nonce[0] != 0 && is_marker(frame, UDP, length - UDP, nonce) {
        return service.pass(Admission::Marker, cpu);
    }
    let payload = Payload { frame, start: UDP, length: length - UDP };
    let Some(Dissected { id, opens }) = dissect(payload, source, service) else {
        return service.drop(Admission::NoWireId);
    };
    let key = id.key(service.seed);
    Admit { key, ..admit_key(arrived, tables, local, service, key, opens) }
}

/// Decides about a datagram of a session.
#[inline(always)]
fn admit_key<T: Tables>(
    arrived: &Arrived,
    tables: &T,
    local: &LocalRow,
    service: &ServiceRow,
    key: Key,
    opens: bool,
) -> Admit {
    let Some(slot) = tables.slot(key.slot) else {
        return service.drop(Admission::NotReady);
    };
    let identity = local.identity();
    let fence = local.fence();
    if arrived.now >= local.exact_deadline() {
        return service.drop(Admission::Late);
    }
    if slot.has_rows() {
        match lookup(tables, key.hash, identity.bucket_bits) {
            Lookup::Hit { bits, detail, generation } => {
                // What is held now may have been sent here before: it waited in the queue, and
                // is the application's as long as the session is ours.
                let Some(cpu) = Place::unpack(bits).and_then(Place::ours) else {
                    return service.drop(Admission::NotOwner);
                };
                if Entry::epoch_of(bits) != fence.epoch() {
                    return service.drop(Admission::NotOwner);
                }
                if service.flags & flag::ENFORCE_BINDING != 0
                    && let Some(refused) = arrived.check_binding(detail, generation, tables)
                {
                    return service.drop(refused);
                }
                let right = arrived.cpu == cpu as u32;
                let admission = if right { Admission::Delivered } else { Admission::WrongCpu };
                return service.pass(admission, cpu as u32);
            }
            Lookup::Torn => return service.drop(Admission::NotOwner),
            Lookup::Miss => {}
        }
    }
    let needs_none = opens || service.kind == kind::CONTROL;
    if !needs_none || slot.owner() != identity.node {
        return service.drop(Admission::NotOwner);
    }
    service.pass(Admission::DeliveredNew, arrived.cpu)
}

impl Arrived<'_, '_> {
    /// Why the sender is not the session's client.
    #[inline(always)]
    fn check_binding<T: Tables>(
        &self,
        detail: u32,
        generation: u16,
        tables: &T,
    ) -> Option<Admission> {
        let Some(port) = self.frame.read::<u16>(0) else {
            return Some(Admission::NoWireId);
        };
        match check_sender(
            tables.binding(detail),
            generation,
            Binding { address: self.source, port },
        ) {
            Ok(()) => None,
            Err(NotClient::Nobody) => Some(Admission::Unbound),
            Err(NotClient::Other) => Some(Admission::TransportOld),
            Err(NotClient::Torn) => Some(Admission::NotOwner),
        }
    }
}

impl Admit {
    /// What becomes of a datagram whose IP header cannot be read.
    pub const UNREADABLE: Self =
        Self { admission: Admission::NoService, service: 0, socket: None, key: Key::NONE };

    #[inline(always)]
    fn drop(admission: Admission, service: u16) -> Self {
        Self { admission, service, socket: None, key: Key::NONE }
    }
}

impl ServiceRow {
    #[inline(always)]
    fn drop(&self, admission: Admission) -> Admit {
        Admit::drop(admission, self.service)
    }

    #[inline(always)]
    fn pass(&self, admission: Admission, cpu: u32) -> Admit {
        let socket = Some((cpu, self.kind == kind::CONTROL));
        Admit { admission, service: self.service, socket, key: Key::NONE }
    }
}
