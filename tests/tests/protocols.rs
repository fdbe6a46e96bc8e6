//! Packets of every protocol reach the node and CPU of their session, wherever they enter.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dataplane_ebpf::dissect::native::{Header, TYPE_CONTROL, TYPE_DATA};
use dataplane_user::api::{Client as Api, Request};
use jumpgate_tests::address::Family;
use jumpgate_tests::config::{Config, Service, Sessions};
use jumpgate_tests::corpus::payload;
use jumpgate_tests::daemon::Daemon;
use jumpgate_tests::fleet::Fleet;
use jumpgate_tests::inbox::{Inbox, Received};
use jumpgate_tests::require_root;
use jumpgate_tests::topology::Cluster;

const PATIENCE: Duration = Duration::from_secs(5);
const CPUS: u32 = 2;

/// Where a packet arrived: the node, whether at its control port, and the CPU.
type Place = (usize, bool, u32);

/// Daemons on all nodes, with an application that keeps what it gets.
struct Site {
    cluster: Cluster,
    fleet: Fleet,
    /// By node and whether it is the control port.
    inboxes: BTreeMap<(usize, bool), Inbox>,
    service: Service,
    client: UdpSocket,
}

impl Site {
    fn new(family: Family, describe: impl FnOnce(&mut Service)) -> Result<Self> {
        let cluster = Cluster::builder().underlay(family).build()?;
        let mut service = Service::native("service", cluster.vip(family), 7000);
        (service.control_port, service.control) = (Some(7001), Some("application"));
        describe(&mut service);
        let mut fleet = Fleet { gateways: Vec::new(), daemons: Vec::new() };
        let mut inboxes = BTreeMap::new();
        for (index, node) in cluster.nodes().iter().enumerate() {
            let mut config = Config::of(&cluster, node, std::slice::from_ref(&service));
            config.sessions = Some(Sessions { cpus: Some(vec![0, 1]), ..Sessions::default() });
            let daemon = Daemon::start(&cluster, node, &config)?;
            for control in [false, true] {
                let inbox =
                    Inbox::open(node.namespace(), daemon.socket(), &service, control, CPUS)?;
                inboxes.insert((index, control), inbox);
            }
            fleet.daemons.push(daemon);
        }
        fleet.wait_for_next_hops()?;
        let host = &cluster.clients()[0];
        let client = host.namespace().run(|| UdpSocket::bind((host.address(family), 0)))?;
        Ok(Self { cluster, fleet, inboxes, service, client })
    }

    fn api(&self, node: usize) -> Result<Api> {
        Ok(Api::connect(self.fleet.daemons[node].socket())?)
    }

    /// Sends a packet by way of every node, to the data or control port, and returns where each
    /// copy arrived.
    fn spray(&self, control: bool, packet: &[u8]) -> Result<Vec<Place>> {
        let port = if control { 7001 } else { 7000 };
        let mut places = Vec::new();
        for entry in 0..self.cluster.nodes().len() {
            self.cluster.route_vips_to(&[entry])?;
            self.client.send_to(packet, SocketAddr::new(self.service.address, port))?;
            let (place, received) =
                self.receive()?.with_context(|| format!("from node {entry}: nothing came"))?;
            ensure!(received.payload == packet, "from node {entry}: {received:?}");
            ensure!(received.from == self.client.local_addr()?, "{received:?}");
            places.push(place);
        }
        Ok(places)
    }

    /// The next datagram at any node.
    fn receive(&self) -> Result<Option<(Place, Received)>> {
        let mut found = Ok(None);
        let _ = jumpgate_tests::probe::until(PATIENCE, || {
            for (&(node, control), inbox) in &self.inboxes {
                match inbox.take() {
                    Ok(None) => {}
                    Ok(Some(received)) => {
                        found = Ok(Some(((node, control, received.cpu), received)));
                        return true;
                    }
                    Err(error) => {
                        found = Err(error);
                        return true;
                    }
                }
            }
            false
        });
        found
    }

    /// Opens a session on every node and CPU, and demands that the packets made from its minted
    /// wire id reach exactly that place by every way.
    fn minted_ids_lead_home(&self, packets: impl Fn(&[u8]) -> Vec<Vec<u8>>) -> Result<()> {
        for node in 0..self.cluster.nodes().len() {
            for cpu in 0..CPUS {
                let mut api = self.api(node)?;
                let session = api.open("service", cpu)?.session;
                let id = bytes(&api.mint(&session)?);
                for packet in packets(&id) {
                    let places = self.spray(false, &packet)?;
                    ensure!(
                        places.iter().all(|place| *place == (node, false, cpu)),
                        "session of node {node}, CPU {cpu}: {packet:02x?} came to {places:?}",
                    );
                }
                let (control, length) =
                    Header { kind: TYPE_CONTROL, session: session_bytes(&session), owner: None }
                        .encode();
                let places = self.spray(true, &control[..length])?;
                ensure!(
                    places.iter().all(|place| *place == (node, true, cpu)),
                    "session of node {node}, CPU {cpu}: a control message came to {places:?}",
                );
            }
        }
        ensure!(self.fleet.count("wrong-cpu")? == 0);
        Ok(())
    }

    /// Demands that a packet that opens a session comes to one place by every way, and that
    /// packets with different ids are spread over all nodes.
    fn openings_agree(&self, packet: impl Fn() -> Vec<u8>) -> Result<()> {
        let mut nodes = [0; 3];
        for _ in 0..12 {
            let places = self.spray(false, &packet())?;
            ensure!(places.iter().all(|place| *place == places[0]), "{places:?}");
            nodes[places[0].0] += 1;
        }
        // All on one node by chance: five times in a million.
        ensure!(nodes.iter().filter(|&&count| count > 0).count() > 1, "{nodes:?}");
        ensure!(self.fleet.count("delivered-new")? == 36);
        Ok(())
    }

    /// Gives a session of a node an id that somebody else chose, and the other nodes rows that lead
    /// there.
    fn add_peers_id(&self, node: usize, session: &str, id: &str) -> Result<()> {
        let (session, id) = (session.to_owned(), id.to_owned());
        let request = Request::AddWireId { session, id: id.clone(), off_home: true };
        self.api(node)?.done(&request, None)?;
        for other in (0..self.cluster.nodes().len()).filter(|&other| other != node) {
            let (service, node) = ("service".into(), self.cluster.nodes()[node].name().into());
            let request = Request::AddRow { service, id: id.clone(), node, version: 1 };
            self.api(other)?.done(&request, None)?;
        }
        Ok(())
    }

    fn refuses(&self, packet: &[u8], verdict: &str) -> Result<()> {
        let before = self.fleet.count(verdict)?;
        self.client.send_to(packet, SocketAddr::new(self.service.address, 7000))?;
        let counted = jumpgate_tests::probe::until(PATIENCE, || {
            self.fleet.count(verdict).is_ok_and(|count| count == before + 1)
        });
        ensure!(counted, "{packet:02x?} is not refused with {verdict}");
        Ok(())
    }
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let pairs = (0..hexadecimal.len()).step_by(2);
    pairs.map(|at| u8::from_str_radix(&hexadecimal[at..at + 2], 16).expect("hex")).collect()
}

fn session_bytes(hexadecimal: &str) -> [u8; 16] {
    bytes(hexadecimal).try_into().expect("a SessionID has 16 bytes")
}

#[test]
fn quic() -> Result<()> {
    require_root!();
    let site = Site::new(Family::V4, |service| {
        service.protocol = "quic";
        service.id_length = Some(8);
    })?;
    let long = |first: u8, version: u32, id: &[u8]| {
        [&[first], &version.to_be_bytes()[..], &[id.len() as u8], id, b"\0rest of it"].concat()
    };
    site.minted_ids_lead_home(|id| {
        vec![
            [b"\x40", id, b"a short header"].concat(),
            // The fixed bit may be anything (RFC 9287).
            [b"\x00", id, b"another"].concat(),
            // A Handshake packet, and an Initial after the server's first answer.
            long(0xe0, 1, id),
            long(0xc0, 1, id),
            long(0xf0, 0x6b33_43cf, id),
        ]
    })?;
    site.openings_agree(|| long(0xc0, 1, &rand::random::<[u8; 8]>()))?;
    site.refuses(&[b"\x40".as_slice(), &rand::random::<[u8; 8]>()].concat(), "no-session")?;
    site.refuses(b"\x40short", "no-wire-id")
}

#[test]
fn wireguard() -> Result<()> {
    require_root!();
    let site = Site::new(Family::V6, |service| service.protocol = "wireguard")?;
    let packet = |kind: u8, length: usize, fields: &[(usize, &[u8])]| {
        let mut packet = vec![0xaa; length];
        packet[..4].copy_from_slice(&[kind, 0, 0, 0]);
        for (at, field) in fields {
            packet[*at..*at + field.len()].copy_from_slice(field);
        }
        packet
    };
    site.minted_ids_lead_home(|index| {
        vec![
            packet(4, 32, &[(4, index)]),
            packet(4, 1200, &[(4, index)]),
            packet(2, 92, &[(8, index)]),
            packet(3, 64, &[(4, index)]),
        ]
    })?;
    site.openings_agree(|| {
        let (sender, key) = (rand::random::<[u8; 4]>(), rand::random::<[u8; 32]>());
        packet(1, 148, &[(4, &sender), (8, &key)])
    })?;
    site.refuses(&packet(4, 31, &[]), "no-wire-id")?;
    site.refuses(&packet(1, 147, &[]), "no-wire-id")
}

#[test]
fn quic_lb() -> Result<()> {
    require_root!();
    let site = Site::new(Family::V6, |service| {
        service.protocol = "quic-lb";
        service.server_id_length = Some(vec![1, 0, 4]);
        service.config_id = Some(2);
    })?;
    let connection_id = |server: &[u8]| {
        let mut id = [server, &rand::random::<[u8; 6]>()].concat();
        id[0] |= rand::random::<u8>() & 0x1f;
        id
    };
    site.minted_ids_lead_home(|server| {
        assert_eq!((server.len(), server[0]), (5, 0x40), "{server:02x?}");
        // As many connection ids as the server likes, and nobody was asked for them.
        let short = || payload::quic_short(0x40, &connection_id(server));
        let long = |first| payload::quic_long(first, payload::QUIC_V1, &connection_id(server));
        vec![short(), short(), short(), long(0xe0), long(0xc0)]
    })?;
    site.openings_agree(|| {
        payload::quic_long(0xc0, payload::QUIC_V1, &rand::random::<[u8; 18]>())
    })?;
    let stranger = payload::quic_short(0x40, &connection_id(&[0x40, 0, 0, 0, 0]));
    site.refuses(&stranger, "no-session")?;
    site.refuses(&payload::quic_short(0x40, &[0x20; 20]), "no-wire-id")
}

/// A server whose id somebody else gave it, too short to be minted, and one without a configuration.
#[test]
fn quic_lb_ids_that_were_given_out_elsewhere() -> Result<()> {
    require_root!();
    let site = Site::new(Family::V4, |service| {
        service.protocol = "quic-lb";
        service.server_id_length = Some(vec![1]);
    })?;
    let mut api = site.api(1)?;
    let session = api.open("service", 1)?.session;
    let refused = api.mint(&session).err().context("a server id of one byte was minted")?;
    ensure!(refused.to_string().contains("server_id_length"), "{refused}");
    let whole = [0xe9, 1, 2, 3, 4, 5, 6, 7, 8, 9];
    let nonce: [u8; 8] = rand::random();
    for (added, sent) in [
        // Any connection id stands for its server id.
        ("0742000102030405", [&[0x1f, 0x42], &nonce[..]].concat()),
        ("e9010203040506070809", whole.to_vec()),
    ] {
        site.add_peers_id(1, &session, added)?;
        for packet in
            [payload::quic_short(0x40, &sent), payload::quic_long(0xe0, payload::QUIC_V1, &sent)]
        {
            let places = site.spray(false, &packet)?;
            ensure!(places.iter().all(|place| *place == (1, false, 1)), "{added}: {places:?}");
        }
    }
    Ok(())
}

#[test]
fn dtls() -> Result<()> {
    require_root!();
    let mut site = Site::new(Family::V4, |service| {
        service.protocol = "dtls";
        service.id_length = Some(9);
    })?;
    site.minted_ids_lead_home(|id| {
        vec![
            payload::dtls_cid(id),
            payload::dtls_unified(0x3e, id),
            payload::dtls_unified(0x32, id),
        ]
    })?;
    // A handshake stays where it began, and those of many clients are spread.
    let host = &site.cluster.clients()[0];
    let (namespace, address) = (host.namespace().clone(), host.address(Family::V4));
    let mut nodes = [0; 3];
    for _ in 0..12 {
        site.client = namespace.run(|| UdpSocket::bind((address, 0)))?;
        let mut places = Vec::new();
        for kind in [22, 22, 20, 21] {
            places.extend(site.spray(false, &payload::dtls_plain(kind, 0))?);
        }
        ensure!(places.iter().all(|place| *place == places[0]), "{places:?}");
        nodes[places[0].0] += 1;
    }
    ensure!(nodes.iter().filter(|&&count| count > 0).count() > 1, "{nodes:?}");
    ensure!(site.fleet.count("delivered-new")? == 144);
    site.refuses(&payload::dtls_cid(&rand::random::<[u8; 9]>()), "no-session")?;
    site.refuses(&payload::dtls_plain(23, 1), "no-wire-id")
}

#[test]
fn gtpu() -> Result<()> {
    require_root!();
    let site = Site::new(Family::V6, |service| service.protocol = "gtpu")?;
    site.minted_ids_lead_home(|teid| [255, 254, 253].map(|kind| payload::gtpu(kind, teid)).into())?;
    site.openings_agree(|| payload::gtpu_path(1, rand::random(), &[14, 0]))?;
    site.refuses(&payload::gtpu(255, &rand::random::<[u8; 4]>()), "no-session")?;
    site.refuses(&payload::gtpu(255, &[0; 4]), "no-wire-id")?;
    // A session hears of its peer's tunnel that is gone.
    let mut api = site.api(2)?;
    let session = api.open("service", 0)?.session;
    let elements = payload::gtpu_error([1, 2, 3, 4], &[192, 0, 2, 9]);
    let id: String = elements.iter().map(|byte| format!("{byte:02x}")).collect();
    site.add_peers_id(2, &session, &id)?;
    let places = site.spray(false, &payload::gtpu_path(26, 9, &elements))?;
    ensure!(places.iter().all(|place| *place == (2, false, 0)), "{places:?}");
    Ok(())
}

#[test]
fn an_id_at_an_offset() -> Result<()> {
    require_root!();
    let site = Site::new(Family::V4, |service| {
        service.protocol = "offset";
        service.id_offset = Some(3);
        service.id_length = Some(6);
    })?;
    site.minted_ids_lead_home(|id| {
        vec![[b"abc", id].concat(), [b"xyz", id, b" and more"].concat()]
    })?;
    site.refuses(&[7; 9], "no-session")?;
    site.refuses(&[7; 8], "no-wire-id")
}

#[test]
fn unknown_ids_at_an_offset_open_sessions_where_that_is_configured() -> Result<()> {
    require_root!();
    let site = Site::new(Family::V6, |service| {
        service.protocol = "offset";
        service.id_length = Some(6);
        service.unknown = Some("open");
    })?;
    site.openings_agree(|| rand::random::<[u8; 10]>().to_vec())
}

#[test]
fn native() -> Result<()> {
    require_root!();
    let site = Site::new(Family::V6, |_| {})?;
    site.minted_ids_lead_home(|id| {
        let (bytes, length) =
            Header { kind: TYPE_DATA, session: id.try_into().expect("16 bytes"), owner: None }
                .encode();
        vec![bytes[..length].to_vec(), [&bytes[..length], b"payload"].concat()]
    })?;
    // Control messages have a port of their own.
    let (bytes, length) = Header { kind: TYPE_CONTROL, session: [1; 16], owner: None }.encode();
    site.refuses(&bytes[..length], "no-wire-id")
}
