//! A daemon is replaced by the next one, of the same or another version: packets go on, sessions
//! stay, the epoch is resumed.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use aya::maps::MapData;
use aya::programs::{SchedClassifier, TcAttachType};
use dataplane_ebpf::abi::SCHEMA;
use dataplane_ebpf::node::{LINKS, LinkRow};
use dataplane_user::api::{Client as Api, Request};
use dataplane_user::dataplane::region::Region;
use jumpgate_tests::address::Family;
use jumpgate_tests::daemon::{Daemon, binary};
use jumpgate_tests::fleet::{self, Fleet, Options};
use jumpgate_tests::ip::Batch;
use jumpgate_tests::mounts::BPFFS;
use jumpgate_tests::netns::Namespace;
use jumpgate_tests::require_root;
use jumpgate_tests::swarm::Swarm;
use jumpgate_tests::topology::{Cluster, Node};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(10);
const CLIENTS: u8 = 40;
/// How often every client sends: some 8,000 packets a second, which leaves the sockets' buffers room
/// for a machine that has other things to do.
const PACE: Duration = Duration::from_millis(5);

/// The id of the XDP program on a node's link.
fn program(node: &Node) -> Result<Option<u64>> {
    let output = node.namespace().command("ip").args(["-json", "link", "show", "eth0"]).output()?;
    let links: Value = serde_json::from_slice(&output.stdout).context("reading `ip -json link`")?;
    Ok(links[0]["xdp"]["prog"]["id"].as_u64())
}

/// The id of the first program at egress of a node's link.
fn egress_program(node: &Node) -> Result<u32> {
    let (_, programs) = node
        .namespace()
        .run(|| SchedClassifier::query_tcx("eth0", TcAttachType::Egress))
        .context("asking for the programs at egress")?;
    Ok(programs.first().context("a fence")?.id())
}

/// The ids of a node's sessions.
fn sessions(daemon: &Daemon) -> Result<BTreeSet<String>> {
    let mut api = Api::connect(daemon.socket())?;
    let mut found: BTreeSet<String> = BTreeSet::new();
    loop {
        let rows = api.sessions(found.last().map(String::as_str))?;
        if rows.is_empty() {
            return Ok(found);
        }
        found.extend(rows.into_iter().map(|row| row.session));
    }
}

/// How a daemon ends for the next one.
#[derive(Clone, Copy, Debug)]
enum End {
    Killed,
    Stays,
}

/// A network under load, whose daemons are replaced.
struct Scene {
    cluster: Cluster,
    fleet: Fleet,
    swarm: Swarm,
}

impl Scene {
    fn new(end: End, family: Family) -> Result<Self> {
        let cluster = Cluster::builder().build()?;
        let mut fleet = Fleet { gateways: Vec::new(), daemons: Vec::new() };
        for node in cluster.nodes() {
            let config = fleet::config(&cluster, node, &Options::default());
            fleet.daemons.push(Daemon::start_with(&cluster, node, &config, arguments(end))?);
        }
        for (node, daemon) in cluster.nodes().iter().zip(&fleet.daemons) {
            fleet.gateways.push(fleet::gateway(
                &cluster,
                node,
                daemon.socket(),
                &Options::default(),
            )?);
        }
        fleet.wait_for_next_hops()?;
        let mut swarm = fleet::swarm(&cluster, family, 1, CLIENTS)?;
        swarm.open(PATIENCE)?;
        swarm.send();
        ensure!(swarm.settle(PATIENCE)?, "{:?}", swarm.counts());
        Ok(Self { cluster, fleet, swarm })
    }

    /// Replaces the daemon of a node by one of this binary, while packets go in at every node.
    fn replace(&mut self, index: usize, end: End, binary: &Path) -> Result<()> {
        let Self { cluster, fleet, swarm } = self;
        let node = &cluster.nodes()[index];
        let config = fleet::config(cluster, node, &Options::default());
        let daemon = &mut fleet.daemons[index];
        let next = thread::scope(|scope| -> Result<Daemon> {
            let next = scope.spawn(|| {
                match end {
                    End::Killed => daemon.kill()?,
                    End::Stays => daemon.stop()?,
                }
                Daemon::start_binary(binary, cluster, node, &config, arguments(end))
            });
            while !next.is_finished() {
                swarm.send();
                swarm.receive_for(PACE)?;
            }
            next.join().unwrap_or_else(|panic| resume_unwind(panic))
        });
        fleet.daemons[index] = next.context("the next daemon")?;
        // The load goes on for a while, under the new one.
        let until = Instant::now() + 10 * PACE;
        while Instant::now() < until {
            swarm.send();
            swarm.receive_for(PACE)?;
        }
        Ok(())
    }

    /// Waits until every packet is answered.
    fn expect_no_loss(&mut self) -> Result<()> {
        if self.swarm.settle(PATIENCE)? {
            return Ok(());
        }
        let nodes = self.cluster.nodes().iter().map(Node::namespace);
        let full = nodes.chain(self.cluster.clients().iter().map(|client| client.namespace()));
        let full: Vec<_> = full.map(full_sockets).collect::<Result<_>>()?;
        let stats: Vec<_> = (0..3).map(|node| self.fleet.stats(node)).collect::<Result<_>>()?;
        bail!("lost: {:?}; full sockets: {full:?}; {stats:?}", self.swarm.counts())
    }

    /// Replaces daemons of all nodes, one after the other and each several times, and proves that
    /// nobody noticed.
    fn replace_all(&mut self, end: End) -> Result<()> {
        let binary = binary()?;
        for index in [0, 1, 0, 0, 2] {
            let before = sessions(&self.fleet.daemons[index])?;
            let node = &self.cluster.nodes()[index];
            let first = (program(node)?, egress_program(node)?);
            self.replace(index, end, &binary)?;
            let status = self.fleet.status(index)?;
            ensure!(status.epoch == 1 && status.fence_open_ms > 0, "{status:?}");
            ensure!(!before.is_empty() && sessions(&self.fleet.daemons[index])? == before);
            ensure!(status.services.iter().all(|service| service.sockets == [0, 1]), "{status:?}");
            let node = &self.cluster.nodes()[index];
            let second = (program(node)?, egress_program(node)?);
            let both = second.0.is_some() && second.0 != first.0 && second.1 != first.1;
            ensure!(both, "{first:?}, then {second:?}");
        }
        self.expect_no_loss()?;
        let counts = self.swarm.counts();
        let odd = counts.duplicates + counts.strange + counts.stale + counts.unsent;
        ensure!(odd + counts.moved_sessions + counts.astray == 0, "{counts:?}");
        ensure!(counts.sent > 20 * u64::from(CLIENTS), "hardly a load: {counts:?}");

        // Packets for others were forwarded all the time, and nobody was refused.
        let refused = self.fleet.refused()?;
        ensure!(refused.is_empty(), "{refused:?}");
        let mut more = fleet::swarm(&self.cluster, Family::V4, 100, 20)?;
        more.open(PATIENCE)?;
        more.send();
        ensure!(more.settle(PATIENCE)?, "new sessions: {:?}", more.counts());
        Ok(())
    }
}

/// How many datagrams found the buffers of their sockets full.
fn full_sockets(namespace: &Namespace) -> Result<u64> {
    let text = namespace.run(|| fs::read_to_string("/proc/thread-self/net/snmp"))?;
    let mut rows = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, counts) = (rows.next().context("names")?, rows.next().context("counts")?);
    let mut pairs = names.split(' ').zip(counts.split(' '));
    let (_, count) = pairs.find(|(name, _)| *name == "RcvbufErrors").context("RcvbufErrors")?;
    Ok(count.parse()?)
}

fn arguments(end: End) -> &'static [&'static str] {
    match end {
        End::Killed => &[],
        End::Stays => &["--stay"],
    }
}

#[test]
fn daemons_that_are_killed_and_replaced_under_load_lose_no_packet() -> Result<()> {
    require_root!();
    Scene::new(End::Killed, Family::V4)?.replace_all(End::Killed)
}

#[test]
fn daemons_that_stay_are_replaced_under_load_and_lose_no_packet() -> Result<()> {
    require_root!();
    Scene::new(End::Stays, Family::V6)?.replace_all(End::Stays)
}

#[test]
fn another_version_takes_over_and_sessions_of_before_can_be_changed_and_closed() -> Result<()> {
    require_root!();
    let mut scene = Scene::new(End::Killed, Family::V4)?;
    // The same daemon under another version's name, from another file.
    let own = binary()?;
    let (old, new) = (env!("CARGO_PKG_VERSION").as_bytes(), b"9.9.9");
    ensure!(old.len() == new.len(), "the version has grown: patch it otherwise");
    let mut bytes = fs::read(&own)?;
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(old.len()).position(|window| window == old) {
        at += found;
        bytes[at..at + new.len()].copy_from_slice(new);
    }
    let newer = scene.cluster.scratch().join("jumpgate-9.9.9");
    fs::write(&newer, bytes)?;
    fs::set_permissions(&newer, fs::metadata(&own)?.permissions())?;

    scene.replace(0, End::Killed, &newer)?;
    ensure!(scene.fleet.status(0)?.version == "9.9.9", "{:?}", scene.fleet.status(0)?);
    ensure!(scene.fleet.daemons[0].log().contains("taken over"));
    // And back.
    scene.replace(0, End::Killed, &own)?;
    ensure!(scene.fleet.daemons[0].log().contains("version=\"9.9.9\""), "whose it was is said");
    scene.expect_no_loss()?;

    let daemon = &scene.fleet.daemons[0];
    let mut api = Api::connect(daemon.socket())?;
    let status = api.status()?;
    let session = sessions(daemon)?.pop_first().context("a session")?;
    let minted = api.mint(&session)?;
    ensure!(api.status()?.entries == status.entries + 1);
    let request = Request::RemoveWireId { session: session.clone(), id: minted };
    api.done(&request, None)?;
    api.done(&Request::Close { session: session.clone() }, None)?;
    ensure!(!sessions(daemon)?.contains(&session));
    ensure!(api.status()?.entries == status.entries - 1);
    Ok(())
}

#[test]
fn a_link_that_has_changed_meanwhile_is_used_as_it_is_now() -> Result<()> {
    require_root!();
    let mut scene = Scene::new(End::Killed, Family::V4)?;
    let binary = binary()?;
    for mtu in [3000, 2000] {
        let Scene { cluster, fleet, .. } = &mut scene;
        let node = &cluster.nodes()[0];
        Batch::new().add(format!("link set eth0 mtu {mtu}")).run(node.namespace())?;
        fleet.daemons[0].kill()?;
        let config = fleet::config(cluster, node, &Options::default());
        fleet.daemons[0] = Daemon::start_binary(&binary, cluster, node, &config, &[])?;
        fleet.wait_for_next_hops()?;
        // What it was is forgotten.
        let known = node.mounts().run(node.namespace(), || -> Result<Vec<u32>> {
            let map = MapData::from_pin(format!("{BPFFS}/jumpgate/a/maps/v{SCHEMA}-1/LINKS"))?;
            let links: Region<LinkRow> = Region::of_map(map.fd().as_fd(), LINKS)?;
            let mtu = |link| links.get(link).expect("a row for each link").mtu;
            Ok((0..LINKS).map(mtu).filter(|&mtu| mtu != 0).collect())
        })?;
        ensure!(known == [mtu], "{known:?}");
    }
    scene.cluster.route_vips_to(&[0])?;
    let forwarded = scene.fleet.count("forward-slot")?;
    scene.swarm.send();
    scene.expect_no_loss()?;
    ensure!(scene.fleet.count("forward-slot")? > forwarded + 10, "{:?}", scene.fleet.stats(0)?);
    Ok(())
}
