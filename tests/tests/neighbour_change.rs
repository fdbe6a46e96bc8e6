//! Forwarding recovers when the way to the other nodes changes.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use jumpgate_tests::address::Family;
use jumpgate_tests::fleet::{self, Fleet, Options};
use jumpgate_tests::ip::Batch;
use jumpgate_tests::swarm::Swarm;
use jumpgate_tests::topology::Cluster;
use jumpgate_tests::{require_root, sysctl};

const PATIENCE: Duration = Duration::from_secs(10);
/// How long forwarding may be interrupted.
const RECOVERY: Duration = Duration::from_secs(5);
const CLIENTS: u8 = 40;

struct Scene {
    cluster: Cluster,
    fleet: Fleet,
    swarm: Swarm,
}

impl Scene {
    /// Sessions on all nodes, whose packets all enter at node a.
    fn new(underlay: Family) -> Result<Self> {
        let cluster = Cluster::builder().underlay(underlay).build()?;
        // A changed MAC address is announced, as by a router that takes over from another.
        sysctl::write(
            cluster.router(),
            &[("ipv4/conf/all/arp_notify", "1"), ("ipv6/conf/all/ndisc_notify", "1")],
        )?;
        let fleet = Fleet::start(&cluster, &Options::default())?;
        let mut swarm = fleet::swarm(&cluster, Family::V4, 1, CLIENTS)?;
        swarm.open(PATIENCE)?;
        cluster.route_vips_to(&[0])?;
        let mut scene = Self { cluster, fleet, swarm };
        ensure!(scene.everything_is_answered()?, "{:?}", scene.swarm.counts());
        Ok(scene)
    }

    fn router(&self, command: &str) -> Result<()> {
        Batch::new().add(command).run(self.cluster.router())
    }

    fn gateway_of_a(&self) -> Result<Option<String>> {
        Ok(self.fleet.status(0)?.nodes[0].mac.clone())
    }

    /// Whether one packet of each client is answered.
    fn everything_is_answered(&mut self) -> Result<bool> {
        let before = self.swarm.counts();
        self.swarm.send();
        let end = Instant::now() + Duration::from_millis(150);
        loop {
            let now = self.swarm.counts();
            if now.answered - before.answered == u64::from(CLIENTS) {
                return Ok(true);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            self.swarm.poll(left)?;
        }
    }

    fn recovers(&mut self) -> Result<()> {
        let start = Instant::now();
        while !self.everything_is_answered()? {
            ensure!(start.elapsed() < RECOVERY, "{:?}", self.fleet.stats(0)?);
        }
        let counts = self.swarm.counts();
        ensure!(counts.moved_sessions + counts.duplicates + counts.strange == 0, "{counts:?}");
        Ok(())
    }
}

fn the_gateways_mac_address_changes(underlay: Family) -> Result<()> {
    let mut scene = Scene::new(underlay)?;
    scene.router("link set dev node-a address 02:00:00:00:00:aa")?;
    scene.recovers()?;
    let mac = scene.gateway_of_a()?;
    ensure!(mac.as_deref() == Some("02:00:00:00:00:aa"), "{mac:?}");
    Ok(())
}

#[test]
fn the_gateways_mac_address_changes_on_an_ipv4_underlay() -> Result<()> {
    require_root!();
    the_gateways_mac_address_changes(Family::V4)
}

#[test]
fn the_gateways_mac_address_changes_on_an_ipv6_underlay() -> Result<()> {
    require_root!();
    the_gateways_mac_address_changes(Family::V6)
}

#[test]
fn a_link_goes_down_and_comes_back() -> Result<()> {
    require_root!();
    let mut scene = Scene::new(Family::V4)?;
    scene.router("link set dev node-a down")?;
    ensure!(!scene.everything_is_answered()?, "packets pass a link that is down");
    scene.router("link set dev node-a up")?;
    // Its routes went with the link.
    let (vip, a) = (scene.cluster.vip(Family::V4), scene.cluster.nodes()[0].address(Family::V4));
    scene.router(&format!("route replace {vip} via {a} dev node-a"))?;
    scene.recovers()
}
