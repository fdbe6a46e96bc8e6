//! How a service's packets name their session: `protocol` and the keys that go with it.

use super::{
    convert::{choice, integer, server_id_lengths},
    document::Section,
};
use crate::dataplane::services::Protocol;
use dataplane_ebpf::{
    dissect::quic_lb::UNROUTABLE,
    wire_id::{ID_MAX, ID_MIN},
};

/// Default length of QUIC's connection ids, in bytes.
const QUIC_ID_LENGTH: u8 = 8;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Dissector {
    Native,
    Quic,
    QuicLb,
    WireGuard,
    Dtls,
    GtpU,
    Offset,
}

const DISSECTORS: [(&str, Dissector); 7] = [
    ("native", Dissector::Native),
    ("quic", Dissector::Quic),
    ("quic-lb", Dissector::QuicLb),
    ("wireguard", Dissector::WireGuard),
    ("dtls", Dissector::Dtls),
    ("gtpu", Dissector::GtpU),
    ("offset", Dissector::Offset),
];

/// The protocol of a service; `None` if there is a problem, which is reported.
pub(super) fn protocol(section: &Section<'_, '_>) -> Option<Protocol> {
    let advice =
        "\"native\", \"quic\", \"quic-lb\", \"wireguard\", \"dtls\", \"gtpu\" or \"offset\"";
    let dissector = section.required("protocol", advice, choice(&DISSECTORS))?;
    let (name, _) = DISSECTORS.iter().find(|(_, other)| *other == dissector)?;
    let only_for = |keys: [&str; 2], theirs: Dissector, called: &str| {
        for key in keys.into_iter().filter(|_| dissector != theirs) {
            section.refuse(key, || {
                format!("`{key}` is only for protocol {called:?}, not for {name:?}: remove it")
            });
        }
    };
    only_for(["id_offset", "unknown"], Dissector::Offset, "offset");
    only_for(["server_id_length", "config_id"], Dissector::QuicLb, "quic-lb");
    match dissector {
        Dissector::Native | Dissector::WireGuard | Dissector::GtpU => {
            section.refuse("id_length", || {
                format!("`id_length` is fixed by protocol {name:?}: remove it")
            });
        }
        Dissector::QuicLb => section.refuse("id_length", || {
            "`id_length` is not for protocol \"quic-lb\": say `server_id_length` instead".to_owned()
        }),
        Dissector::Quic | Dissector::Dtls | Dissector::Offset => {}
    }
    let lengths = ID_MIN as u8..=ID_MAX as u8;
    Some(match dissector {
        Dissector::Native => Protocol::Native,
        Dissector::WireGuard => Protocol::WireGuard,
        Dissector::GtpU => Protocol::GtpU,
        Dissector::Quic => {
            Protocol::Quic { id_length: section.or("id_length", QUIC_ID_LENGTH, integer(lengths))? }
        }
        Dissector::QuicLb => quic_lb(section)?,
        Dissector::Dtls => {
            let advice = "protocol \"dtls\" needs the length of the server's connection ids, 4 to 20 \
                          bytes";
            Protocol::Dtls { id_length: section.required("id_length", advice, integer(lengths))? }
        }
        Dissector::Offset => {
            let advice = "protocol \"offset\" needs the id's length, 4 to 20 bytes";
            let length = section.required("id_length", advice, integer(lengths));
            let offset = section.or("id_offset", 0, integer(0..=u8::MAX));
            let choices = [("reject", false), ("open", true)];
            let unknown_opens = section.or("unknown", false, choice(&choices));
            Protocol::Offset { offset: offset?, length: length?, unknown_opens: unknown_opens? }
        }
    })
}

fn quic_lb(section: &Section<'_, '_>) -> Option<Protocol> {
    let advice = "protocol \"quic-lb\" needs the length of the server ids, 1 to 15 bytes";
    let lengths = section.required("server_id_length", advice, server_id_lengths);
    let config_id = section.optional("config_id", integer(0..=UNROUTABLE - 1));
    let (server_id_lengths, config_id) = (lengths?, config_id?);
    let in_use = |id: u8| server_id_lengths[usize::from(id)] != 0;
    let first = (0..UNROUTABLE).find(|&id| in_use(id))?;
    let config_id = config_id.unwrap_or(first);
    if !in_use(config_id) {
        section.refuse("config_id", || {
            format!(
                "`config_id` is {config_id}, for which `server_id_length` gives no length: choose \
                 one that has one, such as {first}"
            )
        });
        return None;
    }
    Some(Protocol::QuicLb { server_id_lengths, config_id })
}
