//! Daemons and applications on all nodes of a test network.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use dataplane_ebpf::event::Reason;
use dataplane_ebpf::verdict::{Admission, Verdict};
use dataplane_user::api::{Client as Api, Stats, Status};

use crate::address::Family;
use crate::client::Client;
use crate::config::{Config, Fence, Service, Sessions};
use crate::daemon::Daemon;
use crate::gateway::{Gateway, Serving};
use crate::probe;
use crate::swarm::Swarm;
use crate::topology::{Cluster, Node};

/// The port of the echo service.
pub const PORT: u16 = 7000;

/// The port of its control messages.
pub const CONTROL_PORT: u16 = 7001;

const PATIENCE: Duration = Duration::from_secs(10);

/// How a fleet is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Lease, renewal and margin; the daemon's defaults if `None`.
    pub fence: Option<Fence>,
    /// How many CPUs process sessions, from 0 on.
    pub cpus: u16,
    /// How many wire ids a node's table holds.
    pub capacity: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { fence: None, cpus: 2, capacity: 10_000 }
    }
}

/// A daemon and the echo application on every node, ready to be used.
#[derive(Debug)]
pub struct Fleet {
    /// The applications; dropped before their daemons.
    pub gateways: Vec<Gateway>,
    /// The daemons, in the order of the nodes.
    pub daemons: Vec<Daemon>,
}

/// The echo service's name for a family of addresses.
pub fn service_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "echo4",
        Family::V6 => "echo6",
    }
}

/// The echo services of a network: one for each VIP.
pub fn services(cluster: &Cluster) -> Vec<Service> {
    let service = |&family: &Family| Service {
        control_port: Some(CONTROL_PORT),
        ..Service::native(service_name(family), cluster.vip(family), PORT)
    };
    Family::ALL
        .iter()
        .filter(|&&family| cluster.vips().contains(&cluster.vip(family)))
        .map(service)
        .collect()
}

/// The configuration of a node.
pub fn config(cluster: &Cluster, node: &Node, options: &Options) -> Config {
    let mut config = Config::of(cluster, node, &services(cluster));
    config.fence = options.fence;
    config.sessions = Some(Sessions {
        capacity: Some(options.capacity),
        cpus: Some((0..u32::from(options.cpus)).collect()),
        queue: None,
    });
    config
}

impl Fleet {
    /// Starts daemons and applications, and waits until every node knows the way to all others.
    pub fn start(cluster: &Cluster, options: &Options) -> Result<Self> {
        let mut fleet = Self { gateways: Vec::new(), daemons: Vec::new() };
        for node in cluster.nodes() {
            let config = config(cluster, node, options);
            fleet.daemons.push(Daemon::start(cluster, node, &config)?);
        }
        for (node, daemon) in cluster.nodes().iter().zip(&fleet.daemons) {
            fleet.gateways.push(gateway(cluster, node, daemon.socket(), options)?);
        }
        fleet.wait_for_next_hops()?;
        Ok(fleet)
    }

    /// Waits until every node knows the way to all others.
    pub fn wait_for_next_hops(&self) -> Result<()> {
        for daemon in &self.daemons {
            let mut api = Api::connect(daemon.socket())?;
            let known = probe::until(PATIENCE, || {
                api.status().is_ok_and(|status| status.nodes.iter().all(|node| node.mac.is_some()))
            });
            ensure!(known, "a node does not find the others: {:?}", api.status()?.nodes);
        }
        Ok(())
    }

    /// How a node is.
    pub fn status(&self, node: usize) -> Result<Status> {
        Ok(Api::connect(self.daemons[node].socket())?.status()?)
    }

    /// A node's counters.
    pub fn stats(&self, node: usize) -> Result<Stats> {
        Ok(Api::connect(self.daemons[node].socket())?.stats()?)
    }

    /// A verdict's or admission's count, added up over all nodes and services; an error if none has
    /// this name.
    pub fn count(&self, what: &str) -> Result<u64> {
        let mut verdicts = Verdict::ALL.iter().map(|verdict| verdict.name());
        let mut admissions = Admission::ALL.iter().map(|admission| admission.name());
        let is_known = verdicts.any(|name| name == what) || admissions.any(|name| name == what);
        ensure!(is_known, "nothing is counted as {what:?}");
        let mut sum = 0;
        for node in 0..self.daemons.len() {
            let stats = self.stats(node)?;
            for counts in stats.services.values().chain([&stats.other]) {
                sum += counts.verdicts.get(what).copied().unwrap_or(0);
                sum += counts.admissions.get(what).copied().unwrap_or(0);
            }
        }
        Ok(sum)
    }

    /// What was refused, and how often, added up over all nodes and services; reasons for which
    /// nothing was refused are left out.
    pub fn refused(&self) -> Result<BTreeMap<(&'static str, &'static str), u64>> {
        let mut refused = BTreeMap::new();
        for node in 0..self.daemons.len() {
            let stats = self.stats(node)?;
            for counts in stats.services.values().chain([&stats.other]) {
                for reason in Reason::refusals() {
                    let by_name = match reason {
                        Reason::Verdict(_) => &counts.verdicts,
                        Reason::Admission(_) => &counts.admissions,
                        Reason::Egress(_) => &counts.egress,
                    };
                    let count = by_name.get(reason.name()).copied().unwrap_or(0);
                    if count > 0 {
                        *refused.entry((reason.place(), reason.name())).or_default() += count;
                    }
                }
            }
        }
        Ok(refused)
    }
}

/// The echo application on one node, whose daemon listens at `daemon`.
pub fn gateway(
    cluster: &Cluster,
    node: &Node,
    daemon: &Path,
    options: &Options,
) -> Result<Gateway> {
    let serving: Vec<_> = services(cluster)
        .into_iter()
        .map(|service| Serving {
            address: SocketAddr::new(service.address, service.port),
            service: service.name,
        })
        .collect();
    Gateway::start(node.namespace(), node.name(), daemon, &serving, options.cpus)
}

/// Clients of the echo service, all on the first client host, with addresses of their own from
/// `first` on.
pub fn swarm(cluster: &Cluster, family: Family, first: u8, count: u8) -> Result<Swarm> {
    let host = &cluster.clients()[0];
    let server = SocketAddr::new(cluster.vip(family), PORT);
    let client = |n| Client::new(host.namespace(), host.pool_address(family, first + n), server);
    Ok(Swarm::new((0..count).map(client).collect::<Result<_>>()?))
}
