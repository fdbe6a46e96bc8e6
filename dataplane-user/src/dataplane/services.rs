//! From services as people configure them to the rows of the service table.

use super::{clock::tick, wire_address};
use dataplane_ebpf::{
    limit::Limit,
    service::{ENCAP_PORT, ServiceRow, find_seed, kind, protocol},
    wire_id::{ID_MAX, ID_MIN},
};
use std::{
    collections::HashSet,
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
}

impl Protocol {
    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Quic { .. } => "quic",
            Self::WireGuard => "wireguard",
            Self::Offset { .. } => "offset",
        }
    }

    /// The length of the wire ids that the service's own side chooses, in bytes.
    pub fn id_length(self) -> usize {
        match self {
            Self::Native => dataplane_ebpf::dissect::native::ID_LENGTH,
            Self::Quic { id_length } => id_length as usize,
            Self::WireGuard => 4,
            Self::Offset { length, .. } => length as usize,
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

    fn row(&self, port: u16, kind: u8) -> ServiceRow {
        let (protocol, id_offset, unknown_opens) = match self.protocol {
            Protocol::Native => (protocol::NATIVE, 0, false),
            Protocol::Quic { .. } => (protocol::QUIC, 0, false),
            Protocol::WireGuard => (protocol::WIREGUARD, 0, false),
            Protocol::Offset { offset, unknown_opens, .. } => {
                (protocol::OFFSET, offset, unknown_opens)
            }
        };
        let limit = match kind {
            kind::DATA => self.limits.new,
            kind::CONTROL => self.limits.control,
            _ => None,
        };
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
        rows.push(service.row(service.address.port(), kind::DATA));
        rows.extend(service.control_port.map(|port| service.row(port, kind::CONTROL)));
        if addresses.insert(service.address.ip()) {
            rows.push(service.row(0, kind::ADDRESS));
        }
    }
    let seed = find_seed(rows.iter().map(|row| (row.address, row.port))).ok_or(Clash)?;
    Ok((seed, rows))
}
