//! A client of the native protocol, on a socket that never blocks.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::AddAssign;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dataplane_ebpf::dissect::native::{Header, ID_LENGTH, TYPE_DATA, TYPE_OPEN, TYPE_OPENED};

use crate::echo::{Place, SessionId};
use crate::netns::Namespace;

/// What a client has seen, or a number of clients together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sessions that were opened.
    pub opened: u64,
    /// Data packets sent.
    pub sent: u64,
    /// Data packets that the kernel did not take; not among `sent`.
    pub unsent: u64,
    /// Data packets that were answered.
    pub answered: u64,
    /// Answers to a packet that was answered already.
    pub duplicates: u64,
    /// Answers of an owner that is none any more, going by the state_version; not among `answered`.
    pub stale: u64,
    /// Answers of a node to packets that were sent when it was not to answer any more.
    pub barred: u64,
    /// Packets that are no answer to anything.
    pub strange: u64,
    /// Times that an answer came from another node than the one before.
    pub node_changes: u64,
    /// Times that an answer came from another CPU of the same node.
    pub cpu_changes: u64,
    /// Sessions that ever changed their node or CPU.
    pub moved_sessions: u64,
    /// Answers from another node or CPU than the session's first.
    pub astray: u64,
    /// Changes of the client's address and port.
    pub rebinds: u64,
}

impl Counts {
    /// Data packets that have no answer, yet.
    pub fn unanswered(&self) -> u64 {
        self.sent - self.answered
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        let Self {
            opened,
            sent,
            unsent,
            answered,
            duplicates,
            stale,
            barred,
            strange,
            node_changes,
            cpu_changes,
            moved_sessions,
            astray,
            rebinds,
        } = other;
        self.opened += opened;
        self.sent += sent;
        self.unsent += unsent;
        self.answered += answered;
        self.duplicates += duplicates;
        self.stale += stale;
        self.barred += barred;
        self.strange += strange;
        self.node_changes += node_changes;
        self.cpu_changes += cpu_changes;
        self.moved_sessions += moved_sessions;
        self.astray += astray;
        self.rebinds += rebinds;
    }
}

/// One client with at most one session.
#[derive(Debug)]
pub struct Client {
    namespace: Namespace,
    server: SocketAddr,
    socket: UdpSocket,
    /// The socket before the last rebind: answers that were on their way still count.
    previous: Option<UdpSocket>,
    random: SessionId,
    session: Option<SessionId>,
    owner: (u32, u64),
    opened_by: Option<String>,
    place: Option<Place>,
    home: Option<Place>,
    moved: bool,
    next: u64,
    /// Packets without an answer, and when they were sent.
    waiting: HashMap<u64, Instant>,
    /// When the first packet was sent that was answered on the node of the last answer.
    arrived: Option<Instant>,
    longest_wait: Duration,
    barred: Option<(String, Instant)>,
    counts: Counts,
}

impl Client {
    /// A client in a namespace, at a local address and a port that the kernel picks.
    pub fn new(namespace: &Namespace, local: IpAddr, server: SocketAddr) -> Result<Self> {
        Ok(Self {
            namespace: namespace.clone(),
            server,
            socket: bind(namespace, local)?,
            previous: None,
            random: rand::random(),
            session: None,
            owner: (0, 0),
            opened_by: None,
            place: None,
            home: None,
            moved: false,
            next: 0,
            waiting: HashMap::new(),
            arrived: None,
            longest_wait: Duration::ZERO,
            barred: None,
            counts: Counts::default(),
        })
    }

    /// Asks for a session; to be repeated until [`Client::session`] has one.
    ///
    /// A repetition carries the same random bytes, and comes to the same node.
    pub fn send_open(&mut self) -> io::Result<()> {
        let (bytes, length) =
            Header { kind: TYPE_OPEN, session: self.random, owner: None }.encode();
        self.socket.send_to(&bytes[..length], self.server)?;
        Ok(())
    }

    /// Sends one numbered data packet of the session.
    ///
    /// # Panics
    /// When there is no session yet.
    pub fn send(&mut self) {
        let session = self.session.expect("a client sends data after it has opened a session");
        let (bytes, length) = Header { kind: TYPE_DATA, session, owner: None }.encode();
        let number = self.next;
        let packet = [&bytes[..length], &number.to_be_bytes()].concat();
        let now = Instant::now();
        if self.socket.send_to(&packet, self.server).is_ok() {
            self.next += 1;
            self.counts.sent += 1;
            self.waiting.insert(number, now);
        } else {
            self.counts.unsent += 1;
        }
    }

    /// Moves to another address, or with the same one to another port, in mid-session.
    pub fn rebind(&mut self, local: IpAddr) -> Result<()> {
        let socket = bind(&self.namespace, local)?;
        self.previous = Some(std::mem::replace(&mut self.socket, socket));
        self.counts.rebinds += 1;
        Ok(())
    }

    /// Takes in everything that has arrived.
    pub fn receive(&mut self) -> io::Result<()> {
        let mut packet = [0; 2048];
        while let Some((length, from)) = self.next_packet(&mut packet)? {
            if from != self.server || self.take(&packet[..length]).is_none() {
                self.counts.strange += 1;
            }
        }
        Ok(())
    }

    fn next_packet(&self, packet: &mut [u8]) -> io::Result<Option<(usize, SocketAddr)>> {
        for socket in [Some(&self.socket), self.previous.as_ref()].into_iter().flatten() {
            match socket.recv_from(packet) {
                Ok(received) => return Ok(Some(received)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Takes in one packet; `None` if it is none of ours.
    fn take(&mut self, packet: &[u8]) -> Option<()> {
        let (header, payload) = Header::decode(packet)?;
        let owner = header.owner?;
        if header.kind == TYPE_OPENED {
            let (random, rest) = payload.split_first_chunk::<ID_LENGTH>()?;
            let place = Place::decode(rest)?;
            // A second answer, to a repeated question, does not change the session.
            if *random == self.random && self.session.is_none() {
                self.session = Some(header.session);
                self.owner = owner;
                self.opened_by = Some(place.node);
                self.counts.opened += 1;
            }
            return (*random == self.random).then_some(());
        }
        if header.kind != TYPE_DATA || Some(header.session) != self.session {
            return None;
        }
        let (number, rest) = payload.split_first_chunk()?;
        let number = u64::from_be_bytes(*number);
        let place = Place::decode(rest)?;
        if number >= self.next {
            return None;
        }
        let ((epoch, version), (owners, known)) = (owner, self.owner);
        if version > known {
            // A client that has a control port would ask there.
            self.owner = owner;
        } else if epoch != owners {
            self.counts.stale += 1;
            return Some(());
        }
        if let Some(sent) = self.waiting.remove(&number) {
            self.counts.answered += 1;
            self.longest_wait = self.longest_wait.max(sent.elapsed());
            if self.place.as_ref().is_none_or(|last| last.node != place.node) {
                self.arrived = Some(sent);
            }
            let barred = self.barred.as_ref();
            self.counts.barred +=
                u64::from(barred.is_some_and(|(node, from)| *node == place.node && sent >= *from));
        } else {
            self.counts.duplicates += 1;
        }
        self.compare(place);
        Some(())
    }

    /// Counts a change of node or CPU. The CPU that answered the opening does not matter: the
    /// session had no CPU of its own then.
    fn compare(&mut self, place: Place) {
        let same_node = match &self.place {
            Some(last) => last.node == place.node,
            None => self.opened_by.as_ref() == Some(&place.node),
        };
        let same_cpu = self.place.as_ref().is_none_or(|last| last.cpu == place.cpu);
        let home = self.home.get_or_insert_with(|| place.clone());
        let opener_is_home = self.opened_by.as_ref() == Some(&home.node);
        self.counts.astray += u64::from(!opener_is_home || *home != place);
        self.place = Some(place);
        if same_node && same_cpu {
            return;
        }
        if same_node {
            self.counts.cpu_changes += 1;
        } else {
            self.counts.node_changes += 1;
        }
        self.counts.moved_sessions += u64::from(!self.moved);
        self.moved = true;
    }

    /// The session, once it is open.
    pub fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// Where the last data packet was answered.
    pub fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// The highest state_version that an answer carried, and the owner epoch that it came with.
    pub fn owner(&self) -> (u32, u64) {
        self.owner
    }

    /// When the first packet was sent that was answered on the node of the last answer.
    pub fn arrived(&self) -> Option<Instant> {
        self.arrived
    }

    /// The longest that a packet has waited for its answer since this was asked last; as exact as answers are
    /// taken in often.
    pub fn take_longest_wait(&mut self) -> Duration {
        std::mem::take(&mut self.longest_wait)
    }

    /// From when on a node must answer nothing, which [`Counts::barred`] counts.
    pub fn bar(&mut self, node: &str, from: Instant) {
        self.barred = Some((node.to_owned(), from));
    }

    /// Data packets that were sent in a period, its end not included, and have no answer yet.
    pub fn unanswered_within(&self, from: Instant, to: Instant) -> u64 {
        self.waiting.values().filter(|&&sent| (from..to).contains(&sent)).count() as u64
    }

    /// What it has seen.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The address and port that it sends from.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The sockets that answers may come to.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = &UdpSocket> {
        [Some(&self.socket), self.previous.as_ref()].into_iter().flatten()
    }
}

fn bind(namespace: &Namespace, local: IpAddr) -> Result<UdpSocket> {
    let socket = namespace
        .run(|| UdpSocket::bind((local, 0)))
        .with_context(|| format!("binding {local} in {}", namespace.name()))?;
    socket.set_nonblocking(true).context("making a socket non-blocking")?;
    Ok(socket)
}
