//! The test network: clients, a router, and nodes on links of their own.
//!
//! ```text
//!                                               198.51.100.1  2001:db8:51::1   (VIPs, on every
//!                                                                               node's lo)
//!                                             eth0 +--------+
//!                                        .---------| node a |  10.1.0.2  fd00:1::2
//!  +----------+ eth0         client-0  +--------+  +--------+
//!  | client 0 |------------------------|        |  +--------+
//!  +----------+ 10.100.0.2             | router |--| node b |  10.1.1.2  fd00:1:1::2
//!   pool 10.200.0.0/24                 |        |  +--------+
//!        fd00:200::/64                 +--------+  +--------+
//!                                        '---------| node c |  10.1.2.2  fd00:1:2::2
//!                                    node-a … node-c        |
//!                                             eth0 +--------+
//! ```
//!
//! The router sprays packets for the VIPs over the nodes by a hash of their 5-tuple, with the
//! kernel's own multipath routes; it knows nothing of sessions. Nodes reach each other through it,
//! and clients own a whole network of addresses each, to move about in. Every link carries both
//! families. The addresses are those of [`crate::address`].

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::address::{self, Family, Prefix};
use crate::ip::Batch;
use crate::links::{self, End, Link};
use crate::mounts::Mounts;
use crate::netns::Namespace;
use crate::pass::Pass;
use crate::{probe, sysctl};

/// How long the finished network may take until packets flow.
const SETTLE: Duration = Duration::from_secs(5);

/// What the router needs beside addresses and routes.
const ROUTER: [(&str, &str); 4] = [
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    // By ports too, as a data centre's leaf does.
    ("ipv4/fib_multipath_hash_policy", "1"),
    ("ipv6/fib_multipath_hash_policy", "1"),
];

/// What a network will look like.
#[derive(Clone, Debug)]
pub struct Builder {
    nodes: u8,
    clients: u8,
    underlay: Family,
    vips: Vec<IpAddr>,
    node_mtu: u32,
    client_mtu: u32,
    queues: u32,
    uplinks: u8,
    receivers: bool,
}

impl Builder {
    /// How many nodes there are: 1 to 26, named `a` to `z`. Three by default.
    #[must_use]
    pub fn nodes(mut self, nodes: u8) -> Self {
        self.nodes = nodes;
        self
    }

    /// How many client namespaces there are: 1 to 100. One by default.
    #[must_use]
    pub fn clients(mut self, clients: u8) -> Self {
        self.clients = clients;
        self
    }

    /// The family of the addresses by which nodes know each other. IPv4 by default.
    #[must_use]
    pub fn underlay(mut self, family: Family) -> Self {
        self.underlay = family;
        self
    }

    /// The VIPs, instead of one of each family.
    #[must_use]
    pub fn vips(mut self, vips: &[IpAddr]) -> Self {
        self.vips = vips.to_vec();
        self
    }

    /// The MTU of the nodes' links: 1600 by default, so that a full packet can be encapsulated.
    #[must_use]
    pub fn node_mtu(mut self, mtu: u32) -> Self {
        self.node_mtu = mtu;
        self
    }

    /// The MTU of the clients' links, 1500 by default.
    #[must_use]
    pub fn client_mtu(mut self, mtu: u32) -> Self {
        self.client_mtu = mtu;
        self
    }

    /// The number of queues of every link, 1 by default.
    #[must_use]
    pub fn queues(mut self, queues: u32) -> Self {
        self.queues = queues;
        self
    }

    /// How many links each node has to the router: 1 to 9, named `eth0` upwards; 1 by default.
    /// Routes use the first only.
    #[must_use]
    pub fn uplinks(mut self, uplinks: u8) -> Self {
        self.uplinks = uplinks;
        self
    }

    /// Leaves out the XDP programs at the router's ends, without which nothing that a node sends
    /// with `XDP_TX` arrives (see [`crate::pass`]).
    #[must_use]
    pub fn without_receivers(mut self) -> Self {
        self.receivers = false;
        self
    }

    /// Makes the network, and returns it when packets flow.
    pub fn build(&self) -> Result<Cluster> {
        ensure!(
            (1..=26).contains(&self.nodes),
            "a network has 1 to 26 nodes"
        );
        ensure!(
            (1..=100).contains(&self.clients),
            "a network has 1 to 100 clients"
        );
        ensure!((1..=9).contains(&self.uplinks), "a node has 1 to 9 uplinks");
        let router = Namespace::new("router")?;
        links::prepare(&router)?;
        sysctl::write(&router, &ROUTER)?;
        let mut receivers = Vec::new();
        let nodes = (0..self.nodes)
            .map(|index| self.node(index, &router, &mut receivers))
            .collect::<Result<Vec<_>>>()?;
        let clients = (0..self.clients)
            .map(|index| self.client(index, &router))
            .collect::<Result<Vec<_>>>()?;
        self.spray(&router)?;
        let cluster = Cluster {
            router,
            nodes,
            clients,
            underlay: self.underlay,
            vips: self.vips.clone(),
            scratch: tempfile::Builder::new()
                .prefix("jumpgate-")
                .tempdir()
                .context("making a directory for sockets and logs")?,
            _receivers: receivers,
        };
        cluster.settle()?;
        Ok(cluster)
    }

    fn node(&self, index: u8, router: &Namespace, receivers: &mut Vec<Pass>) -> Result<Node> {
        let name = char::from(b'a' + index).to_string();
        let namespace = Namespace::new(&name)?;
        links::prepare(&namespace)?;
        for uplink in 0..self.uplinks {
            let port = if uplink == 0 {
                format!("node-{name}")
            } else {
                format!("node-{name}-{uplink}")
            };
            let interface = format!("eth{uplink}");
            let mut far = End::new(router, &port);
            let mut near = End::new(&namespace, &interface);
            for family in Family::ALL {
                far = far.address(address::uplink(family, uplink, index, address::End::Router));
                near = near.address(address::uplink(family, uplink, index, address::End::Host));
            }
            Link::between(far, near)
                .mtu(self.node_mtu)
                .queues(self.queues)
                .create()?;
            if self.receivers {
                receivers.push(Pass::attach(router, &port)?);
            }
        }
        let mut batch = Batch::new();
        for &vip in &self.vips {
            let nodad = if vip.is_ipv6() { " nodad" } else { "" };
            batch.add(format!("address add {} dev lo{nodad}", Prefix::host(vip)));
        }
        for family in Family::ALL {
            let gateway = address::uplink(family, 0, index, address::End::Router).address;
            batch.add(format!("route add default via {gateway} dev eth0"));
        }
        batch.run(&namespace)?;
        let mounts = Mounts::new(&namespace)?;
        Ok(Node {
            index,
            name,
            namespace,
            mounts,
            uplinks: self.uplinks,
        })
    }

    fn client(&self, index: u8, router: &Namespace) -> Result<ClientHost> {
        let namespace = Namespace::new(&format!("client-{index}"))?;
        links::prepare(&namespace)?;
        // A socket may then be bound to any address of the pool, as IPv4 allows anyway.
        sysctl::write(&namespace, &[("ipv6/ip_nonlocal_bind", "1")])?;
        let port = format!("client-{index}");
        let mut far = End::new(router, &port);
        let mut near = End::new(&namespace, "eth0");
        for family in Family::ALL {
            far = far.address(address::client_link(family, index, address::End::Router));
            near = near.address(address::client_link(family, index, address::End::Host));
        }
        Link::between(far, near)
            .mtu(self.client_mtu)
            .queues(self.queues)
            .create()?;
        let mut inside = Batch::new();
        let mut outside = Batch::new();
        for family in Family::ALL {
            let pool = address::pool(family, index);
            let gateway = address::client_link(family, index, address::End::Router).address;
            let client = address::client_link(family, index, address::End::Host).address;
            // The whole network is local, without an address for each host.
            inside.add(format!("route add local {pool} dev lo"));
            inside.add(format!("route add default via {gateway} dev eth0"));
            outside.add(format!("route add {pool} via {client} dev {port}"));
        }
        inside.run(&namespace)?;
        outside.run(router)?;
        Ok(ClientHost { index, namespace })
    }

    /// Routes each VIP over all nodes.
    fn spray(&self, router: &Namespace) -> Result<()> {
        let mut batch = Batch::new();
        for &vip in &self.vips {
            let family = Family::of(vip);
            let mut route = format!("route add {}", Prefix::host(vip));
            for index in 0..self.nodes {
                let node = address::uplink(family, 0, index, address::End::Host).address;
                let port = char::from(b'a' + index);
                route.push_str(&format!(" nexthop via {node} dev node-{port}"));
            }
            batch.add(route);
        }
        batch.run(router)
    }
}

/// A network that packets flow in; it is gone when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    router: Namespace,
    nodes: Vec<Node>,
    clients: Vec<ClientHost>,
    underlay: Family,
    vips: Vec<IpAddr>,
    scratch: TempDir,
    _receivers: Vec<Pass>,
}

impl Cluster {
    /// Three nodes, one client, an IPv4 underlay and a VIP of each family, unless changed.
    pub fn builder() -> Builder {
        Builder {
            nodes: 3,
            clients: 1,
            underlay: Family::V4,
            vips: Family::ALL.map(address::vip).to_vec(),
            node_mtu: 1600,
            client_mtu: 1500,
            queues: 1,
            uplinks: 1,
            receivers: true,
        }
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

/// A node's host: where the daemon and the application run.
#[derive(Debug)]
pub struct Node {
    index: u8,
    name: String,
    namespace: Namespace,
    mounts: Mounts,
    uplinks: u8,
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
        (0..self.uplinks)
            .map(|uplink| format!("eth{uplink}"))
            .collect()
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
    index: u8,
    namespace: Namespace,
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
