//! A node without a daemon: its data plane in the test's own hands.

use std::net::SocketAddr;
use std::slice;
use std::time::Duration;

use anyhow::{Context, Result};
use dataplane_ebpf::local::Fence;
use dataplane_ebpf::node::{LinkRow, NextHop};
use dataplane_ebpf::table::{Entry, Place};
use dataplane_ebpf::verdict::{Admission, Verdict};
use dataplane_ebpf::wire_id::{Key, mint};
use dataplane_user::dataplane::attach::{Attached, Mode};
use dataplane_user::dataplane::clock::{Jiffies, boottime, monotonic};
use dataplane_user::dataplane::object::Object;
use dataplane_user::dataplane::services::{Delivery, Limits, Protocol, Service, rows};
use dataplane_user::dataplane::{Dataplane, LoadOptions, wire_address};
use dataplane_user::hold::{self, Bounds, Keeper};
use ownership::{NodeIndex, Placement};
use serde::Deserialize;

use crate::config::Config;
use crate::inbox::Inbox;
use crate::netns::Namespace;
use crate::topology::{Cluster, Node};

/// How many CPUs a rig processes sessions on.
pub const CPUS: u32 = 2;

/// A loaded data plane on a node, with one service of the native protocol and its sockets. The
/// fence is shut at first.
pub struct Rig {
    /// The data plane.
    pub dataplane: Dataplane,
    /// The application's sockets.
    pub inbox: Inbox,
    /// The service.
    pub service: Service,
    epoch: u32,
    jiffies: Jiffies,
    attached: Attached,
}

/// The index of a node in the data plane.
pub fn index(node: &Node) -> Result<NodeIndex> {
    Ok(NodeIndex::new(u16::from(node.index()) + 1)?)
}

/// A rig's service: of the native protocol, with sockets, for whoever sends.
pub fn service(cluster: &Cluster, node: &Node, address: SocketAddr) -> Service {
    Service {
        index: 1,
        name: "rig".to_owned(),
        address,
        control_port: None,
        limits: Limits::default(),
        protocol: Protocol::Native,
        delivery: Delivery::Socket,
        enforces_binding: false,
        cluster_seed: Config::of(cluster, node, &[]).cluster.hash_seed,
    }
}

impl Rig {
    /// Sets a node up, in an epoch and with a placement of its own.
    pub fn new(
        cluster: &Cluster,
        node: &Node,
        address: SocketAddr,
        placement: &Placement,
        epoch: u32,
    ) -> Result<Self> {
        Self::serving(service(cluster, node, address), cluster, node, placement, epoch)
    }

    /// The same with another service, which is much like [`service`].
    pub fn serving(
        service: Service,
        cluster: &Cluster,
        node: &Node,
        placement: &Placement,
        epoch: u32,
    ) -> Result<Self> {
        let address = service.address;
        let mut dataplane = Dataplane::load(LoadOptions {
            object: Object::Daemon,
            sessions: 1000,
            cpus: (0..CPUS).collect(),
            queue: 2048,
            hold_ring: 1 << 20,
            bindings: service.enforces_binding,
            log_packets: false,
        })?;
        let underlay = cluster.underlay_address(node);
        let (seed, rows) = rows(slice::from_ref(&service), underlay)?;
        dataplane.set_services(seed, &rows);
        let near = Interface::find(node.namespace(), "eth0")?;
        // The router's end, through which all other nodes are reached.
        let far = Interface::find(cluster.router(), &node.port())?;
        let row = LinkRow {
            ifindex: near.ifindex,
            mtu: near.mtu,
            mac: near.mac()?,
            source: wire_address(underlay),
            ..LinkRow::EMPTY
        };
        dataplane.set_link(0, row);
        let gateway = far.mac()?;
        for other in cluster.nodes().iter().filter(|other| other.index() != node.index()) {
            let other_index = index(other)?;
            dataplane.set_node(other_index, cluster.underlay_address(other), &[near.ifindex]);
            dataplane.node(other_index).set_next_hop(NextHop::new(gateway, 0));
        }
        dataplane.set_placement(placement);
        dataplane.set_identity(index(node)?);
        let inbox = Inbox::attach(node.namespace(), &mut dataplane, address, CPUS)?;
        let attached = node.namespace().run(|| dataplane.attach("eth0", Mode::Native, None))?;
        let jiffies = dataplane.jiffies()?;
        Ok(Self { dataplane, inbox, service, epoch, jiffies, attached })
    }

    /// Arms the fence: open for this long by XDP's jiffies, and by the exact clock.
    pub fn arm(&self, jiffies: Duration, exact: Duration) {
        let fence = Fence::new(self.epoch, self.jiffies.not_after(monotonic() + jiffies));
        let deadline = boottime() + exact;
        self.dataplane.memory.local_row().arm(fence, deadline.as_nanos() as u64);
    }

    /// Starts to keep held packets, and sends so many of them in a second.
    pub fn keep(
        &mut self,
        cluster: &Cluster,
        node: &Node,
        bounds: Bounds,
        pace: u32,
    ) -> Result<Keeper> {
        let options = hold::Options {
            bounds,
            pace,
            underlay: cluster.underlay_address(node),
            services: vec![self.service.clone()],
        };
        Ok(node.namespace().run(|| Keeper::start(&mut self.dataplane, &options))?)
    }

    /// Puts the program that captures into the link, as a capture does.
    pub fn begin_capture(&mut self) -> Result<()> {
        Ok(self.dataplane.begin_capture(slice::from_mut(&mut self.attached))?)
    }

    /// The epoch of the node.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// A random SessionID in `slot`, and its key.
    pub fn draw(&self, slot: u16) -> ([u8; 16], Key) {
        let mut id: [u8; 16] = rand::random();
        let wire_id = mint(&mut id, slot, self.service.seed()).expect("16 bytes are an id");
        (id, wire_id.key(self.service.seed()))
    }

    /// Opens a session on a CPU here, at a version.
    pub fn own(&mut self, key: Key, cpu: u16, version: u64) -> Result<()> {
        let entry = Entry { place: Place::Local { cpu }, epoch: self.epoch };
        Ok(self.dataplane.insert(key, entry, version)?)
    }

    /// How many packets got a verdict, the service's and others together.
    pub fn verdict(&self, verdict: Verdict) -> Result<u64> {
        let counters = &self.dataplane.counters;
        Ok(counters.verdict(0, verdict)? + counters.verdict(1, verdict)?)
    }

    /// How many of the service's datagrams were admitted so.
    pub fn admission(&self, admission: Admission) -> Result<u64> {
        Ok(self.dataplane.counters.admission(1, admission)?)
    }
}

/// An interface, as `ip` shows it.
#[derive(Deserialize)]
struct Interface {
    ifindex: u32,
    mtu: u32,
    address: String,
}

impl Interface {
    fn find(namespace: &Namespace, name: &str) -> Result<Self> {
        let output = namespace.command("ip").args(["-json", "link", "show", name]).output()?;
        let [interface] = serde_json::from_slice::<[Self; 1]>(&output.stdout)
            .with_context(|| format!("looking at {name} in {}", namespace.name()))?;
        Ok(interface)
    }

    fn mac(&self) -> Result<[u8; 6]> {
        let bytes: Vec<u8> = self
            .address
            .split(':')
            .map(|byte| u8::from_str_radix(byte, 16))
            .collect::<Result<_, _>>()
            .context("reading a MAC address")?;
        bytes.try_into().ok().context("a MAC address has 6 bytes")
    }
}
