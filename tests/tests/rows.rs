//! Off-home rows: a session whose wire id lies in another node's slot.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Result, ensure};
use dataplane_ebpf::wire_id::WireId;
use dataplane_user::api::{Client as Api, Request};
use dataplane_user::config::Config as Loaded;
use jumpgate_tests::address::Family;
use jumpgate_tests::config::first_placement;
use jumpgate_tests::config::{Config, Service};
use jumpgate_tests::daemon::Daemon;
use jumpgate_tests::fleet::Fleet;
use jumpgate_tests::inbox::Inbox;
use jumpgate_tests::probe;
use jumpgate_tests::require_root;
use jumpgate_tests::topology::Cluster;

const PATIENCE: Duration = Duration::from_secs(5);
const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

/// The version at which a node owns a session that was made there, as other nodes are to know it.
const OWNED: u64 = dataplane_user::node::FIRST_OWNED.get();

struct Scene {
    cluster: Cluster,
    fleet: Fleet,
    /// Of node b.
    inbox: Inbox,
    client: UdpSocket,
    server: SocketAddr,
}

impl Scene {
    fn new() -> Result<Self> {
        let cluster = Cluster::builder().build()?;
        let service = Service {
            protocol: "offset",
            id_length: Some(6),
            ..Service::native("peers", cluster.vip(Family::V4), 7000)
        };
        let mut fleet = Fleet { gateways: Vec::new(), daemons: Vec::new() };
        for node in cluster.nodes() {
            let config = Config::of(&cluster, node, std::slice::from_ref(&service));
            fleet.daemons.push(Daemon::start(&cluster, node, &config)?);
        }
        fleet.wait_for_next_hops()?;
        let (b, daemon) = (&cluster.nodes()[B], &fleet.daemons[B]);
        let inbox = Inbox::open(b.namespace(), daemon.socket(), &service, false, 2)?;
        let host = &cluster.clients()[0];
        let client = host.namespace().run(|| UdpSocket::bind((host.address(Family::V4), 0)))?;
        let server = SocketAddr::new(service.address, service.port);
        Ok(Self { cluster, fleet, inbox, client, server })
    }

    fn api(&self, node: usize) -> Result<Api> {
        Ok(Api::connect(self.fleet.daemons[node].socket())?)
    }

    /// An id that a peer chose, and that lies in one of node a's slots.
    fn foreign_id(&self) -> Result<[u8; 6]> {
        let config = Loaded::load(self.fleet.daemons[A].config())?;
        let placement = first_placement(&config)?;
        let (a, seed) = (config.this_node().index, config.services()[0].seed());
        loop {
            let id: [u8; 6] = rand::random();
            let key = WireId::from_bytes(&id).expect("6 bytes are an id").key(seed);
            if placement.slots()[usize::from(key.slot)].owner == Some(a) {
                return Ok(id);
            }
        }
    }

    fn send(&self, entry: usize, id: &[u8]) -> Result<()> {
        self.cluster.route_vips_to(&[entry])?;
        self.client.send_to(&[id, &[entry as u8]].concat(), self.server)?;
        Ok(())
    }

    fn arrives(&self, entry: usize, id: &[u8], cpu: u32) -> Result<()> {
        self.send(entry, id)?;
        let received = self.inbox.receive(PATIENCE)?;
        ensure!(
            received.as_ref().is_some_and(|got| got.cpu == cpu && got.payload[6] == entry as u8),
            "from node {entry}: {received:?}",
        );
        Ok(())
    }

    fn verdict(&self, node: usize, verdict: &str) -> Result<u64> {
        let stats = self.fleet.stats(node)?;
        Ok(stats.services["peers"].verdicts.get(verdict).copied().unwrap_or(0))
    }

    /// The packet is refused by `node` for this reason.
    fn refused(&self, entry: usize, id: &[u8], node: usize, verdict: &str) -> Result<()> {
        let before = self.verdict(node, verdict)?;
        self.send(entry, id)?;
        let counted =
            probe::until(PATIENCE, || self.verdict(node, verdict).is_ok_and(|now| now > before));
        ensure!(counted, "from node {entry}: no {verdict}: {:?}", self.fleet.stats(node)?);
        ensure!(self.verdict(node, verdict)? == before + 1, "from node {entry}");
        Ok(())
    }

    fn add_row(&self, id: &str, node: &str, version: u64) -> Result<()> {
        let (service, node) = ("peers".to_owned(), node.to_owned());
        let row = Request::AddRow { service, id: id.to_owned(), node, version };
        Ok(self.api(A)?.done(&row, None)?)
    }

    fn remove_row(&self, id: &str) -> Result<()> {
        let row = Request::RemoveRow { service: "peers".to_owned(), id: id.to_owned() };
        Ok(self.api(A)?.done(&row, None)?)
    }
}

#[test]
fn a_row_at_the_slots_owner_leads_to_a_session_elsewhere() -> Result<()> {
    require_root!();
    let scene = Scene::new()?;
    let mut b = scene.api(B)?;
    let opened = b.open("peers", 1)?;
    let bytes = scene.foreign_id()?;
    let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let add =
        |off_home| Request::AddWireId { session: opened.session.clone(), id: id.clone(), off_home };
    let error = b.done(&add(false), None).unwrap_err().to_string();
    ensure!(error.contains("off_home"), "{error}");
    b.done(&add(true), None)?;

    // Without the row the slot's owner says that there is no such session.
    scene.refused(A, &bytes, A, "no-session")?;
    scene.refused(C, &bytes, A, "no-session")?;

    scene.add_row(&id, "b", OWNED)?;
    for entry in [A, B, C] {
        scene.arrives(entry, &bytes, 1)?;
    }
    ensure!(scene.verdict(A, "forward-row")? == 2);
    ensure!(scene.verdict(C, "forward-slot")? == 2);
    let error = scene.add_row(&id, "c", 1).unwrap_err().to_string();
    ensure!(error.contains("registered already"), "{error}");

    // A row of another version is stale knowledge: the owner refuses what it leads there.
    scene.remove_row(&id)?;
    scene.add_row(&id, "b", OWNED + 1)?;
    scene.refused(C, &bytes, B, "shim-version-new")?;

    // A row that leads to a node that does not know the session does not make a loop.
    scene.remove_row(&id)?;
    scene.add_row(&id, "c", OWNED)?;
    scene.refused(A, &bytes, C, "not-newer")?;

    scene.remove_row(&id)?;
    scene.refused(A, &bytes, A, "no-session")?;
    scene.refused(C, &bytes, A, "no-session")?;
    let error = scene.remove_row(&id).unwrap_err().to_string();
    ensure!(error.contains("no off-home row"), "{error}");

    // At its owner the id ends with the session.
    scene.arrives(B, &bytes, 1)?;
    b.done(&Request::Close { session: opened.session.clone() }, None)?;
    scene.refused(B, &bytes, A, "no-session")?;
    ensure!(scene.inbox.take()?.is_none());
    Ok(())
}
