//! Clients change their address and attach again, by the control protocol over the wire: nothing is lost, the old
//! address is refused, and every refusal says why.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use dataplane_ebpf::dissect::native::{Header, TYPE_DATA};
use dataplane_ebpf::marker::Token;
use dataplane_user::api::{Client as Api, MoveResult};
use dataplane_user::secrets::SecretsFile;
use dataplane_user::session_client::{Client, Ticket};
use jumpgate_tests::address::Family;
use jumpgate_tests::config::Config;
use jumpgate_tests::daemon::{Daemon, binary};
use jumpgate_tests::echo::{Opened, Place, SessionId as Id, Sessions, serve, shared_socket};
use jumpgate_tests::fleet::{self, CONTROL_PORT, Options, PORT};
use jumpgate_tests::netns::Namespace;
use jumpgate_tests::probe;
use jumpgate_tests::require_root;
use jumpgate_tests::together::Together;
use jumpgate_tests::topology::Cluster;
use ownership::audit::Event;
use ownership::client::{End, Next, Status, Tracker};
use ownership::control::{Answer, Ask, Cookie, Credentials, MESSAGE_LENGTH, Message, Request};
use ownership::model::{Nonce, Reason};
use ownership::store::Store as _;
use ownership::{SessionId, StateVersion};

const PATIENCE: Duration = Duration::from_secs(20);
/// What takes this long to come does not come.
const SILENCE: Duration = Duration::from_millis(300);
const SERVICE: &str = "echo4";
const NODES: [&str; 3] = ["a", "b", "c"];

/// Who owns which session, as the application on a node says in its packets: epoch and version.
type Owners = Arc<Mutex<HashMap<Id, (u32, u64)>>>;

/// The echo application on one node, for sessions that others open.
struct Echo {
    owners: Owners,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

struct Known {
    owners: Owners,
    daemon: Api,
}

impl Sessions for Known {
    fn open(&mut self, _: &Id, _: SocketAddr) -> Option<Opened> {
        None
    }

    fn owner(&mut self, session: &Id) -> Option<(u32, u64)> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner).get(session).copied()
    }

    fn marker(&mut self, token: Token) {
        // A marker that is not acknowledged comes again.
        let _comes_again = self.daemon.acknowledge(token);
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if let Ok(Err(error)) = thread.join() {
                println!("echo: {error:#}");
            }
        }
    }
}

/// Three nodes of one store, with applications and the control port.
struct Scene {
    echoes: BTreeMap<&'static str, Echo>,
    nodes: Together,
    secrets: PathBuf,
    network: Cluster,
}

impl Scene {
    fn new(change: impl Fn(&mut Config)) -> Result<Self> {
        let network = Cluster::builder().nodes(3).build()?;
        let mut nodes = Together::new(&network)?;
        let secrets = network.scratch().join("secrets");
        let options = Options::default();
        for node in network.nodes() {
            let mut config = fleet::config(&network, node, &options);
            config.cluster.secrets = Some(secrets.clone());
            for service in &mut config.services {
                service.binding = Some("enforce");
            }
            change(&mut config);
            nodes.start(&network, node, &config)?;
        }
        nodes.wait_for_next_hops()?;
        let mut echoes = BTreeMap::new();
        for (node, name) in network.nodes().iter().zip(NODES) {
            let mut echo =
                Echo { owners: Owners::default(), stop: Arc::default(), threads: vec![] };
            for cpu in 0..options.cpus {
                let address = SocketAddr::new(network.vip(Family::V4), PORT);
                let socket = node.namespace().run(|| shared_socket(address))?;
                let mut daemon = nodes.api(name)?;
                daemon.add_socket(SERVICE, false, cpu.into(), std::os::fd::AsFd::as_fd(&socket))?;
                let (known, stop) =
                    (Known { owners: Arc::clone(&echo.owners), daemon }, Arc::clone(&echo.stop));
                let place = Place { node: name.to_owned(), cpu };
                echo.threads.push(
                    node.namespace().spawn_thread(move || serve(&socket, &place, known, &stop)),
                );
            }
            echoes.insert(name, echo);
        }
        Ok(Self { echoes, nodes, secrets, network })
    }

    fn vip(&self) -> IpAddr {
        self.network.vip(Family::V4)
    }

    fn control(&self) -> SocketAddr {
        SocketAddr::new(self.vip(), CONTROL_PORT)
    }

    /// A client's socket, at an address of the pool.
    fn socket(&self, at: u8) -> Result<UdpSocket> {
        let host = &self.network.clients()[0];
        let address = host.pool_address(Family::V4, at);
        let socket = host.namespace().run(|| UdpSocket::bind((address, 0)))?;
        socket.set_read_timeout(Some(SILENCE))?;
        Ok(socket)
    }

    /// Opens a session on a node, bound to a socket's address.
    fn open(&self, node: &'static str, socket: &UdpSocket) -> Result<Ticket> {
        let client = Some(socket.local_addr()?);
        let opened = self.nodes.api(node)?.open_for(SERVICE, 0, client)?;
        let ticket = Ticket {
            session: opened.session,
            service: SERVICE.to_owned(),
            address: SocketAddr::new(self.vip(), PORT),
            control: Some(self.control()),
            client,
            version: opened.version,
            epoch: opened.epoch,
            credentials: opened.credentials,
        };
        self.own(node, &ticket.session, (ticket.epoch, ticket.version))?;
        Ok(ticket)
    }

    /// The application on a node says this of a session from now on.
    fn own(&self, node: &str, session: &str, owner: (u32, u64)) -> Result<()> {
        let session: SessionId = session.parse()?;
        let owners = &self.echoes[node].owners;
        owners.lock().unwrap_or_else(PoisonError::into_inner).insert(session.bytes(), owner);
        Ok(())
    }

    /// Hands a session over, and lets the application there speak for it.
    fn hand_over(&self, session: &str, from: &str, to: &str) -> Result<()> {
        let moved = self.nodes.api(from)?.hand_over(session, to)?;
        ensure!(matches!(moved, MoveResult::HandedOver | MoveResult::HandedOverWithoutContext));
        let mut state = None;
        let is_there = probe::until(PATIENCE, || {
            state = self.nodes.api(to).ok().and_then(|mut api| api.session(session).ok()).flatten();
            state.as_ref().is_some_and(|state| state.is_here && state.hold == "ACTIVE")
        });
        ensure!(is_there, "{state:?}");
        let state = state.context("just looked")?;
        self.own(to, session, (state.owner.1, state.version))
    }

    /// How often a packet was refused so, at all nodes together.
    fn refused(&self, what: &str) -> Result<u64> {
        let mut sum = 0;
        for node in NODES {
            let stats = self.nodes.api(node)?.stats()?;
            let counts = &stats.services[SERVICE];
            sum += counts.verdicts.get(what).copied().unwrap_or(0);
            sum += counts.admissions.get(what).copied().unwrap_or(0);
        }
        Ok(sum)
    }

    /// The refusals in the audit log, and how many there were of each.
    fn audited(&self) -> Result<BTreeMap<Reason, u32>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let rows = runtime.block_on(self.nodes.backend().audit(None, usize::MAX))?;
        let mut counts = BTreeMap::new();
        for entry in rows.iter().flat_map(|row| &row.entries) {
            if let Event::Refusal(refusal) = &entry.event {
                *counts.entry(refusal.reason).or_default() += refusal.count;
            }
        }
        Ok(counts)
    }
}

/// A client that says exactly what it is told to.
struct Raw<'a> {
    scene: &'a Scene,
    socket: UdpSocket,
    session: SessionId,
    credentials: Credentials,
    nonce: u64,
}

impl<'a> Raw<'a> {
    fn new(scene: &'a Scene, ticket: &Ticket, socket: UdpSocket) -> Result<Self> {
        let credentials = ticket.credentials.read().context("credentials")?;
        Ok(Self { scene, socket, session: ticket.session.parse()?, credentials, nonce: 0 })
    }

    /// Sends a datagram and returns the answer, no longer than that.
    fn exchange(&self, request: &[u8]) -> Result<Option<Message>> {
        self.socket.send_to(request, self.scene.control())?;
        let mut buffer = [0; 2048];
        match self.socket.recv_from(&mut buffer) {
            Ok((length, from)) => {
                ensure!(from == self.scene.control() && length <= request.len(), "{from} {length}");
                Ok(Some(buffer[..length].try_into().context("a message")?))
            }
            Err(_) => Ok(None),
        }
    }

    fn seal(&self, ask: Ask, version: u64, cookie: Cookie) -> Message {
        let request = Request {
            ask,
            session: self.session,
            key: self.credentials.name(),
            version: StateVersion::new(version),
            nonce: Nonce::new(self.nonce),
            cookie,
        };
        request.seal(&self.credentials.request_key())
    }

    fn verified(&self, request: &Message, answer: &Message) -> Result<Answer> {
        let tag = request.last_chunk().context("a tag")?;
        let answer = Answer::parse(answer)?;
        answer.verify(&self.credentials.answer_key(), tag).context("an authenticated answer")
    }

    /// What is answered to a request that proves its address, with this nonce.
    fn ask_again(&self, ask: Ask, version: u64, spoil: bool) -> Result<Answer> {
        let request = self.seal(ask, version, Cookie::NONE);
        let answer = self.exchange(&request)?.context("no challenge")?;
        let Answer::Challenge(cookie) = self.verified(&request, &answer)? else {
            bail!("no challenge: {:?}", self.verified(&request, &answer))
        };
        let mut request = self.seal(ask, version, cookie);
        if spoil {
            request[MESSAGE_LENGTH - 1] ^= 1;
        }
        let answer = self.exchange(&request)?.context("no answer")?;
        self.verified(&request, &answer)
    }

    /// The same with a fresh nonce.
    fn ask(&mut self, ask: Ask, version: u64) -> Result<Answer> {
        self.nonce += 1;
        self.ask_again(ask, version, false)
    }

    fn refused(&mut self, ask: Ask, version: u64, reason: Reason) -> Result<()> {
        let answer = self.ask(ask, version)?;
        is_refusal(&answer, reason)
    }
}

fn is_refusal(answer: &Answer, reason: Reason) -> Result<()> {
    let is = matches!(answer, Answer::Reject { code, .. } if *code == reason.code());
    ensure!(is, "not {reason}: {answer:?}");
    Ok(())
}

fn acknowledged(answer: &Answer) -> Result<u64> {
    match answer {
        Answer::Ack(snapshot) => Ok(snapshot.version.get()),
        other => bail!("not acknowledged: {other:?}"),
    }
}

/// Waits out the time in which a session may not change its address again.
fn cool_down() {
    std::thread::sleep(Duration::from_millis(600));
}

#[test]
fn every_message_gets_its_answer_whichever_node_it_enters_by() -> Result<()> {
    require_root!();
    let mut scene = Scene::new(|_| {})?;
    for (entry, owner) in NODES.into_iter().enumerate() {
        scene.network.route_vips_to(&[entry])?;
        let old = scene.socket(1)?;
        let ticket = scene.open(owner, &old)?;
        let mut client = Raw::new(&scene, &ticket, scene.socket(2)?)?;
        let first = ticket.version;

        // How it stands: bound, to another address than this one.
        let Answer::State(state) = client.ask(Ask::Query, first)? else { bail!("no state") };
        ensure!(state.version.get() == first && !state.is_bound, "{state:?}");
        // What is wrong with the request.
        client.refused(Ask::Reattach, first + 1, Reason::VersionAhead)?;
        client.nonce += 1;
        is_refusal(&client.ask_again(Ask::Reattach, first, true)?, Reason::BadProof)?;
        client.refused(Ask::Detach, first, Reason::OldTransport)?;

        // It is done once.
        let second = acknowledged(&client.ask(Ask::Reattach, first)?)?;
        ensure!(second == first + 1);
        is_refusal(&client.ask_again(Ask::Reattach, second, false)?, Reason::NonceReplayed)?;
        client.refused(Ask::Reattach, first, Reason::StaleVersion)?;
        let Answer::State(state) = client.ask(Ask::Query, second)? else { bail!("no state") };
        ensure!(state.version.get() == second && state.is_bound, "{state:?}");

        // Keys of a generation that is not in force, and those of a session that never was.
        let secrets = SecretsFile::read(&scene.secrets)?.secrets();
        let right = client.credentials.clone();
        client.credentials = secrets.current().credentials(client.session, 1);
        client.refused(Ask::Query, second, Reason::KeyGeneration)?;
        client.credentials = right;
        let ours = client.session;
        client.session = SessionId::new(rand::random());
        let right = std::mem::replace(
            &mut client.credentials,
            secrets.current().credentials(client.session, 0),
        );
        client.refused(Ask::Reattach, 1, Reason::UnknownSession)?;
        (client.session, client.credentials) = (ours, right);

        // It leaves, comes back, and ends.
        cool_down();
        let third = acknowledged(&client.ask(Ask::Detach, second)?)?;
        let fourth = acknowledged(&client.ask(Ask::Reattach, third)?)?;
        acknowledged(&client.ask(Ask::Close, fourth)?)?;
        client.refused(Ask::Query, fourth, Reason::SessionTerminated)?;

        // What is no request, or nobody's, is not answered at all.
        for length in [0, 19, 20, MESSAGE_LENGTH - 1, MESSAGE_LENGTH + 1, 1200] {
            let mut datagram = vec![0x13; length];
            datagram.get_mut(1..4).into_iter().flatten().for_each(|byte| *byte = 0);
            ensure!(client.exchange(&datagram)?.is_none(), "{length} bytes were answered");
        }
        let mut unknown = client.seal(Ask::Query, first, Cookie::NONE);
        unknown[22..24].copy_from_slice(&999_u16.to_be_bytes());
        ensure!(client.exchange(&unknown)?.is_none(), "no such secret");
    }
    let expected = [
        (Reason::VersionAhead, 3),
        // A wrong proof, and keys of no live secret.
        (Reason::BadProof, 6),
        (Reason::OldTransport, 3),
        (Reason::NonceReplayed, 3),
        (Reason::StaleVersion, 3),
        (Reason::KeyGeneration, 3),
        (Reason::UnknownSession, 3),
        (Reason::SessionTerminated, 3),
    ];
    let expected = BTreeMap::from(expected);
    let told = probe::until(PATIENCE, || scene.audited().is_ok_and(|audited| audited == expected));
    ensure!(told, "{:?}", scene.audited()?);
    scene.echoes.clear();
    scene.nodes.verify()?;
    Ok(())
}

/// Sends so many packets, and waits for their answers.
fn traffic(client: &mut Client, packets: u32) -> Result<()> {
    for _ in 0..packets {
        client.send()?;
        client.poll_until(Duration::from_millis(1), |_| false)?;
    }
    let all = client.poll_until(PATIENCE, |client| client.counts().unanswered == 0)?;
    ensure!(all, "{:?}", client.counts());
    Ok(())
}

fn attach(client: &mut Client) -> Result<()> {
    let done = client.poll_until(PATIENCE, |client| client.status() == Status::Attached)?;
    ensure!(done, "{:?} {:?} {:?}", client.status(), client.counts(), client.take_events());
    Ok(())
}

#[test]
fn a_client_that_moves_loses_nothing_and_its_old_address_is_refused() -> Result<()> {
    require_root!();
    let mut scene = Scene::new(|_| {})?;
    scene.network.route_vips_to(&[0, 1, 2])?;
    let socket = scene.socket(1)?;
    let ticket = scene.open("a", &socket)?;
    let mut client = Client::new(&ticket, socket)?;
    ensure!(client.status() == Status::Attached);
    traffic(&mut client, 50)?;
    let mut owner = 0;
    for step in 0..6u8 {
        let old = client.address()?;
        let next = scene.socket(2 + step)?;
        // Whoever is where the client was.
        let before = client.tracker().memory();
        scene.network.route_vips_to(&[usize::from(step) % 3])?;
        client.move_to(next)?;
        attach(&mut client)?;
        ensure!(client.tracker().memory().version > before.version);
        let host = &scene.network.clients()[0];
        let stranger = host.namespace().run(|| UdpSocket::bind((old.ip(), 0)))?;
        let session: SessionId = ticket.session.parse()?;
        let header = Header { kind: TYPE_DATA, session: session.bytes(), owner: None };
        let (bytes, length) = header.encode();
        let refused = scene.refused("transport-old")?;
        stranger.send_to(&bytes[..length], ticket.address)?;
        let is_refused =
            || scene.refused("transport-old").is_ok_and(|counted| counted == refused + 1);
        ensure!(
            probe::until(PATIENCE, is_refused),
            "step {step}: {}",
            scene.refused("transport-old")?
        );
        traffic(&mut client, 50)?;
        // Every other time its session moves to another node, and the client learns of it by the packets.
        if step % 2 == 1 {
            let next = (owner + 1) % NODES.len();
            scene.hand_over(&ticket.session, NODES[owner], NODES[next])?;
            owner = next;
            traffic(&mut client, 50)?;
            let epoch = scene.nodes.status(NODES[owner])?.epoch;
            let heard = client
                .poll_until(PATIENCE, |client| client.tracker().memory().epoch.get() == epoch)?;
            ensure!(heard, "epoch {epoch}: {:?}", client.tracker());
            attach(&mut client)?;
        }
        cool_down();
    }
    client.close()?;
    let closed = Status::Closed(End::Requested);
    ensure!(
        client.poll_until(PATIENCE, |client| client.status() == closed)?,
        "{:?}",
        client.status()
    );
    let counts = client.counts();
    ensure!((counts.sent, counts.answered) == (500, 500), "{counts:?}");
    ensure!(
        counts.unanswered + counts.duplicates + counts.stale + counts.strange == 0,
        "{counts:?}"
    );
    ensure!(counts.went_back == 0 && counts.moves == 6, "{counts:?}");
    scene.echoes.clear();
    scene.nodes.verify()?;
    Ok(())
}

#[test]
fn a_client_whose_acknowledgement_was_lost_goes_on() -> Result<()> {
    require_root!();
    let scene = Scene::new(|_| {})?;
    scene.network.route_vips_to(&[1])?;
    let ticket = scene.open("a", &scene.socket(1)?)?;
    let raw = Raw::new(&scene, &ticket, scene.socket(2)?)?;
    let memory = ownership::client::Memory::opened(
        StateVersion::new(ticket.version),
        ownership::Epoch::new(ticket.epoch).context("an epoch")?,
        0,
    );
    let mut tracker = Tracker::resumed(raw.session, memory, raw.credentials.clone());
    let request = tracker.moved().context("a request")?;
    let challenge = raw.exchange(&request)?.context("a challenge")?;
    let Next::Send(request) = tracker.receive(&challenge)? else { bail!("it goes on") };
    // Done, and nobody hears of it.
    raw.exchange(&request)?.context("an acknowledgement")?;
    let request = tracker.retry().context("another request")?;
    let answer = raw.exchange(&request)?.context("a refusal")?;
    ensure!(tracker.receive(&answer)? == Next::Done(Status::Attached), "{tracker:?}");
    ensure!(tracker.memory().version.get() == ticket.version + 1);
    Ok(())
}

#[test]
fn secrets_are_replaced_while_clients_live() -> Result<()> {
    require_root!();
    let scene = Scene::new(|_| {})?;
    scene.network.route_vips_to(&[2])?;
    let reload = |numbers: &[u16]| -> Result<()> {
        for node in NODES {
            ensure!(scene.nodes.api(node)?.reload_secrets()? == numbers);
        }
        Ok(())
    };
    let open = |at: u8| -> Result<(Ticket, Client)> {
        let ticket = scene.open(NODES[usize::from(at) % 3], &scene.socket(at)?)?;
        let client = Client::new(&ticket, scene.socket(at + 100)?)?;
        Ok((ticket, client))
    };
    let number = |ticket: &Ticket| {
        Ok::<_, anyhow::Error>(ticket.credentials.read().context("credentials")?.name().secret)
    };
    let (first, mut old) = open(1)?;
    SecretsFile::rotate(&scene.secrets)?;
    reload(&[2, 1])?;
    let (second, mut new) = open(2)?;
    ensure!((number(&first)?, number(&second)?) == (1, 2));
    for client in [&mut old, &mut new] {
        attach(client)?;
        traffic(client, 10)?;
    }
    SecretsFile::rotate(&scene.secrets)?;
    reload(&[3, 2])?;
    cool_down();
    new.move_to(scene.socket(150)?)?;
    attach(&mut new)?;
    // Nobody can answer the other one any more, in a way that it could believe.
    old.move_to(scene.socket(151)?)?;
    let answered =
        old.poll_until(Duration::from_secs(1), |client| client.status() == Status::Attached)?;
    ensure!(!answered && old.counts().dropped == 0, "{:?}", old.counts());
    SecretsFile::revoke(&scene.secrets, 3)?;
    reload(&[2])?;
    let (third, mut newest) = open(3)?;
    ensure!(number(&third)? == 2);
    attach(&mut newest)?;

    // What others can read is not taken, and what was in force stays so.
    let permissions = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644);
    std::fs::set_permissions(&scene.secrets, permissions)?;
    let error = scene.nodes.api("a")?.reload_secrets().expect_err("refused").to_string();
    ensure!(error.contains("has mode 644") && error.contains("stay as they were"), "{error}");
    Ok(())
}

#[test]
fn who_floods_the_control_port_is_held_to_the_rate_of_the_service() -> Result<()> {
    require_root!();
    const RATE: u32 = 50;
    let scene = Scene::new(|config| {
        for service in &mut config.services {
            (service.control_rate, service.control_burst) = (Some(RATE), Some(RATE));
        }
    })?;
    scene.network.route_vips_to(&[0])?;
    let ticket = scene.open("a", &scene.socket(1)?)?;
    let raw = Raw::new(&scene, &ticket, scene.socket(2)?)?;
    let request = raw.seal(Ask::Query, ticket.version, Cookie::NONE);
    let start = std::time::Instant::now();
    for _ in 0..1000 {
        raw.socket.send_to(&request, scene.control())?;
    }
    let mut answers = 0;
    let mut buffer = [0; 2048];
    while raw.socket.recv(&mut buffer).is_ok() {
        answers += 1;
    }
    let most = f64::from(RATE) * (1.0 + start.elapsed().as_secs_f64());
    ensure!(answers >= RATE && f64::from(answers) <= most, "{answers}, at most {most}");
    let limited = scene.refused("rate-limited")?;
    ensure!(limited == u64::from(1000 - answers), "{limited} limited, {answers} answered");
    Ok(())
}

#[test]
fn an_application_gives_no_sockets_for_a_port_where_the_daemon_answers() -> Result<()> {
    require_root!();
    let scene = Scene::new(|_| {})?;
    let node = &scene.network.nodes()[0];
    let socket = node.namespace().run(|| shared_socket(scene.control()))?;
    let fd = std::os::fd::AsFd::as_fd(&socket);
    let error = scene.nodes.api("a")?.add_socket(SERVICE, true, 0, fd).expect_err("refused");
    ensure!(error.to_string().contains("control = \"application\""), "{error}");
    Ok(())
}

/// What `jumpgate` prints in a namespace, and whether it succeeds.
fn jumpgate(namespace: &Namespace, arguments: &[&str]) -> Result<(bool, String)> {
    let mut command = namespace.command(binary()?);
    let output = command.args(arguments).stdin(Stdio::null()).output().context("jumpgate")?;
    let (out, err) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    Ok((output.status.success(), out + &err))
}

#[test]
fn the_command_line_opens_a_session_and_is_its_client() -> Result<()> {
    require_root!();
    let scene = Scene::new(|_| {})?;
    scene.network.route_vips_to(&[0, 1, 2])?;
    let host = &scene.network.clients()[0];
    let [first, second] = [1, 2].map(|at| host.pool_address(Family::V4, at).to_string());
    let socket = scene.nodes.socket("b")?.display().to_string();
    let client = format!("{first}:4000");
    let (done, ticket) = jumpgate(
        scene.network.nodes()[1].namespace(),
        &["sessions", "open", SERVICE, "--client", &client, "--json", "--socket", &socket],
    )?;
    ensure!(done, "{ticket}");
    let read: Ticket = serde_json::from_str(&ticket)?;
    ensure!(read.control == Some(scene.control()) && read.client == Some(client.parse()?));
    scene.own("b", &read.session, (read.epoch, read.version))?;
    let file = scene.network.scratch().join("ticket");
    std::fs::write(&file, ticket)?;
    let file = file.display().to_string();
    let arguments = ["client", &file, "--json", "--bind", &second, "--to", &first, "--to", &second];
    let (done, lines) =
        jumpgate(host.namespace(), &[&arguments[..], &["--moves", "2", "--close"]].concat())?;
    ensure!(done, "{lines}");
    let lines: Vec<serde_json::Value> =
        lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let versions: Vec<_> =
        lines.iter().filter_map(|line| line["value"]["state_version"].as_u64()).collect();
    ensure!(versions.len() == 4 && versions.is_sorted(), "{lines:?}");
    let last = &lines.last().context("a line")?["value"];
    ensure!(last["sent"] == 300 && last["answered"] == 300 && last["moves"] == 2, "{last}");
    // The session is over.
    let (done, lines) = jumpgate(host.namespace(), &["client", &file, "--bind", &second])?;
    ensure!(!done && lines.contains("SessionTerminated"), "{lines}");
    Ok(())
}

#[test]
fn the_command_line_rotates_and_revokes_secrets() -> Result<()> {
    require_root!();
    let network = Cluster::builder().nodes(1).build()?;
    let node = &network.nodes()[0];
    let config = fleet::config(&network, node, &Options::default());
    let daemon = Daemon::start(&network, node, &config)?;
    let file = daemon.config().display().to_string();
    let secret = |order: &[&str]| {
        jumpgate(node.namespace(), &[&["secret"], order, &["--config", &file]].concat())
    };
    let opened = || -> Result<u16> {
        let opened = Api::connect(daemon.socket())?.open(SERVICE, 0)?;
        Ok(opened.credentials.read().context("credentials")?.name().secret)
    };
    ensure!(secret(&["show"])? == (true, "1  in force\n".to_owned()));
    ensure!(opened()? == 1);
    let both = "2  in force\n1  good until the next rotation\n".to_owned();
    ensure!(secret(&["rotate"])? == (true, both.clone()));
    ensure!(opened()? == 2, "the daemon was told");
    ensure!(secret(&["reload"])? == (true, both));
    let (done, why) = secret(&["revoke", "7"])?;
    ensure!(!done && why.contains("secret 7 is not live"), "{why}");
    ensure!(secret(&["revoke", "2"])? == (true, "1  in force\n".to_owned()));
    ensure!(opened()? == 1);
    let (done, why) = secret(&["revoke", "1"])?;
    ensure!(!done && why.contains("secret 1 is the only one"), "{why}");
    Ok(())
}
