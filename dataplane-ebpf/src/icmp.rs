//! ICMP errors: what a router, or a client's host, says about a packet that a service has sent.
//!
//! The message quotes the packet. The service is the packet's source, and where the quote names the
//! session the message is steered as a packet of the session would be, so that the kernel whose
//! socket sent it learns of a smaller path MTU or of an unreachable client. It arrives there as an
//! ordinary ICMP message, without its encapsulation.

use crate::{
    dissect::{Payload, reply::dissect_reply},
    frame::{Frame, forget},
    node::Address,
    parse::{Datagram, ICMP, IPV4, IPV6, PROTOCOL_UDP, Parsed, UDP, parse_frame},
    route::{Action, Decision, Packet, read_shim},
    service::kind,
    tables::{Tables, find_service},
    verdict::Verdict,
    wire_id::Key,
};
use zerocopy::byteorder::network_endian::U16;

/// The packet that an ICMP error quotes, as much of it as is there.
struct Quoted {
    /// Who sent it: the service, if the error is for us.
    source: Address,
    /// The source port, in network byte order.
    port: u16,
    /// Where the UDP payload starts in the frame.
    payload: usize,
    /// How much of the UDP payload is quoted.
    length: usize,
}

/// Decides about an ICMP error that arrived on the interface `ingress`: whatever [`crate::route`]
/// answered with [`Action::Icmp`].
#[inline(always)]
pub fn route<T: Tables>(frame: &Frame, ingress: u32, tables: &T) -> Decision {
    let Some(local) = tables.local() else {
        return Decision::PASS;
    };
    let noise = local.service_seed();
    let mut shim = None;
    let icmp = match parse_frame(frame) {
        Parsed::IcmpError(icmp) => icmp,
        Parsed::Udp(outer) => match read_shim(frame, ingress, &outer.forget(noise), tables) {
            Ok((read, Parsed::IcmpError(icmp))) => {
                shim = Some(read);
                icmp
            }
            Ok(_) => return Decision::reject(Verdict::ShimMalformed, 0).of(outer),
            Err(verdict) => return Decision::reject(verdict, 0).of(outer),
        },
        _ => return Decision::PASS,
    };
    let icmp = icmp.forget(noise);
    // What a node forwards has a session, and is for nobody else here.
    let (unrelated, unknown) = match shim {
        None => (Decision::PASS, Verdict::IcmpUnknown),
        Some(_) => (Decision::reject(Verdict::ShimMalformed, 0).of(icmp), Verdict::NoWireId),
    };
    let Some(quoted) = quoted(frame, &icmp, noise) else {
        return unrelated;
    };
    if quoted.source != icmp.destination {
        return unrelated;
    }
    let Some(service) = find_service(tables, local, quoted.source, quoted.port) else {
        return unrelated;
    };
    if service.kind != kind::DATA && service.kind != kind::CONTROL {
        return unrelated;
    }
    let identity = local.identity();
    if identity.node == 0 {
        return Decision::reject(Verdict::NotReady, service.service).of(icmp);
    }
    let payload = Payload { frame, start: quoted.payload, length: quoted.length };
    let Some(id) = dissect_reply(payload, service) else {
        let action = if shim.is_none() { Action::Pass } else { Action::Drop };
        return Decision {
            verdict: unknown,
            service: service.service,
            action,
            datagram: icmp,
            key: Key::NONE,
        };
    };
    let key = id.key(service.seed);
    let Some(slot) = tables.slot(key.slot) else {
        return Decision::reject(Verdict::NotReady, service.service).of(icmp);
    };
    let datagram = icmp;
    let packet =
        Packet { tables, local, identity, service, datagram, shim, key, slot, opens: false };
    let decision = packet.decide();
    let verdict = match decision.action {
        Action::Deliver { .. } => Verdict::IcmpLocal,
        Action::Forward(_) => Verdict::IcmpForward,
        _ => decision.verdict,
    };
    Decision { verdict, ..decision }
}

/// Reads the quoted packet as far as its UDP header; `None` if it is none of UDP, or a fragment
/// that does not show its ports. Quotes are short: lengths in its headers say more than is there.
#[inline(always)]
fn quoted(frame: &Frame, icmp: &Datagram, noise: u64) -> Option<Quoted> {
    let start = icmp.udp + ICMP;
    let first = frame.read::<u8>(start)?;
    let (source, header) = match (first >> 4, icmp.destination.v4()) {
        (4, Some(_)) => {
            let header = (first & 0xf) as usize * 4;
            let fragment = frame.read::<U16>(start + 6)?.get();
            let is_udp = frame.read::<u8>(start + 9)? == PROTOCOL_UDP;
            if header < IPV4 || !is_udp || fragment & 0x1fff != 0 {
                return None;
            }
            let source = frame.read::<[u8; 4]>(start + 12)?;
            (Address::from_v4(u32::from_ne_bytes(source)), header)
        }
        (6, None) => {
            // Services send no extension headers.
            if frame.read::<u8>(start + 6)? != PROTOCOL_UDP {
                return None;
            }
            (Address::from_bytes(frame.read::<[u8; 16]>(start + 8)?), IPV6)
        }
        _ => return None,
    };
    let room = icmp.payload_length.checked_sub(header + UDP)?;
    let port = frame.read::<u16>(start + header)?;
    let length = frame.read::<U16>(start + header + 4)?.get() as usize;
    let length = length.checked_sub(UDP)?;
    Some(Quoted {
        source,
        port,
        payload: forget(start + header, noise) + UDP,
        length: if length < room { length } else { room },
    })
}
