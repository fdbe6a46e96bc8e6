//! Where a service enforces bindings, packets of other clients than a session's are refused, and
//! replies that name no session go to no other than the sessions' clients.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dataplane_ebpf::dissect::native::{Header, TYPE_CONTROL, TYPE_DATA};
use dataplane_ebpf::marker::recognise;
use dataplane_user::api::{Client as Api, ClientError, Request};
use jumpgate_tests::address::Family;
use jumpgate_tests::config::{Config, Service, Sessions};
use jumpgate_tests::daemon::Daemon;
use jumpgate_tests::fleet::Fleet;
use jumpgate_tests::inbox::Inbox;
use jumpgate_tests::probe;
use jumpgate_tests::require_root;
use jumpgate_tests::topology::Cluster;

const PATIENCE: Duration = Duration::from_secs(5);
/// What takes this long to come does not come.
const SILENCE: Duration = Duration::from_millis(150);

/// Two nodes, applications on the first, and two clients at different addresses.
struct Site {
    cluster: Cluster,
    fleet: Fleet,
    native: Inbox,
    control: Inbox,
    quic: Inbox,
    free: Inbox,
    vip: IpAddr,
    clients: [UdpSocket; 2],
    config: Config,
}

impl Site {
    fn new(family: Family) -> Result<Self> {
        let cluster = Cluster::builder().nodes(2).build()?;
        let vip = cluster.vip(family);
        let enforced =
            |service| Service { binding: Some("enforce"), switch_cooldown: Some("0s"), ..service };
        let native = enforced(Service::native("native", vip, 7000));
        let native = Service { control_port: Some(7001), control: Some("application"), ..native };
        let quic = enforced(Service { protocol: "quic", ..Service::native("quic", vip, 7002) });
        let free = Service { protocol: "quic", ..Service::native("free", vip, 7003) };
        let services = [native.clone(), quic.clone(), free.clone()];
        let mut fleet = Fleet { gateways: Vec::new(), daemons: Vec::new() };
        let config = |node| {
            let sessions = Some(Sessions { cpus: Some(vec![0]), ..Sessions::default() });
            Config { sessions, ..Config::of(&cluster, node, &services) }
        };
        for node in cluster.nodes() {
            fleet.daemons.push(Daemon::start(&cluster, node, &config(node))?);
        }
        let config = config(&cluster.nodes()[0]);
        fleet.wait_for_next_hops()?;
        let (node, socket) = (cluster.nodes()[0].namespace(), fleet.daemons[0].socket());
        let open = |service, control| Inbox::open(node, socket, service, control, 1);
        let inboxes = [open(&native, false)?, open(&native, true)?, open(&quic, false)?];
        let [native, control, quic] = inboxes;
        let free = open(&free, false)?;
        let host = &cluster.clients()[0];
        let client = |address| -> Result<UdpSocket> {
            let socket = host.namespace().run(|| UdpSocket::bind((address, 0)))?;
            socket.set_read_timeout(Some(SILENCE))?;
            Ok(socket)
        };
        let clients = [client(host.address(family))?, client(host.pool_address(family, 7))?];
        Ok(Self { cluster, fleet, native, control, quic, free, vip, clients, config })
    }

    fn api(&self) -> Result<Api> {
        Ok(Api::connect(self.fleet.daemons[0].socket())?)
    }

    fn address(&self, client: usize) -> SocketAddr {
        self.clients[client].local_addr().expect("a bound socket")
    }

    fn open(&self, service: &str, client: Option<usize>) -> Result<String> {
        let client = client.map(|client| self.address(client));
        Ok(self.api()?.open_for(service, 0, client)?.session)
    }

    fn bind(&self, session: &str, client: Option<usize>) -> Result<()> {
        let client = client.map(|client| self.address(client));
        Ok(self.api()?.bind(session, client)?)
    }

    /// How often the first node has refused a packet so.
    fn refused(&self, service: &str, what: &str) -> Result<u64> {
        let stats = self.fleet.stats(0)?;
        Ok(stats.services[service].verdicts.get(what).copied().unwrap_or(0))
    }

    /// Sends a packet by way of a node; demands that it arrives, or is refused for this reason.
    fn send(
        &self,
        (client, port): (usize, u16),
        inbox: &Inbox,
        packet: &[u8],
        refusal: Option<(&str, &str)>,
    ) -> Result<()> {
        for entry in 0..self.cluster.nodes().len() {
            self.cluster.route_vips_to(&[entry])?;
            let before = refusal.map(|(service, what)| self.refused(service, what)).transpose()?;
            self.clients[client].send_to(packet, SocketAddr::new(self.vip, port))?;
            let Some((service, what)) = refusal else {
                let received = inbox.receive(PATIENCE)?.context("nothing came")?;
                ensure!(received.payload == packet && received.from == self.address(client));
                continue;
            };
            let counted = || self.refused(service, what).is_ok_and(|now| Some(now - 1) == before);
            let stats = || self.fleet.stats(0);
            ensure!(probe::until(PATIENCE, counted), "not {what}: {:?}", stats());
            ensure!(inbox.take()?.is_none(), "{what}, but delivered");
        }
        Ok(())
    }

    /// Sends a reply; demands that it reaches the client, or does not.
    fn reply(&self, inbox: &Inbox, reply: &[u8], client: usize, arrives: bool) -> Result<()> {
        inbox.send(0, reply, self.address(client))?;
        let mut buffer = [0; 2048];
        let received = self.clients[client].recv(&mut buffer).ok();
        let received = received.map(|length| &buffer[..length]);
        ensure!(received == arrives.then_some(reply), "{received:02x?}: {:?}", self.egress("quic"));
        Ok(())
    }

    fn egress(&self, service: &str) -> Result<BTreeMap<String, u64>> {
        Ok(self.fleet.stats(0)?.services[service].egress.clone())
    }
}

fn native(kind: u8, session: &str) -> Result<Vec<u8>> {
    let session: ownership::SessionId = session.parse()?;
    let (bytes, length) = Header { kind, session: session.bytes(), owner: None }.encode();
    Ok(bytes[..length].to_vec())
}

/// A QUIC packet with a short header.
fn short(id: &str) -> Vec<u8> {
    let bytes = (0..id.len()).step_by(2);
    let id = bytes.map(|at| u8::from_str_radix(&id[at..at + 2], 16).expect("hexadecimal"));
    [0x40].into_iter().chain(id).chain([7; 20]).collect()
}

#[test]
fn packets_from_an_old_address_are_refused_with_an_event_whichever_node_they_enter() -> Result<()> {
    require_root!();
    for family in Family::ALL {
        let site = Site::new(family)?;
        let session = site.open("native", Some(0))?;
        let data = native(TYPE_DATA, &session)?;
        let old = Some(("native", "transport-old"));
        site.send((0, 7000), &site.native, &data, None)?;
        site.send((1, 7000), &site.native, &data, old)?;

        site.bind(&session, Some(1))?;
        site.send((0, 7000), &site.native, &data, old)?;
        site.send((1, 7000), &site.native, &data, None)?;
        // Whoever attaches again does so from elsewhere.
        let control = native(TYPE_CONTROL, &session)?;
        for client in [0, 1] {
            site.send((client, 7001), &site.control, &control, None)?;
        }

        site.bind(&session, None)?;
        for client in [0, 1] {
            site.send((client, 7000), &site.native, &data, Some(("native", "unbound")))?;
        }
        site.bind(&session, Some(0))?;
        site.send((0, 7000), &site.native, &data, None)?;

        let told = || -> Result<Vec<(String, Option<String>)>> {
            let events = site.api()?.events(0)?.events.into_iter();
            let events = events.filter(|event| event.service.as_deref() == Some("native"));
            Ok(events.map(|event| (event.what, event.source)).collect())
        };
        let expected = [("transport-old", 1), ("transport-old", 0), ("unbound", 0), ("unbound", 1)]
            .map(|(what, client)| (what.to_owned(), Some(site.address(client).to_string())));
        let all = || told().is_ok_and(|told| expected.iter().all(|event| told.contains(event)));
        ensure!(probe::until(PATIENCE, all), "{expected:?}: {:?}", told()?);
    }
    Ok(())
}

impl Site {
    /// Holds a session, and acknowledges the markers.
    fn hold(&self, session: &str) -> Result<()> {
        let (mut api, sessions) = (self.api()?, [session.to_owned()]);
        std::thread::scope(|scope| {
            let holds = scope.spawn(move || api.hold(&sessions, PATIENCE));
            while !holds.is_finished() {
                for inbox in [&self.native, &self.control] {
                    if let Some(received) = inbox.receive(Duration::from_millis(1))? {
                        let token = recognise(&received.payload).context("a marker")?;
                        self.api()?.acknowledge(token)?;
                    }
                }
            }
            holds.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            Ok(())
        })
    }
}

#[test]
fn what_was_held_is_delivered_only_if_it_is_of_the_client_of_when_it_is_released() -> Result<()> {
    require_root!();
    let site = Site::new(Family::V4)?;
    site.cluster.route_vips_to(&[0])?;
    // From which client on whose packets are held, and to which it is bound before it is released.
    for (first, then) in [(Some(0), Some(1)), (None, Some(1)), (Some(0), None), (None, None)] {
        let session = site.open("native", first)?;
        let data = native(TYPE_DATA, &session)?;
        site.hold(&session)?;
        let held = |count| {
            let hold = site.fleet.status(0)?.hold.context("a keeper")?;
            Ok::<_, anyhow::Error>(hold.waiting == count)
        };
        let send =
            |client: usize| site.clients[client].send_to(&data, SocketAddr::new(site.vip, 7000));
        send(0)?;
        ensure!(probe::until(PATIENCE, || held(1).unwrap_or(false)), "it was not held");
        site.bind(&session, then)?;
        if let Some(client) = then {
            send(client)?;
            ensure!(probe::until(PATIENCE, || held(2).unwrap_or(false)), "it was not held");
        }
        let what = if then.is_some() { "transport-old" } else { "unbound" };
        let refused = || -> Result<u64> {
            let stats = site.fleet.stats(0)?;
            Ok(stats.services["native"].admissions.get(what).copied().unwrap_or(0))
        };
        let before = refused()?;
        site.api()?.release(&[session], None)?;
        let counted = || refused().is_ok_and(|now| now == before + 1);
        ensure!(probe::until(PATIENCE, counted), "{first:?}, {then:?}: {:?}", site.fleet.stats(0)?);
        if let Some(client) = then {
            let received = site.native.receive(PATIENCE)?.context("nothing came")?;
            ensure!(received.from == site.address(client), "{received:?}");
        }
        ensure!(site.native.take()?.is_none(), "{first:?}, {then:?}: delivered");
    }
    // Each leaves its event.
    for (what, class) in [("transport-old", "SECURITY_EVENT"), ("unbound", "POLICY_EVENT")] {
        let told = || -> Result<bool> {
            let events = site.api()?.events(0)?.events;
            Ok(events.iter().any(|event| {
                (&*event.what, &*event.class, &*event.place) == (what, class, "socket")
                    && event.source == Some(site.address(0).to_string())
            }))
        };
        ensure!(probe::until(PATIENCE, || told().unwrap_or(false)), "{:?}", site.api()?.events(0)?);
    }
    Ok(())
}

#[test]
fn every_wire_id_of_a_session_has_its_binding() -> Result<()> {
    require_root!();
    let site = Site::new(Family::V4)?;
    let session = site.open("quic", Some(0))?;
    let before = short(&site.api()?.mint(&session)?);
    let old = Some(("quic", "transport-old"));
    site.send((0, 7002), &site.quic, &before, None)?;
    site.send((1, 7002), &site.quic, &before, old)?;
    site.bind(&session, Some(1))?;
    let after = short(&site.api()?.mint(&session)?);
    for packet in [&before, &after] {
        site.send((0, 7002), &site.quic, packet, old)?;
        site.send((1, 7002), &site.quic, packet, None)?;
    }
    Ok(())
}

#[test]
fn replies_that_name_no_session_go_to_clients_of_sessions_only() -> Result<()> {
    require_root!();
    for family in Family::ALL {
        let site = Site::new(family)?;
        let reply = |client, arrives| site.reply(&site.quic, b"\x40a reply", client, arrives);
        let first = site.open("quic", Some(0))?;
        let second = site.open("quic", None)?;
        // The first packet to a client may wait for a neighbour.
        let there = probe::until(PATIENCE, || reply(0, true).is_ok());
        ensure!(there, "{:?}", site.egress("quic")?);
        reply(1, false)?;
        site.bind(&second, Some(1))?;
        reply(1, true)?;
        site.bind(&first, None)?;
        reply(0, false)?;

        // A client with two sessions loses none of its replies while one of them lives.
        site.bind(&first, Some(1))?;
        reply(1, true)?;
        for (session, arrives) in [(first, true), (second, false)] {
            site.api()?.done(&Request::Close { session }, None)?;
            reply(1, arrives)?;
        }
        let counts = site.egress("quic")?;
        ensure!(counts.get("no-session") == Some(&3), "{counts:?}");
    }
    Ok(())
}

#[test]
fn the_next_daemon_takes_over_who_is_bound_to_whom() -> Result<()> {
    require_root!();
    let mut site = Site::new(Family::V4)?;
    let (steered, quic) = (site.open("native", Some(0))?, site.open("quic", Some(1))?);
    let unbound = site.open("quic", None)?;
    let data = native(TYPE_DATA, &steered)?;
    let (id, nobodys) = (short(&site.api()?.mint(&quic)?), short(&site.api()?.mint(&unbound)?));
    let reply = |site: &Site, client, arrives| site.reply(&site.quic, b"a reply", client, arrives);
    ensure!(probe::until(PATIENCE, || reply(&site, 1, true).is_ok()));
    let sessions = site.api()?.sessions(None)?;
    let refused = |what| Some(("quic", what));
    for _ in 0..2 {
        site.fleet.daemons[0].kill()?;
        let node = &site.cluster.nodes()[0];
        site.fleet.daemons[0] = Daemon::start(&site.cluster, node, &site.config)?;
        site.fleet.wait_for_next_hops()?;
        ensure!(site.api()?.sessions(None)? == sessions, "{:?}", site.api()?.sessions(None)?);
        site.send((0, 7000), &site.native, &data, None)?;
        site.send((1, 7000), &site.native, &data, Some(("native", "transport-old")))?;
        site.send((1, 7002), &site.quic, &id, None)?;
        site.send((0, 7002), &site.quic, &id, refused("transport-old"))?;
        site.send((0, 7002), &site.quic, &nobodys, refused("unbound"))?;
        reply(&site, 1, true)?;
        reply(&site, 0, false)?;
    }
    // And can change it.
    site.bind(&quic, Some(0))?;
    site.send((0, 7002), &site.quic, &id, None)?;
    reply(&site, 0, true)?;
    reply(&site, 1, false)?;
    site.api()?.done(&Request::Close { session: quic }, None)?;
    reply(&site, 0, false)
}

#[test]
fn services_that_ignore_bindings_take_packets_from_anywhere() -> Result<()> {
    require_root!();
    let site = Site::new(Family::V4)?;
    let session = site.open("free", Some(0))?;
    let packet = short(&site.api()?.mint(&session)?);
    for client in [0, 1] {
        site.send((client, 7003), &site.free, &packet, None)?;
    }
    let there = probe::until(PATIENCE, || site.reply(&site.free, b"anything", 1, true).is_ok());
    ensure!(there, "{:?}", site.egress("free")?);
    let sessions = site.api()?.sessions(None)?;
    ensure!(sessions.len() == 1 && sessions[0].client == Some(site.address(0)), "{sessions:?}");
    Ok(())
}

#[test]
fn what_can_be_no_client_is_refused_and_changes_nothing() -> Result<()> {
    require_root!();
    let site = Site::new(Family::V4)?;
    let session = site.open("native", Some(0))?;
    for nobody in ["0.0.0.0:9", "192.0.2.1:0", "[ff02::1]:9", "[2001:db8::1]:9"] {
        let nobody = Some(nobody.parse()?);
        let refused = site.api()?.bind(&session, nobody);
        ensure!(matches!(refused, Err(ClientError::Refused(_))), "{nobody:?}: {refused:?}");
        let refused = site.api()?.open_for("native", 0, nobody);
        ensure!(matches!(refused, Err(ClientError::Refused(_))), "{nobody:?}: {refused:?}");
    }
    ensure!(site.api()?.sessions(None)?.len() == 1);
    site.send((0, 7000), &site.native, &native(TYPE_DATA, &session)?, None)
}
