//! From services as people configure them to the rows of the service table.

use super::{clock::tick, wire_address};
use dataplane_ebpf::{
    dissect::{native, quic_lb},
    limit::Limit,
    service::{ENCAP_PORT, ServiceRow, find_seed, flag, kind, protocol},
    wire_id::{ID_MAX, ID_MIN},
};
use std::{
    collections::HashSet,
    iter,
    net::{IpAddr, SocketAddr},
};
use thiserror::Error;
use xxhash_rust::xxh64::xxh64;

/// How a service's packets name their session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Jumpgate's own header.
    Native,
    /// QUIC; the length of the connection ids in short headers, 4 to 20 bytes.
    Quic {
        /// In bytes.
        id_length: u8,
    },
    /// WireGuard.
    WireGuard,
    /// An id at a fixed place.
    Offset {
        /// Where it starts in the UDP payload, in bytes.
        offset: u8,
        /// 4 to 20 bytes.
        length: u8,
        /// Whether a packet with an unknown id opens a session.
        unknown_opens: bool,
    },
    /// QUIC with connection ids that name a server, not encrypted.
    QuicLb {
        /// The length of the server id under each config id, 1 to 15 bytes; 0 where it is not in
        /// use.
        server_id_lengths: [u8; quic_lb::UNROUTABLE as usize],
        /// The config id of new ids; one that is in use.
        config_id: u8,
    },
    /// DTLS 1.2 and 1.3; the length of the connection ids, 4 to 20 bytes.
    Dtls {
        /// In bytes.
        id_length: u8,
    },
    /// GTP-U.
    GtpU,
}

impl Protocol {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Quic { .. } => "quic",
            Self::WireGuard => "wireguard",
            Self::Offset { .. } => "offset",
            Self::QuicLb { .. } => "quic-lb",
            Self::Dtls { .. } => "dtls",
            Self::GtpU => "gtpu",
        }
    }

    /// Whether every reply names its session.
    pub fn replies_name_session(self) -> bool {
        self == Self::Native
    }

    /// The length of the wire ids that the service's own side chooses, in bytes.
    pub fn id_length(self) -> usize {
        match self {
            Self::Native => native::ID_LENGTH,
            Self::Quic { id_length } | Self::Dtls { id_length } => id_length as usize,
            Self::WireGuard | Self::GtpU => 4,
            Self::Offset { length, .. } => length as usize,
            Self::QuicLb { server_id_lengths, config_id } => {
                quic_lb::wire_id_length(server_id_lengths[config_id as usize] as usize)
            }
        }
    }

    /// How many bytes of a new wire id are drawn at random; the others are 0.
    pub fn random_length(self) -> usize {
        match self {
            Self::QuicLb { server_id_lengths, config_id } => {
                1 + server_id_lengths[config_id as usize] as usize
            }
            other => other.id_length(),
        }
    }

    /// What the data plane finds in packets that carry this id. Of a QUIC-LB connection id it is the
    /// server id with its config id; all other ids are themselves.
    pub fn wire_id(self, id: &[u8]) -> Vec<u8> {
        let Self::QuicLb { server_id_lengths, .. } = self else { return id.to_vec() };
        let octet = id.first().copied().unwrap_or(u8::MAX);
        let server_id = server_id_lengths.get(usize::from(octet >> 5)).copied().unwrap_or(0);
        let server_id = usize::from(server_id);
        let length = quic_lb::wire_id_length(server_id);
        if server_id == 0 || (id.len() != length && id.len() < 1 + server_id + quic_lb::NONCE_MIN) {
            return id.to_vec();
        }
        let mut wire_id = id[..1 + server_id].to_vec();
        wire_id[0] = octet & 0xe0;
        wire_id.resize(length, 0);
        wire_id
    }

    /// Whether packets can carry this wire id, which has the right length.
    pub fn can_carry(self, id: &[u8]) -> bool {
        match self {
            // A TEID of 0 names no tunnel.
            Self::GtpU => id.iter().any(|&byte| byte != 0),
            Self::QuicLb { config_id, .. } => id[0] == config_id << 5,
            _ => true,
        }
    }
}

/// How many packets of one source prefix the node delivers to a service; see
/// [`dataplane_ebpf::limit`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Those to the data port that open a session; `None`: all.
    pub new: Option<Rate>,
    /// Those to the control port; `None`: all.
    pub control: Option<Rate>,
}

/// A rate, and how far it may be exceeded for a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Packets a second in the long run, 1 to 1,000,000.
    pub rate: u32,
    /// Packets at once, 1 or more.
    pub burst: u32,
}

/// How a service's packets get to its application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// Through the kernel's stack, to the socket of the session's CPU.
    #[default]
    Socket,
    /// To the AF_XDP socket of the queue of their arrival. Control messages go to sockets.
    AfXdp,
}

impl Delivery {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::AfXdp => "af_xdp",
        }
    }
}

/// A service of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The index in counters and socket groups: 1 to 63.
    pub index: u16,
    /// Its name.
    pub name: String,
    /// The VIP and port.
    pub address: SocketAddr,
    /// The port of control messages, on the same VIP.
    pub control_port: Option<u16>,
    /// How its packets name their session.
    pub protocol: Protocol,
    /// How many packets of one source prefix it takes.
    pub limits: Limits,
    /// How they get to its application.
    pub delivery: Delivery,
    /// Whether a session takes packets only from the client that it is bound to.
    pub enforces_binding: bool,
    /// The cluster's hash seed.
    pub cluster_seed: u64,
}

/// Two rows would have one address and port, or there are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("services and the underlay need addresses and ports that differ, at most a few hundred")]
pub struct Clash;

impl Rate {
    fn limit(self) -> Limit {
        let tick = tick().expect("Linux has CLOCK_MONOTONIC_COARSE since 2.6.32");
        Limit::new(self.rate, self.burst, tick)
    }
}

impl Service {
    /// The hash seed of the service's wire ids: the same on every node.
    pub fn seed(&self) -> u64 {
        xxh64(self.name.as_bytes(), self.cluster_seed)
    }

    /// The rows of its ports.
    pub(super) fn rows(&self) -> impl Iterator<Item = ServiceRow> {
        let data = self.row(self.address.port(), kind::DATA);
        let control = self.control_port.map(|port| self.row(port, kind::CONTROL));
        iter::once(data).chain(control)
    }

    fn row(&self, port: u16, kind: u8) -> ServiceRow {
        let (protocol, id_offset, unknown_opens) = match self.protocol {
            Protocol::Native => (protocol::NATIVE, 0, false),
            Protocol::Quic { .. } => (protocol::QUIC, 0, false),
            Protocol::WireGuard => (protocol::WIREGUARD, 0, false),
            Protocol::Offset { offset, unknown_opens, .. } => {
                (protocol::OFFSET, offset, unknown_opens)
            }
            Protocol::QuicLb { .. } => (protocol::QUIC_LB, 0, false),
            Protocol::Dtls { .. } => (protocol::DTLS, 0, false),
            Protocol::GtpU => (protocol::GTPU, 0, false),
        };
        let limit = match kind {
            kind::DATA => self.limits.new,
            kind::CONTROL => self.limits.control,
            _ => None,
        };
        let mut server_id_lengths = [0; 8];
        if let Protocol::QuicLb { server_id_lengths: lengths, .. } = self.protocol {
            server_id_lengths[..lengths.len()].copy_from_slice(&lengths);
        }
        let mut flags = match self.delivery {
            Delivery::AfXdp if kind == kind::DATA => flag::AF_XDP,
            _ => 0,
        };
        // Whoever attaches again comes to the control port, and from anywhere.
        if self.enforces_binding && kind == kind::DATA {
            flags |= flag::ENFORCE_BINDING;
        }
        let id_length = self.protocol.id_length();
        debug_assert!((ID_MIN..=ID_MAX).contains(&id_length));
        ServiceRow {
            address: wire_address(self.address.ip()),
            seed: self.seed(),
            port: port.to_be(),
            service: self.index,
            kind,
            protocol,
            id_offset,
            id_length: id_length as u8,
            unknown_opens: unknown_opens as u8,
            limit: limit.map_or(Limit::NONE, Rate::limit),
            server_id_lengths,
            flags,
            ..ServiceRow::EMPTY
        }
    }
}

/// The rows of all services and of this node's underlay address, and the seed under which each
/// has a place of its own.
pub fn rows(services: &[Service], underlay: IpAddr) -> Result<(u64, Vec<ServiceRow>), Clash> {
    let mut addresses = HashSet::new();
    let mut rows = vec![ServiceRow {
        address: wire_address(underlay),
        port: ENCAP_PORT.to_be(),
        kind: kind::ENCAP,
        ..ServiceRow::EMPTY
    }];
    for service in services {
        rows.extend(service.rows());
        if addresses.insert(service.address.ip()) {
            rows.push(service.row(0, kind::ADDRESS));
        }
    }
    let seed = find_seed(rows.iter().map(|row| (row.address, row.port))).ok_or(Clash)?;
    Ok((seed, rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIC_LB: Protocol =
        Protocol::QuicLb { server_id_lengths: [1, 2, 3, 4, 0, 0, 15], config_id: 3 };

    #[test]
    fn a_connection_id_stands_for_its_server_id() {
        for (id, wire_id) in [
            (&[0x07, 0xaa, 1, 2, 3, 4, 5][..], &[0x00, 0xaa, 0, 0][..]),
            (&[0x3f, 0xaa, 0xbb, 1, 2, 3, 4], &[0x20, 0xaa, 0xbb, 0]),
            (&[0x47, 0xaa, 0xbb, 0xcc, 1, 2, 3, 4], &[0x40, 0xaa, 0xbb, 0xcc]),
            (&[0x69, 9, 8, 7, 6, 1, 2, 3, 4], &[0x60, 9, 8, 7, 6]),
            // A server id itself.
            (&[0x60, 9, 8, 7, 6], &[0x60, 9, 8, 7, 6]),
            // Not in use, unroutable, or without room for a nonce.
            (&[0x87, 9, 8, 7, 6, 1, 2, 3], &[0x87, 9, 8, 7, 6, 1, 2, 3]),
            (&[0xe5, 9, 8, 7, 6, 1], &[0xe5, 9, 8, 7, 6, 1]),
            (&[0x65, 9, 8, 7, 6, 1, 2, 3], &[0x65, 9, 8, 7, 6, 1, 2, 3]),
            (&[], &[]),
        ] {
            assert_eq!(QUIC_LB.wire_id(id), wire_id, "{id:02x?}");
            assert_eq!(QUIC_LB.wire_id(wire_id), wire_id, "{id:02x?}");
            assert_eq!(Protocol::GtpU.wire_id(id), id);
        }
    }

    #[test]
    fn new_ids_are_ones_that_packets_carry() {
        assert_eq!((QUIC_LB.id_length(), QUIC_LB.random_length()), (5, 5));
        assert!(QUIC_LB.can_carry(&[0x60, 1, 2, 3, 4]));
        assert!(!QUIC_LB.can_carry(&[0x61, 1, 2, 3, 4]));
        assert!(!QUIC_LB.can_carry(&[0x40, 1, 2, 3, 4]));
        assert!(!Protocol::GtpU.can_carry(&[0; 4]));
        assert!(Protocol::GtpU.can_carry(&[0, 0, 0, 1]));
        assert!(Protocol::WireGuard.can_carry(&[0; 4]));
    }
}
