//! How a test network is described and made.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};

use super::{ClientHost, Cluster, Node};
use crate::address::{self, Family, Prefix};
use crate::ip::Batch;
use crate::links::{self, End, Link};
use crate::mounts::Mounts;
use crate::netns::Namespace;
use crate::sysctl;
use crate::xdp::{self, Attached};

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

impl Default for Builder {
    fn default() -> Self {
        Self {
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
    /// with `XDP_TX` arrives (see [`crate::xdp`]).
    #[must_use]
    pub fn without_receivers(mut self) -> Self {
        self.receivers = false;
        self
    }

    /// Makes the network, and returns it when packets flow.
    pub fn build(&self) -> Result<Cluster> {
        ensure!((1..=26).contains(&self.nodes), "a network has 1 to 26 nodes");
        ensure!((1..=100).contains(&self.clients), "a network has 1 to 100 clients");
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
        cluster.route_vips_to(&(0..cluster.nodes.len()).collect::<Vec<_>>())?;
        cluster.settle()?;
        Ok(cluster)
    }

    fn node(&self, index: u8, router: &Namespace, receivers: &mut Vec<Attached>) -> Result<Node> {
        let name = char::from(b'a' + index).to_string();
        let namespace = Namespace::new(&name)?;
        links::prepare(&namespace)?;
        for uplink in 0..self.uplinks {
            let port =
                if uplink == 0 { format!("node-{name}") } else { format!("node-{name}-{uplink}") };
            let interface = format!("eth{uplink}");
            let mut far = End::new(router, &port);
            let mut near = End::new(&namespace, &interface);
            for family in Family::ALL {
                far = far.address(address::uplink(family, uplink, index, address::End::Router));
                near = near.address(address::uplink(family, uplink, index, address::End::Host));
            }
            Link::between(far, near).mtu(self.node_mtu).queues(self.queues).create()?;
            if self.receivers {
                receivers.push(Attached::new(router, &port, &xdp::PASS)?);
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
        Ok(Node { index, name, namespace, mounts, uplinks: self.uplinks })
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
        Link::between(far, near).mtu(self.client_mtu).queues(self.queues).create()?;
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
}
