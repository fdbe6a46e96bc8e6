//! ICMP errors: what a router, or a client's host, says about a packet that a service has sent.
//!
//! The message quotes the packet. The service is the packet's source, and where the quote names the
//! session the message is steered as a packet of the session would be, so that the kernel whose
//! socket sent it learns of a smaller path MTU or of an unreachable client. It arrives there as an
//! ordinary ICMP message, without its encapsulation. Where the quote does not name the session, the
//! client that the packet went to may: but only the session's own node knows who is bound to whom.

use crate::{
    binding::Binding,
    dissect::Payload,
    frame::{Frame, forget},
    local::LocalRow,
    node::Address,
    parse::{Datagram, ICMP, IPV4, IPV6, PROTOCOL_UDP, UDP},
    service::{ServiceRow, kind},
    tables::{Tables, find_service},
};
use zerocopy::byteorder::network_endian::U16;

/// The packet that an ICMP error quotes, as much of it as is there.
pub(crate) struct Quoted<'t, 'a, 'f> {
    /// The service that sent it.
    pub(crate) service: &'t ServiceRow,
    /// What it sent.
    pub(crate) payload: Payload<'a, 'f>,
}

/// Reads the quoted packet as far as its UDP header; `None` if no service here has sent it, or if it
/// is a fragment that does not show its ports. Quotes are short: lengths in the packet's headers say
/// more than is there.
#[inline(always)]
pub(crate) fn quoted<'t, 'a, 'f, T: Tables>(
    frame: &'a Frame<'f>,
    icmp: &Datagram,
    noise: u64,
    tables: &'t T,
    local: &LocalRow,
) -> Option<Quoted<'t, 'a, 'f>> {
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
    if source != icmp.destination {
        return None;
    }
    let service = find_service(tables, local, source, port)?;
    if service.kind != kind::DATA && service.kind != kind::CONTROL {
        return None;
    }
    let start = forget(start + header, noise) + UDP;
    let length = if length < room { length } else { room };
    Some(Quoted { service, payload: Payload { frame, start, length } })
}

/// The client that the quoted packet went to.
#[inline(always)]
pub(crate) fn client(frame: &Frame, icmp: &Datagram, quoted: &Payload) -> Option<Binding> {
    let start = icmp.udp + ICMP;
    let address = match icmp.destination.v4() {
        Some(_) => Address::from_v4(u32::from_ne_bytes(frame.read::<[u8; 4]>(start + 16)?)),
        None => Address::from_bytes(frame.read::<[u8; 16]>(start + 24)?),
    };
    let port = frame.read::<u16>(quoted.start - UDP + 2)?;
    Some(Binding { address, port })
}
