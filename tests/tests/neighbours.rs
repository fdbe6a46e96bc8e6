//! Next hops are learned from the kernel, and followed when they change.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use dataplane_user::neighbours::{Hop, Interfaces, NextHops, Targets, Upkeep};
use jumpgate_tests::address::Prefix;
use jumpgate_tests::ip::Batch;
use jumpgate_tests::links::{self, End, Link};
use jumpgate_tests::netns::Namespace;
use jumpgate_tests::{require_root, sysctl};
use ownership::NodeIndex;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(4);

/// The links `eth0` and `eth1` from here to there, over which the nodes are reached.
struct Network {
    here: Namespace,
    there: Namespace,
}

impl Network {
    fn new() -> Result<Self> {
        let here = Namespace::new("here")?;
        let there = Namespace::new("there")?;
        for namespace in [&here, &there] {
            links::prepare(namespace)?;
        }
        // Else IPv6 would not come back when a link is set up again.
        let keep = ("ipv6/conf/default/keep_addr_on_down", "1");
        sysctl::write(&here, &[keep])?;
        // A changed MAC address is announced, as by a router that takes over from another.
        sysctl::write(
            &there,
            &[("ipv4/conf/all/arp_notify", "1"), ("ipv6/conf/all/ndisc_notify", "1")],
        )?;
        for (name, net) in [("eth0", 0), ("eth1", 1)] {
            let end = |namespace, host: u8| {
                End::new(namespace, name)
                    .address(prefix(&format!("10.9.{net}.{host}"), 24))
                    .address(prefix(&format!("fd00:9:{net}::{host}"), 64))
            };
            Link::between(end(&here, 1), end(&there, 2)).create()?;
        }
        let network = Self { here, there };
        network.there("link set dev eth0 address 02:00:00:00:00:a0")?;
        network.there("link set dev eth1 address 02:00:00:00:00:a1")?;
        Ok(network)
    }

    fn here(&self, command: &str) -> Result<()> {
        Batch::new().add(command).run(&self.here)
    }

    fn there(&self, command: &str) -> Result<()> {
        Batch::new().add(command).run(&self.there)
    }

    /// How many neighbours the kernel here manages.
    fn managed(&self) -> Result<usize> {
        let output = self.here.command("ip").arg("neighbour").output()?;
        Ok(String::from_utf8(output.stdout)?.matches(" managed ").count())
    }

    /// Runs `work` here, in a runtime like the daemon's.
    fn run<R: Send>(&self, work: impl AsyncFnOnce() -> Result<R> + Send) -> Result<R> {
        self.here.run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(work())
        })
    }
}

fn prefix(address: &str, length: u8) -> Prefix {
    Prefix { address: address.parse().expect("a literal address"), length }
}

/// Nodes 1, 2, … at these addresses, reached over these interfaces.
async fn targets(addresses: &[&str], underlay: &[&str]) -> Result<Targets> {
    let interfaces = Interfaces::read().await?;
    let node = |(number, address): (usize, &&str)| -> Result<(NodeIndex, IpAddr)> {
        Ok((NodeIndex::new(number as u16 + 1)?, address.parse()?))
    };
    Ok(Targets {
        nodes: addresses.iter().enumerate().map(node).collect::<Result<_>>()?,
        underlay: underlay
            .iter()
            .map(|name| Ok(interfaces.named(name)?.ifindex))
            .collect::<Result<_>>()?,
    })
}

/// What is known of next hops by the changes that were reported.
struct Follower {
    next_hops: NextHops,
    known: BTreeMap<NodeIndex, Hop>,
}

impl Follower {
    fn start(targets: Targets, upkeep: Upkeep) -> Result<Self> {
        Ok(Self { next_hops: NextHops::start(targets, upkeep)?, known: BTreeMap::new() })
    }

    /// Waits until all `nodes` nodes have this next hop, or none.
    async fn until(&mut self, nodes: usize, expected: Option<Hop>) -> Result<()> {
        let all = |known: &BTreeMap<NodeIndex, Hop>| match expected {
            Some(hop) => known.len() == nodes && known.values().all(|known| *known == hop),
            None => known.is_empty(),
        };
        while !all(&self.known) {
            let change = timeout(PATIENCE, self.next_hops.changed()).await.with_context(|| {
                format!("waited for {expected:?} at {nodes} nodes, but knows {:?}", self.known)
            })?;
            let Some(change) = change else { bail!("next hops are no longer followed") };
            let before = match change.next_hop {
                Some(hop) => self.known.insert(change.node, hop),
                None => self.known.remove(&change.node),
            };
            ensure!(before != change.next_hop, "{change:?} is no change");
        }
        Ok(())
    }
}

async fn hop(interface: &str, last: u8) -> Result<Hop> {
    let ifindex = Interfaces::read().await?.named(interface)?.ifindex;
    Ok(Hop { mac: [2, 0, 0, 0, 0, last], ifindex })
}

fn neighbours_are_followed(upkeep: Upkeep) -> Result<()> {
    let network = Network::new()?;
    network.run(async || {
        let targets = targets(&["10.9.0.2", "fd00:9:0::2"], &["eth0"]).await?;
        let mut follower = Follower::start(targets, upkeep)?;
        let first = hop("eth0", 0xa0).await?;
        follower.until(2, Some(first)).await.context("learning")?;
        let managed = if upkeep == Upkeep::Managed { 2 } else { 0 };
        ensure!(network.managed()? == managed, "{managed} neighbours should be managed");

        network.there("link set dev eth0 address 02:00:00:00:00:b0")?;
        let second = hop("eth0", 0xb0).await?;
        follower.until(2, Some(second)).await.context("following another MAC address")?;

        network.here("link set dev eth0 down")?;
        follower.until(2, None).await.context("losing the link")?;
        network.here("link set dev eth0 up")?;
        follower.until(2, Some(second)).await.context("regaining the link")?;
        ensure!(network.managed()? == managed, "{managed} neighbours should be managed again");

        follower.next_hops.stop().await?;
        ensure!(network.managed()? == 0, "neighbours are still managed for nobody");
        Ok(())
    })
}

#[test]
fn neighbours_that_the_kernel_manages_are_followed() -> Result<()> {
    require_root!();
    neighbours_are_followed(Upkeep::Managed)
}

#[test]
fn neighbours_that_are_probed_are_followed() -> Result<()> {
    require_root!();
    neighbours_are_followed(Upkeep::Probes)
}

#[test]
fn a_route_through_a_gateway_is_followed_to_another_one() -> Result<()> {
    require_root!();
    let network = Network::new()?;
    network.run(async || {
        let mut follower = Follower::start(
            targets(&["10.77.0.2", "fd00:77::2"], &["eth0", "eth1"]).await?,
            Upkeep::Managed,
        )?;
        network.here("route add 10.77.0.0/16 via 10.9.0.2")?;
        network.here("route add fd00:77::/32 via fd00:9:0::2")?;
        follower.until(2, Some(hop("eth0", 0xa0).await?)).await.context("the first gateway")?;

        network.here("route replace 10.77.0.0/16 via 10.9.1.2")?;
        network.here("route replace fd00:77::/32 via fd00:9:1::2")?;
        follower.until(2, Some(hop("eth1", 0xa1).await?)).await.context("the second gateway")?;
        ensure!(network.managed()? == 2, "the first gateway is still managed for nobody");

        network.here("route del 10.77.0.0/16")?;
        network.here("route del fd00:77::/32")?;
        follower.until(2, None).await.context("losing the routes")?;
        follower.next_hops.stop().await?;
        Ok(())
    })
}

#[test]
fn a_silent_neighbour_is_asked_until_it_answers() -> Result<()> {
    require_root!();
    let network = Network::new()?;
    network.run(async || {
        let wanted = targets(&["10.9.0.3", "fd00:9:0::3"], &["eth0"]).await?;
        let mut follower =
            Follower::start(Targets { nodes: BTreeMap::new(), ..wanted.clone() }, Upkeep::Managed)?;
        follower.next_hops.retarget(wanted.clone());
        // Nobody answers yet: the request is out once the kernel manages the neighbours.
        for _ in 0..400 {
            if network.managed()? == 2 {
                break;
            }
            let silence = timeout(Duration::from_millis(10), follower.next_hops.changed()).await;
            ensure!(silence.is_err(), "a next hop that nobody has: {silence:?}");
        }
        network.there("address add 10.9.0.3/24 dev eth0")?;
        network.there("address add fd00:9:0::3/64 dev eth0 nodad")?;
        follower.until(2, Some(hop("eth0", 0xa0).await?)).await?;

        follower.next_hops.retarget(Targets { nodes: BTreeMap::new(), ..wanted });
        follower.until(2, None).await.context("nodes that are no longer wanted")?;
        follower.next_hops.stop().await?;
        Ok(())
    })
}

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no writer panics").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_route_by_a_foreign_interface_is_no_next_hop_and_is_warned_of_once() -> Result<()> {
    require_root!();
    let network = Network::new()?;
    let log = Log::default();
    network.run(async || {
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        let _guard = tracing::subscriber::set_default(subscriber);

        network.here("route add 10.77.0.0/16 via 10.9.0.2")?;
        let mut follower =
            Follower::start(targets(&["10.77.0.2"], &["eth0"]).await?, Upkeep::Managed)?;
        follower.until(1, Some(hop("eth0", 0xa0).await?)).await?;
        network.here("route replace 10.77.0.0/16 via 10.9.1.2")?;
        follower.until(1, None).await.context("a route by eth1")?;
        // Other changes to routes in between.
        for _ in 0..2 {
            network.here("route add 10.78.0.0/16 via 10.9.1.2")?;
            network.here("route del 10.78.0.0/16 via 10.9.1.2")?;
            let silence = timeout(Duration::from_millis(100), follower.next_hops.changed()).await;
            ensure!(silence.is_err(), "nothing has changed: {silence:?}");
        }
        follower.next_hops.stop().await?;
        Ok(())
    })?;
    let log = String::from_utf8(log.0.lock().expect("no writer panics").clone())?;
    ensure!(log.matches("add eth1 to the configured interfaces").count() == 1, "{log}");
    Ok(())
}

#[test]
fn interfaces_are_found_by_name() -> Result<()> {
    require_root!();
    let network = Network::new()?;
    network.there("link set dev eth1 down")?;
    network.there("link set dev eth0 mtu 1400")?;
    let interfaces = network.there.run(|| -> Result<Interfaces> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(Interfaces::read())?)
    })?;
    let eth0 = interfaces.named("eth0")?;
    ensure!(eth0.mac == Some([2, 0, 0, 0, 0, 0xa0]), "{eth0:?}");
    ensure!(eth0.mtu == 1400 && eth0.is_up && eth0.has_carrier, "{eth0:?}");
    ensure!(eth0.kind.as_deref() == Some("veth"), "{eth0:?}");
    ensure!(interfaces.indexed(eth0.ifindex) == Some(eth0));
    ensure!(!interfaces.named("eth1")?.is_up);
    let error = interfaces.named("eth7").unwrap_err().to_string();
    ensure!(error.contains("\"eth7\"") && error.contains("lo, eth"), "{error}");
    Ok(())
}
