//! The test network: clients, a router, and nodes on links of their own.
//!
//! ```text
//!                                                                the VIPs, on every node's lo:
//!                                                                198.51.100.1  2001:db8:51::1
//!                                                       eth0 +--------+
//!                                        node-a   .----------| node a |  10.1.0.2  fd00:1::2
//!  +----------+ eth0        client-0 +--------+  /           +--------+
//!  | client 0 |----------------------|        |-'  node-b    +--------+
//!  +----------+ 10.100.0.2           | router |--------------| node b |  10.1.1.2  fd00:1:1::2
//!      fd00:100::2                   |        |-.            +--------+
//!      pool 10.200.0.0/24            +--------+  \           +--------+
//!           fd00:200::/64                node-c   '----------| node c |  10.1.2.2  fd00:1:2::2
//!                                                            +--------+
//! ```
//!
//! The router sprays packets for the VIPs over the nodes by a hash of their 5-tuple, with the
//! kernel's own multipath routes; it knows nothing of sessions. Nodes reach each other through it,
//! and clients own a whole network of addresses each, to move about in. Every link carries both
//! families. The addresses are those of [`crate::address`].

mod builder;
mod host;

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::address::{Family, Prefix};
use crate::ip::Batch;
use crate::netns::Namespace;
use crate::probe;
use crate::xdp::Attached;

pub use builder::Builder;
pub use host::{ClientHost, Node};

/// How long the finished network may take until packets flow.
const SETTLE: Duration = Duration::from_secs(5);

/// A network that packets flow in; it is gone when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    router: Namespace,
    nodes: Vec<Node>,
    clients: Vec<ClientHost>,
    underlay: Family,
    vips: Vec<IpAddr>,
    scratch: TempDir,
    _receivers: Vec<Attached>,
}

impl Cluster {
    /// Three nodes, one client, an IPv4 underlay and a VIP of each family, unless changed.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The router's namespace.
    pub fn router(&self) -> &Namespace {
        &self.router
    }

    /// The nodes, in order of their index.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The clients' hosts.
    pub fn clients(&self) -> &[ClientHost] {
        &self.clients
    }

    /// The addresses that the router sprays.
    pub fn vips(&self) -> &[IpAddr] {
        &self.vips
    }

    /// The first VIP of a family.
    ///
    /// # Panics
    /// When the network was built without one.
    pub fn vip(&self, family: Family) -> IpAddr {
        let vip = self.vips.iter().find(|&&vip| Family::of(vip) == family);
        *vip.unwrap_or_else(|| panic!("this network has no {family:?} VIP"))
    }

    /// The family by which nodes know each other.
    pub fn underlay(&self) -> Family {
        self.underlay
    }

    /// The address by which the other nodes know a node.
    pub fn underlay_address(&self, node: &Node) -> IpAddr {
        node.address(self.underlay)
    }

    /// A directory for sockets, logs and state, removed with the network.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Takes a node out of the router's multipath routes, or puts it back, as a routing protocol
    /// would; packets for the VIPs then go to the nodes whose indices are listed.
    pub fn route_vips_to(&self, nodes: &[usize]) -> Result<()> {
        ensure!(!nodes.is_empty(), "a VIP needs a node to be routed to");
        let mut batch = Batch::new();
        for &vip in &self.vips {
            let family = Family::of(vip);
            let mut route = format!("route replace {}", Prefix::host(vip));
            for &index in nodes {
                let node = &self.nodes[index];
                route.push_str(&format!(
                    " nexthop via {} dev {}",
                    node.address(family),
                    node.port()
                ));
            }
            batch.add(route);
        }
        batch.run(&self.router)
    }

    /// Waits until every client reaches every node, and resolves all neighbours on the way.
    fn settle(&self) -> Result<()> {
        let mut addresses = Vec::new();
        for node in &self.nodes {
            for uplink in 0..node.uplinks {
                addresses.extend(Family::ALL.map(|family| node.uplink_address(family, uplink)));
            }
        }
        for client in &self.clients {
            probe::reachable(&client.namespace, &addresses, SETTLE)?;
        }
        Ok(())
    }
}
