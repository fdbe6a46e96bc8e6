//! Packets that are lost on their way to other nodes are counted where the kernel tells of them.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dataplane_ebpf::dissect::native::{Header, TYPE_DATA};
use dataplane_ebpf::loss::Loss;
use dataplane_ebpf::node::{LinkRow, NextHop};
use dataplane_ebpf::verdict::Verdict;
use dataplane_user::dataplane::wire_address;
use jumpgate_tests::address::Family;
use jumpgate_tests::ip::Batch;
use jumpgate_tests::offload;
use jumpgate_tests::probe;
use jumpgate_tests::require_root;
use jumpgate_tests::rig::{self, Rig};
use jumpgate_tests::topology::Cluster;
use nix::net::if_::if_nametoindex;
use ownership::Placement;

const PATIENCE: Duration = Duration::from_secs(10);
const PACKETS: u64 = 20;

/// Node a, whose packets all belong to node b; the router's port takes no frames from XDP.
struct Scene {
    cluster: Cluster,
    rig: Rig,
    client: UdpSocket,
    server: SocketAddr,
}

impl Scene {
    fn new() -> Result<Self> {
        let cluster = Cluster::builder().nodes(2).without_receivers().build()?;
        cluster.route_vips_to(&[0])?;
        let [a, b] = [0, 1].map(|node| &cluster.nodes()[node]);
        offload::gro_off(cluster.router(), &a.port())?;
        let server = SocketAddr::new(cluster.vip(Family::V4), 7000);
        let placement = Placement::all_to(rig::index(b)?);
        // The namespace tells whose interfaces they are.
        let rig = a.namespace().run(|| Rig::new(&cluster, a, server, &placement, 7))?;
        let host = &cluster.clients()[0];
        let client = host.namespace().run(|| UdpSocket::bind((host.address(Family::V4), 0)))?;
        Ok(Self { cluster, rig, client, server })
    }

    /// Sends packets that node a forwards, and returns how many were lost in this way when all have
    /// their verdict.
    fn lose(&self, loss: Loss) -> Result<u64> {
        let before = (self.rig.verdict(Verdict::ForwardSlot)?, self.lost(loss)?);
        for number in 0..PACKETS {
            let session = [number as u8; 16];
            let (bytes, length) = Header { kind: TYPE_DATA, session, owner: None }.encode();
            self.client.send_to(&bytes[..length], self.server)?;
        }
        let forwarded =
            || -> Result<u64> { Ok(self.rig.verdict(Verdict::ForwardSlot)? - before.0) };
        let all = || forwarded().is_ok_and(|packets| packets == PACKETS);
        ensure!(probe::until(PATIENCE, all), "{} of {PACKETS}", forwarded()?);
        // The kernel tells when the batch is done, which may be just after the verdict.
        let told = || self.lost(loss).is_ok_and(|packets| packets - before.1 == PACKETS);
        let _ = probe::until(Duration::from_secs(1), told);
        Ok(self.lost(loss)? - before.1)
    }

    fn lost(&self, loss: Loss) -> Result<u64> {
        let namespace = self.cluster.nodes()[0].namespace();
        let lost = namespace.run(|| self.rig.dataplane.losses.read(0))?;
        Ok(lost.get(loss.name()).copied().unwrap_or(0))
    }

    /// Makes another way to node b, which is down at first.
    fn detour(&mut self) -> Result<()> {
        let [a, b] = [0, 1].map(|node| &self.cluster.nodes()[node]);
        let mut batch = Batch::new();
        batch.add("link add far0 type veth peer name far1");
        batch.run(a.namespace())?;
        let ifindex = a.namespace().run(|| if_nametoindex("far0"))?;
        let source = wire_address(self.cluster.underlay_address(a));
        let row = LinkRow { ifindex, mtu: 1500, mac: [2, 0, 0, 0, 0, 9], source, ..LinkRow::EMPTY };
        self.rig.dataplane.set_link(1, row);
        let hop = NextHop::new([2, 0, 0, 0, 0, 8], 1);
        self.rig.dataplane.node(rig::index(b)?).set_next_hop(hop);
        Ok(())
    }
}

/// Loses packets in each way there is, while packets are captured or not.
fn what_is_lost_is_found(is_capturing: bool) -> Result<()> {
    let mut scene = Scene::new()?;
    if is_capturing {
        scene.rig.begin_capture()?;
    }
    ensure!(scene.rig.dataplane.losses.gaps.is_empty(), "{:?}", scene.rig.dataplane.losses.gaps);
    let lost = scene.lose(Loss::NotSentBack)?;
    ensure!(lost == PACKETS, "{lost} of {PACKETS} were not sent back");

    scene.detour()?;
    let lost = scene.lose(Loss::InterfaceRefused)?;
    ensure!(lost == PACKETS, "the interface refused {lost} of {PACKETS}");

    let mut batch = Batch::new();
    // The other end takes frames from XDP, but only shorter ones.
    batch.add("link set far1 mtu 68");
    batch.add("link set far0 up");
    batch.add("link set far1 up");
    let namespace = scene.cluster.nodes()[0].namespace();
    batch.run(namespace).context("setting the detour up")?;
    offload::gro_on(namespace, "far1")?;
    let lost = scene.lose(Loss::InterfaceDropped)?;
    ensure!(lost == PACKETS, "the interface dropped {lost} of {PACKETS}");
    Ok(())
}

#[test]
fn what_does_not_reach_another_node_is_found() -> Result<()> {
    require_root!();
    what_is_lost_is_found(false)
}

#[test]
fn what_does_not_reach_another_node_is_found_during_a_capture() -> Result<()> {
    require_root!();
    what_is_lost_is_found(true)
}
