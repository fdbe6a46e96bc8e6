//! `jumpgate capture`: a session's packets, and what became of each, in a file.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use dataplane_ebpf::capture::{CAPTURED_HEADER, CAPTURED_MAX, RING};
use dataplane_ebpf::dissect::native::{HEADER, Header, TYPE_DATA};
use dataplane_user::api::{Client as Api, Request};
use dataplane_user::neighbours::Interfaces;
use jumpgate_tests::address::Family;
use jumpgate_tests::config::{Config, Service, Sessions};
use jumpgate_tests::daemon::{Daemon, binary};
use jumpgate_tests::inbox::Inbox;
use jumpgate_tests::ip::Batch;
use jumpgate_tests::probe;
use jumpgate_tests::require_root;
use jumpgate_tests::topology::{Builder, Cluster};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pcap_file::DataLink;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use serde_json::Value;

const PORT: u16 = 7000;
const PATIENCE: Duration = Duration::from_secs(10);
/// Ethernet, IPv4 and UDP.
const HEADERS: usize = 14 + 20 + 8;

/// A node that serves, and two clients, each with a session that it is bound to.
struct Site {
    cluster: Cluster,
    config: Config,
    daemon: Daemon,
    service: Service,
    inbox: Inbox,
    clients: [UdpSocket; 2],
    sessions: [String; 2],
}

/// A packet in a file.
#[derive(Debug, PartialEq, Eq)]
struct Packet {
    payload: Vec<u8>,
    comment: String,
    interface: String,
}

impl Site {
    fn new() -> Result<Self> {
        Self::in_network(&Cluster::builder())
    }

    fn with_uplinks(uplinks: u8) -> Result<Self> {
        Self::in_network(&Cluster::builder().uplinks(uplinks))
    }

    fn in_network(network: &Builder) -> Result<Self> {
        let cluster = network.clone().nodes(1).build()?;
        let service = Service::native("game", cluster.vip(Family::V4), PORT);
        let service = Service { binding: Some("enforce"), ..service };
        let node = &cluster.nodes()[0];
        let sessions = Some(Sessions { cpus: Some(vec![0]), ..Sessions::default() });
        let config =
            Config { sessions, ..Config::of(&cluster, node, std::slice::from_ref(&service)) };
        let daemon = Daemon::start(&cluster, node, &config)?;
        let inbox = Inbox::open(node.namespace(), daemon.socket(), &service, false, 1)?;
        let host = &cluster.clients()[0];
        let client = |n| -> Result<UdpSocket> {
            let address = host.pool_address(Family::V4, n);
            Ok(host.namespace().run(|| UdpSocket::bind((address, 0)))?)
        };
        let clients = [client(7)?, client(8)?];
        let mut api = Api::connect(daemon.socket())?;
        let mut open = |n: usize| -> Result<String> {
            Ok(api.open_for("game", 0, Some(clients[n].local_addr()?))?.session)
        };
        let sessions = [open(0)?, open(1)?];
        Ok(Self { cluster, config, daemon, service, inbox, clients, sessions })
    }

    /// A payload of a session, with so many bytes behind the header.
    fn payload(&self, session: usize, length: usize, fill: u8) -> Result<Vec<u8>> {
        let session: ownership::SessionId = self.sessions[session].parse()?;
        let (bytes, header) =
            Header { kind: TYPE_DATA, session: session.bytes(), owner: None }.encode();
        Ok(bytes[..header].iter().copied().chain(std::iter::repeat_n(fill, length)).collect())
    }

    fn send(&self, client: usize, payload: &[u8]) -> Result<()> {
        let server = SocketAddr::new(self.service.address, PORT);
        self.clients[client].send_to(payload, server)?;
        Ok(())
    }

    /// Sends so many packets of the first client's session, and waits until all are steered.
    fn flood(&self, count: u64, length: usize) -> Result<()> {
        let payload = self.payload(0, length, 5)?;
        let local = || -> Result<u64> {
            let stats = Api::connect(self.daemon.socket())?.stats()?;
            Ok(stats.services["game"].verdicts.get("local").copied().unwrap_or(0))
        };
        let before = local()?;
        let mut sent = 0;
        while sent < count {
            // No more at a time than a link's queue holds.
            let some = (count - sent).min(100);
            (0..some).try_for_each(|_| self.send(0, &payload))?;
            sent += some;
            let all = || local().is_ok_and(|now| now == before + sent);
            ensure!(probe::until(PATIENCE, all), "{} of {sent}", local()? - before);
        }
        Ok(())
    }

    /// Sends and demands that the application gets it.
    fn deliver(&self, client: usize, payload: &[u8]) -> Result<()> {
        self.send(client, payload)?;
        let received = self.inbox.receive(PATIENCE)?.context("nothing was delivered")?;
        ensure!(received.payload == payload, "{received:?}");
        Ok(())
    }

    /// The kernel's number for the program on the node's first interface.
    fn program(&self) -> Result<u32> {
        self.program_of(&self.config.interfaces[0].name)
    }

    fn program_of(&self, name: &str) -> Result<u32> {
        let interfaces = self.cluster.nodes()[0].namespace().run(|| -> Result<Interfaces> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(Interfaces::read())?)
        })?;
        Ok(interfaces.named(name)?.xdp.context("a program")?.id)
    }

    fn command(&self, file: &Path, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(binary()?);
        command.args(["capture", "--socket"]).arg(self.daemon.socket());
        command.arg(&self.sessions[0]).arg("-w").arg(file).args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command)
    }

    /// Begins to capture; the program is another one then.
    fn capture(&self, file: &Path, arguments: &[&str]) -> Result<Child> {
        let before = self.program()?;
        let mut child = self.command(file, arguments)?.spawn()?;
        if !probe::until(PATIENCE, || self.program().is_ok_and(|now| now != before)) {
            child.kill()?;
            let output = child.wait_with_output()?;
            bail!("nothing is captured: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(child)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.cluster.scratch().join(name)
    }
}

/// What a capture says at its end.
fn finish(child: Child) -> Result<String> {
    let output = child.wait_with_output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {error}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

fn read(file: &Path) -> Result<Vec<Packet>> {
    let bytes = fs::read(file)?;
    let mut reader = PcapNgReader::new(&bytes[..])?;
    let (mut packets, mut interfaces, mut last) = (Vec::new(), Vec::new(), Duration::ZERO);
    while let Some(block) = reader.next_block() {
        match block? {
            Block::InterfaceDescription(interface) => {
                ensure!(interface.linktype == DataLink::ETHERNET);
                ensure!(interface.options.contains(&InterfaceDescriptionOption::IfTsResol(9)));
                let name = interface.options.iter().find_map(|option| match option {
                    InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
                    _ => None,
                });
                interfaces.push(name.context("an interface without a name")?);
            }
            Block::EnhancedPacket(packet) => {
                let [EnhancedPacketOption::Comment(comment)] = &packet.options[..] else {
                    bail!("{:?}", packet.options);
                };
                let now = std::time::UNIX_EPOCH.elapsed()?;
                ensure!(packet.timestamp >= last && packet.timestamp <= now, "{packet:?}");
                ensure!(now - packet.timestamp < Duration::from_secs(60), "{packet:?}");
                last = packet.timestamp;
                ensure!(packet.original_len as usize == packet.data.len());
                packets.push(Packet {
                    payload: packet.data[HEADERS..].to_vec(),
                    comment: comment.to_string(),
                    interface: interfaces[packet.interface_id as usize].clone(),
                });
            }
            other => bail!("{other:?}"),
        }
    }
    Ok(packets)
}

#[test]
fn a_file_holds_the_packets_of_one_session_with_their_verdicts() -> Result<()> {
    require_root!();
    let site = Site::new()?;
    let before = site.program()?;
    let file = site.file("some.pcapng");
    let child = site.capture(&file, &[])?;
    let mut expected = Vec::new();
    let mut expect = |payload: Vec<u8>, verdict: &str| {
        let comment = format!("verdict: {verdict}");
        let interface = site.config.interfaces[0].name.clone();
        expected.push(Packet { payload, comment, interface });
    };
    // One of each class of lengths that an interface takes, beside those of another session.
    for (length, fill) in (0..1400).step_by(70).zip(1..) {
        let payload = site.payload(0, length, fill)?;
        site.deliver(0, &payload)?;
        expect(payload, "local");
        site.deliver(1, &site.payload(1, length, fill)?)?;
    }
    // Refused: from another client, and with the session closed.
    let old = site.payload(0, 50, 0xee)?;
    site.send(1, &old)?;
    expect(old, "transport-old");
    let refused = |what: &str| -> Result<()> {
        let counted = || {
            let stats = Api::connect(site.daemon.socket()).and_then(|mut api| api.stats());
            stats.is_ok_and(|stats| stats.services["game"].verdicts.contains_key(what))
        };
        ensure!(probe::until(PATIENCE, counted), "not {what}");
        Ok(())
    };
    refused("transport-old")?;
    let mut api = Api::connect(site.daemon.socket())?;
    let close = Request::Close { session: site.sessions[0].clone() };
    api.done(&close, None)?;
    let gone = site.payload(0, 60, 0xdd)?;
    site.send(0, &gone)?;
    expect(gone, "no-session");
    refused("no-session")?;

    // Only one at a time.
    let busy = api.start_capture(&site.sessions[1]).err().context("two captures")?;
    ensure!(busy.to_string().contains("captured already"), "{busy}");

    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT)?;
    let said = finish(child)?;
    let packets = read(&file)?;
    ensure!(packets == expected, "{packets:?}\nnot {expected:?}");
    let count = format!("{} packets in {}, 0 more", expected.len(), file.display());
    ensure!(said.starts_with(&count), "{said}");
    ensure!(site.program()? == before, "another program is there");
    site.deliver(1, &site.payload(1, 9, 9)?)?;

    // No file is overwritten, and no session is made up.
    let contents = fs::read(&file)?;
    let output = site.command(&file, &[])?.output()?;
    let error = String::from_utf8(output.stderr)?;
    ensure!(!output.status.success() && error.contains("some.pcapng"), "{error}");
    ensure!(fs::read(&file)? == contents);
    let other = site.file("other.pcapng");
    let error = String::from_utf8(site.command(&other, &[])?.output()?.stderr)?;
    ensure!(error.contains("owns no session") && !other.exists(), "{error}");
    Ok(())
}

#[test]
fn a_capture_ends_after_so_many_packets_or_seconds() -> Result<()> {
    require_root!();
    let site = Site::new()?;
    let before = site.program()?;
    let (file, payload) = (site.file("count.pcapng"), site.payload(0, 20, 3)?);
    let child = site.capture(&file, &["--count", "5"])?;
    for _ in 0..5 {
        site.deliver(0, &payload)?;
    }
    ensure!(finish(child)?.starts_with("5 packets"));
    ensure!(read(&file)?.iter().map(|packet| &packet.payload).eq([&payload; 5]));
    ensure!(site.program()? == before);

    let file = site.file("seconds.pcapng");
    let child = site.capture(&file, &["--seconds", "1"])?;
    site.deliver(0, &payload)?;
    ensure!(finish(child)?.starts_with("1 packets"));
    ensure!(read(&file)?.len() == 1 && site.program()? == before);
    Ok(())
}

#[test]
fn what_was_captured_is_explained_as_far_as_it_is_whole() -> Result<()> {
    require_root!();
    let site = Site::in_network(&Cluster::builder().node_mtu(3000).client_mtu(3000))?;
    let file = site.file("some.pcapng");
    let child = site.capture(&file, &["--count", "4"])?;
    // More than is captured of it, and no more than the application reads.
    let long = site.payload(0, 2010, 1)?;
    site.deliver(0, &site.payload(0, 20, 2)?)?;
    site.deliver(0, &long)?;
    site.send(1, &site.payload(0, 20, 3)?)?;
    site.deliver(0, &site.payload(0, 20, 4)?)?;
    ensure!(finish(child)?.starts_with("4 packets"));

    let explain = |arguments: &[&str]| -> Result<Output> {
        let mut command = Command::new(binary()?);
        command.args(["explain", "--socket"]).arg(site.daemon.socket());
        Ok(command.arg("--pcap").arg(&file).args(arguments).output()?)
    };
    let output = explain(&["--json"])?;
    let error = String::from_utf8(output.stderr)?;
    let cut = format!(
        "packet 2 is not explained: the capture kept {CAPTURED_MAX} of its {} bytes",
        HEADERS + long.len()
    );
    ensure!(output.status.success() && error.contains(&cut), "{error}");
    let explained: Vec<Value> = serde_json::from_slice(&output.stdout)?;
    let verdicts: Vec<_> = explained.iter().map(|one| one["verdict"].as_str()).collect();
    ensure!(verdicts == ["local", "transport-old", "local"].map(Some), "{explained:?}");
    let numbers: Vec<_> = explained.iter().map(|one| one["packet"].as_u64()).collect();
    ensure!(numbers == [1, 3, 4].map(Some), "{explained:?}");
    let text = String::from_utf8(explain(&[])?.stdout)?;
    for (number, is_there) in [(1, true), (2, false), (3, true), (4, true)] {
        ensure!(text.contains(&format!("packet {number} ")) == is_there, "{text}");
    }
    Ok(())
}

/// The capture's number of packets, and how many it says were lost.
fn counts(said: &str) -> Result<(u64, u64)> {
    let words: Vec<&str> = said.split_whitespace().collect();
    let number = |at: usize| Ok::<u64, anyhow::Error>(words.get(at).context("a word")?.parse()?);
    // "N packets in FILE, M more were lost: ..."
    ensure!(words.get(5..8) == Some(&["more", "were", "lost:"][..]), "{said}");
    Ok((number(0)?, number(4)?))
}

#[test]
fn what_finds_no_room_in_the_ring_is_counted_and_said() -> Result<()> {
    require_root!();
    let site = Site::new()?;
    let file = site.file("flood.pcapng");
    let child = site.capture(&file, &[])?;
    // It does not ask for more, for less than five seconds.
    kill(Pid::from_raw(child.id() as i32), Signal::SIGSTOP)?;
    let length = 1_400;
    let record = (CAPTURED_HEADER + HEADERS + HEADER + length) as u64 + 8;
    let room = u64::from(RING) / record.next_multiple_of(8);
    let sent = room + 500;
    site.flood(sent, length)?;
    kill(Pid::from_raw(child.id() as i32), Signal::SIGCONT)?;
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT)?;
    let said = finish(child)?;
    let (written, lost) = counts(&said)?;
    ensure!(written + lost == sent && (500..=501).contains(&lost), "{sent} were sent: {said}");
    ensure!(read(&file)?.len() as u64 == written);

    // The next capture says nothing of that.
    let file = site.file("after.pcapng");
    let child = site.capture(&file, &["--count", "3"])?;
    site.flood(3, length)?;
    ensure!(counts(&finish(child)?)? == (3, 0));
    ensure!(read(&file)?.len() == 3);
    Ok(())
}

#[test]
fn packets_of_all_interfaces_are_captured_and_say_which_it_was() -> Result<()> {
    require_root!();
    let site = Site::with_uplinks(2)?;
    let file = site.file("two.pcapng");
    let child = site.capture(&file, &["--count", "6"])?;
    let node = &site.cluster.nodes()[0];
    let mut expected = Vec::new();
    for (uplink, fill) in [0, 1, 0, 1, 1, 0].into_iter().zip(1..) {
        let port = if uplink == 0 { node.port() } else { format!("{}-{uplink}", node.port()) };
        let gateway = node.uplink_address(Family::V4, uplink);
        let vip = site.service.address;
        Batch::new()
            .add(format!("route replace {vip}/32 via {gateway} dev {port}"))
            .run(site.cluster.router())?;
        let payload = site.payload(0, 30, fill)?;
        site.deliver(0, &payload)?;
        let (comment, interface) = ("verdict: local".to_owned(), format!("eth{uplink}"));
        expected.push(Packet { payload, comment, interface });
    }
    ensure!(counts(&finish(child)?)? == (6, 0));
    let packets = read(&file)?;
    ensure!(packets == expected, "{packets:?}\nnot {expected:?}");
    // The program of before is back on both.
    let programs = ["eth0", "eth1"].map(|name| site.program_of(name));
    let [one, other] = programs;
    ensure!(one? == other?);
    Ok(())
}

#[test]
fn wire_ids_that_come_and_go_meanwhile_are_followed() -> Result<()> {
    require_root!();
    let site = Site::new()?;
    let mut api = Api::connect(site.daemon.socket())?;
    let named = |id: &str, fill: u8| -> Result<Vec<u8>> {
        let session = id.parse::<ownership::SessionId>()?.bytes();
        let (bytes, length) = Header { kind: TYPE_DATA, session, owner: None }.encode();
        Ok([&bytes[..length], &[fill; 9]].concat())
    };
    let before = named(&api.mint(&site.sessions[0])?, 1)?;
    let file = site.file("ids.pcapng");
    let child = site.capture(&file, &[])?;
    let id = api.mint(&site.sessions[0])?;
    let (after, other) = (named(&id, 2)?, named(&api.mint(&site.sessions[1])?, 3)?);
    for (client, payload) in [(0, &before), (0, &after), (1, &other)] {
        site.deliver(client, payload)?;
    }
    let session = site.sessions[0].clone();
    api.done(&Request::RemoveWireId { session, id }, None)?;
    // It belongs to nobody now.
    site.send(0, &after)?;
    let last = site.payload(0, 5, 4)?;
    site.deliver(0, &last)?;
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT)?;
    finish(child)?;
    let packets = read(&file)?;
    let payloads: Vec<_> = packets.iter().map(|packet| &packet.payload).collect();
    ensure!(payloads == [&before, &after, &last], "{packets:?}");
    Ok(())
}

/// The kernel verifies the program for most of the time that the first capture takes to begin.
#[test]
fn others_are_answered_while_the_program_that_captures_is_loaded() -> Result<()> {
    require_root!();
    let mut site = Site::new()?;
    let mut tries = Vec::new();
    // A machine that is very busy may hold anybody up.
    for _ in 0..5 {
        let (socket, session) = (site.daemon.socket().to_owned(), site.sessions[0].clone());
        let mut api = Api::connect(&socket)?;
        let (took, longest) = std::thread::scope(|scope| {
            let start = Instant::now();
            let begins = scope.spawn(|| Api::connect(&socket)?.start_capture(&session));
            let mut longest = Duration::ZERO;
            while !begins.is_finished() {
                let asked = Instant::now();
                api.status()?;
                longest = longest.max(asked.elapsed());
            }
            let took = start.elapsed();
            let capture = begins.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            api.stop_capture(capture)?;
            Ok::<_, anyhow::Error>((took, longest))
        })?;
        if longest < took / 2 {
            return Ok(());
        }
        tries.push((took, longest));
        site.daemon.kill()?;
        site.daemon = Daemon::start(&site.cluster, &site.cluster.nodes()[0], &site.config)?;
    }
    bail!("the first capture took so long to begin, and somebody waited so long: {tries:?}")
}

#[test]
fn nobody_leaves_the_program_that_captures_behind() -> Result<()> {
    require_root!();
    let mut site = Site::new()?;
    let before = site.program()?;
    let payload = site.payload(0, 20, 4)?;

    // The command is killed.
    let mut child = site.capture(&site.file("killed.pcapng"), &[])?;
    site.deliver(0, &payload)?;
    child.kill()?;
    child.wait()?;
    ensure!(probe::until(PATIENCE, || site.program().is_ok_and(|now| now == before)));
    site.deliver(0, &payload)?;

    // The daemon is killed: its successor's program is there, and it can capture too.
    let child = site.capture(&site.file("orphan.pcapng"), &[])?;
    let capturing = site.program()?;
    site.daemon.kill()?;
    let output = child.wait_with_output()?;
    ensure!(!output.status.success(), "the daemon was gone");
    ensure!(site.program()? == capturing);
    site.daemon = Daemon::start(&site.cluster, &site.cluster.nodes()[0], &site.config)?;
    let before = site.program()?;
    ensure!(before != capturing);
    site.inbox.hand_over(site.daemon.socket(), "game", false)?;
    let file = site.file("successor.pcapng");
    let child = site.capture(&file, &["--count", "1"])?;
    site.deliver(0, &payload)?;
    finish(child)?;
    ensure!(read(&file)?.len() == 1 && site.program()? == before);
    Ok(())
}
