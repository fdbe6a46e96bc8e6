//! Veth pairs between namespaces.

use anyhow::{Context, Result};

use crate::address::Prefix;
use crate::ip::Batch;
use crate::netns::Namespace;
use crate::{offload, sysctl};

/// Settings that every namespace of a test network starts with; they reach links made later.
const SETTINGS: [(&str, &str); 10] = [
    // Packets come in asymmetrically: rp_filter would drop what other nodes forward.
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    // A VIP on lo is nobody's address on the link.
    ("ipv4/conf/all/arp_ignore", "1"),
    ("ipv4/conf/all/arp_announce", "2"),
    // An IPv6 address is usable at once.
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    // Nothing on the wire that a test did not send.
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
    // The probes count on every ICMP error.
    ("ipv4/icmp_ratelimit", "0"),
    ("ipv6/icmp/ratelimit", "0"),
];

/// Sets a new namespace up for links: loopback up, and settings that links made later inherit.
pub fn prepare(namespace: &Namespace) -> Result<()> {
    sysctl::write(namespace, &SETTINGS)?;
    Batch::new().add("link set lo up").run(namespace)
}

/// One end of a link.
#[derive(Clone, Debug)]
pub struct End<'a> {
    namespace: &'a Namespace,
    name: &'a str,
    addresses: Vec<Prefix>,
}

impl<'a> End<'a> {
    /// An end with this name in a namespace, without addresses.
    pub fn new(namespace: &'a Namespace, name: &'a str) -> Self {
        Self { namespace, name, addresses: Vec::new() }
    }

    /// Adds an address.
    #[must_use]
    pub fn address(mut self, address: Prefix) -> Self {
        self.addresses.push(address);
        self
    }

    /// The commands that bring this end up.
    fn configure(&self, batch: &mut Batch) {
        let name = self.name;
        batch.add(format!("link set dev {name} up"));
        for address in &self.addresses {
            let nodad = if address.address.is_ipv6() { " nodad" } else { "" };
            batch.add(format!("address add {address} dev {name}{nodad}"));
        }
    }
}

/// A veth pair that is to be made.
#[derive(Clone, Debug)]
pub struct Link<'a> {
    ends: [End<'a>; 2],
    mtu: u32,
    queues: u32,
}

impl<'a> Link<'a> {
    /// A link with an MTU of 1500 and one queue in each direction.
    pub fn between(a: End<'a>, b: End<'a>) -> Self {
        Self { ends: [a, b], mtu: 1500, queues: 1 }
    }

    /// The MTU of both ends. With a native XDP program on one of them at most 3506 (Linux 6.18).
    #[must_use]
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = mtu;
        self
    }

    /// The number of receive and of transmit queues of both ends. Native XDP needs as many receive
    /// queues as the peer has transmit queues.
    #[must_use]
    pub fn queues(mut self, queues: u32) -> Self {
        self.queues = queues;
        self
    }

    /// Makes the link: both ends up, with their addresses, transmit checksum offload off, GRO on.
    pub fn create(&self) -> Result<()> {
        let Self { ends: [a, b], mtu, queues } = self;
        let make = || -> Result<()> {
            let shape = format!("mtu {mtu} numtxqueues {queues} numrxqueues {queues}");
            let peer = b.namespace.path();
            let mut batch = Batch::new();
            batch.add(format!(
                "link add name {} {shape} type veth peer name {} {shape} netns {}",
                a.name,
                b.name,
                peer.display(),
            ));
            a.configure(&mut batch);
            batch.run(a.namespace)?;
            let mut batch = Batch::new();
            b.configure(&mut batch);
            batch.run(b.namespace)?;
            for end in [a, b] {
                offload::tx_checksum_off(end.namespace, end.name)?;
                offload::gro_on(end.namespace, end.name)?;
            }
            Ok(())
        };
        make().with_context(|| format!("making the link {} – {}", a.name, b.name))
    }
}
