//! The other direction: what a service's own packets to its clients tell about their session.

use super::{Payload, native};
use crate::{
    service::{ServiceRow, kind, protocol},
    wire_id::WireId,
};

/// The wire id by which the session's own packets would be steered, in a packet of the service to a
/// client; `None` if such a packet does not carry it.
///
/// Native packets name their session in both directions. Others carry the id that the *client*
/// chose, and ours only where they introduce it: QUIC in long headers (the Source Connection ID),
/// WireGuard in initiations and responses (the sender index), DTLS and GTP-U nowhere.
#[inline(always)]
pub fn dissect_reply(payload: Payload, service: &ServiceRow) -> Option<WireId> {
    if service.kind == kind::CONTROL {
        return native::dissect_control(payload).map(|control| control.id);
    }
    match service.protocol {
        protocol::NATIVE => native::reply(payload),
        protocol::QUIC => super::quic::dissect_reply(payload, service.seed),
        protocol::QUIC_LB => super::quic_lb::dissect_reply(payload, service),
        protocol::WIREGUARD => super::wireguard::dissect_reply(payload),
        _ => None,
    }
}
