//! The hosts of a test network.

use std::net::IpAddr;

use crate::address::{self, Family};
use crate::mounts::Mounts;
use crate::netns::Namespace;

/// A node's host: where the daemon and the application run.
#[derive(Debug)]
pub struct Node {
    pub(super) index: u8,
    pub(super) name: String,
    pub(super) namespace: Namespace,
    pub(super) mounts: Mounts,
    pub(super) uplinks: u8,
}

impl Node {
    /// Its place among the nodes.
    pub fn index(&self) -> u8 {
        self.index
    }

    /// Its name, `a` for the first.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its network namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its mounts, with a bpffs that no other node sees.
    pub fn mounts(&self) -> &Mounts {
        &self.mounts
    }

    /// The names of its links to the router.
    pub fn interfaces(&self) -> Vec<String> {
        (0..self.uplinks).map(|uplink| format!("eth{uplink}")).collect()
    }

    /// The name of the router's end of its first link.
    pub fn port(&self) -> String {
        format!("node-{}", self.name)
    }

    /// Its address on its first link.
    pub fn address(&self, family: Family) -> IpAddr {
        self.uplink_address(family, 0)
    }

    /// Its address on one of its links.
    pub fn uplink_address(&self, family: Family, uplink: u8) -> IpAddr {
        address::uplink(family, uplink, self.index, address::End::Host).address
    }
}

/// A host of clients.
#[derive(Debug)]
pub struct ClientHost {
    pub(super) index: u8,
    pub(super) namespace: Namespace,
}

impl ClientHost {
    /// Its network namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its address on the link to the router.
    pub fn address(&self, family: Family) -> IpAddr {
        address::client_link(family, self.index, address::End::Host).address
    }

    /// One of the addresses in its pool: 1 to 254 may be used.
    pub fn pool_address(&self, family: Family, host: u8) -> IpAddr {
        address::pool_address(family, self.index, host)
    }
}
