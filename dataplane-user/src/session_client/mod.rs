//! A client of the native protocol on a real socket: sends numbered packets, changes its address, and speaks for
//! its session at the control port.
//!
//! What it knows and believes is a [`Tracker`]'s; here it meets sockets and the clock. One thread drives it: what
//! it asks leaves at once, and [`Client::poll`] takes in what has come and does what is due.
//!
//! It sends from one socket to both ports, as a session is bound to an address and port.

mod counts;
mod ticket;

pub use counts::Counts;
pub use ticket::{BadTicket, Ticket};

use dataplane_ebpf::dissect::native::{Header, TYPE_CONTROL, TYPE_DATA};
use ownership::{
    client::{Hint, Memory, Next, Status, Tracker},
    control::Message,
    model::Reason,
};
use std::{
    collections::BTreeSet,
    io,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

/// How long an answer is waited for before it is asked again; each time twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// And at most so long.
const LONGEST_WAIT: Duration = Duration::from_secs(4);

/// How long between two looks at the sockets while it waits.
const TICK: Duration = Duration::from_millis(2);

/// How many events wait to be taken; the oldest make room.
const EVENTS: usize = 1024;

/// Longer than any packet of this protocol that this client is sent.
const LONGEST: usize = 2048;

/// Something that has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It sent a request to the control port.
    Asked,
    /// The session has another version.
    Version(Memory),
    /// Something was refused; with the reason, if this version knows it.
    Refused(Option<Reason>),
    /// The session is bound to this client's address, waits for it, or is over.
    Status(Status),
    /// Keys of this generation are lacking.
    KeyNeeded(u32),
    /// A data packet told of a version that the client does not know: it asks.
    Hinted,
}

/// A client of one session.
#[derive(Debug)]
pub struct Client {
    tracker: Tracker,
    data: SocketAddr,
    control: Option<SocketAddr>,
    socket: UdpSocket,
    /// The one before the last move: what was on its way still counts.
    previous: Option<UdpSocket>,
    wait: Duration,
    due: Option<Instant>,
    next_number: u64,
    waiting: BTreeSet<u64>,
    counts: Counts,
    events: Vec<Event>,
}

impl Client {
    /// The client with this ticket, on an unconnected socket of its own. It is not known to be attached:
    /// [`Client::poll`] makes its first request.
    ///
    /// # Errors
    ///
    /// If the ticket makes no sense, or the socket cannot be used.
    pub fn new(ticket: &Ticket, socket: UdpSocket) -> Result<Self, BadTicket> {
        let tracker = ticket.tracker(socket.local_addr().ok())?;
        socket.set_nonblocking(true).map_err(BadTicket::Socket)?;
        let is_attached = tracker.status() == Status::Attached;
        Ok(Self {
            tracker,
            data: ticket.address,
            control: ticket.control,
            socket,
            previous: None,
            wait: FIRST_WAIT,
            due: (!is_attached).then(Instant::now),
            next_number: 0,
            waiting: BTreeSet::new(),
            counts: Counts::default(),
            events: Vec::new(),
        })
    }

    /// What it knows and believes.
    pub fn tracker(&self) -> &Tracker {
        &self.tracker
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        self.tracker.status()
    }

    /// Its address.
    ///
    /// # Errors
    ///
    /// If the kernel does not say it.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// What it has counted.
    pub fn counts(&self) -> Counts {
        Counts { unanswered: self.waiting.len() as u64, ..self.counts }
    }

    /// What has happened since the last time.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Takes keys of another generation or secret.
    pub fn give(&mut self, credentials: ownership::control::Credentials) {
        self.tracker.give(credentials);
        self.due = Some(Instant::now());
    }

    /// Sends one numbered data packet, which the other side is to send back.
    ///
    /// # Errors
    ///
    /// If the kernel does not take it; it is not counted then.
    pub fn send(&mut self) -> io::Result<()> {
        let session = self.tracker.session().bytes();
        let (header, length) = Header { kind: TYPE_DATA, session, owner: None }.encode();
        let number = self.next_number;
        let packet = [&header[..length], &number.to_be_bytes()].concat();
        self.socket.send_to(&packet, self.data)?;
        self.next_number += 1;
        self.waiting.insert(number);
        self.counts.sent += 1;
        Ok(())
    }

    /// From here on it sends from another socket, unconnected and with an address of its own, and asks to be
    /// bound to that.
    ///
    /// # Errors
    ///
    /// If the socket cannot be used; nothing has changed then.
    pub fn move_to(&mut self, socket: UdpSocket) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        self.previous = Some(std::mem::replace(&mut self.socket, socket));
        self.counts.moves += 1;
        let request = self.tracker.moved();
        self.begin(request)
    }

    /// Asks to be bound to nobody, until it [moves](Client::move_to).
    ///
    /// # Errors
    ///
    /// If the kernel does not take the request.
    pub fn detach(&mut self) -> io::Result<()> {
        let request = self.tracker.detach();
        self.begin(request)
    }

    /// Asks to end the session.
    ///
    /// # Errors
    ///
    /// If the kernel does not take the request.
    pub fn close(&mut self) -> io::Result<()> {
        let request = self.tracker.close();
        self.begin(request)
    }

    /// Asks how the session stands.
    ///
    /// # Errors
    ///
    /// If the kernel does not take the request.
    pub fn ask(&mut self) -> io::Result<()> {
        let request = self.tracker.ask();
        self.begin(request)
    }

    /// Takes in what has come, and asks again what is due.
    ///
    /// # Errors
    ///
    /// If a socket fails.
    pub fn poll(&mut self) -> io::Result<()> {
        let mut buffer = [0; LONGEST];
        while let Some((length, from)) = self.next_packet(&mut buffer)? {
            self.take(&buffer[..length], from)?;
        }
        if self.due.is_some_and(|due| due <= Instant::now()) {
            let request = self.tracker.retry();
            self.wait = (self.wait * 2).min(LONGEST_WAIT);
            self.due = request.map(|_| Instant::now() + self.wait);
            return self.ask_with(request);
        }
        Ok(())
    }

    /// Polls until something is so; `false` if it is not in time.
    ///
    /// # Errors
    ///
    /// If a socket fails.
    pub fn poll_until(
        &mut self,
        within: Duration,
        mut is_so: impl FnMut(&Self) -> bool,
    ) -> io::Result<bool> {
        let end = Instant::now() + within;
        loop {
            self.poll()?;
            if is_so(self) {
                return Ok(true);
            }
            if Instant::now() >= end {
                return Ok(false);
            }
            std::thread::sleep(TICK);
        }
    }

    /// Begins something that is asked for until it is so.
    fn begin(&mut self, request: Option<Message>) -> io::Result<()> {
        self.wait = FIRST_WAIT;
        self.due = request.map(|_| Instant::now() + self.wait);
        self.ask_with(request)
    }

    fn ask_with(&mut self, request: Option<Message>) -> io::Result<()> {
        let (Some(request), Some(control)) = (request, self.control) else { return Ok(()) };
        self.counts.asked += 1;
        self.note(Event::Asked);
        match self.socket.send_to(&request, control) {
            // A full queue loses it, as a network may: it is asked again.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    fn next_packet(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, SocketAddr)>> {
        for socket in std::iter::once(&self.socket).chain(&self.previous) {
            match socket.recv_from(buffer) {
                Ok(received) => return Ok(Some(received)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // An ICMP error about a packet before.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn take(&mut self, packet: &[u8], from: SocketAddr) -> io::Result<()> {
        match Header::decode(packet) {
            Some((Header { kind: TYPE_CONTROL, .. }, _)) if Some(from) == self.control => {
                self.answered(packet)
            }
            Some((Header { kind: TYPE_DATA, session, owner }, payload))
                if from == self.data && session == self.tracker.session().bytes() =>
            {
                self.echoed(owner, payload)
            }
            _ => {
                self.counts.strange += 1;
                Ok(())
            }
        }
    }

    fn echoed(&mut self, owner: Option<(u32, u64)>, payload: &[u8]) -> io::Result<()> {
        let number = payload.first_chunk().map(|number| u64::from_be_bytes(*number));
        let is_first = number.is_some_and(|number| self.waiting.remove(&number));
        let hint =
            owner.map_or(Hint::Current, |(epoch, version)| self.tracker.hint(epoch, version));
        match (hint, number) {
            (Hint::Old, _) => self.counts.stale += 1,
            (_, Some(_)) if is_first => self.counts.answered += 1,
            (_, Some(number)) if number < self.next_number => self.counts.duplicates += 1,
            _ => self.counts.strange += 1,
        }
        if let Hint::Ask(question) = hint {
            self.note(Event::Hinted);
            self.begin(Some(question))?;
        }
        Ok(())
    }

    fn note(&mut self, event: Event) {
        if self.events.len() == EVENTS {
            self.events.remove(0);
        }
        self.events.push(event);
    }

    fn answered(&mut self, packet: &[u8]) -> io::Result<()> {
        let (before, was) = (self.tracker.memory(), self.tracker.status());
        let next = match self.tracker.receive(packet) {
            Ok(next) => next,
            Err(dropped) => {
                tracing::debug!(%dropped, "an answer was dropped");
                self.counts.dropped += 1;
                return Ok(());
            }
        };
        let (after, is) = (self.tracker.memory(), self.tracker.status());
        if (after.version, after.epoch) != (before.version, before.epoch) {
            // Of one version there is one owner, and versions only grow.
            if after.version <= before.version {
                self.counts.went_back += 1;
            }
            self.note(Event::Version(after));
        }
        if is != was {
            self.note(Event::Status(is));
        }
        match next {
            Next::Send(request) => {
                self.due = Some(Instant::now() + self.wait);
                return self.ask_with(Some(request));
            }
            Next::Wait(code) => {
                if let Some(code) = code {
                    self.counts.refused += 1;
                    self.note(Event::Refused(Reason::from_code(code)));
                }
                self.due = self.due.or(Some(Instant::now() + self.wait));
            }
            Next::KeyNeeded(generation) => {
                self.note(Event::KeyNeeded(generation));
                self.due = None;
            }
            Next::Done(_) => (self.due, self.wait) = (None, FIRST_WAIT),
        }
        Ok(())
    }
}
