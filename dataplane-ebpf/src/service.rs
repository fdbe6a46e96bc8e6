//! Services: which address and port belongs to what, and how the wire id is found.

use crate::{limit::Limit, node::Address};
use zerocopy::{Immutable, IntoBytes};

/// Rows of the `SERVICES` map; a power of two.
pub const SERVICE_ROWS: usize = 4096;

/// How many services a node can serve, and one row of counters each. Index 0 is "no service".
pub const SERVICES: usize = 64;

/// UDP port of forwarded packets, on every node.
pub const ENCAP_PORT: u16 = 7471;

/// What an address and port is for. Stored as a plain number, so that any byte is valid.
pub mod kind {
    /// An empty row.
    pub const NONE: u8 = 0;
    /// A service's data port.
    pub const DATA: u8 = 1;
    /// A service's control port: native headers, whatever the service's protocol.
    pub const CONTROL: u8 = 2;
    /// This node's underlay address and encapsulation port.
    pub const ENCAP: u8 = 3;
    /// A service's address with port 0: packets to it that are too broken to show a port.
    pub const ADDRESS: u8 = 4;
}

/// How a service's packets name their session. Stored as a plain number.
pub mod protocol {
    /// Jumpgate's own header; see [`crate::dissect::native`].
    pub const NATIVE: u8 = 1;
    /// QUIC versions 1 and 2.
    pub const QUIC: u8 = 2;
    /// WireGuard.
    pub const WIREGUARD: u8 = 3;
    /// An id of fixed length at a fixed offset of the UDP payload.
    pub const OFFSET: u8 = 4;
    /// QUIC with connection ids after draft-ietf-quic-load-balancers, not encrypted.
    pub const QUIC_LB: u8 = 5;
    /// DTLS 1.2 and 1.3 with connection ids.
    pub const DTLS: u8 = 6;
    /// GTP-U, the user plane of GTPv1.
    pub const GTPU: u8 = 7;
}

/// What a service asks for besides: bits of [`ServiceRow::flags`]. A service that asks for none of
/// it pays for none of it.
pub mod flag {
    /// Packets from an address that the session is not bound to are refused.
    pub const ENFORCE_BINDING: u8 = 1 << 0;
    /// Packets go to AF_XDP sockets instead of the kernel's stack.
    pub const AF_XDP: u8 = 1 << 1;
}

/// One row of the `SERVICES` map.
///
/// Written by the daemon before the program is attached, and never changed after that.
// `IntoBytes` refuses padding that is not a field: all bytes are set, whoever reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoBytes, Immutable)]
#[repr(C, align(64))]
pub struct ServiceRow {
    /// The destination address that packets must have.
    pub address: Address,
    /// The hash seed of the service's wire ids.
    pub seed: u64,
    /// The destination port in network byte order; 0 in an [`kind::ADDRESS`] row.
    pub port: u16,
    /// The service's index: 1 to [`SERVICES`] - 1.
    pub service: u16,
    /// See [`kind`].
    pub kind: u8,
    /// See [`protocol`].
    pub protocol: u8,
    /// Where the id starts in the UDP payload ([`protocol::OFFSET`]), in bytes.
    pub id_offset: u8,
    /// The length of the id: [`protocol::OFFSET`], [`protocol::DTLS`], and QUIC's short header; 4 to
    /// 20 bytes.
    pub id_length: u8,
    /// Whether a packet with an unknown id opens a session ([`protocol::OFFSET`]): 0 or 1.
    pub unknown_opens: u8,
    /// See [`flag`].
    pub flags: u8,
    /// Padding.
    pub _reserved: [u8; 2],
    /// How many packets of one source prefix are delivered: to a data port those that open a
    /// session, to a control port all.
    pub limit: Limit,
    /// The length of the server id under each config id ([`protocol::QUIC_LB`]): 1 to 15 bytes; 0
    /// where the config id is not in use, as the last one never is.
    pub server_id_lengths: [u8; 8],
    /// Padding.
    pub _pad: [u8; 12],
}

const _: () = assert!(size_of::<ServiceRow>() == 64);

impl ServiceRow {
    /// A row without a service.
    pub const EMPTY: Self = Self {
        address: Address([0; 2]),
        seed: 0,
        port: 0,
        service: 0,
        kind: kind::NONE,
        protocol: 0,
        id_offset: 0,
        id_length: 0,
        unknown_opens: 0,
        flags: 0,
        _reserved: [0; 2],
        limit: Limit::NONE,
        server_id_lengths: [0; 8],
        _pad: [0; 12],
    };

    /// Whether packets to this address and port (network byte order) belong to the row.
    #[inline(always)]
    pub fn matches(&self, address: Address, port: u16) -> bool {
        self.kind != kind::NONE && self.port == port && self.address == address
    }
}

/// The row where an address and port (network byte order) is found, if anywhere.
///
/// One multiplication, no probing: the daemon chooses `seed` so that no two of a node's
/// addresses and ports meet (see [`find_seed`]).
#[inline(always)]
pub fn row_index(address: Address, port: u16, seed: u64) -> u32 {
    let [high, low] = address.0;
    let mixed = (high ^ low.rotate_left(23) ^ (port as u64) << 17).wrapping_mul(seed | 1);
    (mixed >> (64 - SERVICE_ROWS.trailing_zeros())) as u32
}

/// A seed under which all `keys` have rows of their own, or `None` if some key stands twice or
/// there are too many of them.
pub fn find_seed(keys: impl Iterator<Item = (Address, u16)> + Clone) -> Option<u64> {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..1_000_000 {
        let mut taken = [0_u64; SERVICE_ROWS / 64];
        let free = keys.clone().all(|(address, port)| {
            let row = row_index(address, port, seed) as usize;
            let bit = 1 << (row % 64);
            let was_free = taken[row / 64] & bit == 0;
            taken[row / 64] |= bit;
            was_free
        });
        if free {
            return Some(seed);
        }
        seed = seed.wrapping_mul(0xd129_42f0_5f83_7a75).wrapping_add(0x5851_f42d_4c95_7f2d);
    }
    None
}
