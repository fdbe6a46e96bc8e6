//! The address plan of the test network.
//!
//! | who | IPv4 | IPv6 |
//! | --- | --- | --- |
//! | node `n`, uplink `u`: router, node | `10.(1+u).n.1`, `.2` /24 | `fd00:(1+u):n::1`, `::2` /64 |
//! | client `c`: router, client | `10.100.c.1`, `.2` /24 | `fd00:100:c::1`, `::2` /64 |
//! | client `c`'s pool of addresses | `10.200.c.0/24` | `fd00:200:c::/64` |
//! | the VIPs, unless others are given | `198.51.100.1` | `2001:db8:51::1` |

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// An address with the length of its network's prefix, printed as `ip` reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    /// The address; of a network the first.
    pub address: IpAddr,
    /// Bits of the prefix.
    pub length: u8,
}

impl Prefix {
    /// The prefix that holds this address alone.
    pub fn host(address: IpAddr) -> Self {
        Self { address, length: if address.is_ipv4() { 32 } else { 128 } }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// Which end of a link an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Router = 1,
    Host = 2,
}

/// The VIP of a family, where the test names no others.
pub fn vip(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(198, 51, 100, 1).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 1).into(),
    }
}

pub(crate) fn uplink(family: Family, uplink: u8, node: u8, end: End) -> Prefix {
    network(family, 1 + uplink, node, end as u8)
}

pub(crate) fn client_link(family: Family, client: u8, end: End) -> Prefix {
    network(family, 100, client, end as u8)
}

/// The network of a client's own addresses.
pub(crate) fn pool(family: Family, client: u8) -> Prefix {
    network(family, 200, client, 0)
}

/// The `host`th address of a client's pool.
pub(crate) fn pool_address(family: Family, client: u8, host: u8) -> IpAddr {
    network(family, 200, client, host).address
}

fn network(family: Family, kind: u8, index: u8, host: u8) -> Prefix {
    match family {
        Family::V4 => Prefix { address: Ipv4Addr::new(10, kind, index, host).into(), length: 24 },
        Family::V6 => {
            // Read as decimal digits, so that both families look alike in a capture.
            let digits =
                |n: u8| u16::from(n / 100) << 8 | u16::from(n / 10 % 10) << 4 | u16::from(n % 10);
            let [kind, index, host] = [kind, index, host].map(digits);
            let address = Ipv6Addr::new(0xfd00, kind, index, 0, 0, 0, 0, host);
            Prefix { address: address.into(), length: 64 }
        }
    }
}
