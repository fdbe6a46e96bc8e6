//! A client: the real tracker, an address, and whims.

use crate::{
    network::End,
    node::Order,
    sim::{Event, Packet, Payload, Sim},
    time::{MILLISECOND, Nanos, SECOND},
};
use ownership::{
    SessionId,
    client::{End as Ended, Hint, Memory, Next, Status, Tracker},
    control::{Answer, Credentials, KeyName, Message, Request, Tag},
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    rc::Rc,
};

/// What an application tells its client, over a channel of its own that loses nothing.
#[derive(Clone, Debug)]
pub enum Word {
    /// Its session was opened, and bound to this address.
    Opened { session: SessionId, memory: Memory, credentials: Credentials, address: SocketAddr },
    /// Keys of its session.
    Keys(Credentials),
}

pub struct Client {
    place: usize,
    sim: Rc<Sim>,
    pub address: SocketAddr,
    addresses: u16,
    pub tracker: Option<Tracker>,
    timer: u64,
    pause: Nanos,
    keys: Vec<Credentials>,
    /// What was asked under each nonce, and when.
    asked: BTreeMap<u64, (Nanos, KeyName, Tag)>,
}

const PATIENCE: (Nanos, Nanos) = (250 * MILLISECOND, 4 * SECOND);

impl Client {
    pub fn new(place: usize, sim: &Rc<Sim>) -> Self {
        Self {
            place,
            sim: Rc::clone(sim),
            address: address(place, 0),
            addresses: 0,
            tracker: None,
            timer: 0,
            pause: PATIENCE.0,
            keys: Vec::new(),
            asked: BTreeMap::new(),
        }
    }

    pub fn session(&self) -> Option<SessionId> {
        self.tracker.as_ref().map(Tracker::session)
    }

    /// Whether the session is over for it.
    pub fn end(&self) -> Option<Ended> {
        match self.tracker.as_ref()?.status() {
            Status::Closed(end) => Some(end),
            Status::Attached | Status::Detached | Status::Unsettled => None,
        }
    }

    pub fn hears(&mut self, word: Word) {
        match word {
            Word::Opened { session, memory, credentials, address } => {
                if self.tracker.is_some() && self.end().is_none() {
                    // It was opened twice; the other one expires.
                    return;
                }
                self.asked.clear();
                self.keys = vec![credentials.clone()];
                let tracker = Tracker::opened(session, memory, credentials);
                let is_here = address == self.address;
                let tracker = self.tracker.insert(tracker);
                let message = if is_here { None } else { tracker.moved() };
                self.send(message);
                self.set_timer(true);
            }
            Word::Keys(credentials) => {
                self.keys.push(credentials.clone());
                if let Some(tracker) = &mut self.tracker {
                    tracker.give(credentials);
                }
            }
        }
    }

    pub fn receives(&mut self, payload: Payload) {
        let Some(tracker) = &mut self.tracker else { return };
        match payload {
            Payload::Control(message) => {
                self.witness(&message);
                let Some(tracker) = &mut self.tracker else { return };
                let received = tracker.receive(&message);
                self.sim.tell("received", (self.place, tracker.memory().version));
                match received {
                    Ok(Next::Send(message)) => self.send(Some(message)),
                    Ok(Next::KeyNeeded(generation)) => self.ask_for_keys(generation),
                    Ok(Next::Wait(_) | Next::Done(_)) | Err(_) => {}
                }
            }
            Payload::Data { epoch, version } => match tracker.hint(epoch, version) {
                Hint::Ask(message) => self.send(Some(message)),
                Hint::Current | Hint::Old | Hint::Asked => {}
            },
        }
    }

    /// Notes what an answer says, and when it was so at the latest and at the earliest.
    fn witness(&self, message: &Message) {
        let Ok(unverified) = Answer::parse(message) else { return };
        let Some((sent, name, tag)) = self.asked.get(&unverified.nonce().get()) else { return };
        let Some(keys) = self.keys.iter().find(|keys| keys.name() == *name) else { return };
        let snapshot = match unverified.verify(&keys.answer_key(), tag) {
            Some(Answer::Ack(snapshot) | Answer::State(snapshot)) => Some(snapshot),
            Some(Answer::Reject { snapshot, .. }) => snapshot,
            Some(Answer::Challenge(_) | Answer::Pending) | None => None,
        };
        if let (Some(snapshot), Some(session)) = (snapshot, self.session()) {
            let now = self.sim.now();
            self.sim.history.borrow_mut().seen(session, (*sent, now), snapshot);
        }
    }

    fn ask_for_keys(&self, generation: u32) {
        let Some(session) = self.session() else { return };
        let credentials = self.sim.secrets.borrow().current().credentials(session, generation);
        let word = Word::Keys(credentials);
        self.sim.after(100 * MILLISECOND, Event::Word { client: self.place, word });
    }

    fn send(&mut self, message: Option<Message>) {
        let Some(message) = message else { return };
        if let Ok(request) = Request::parse(&message) {
            let claim = request.claim();
            let asked = (self.sim.now(), claim.key, request.tag());
            self.asked.insert(claim.nonce.get(), asked);
        }
        self.send_payload(Payload::Control(message));
    }

    /// To any machine at all: routers spread packets as they like.
    fn send_payload(&self, payload: Payload) {
        let Some(session) = self.session() else { return };
        let machine = self.sim.draw(|draw| draw.place(self.sim.machines.get()));
        let packet = Packet { session, source: self.address, payload, hops: 0 };
        let (from, to) = (End::Client(self.place), End::Machine(machine));
        self.sim.send(from, to, || Event::Packet { machine, packet });
    }

    fn set_timer(&mut self, is_new: bool) {
        if is_new {
            self.pause = PATIENCE.0;
        }
        let is_settled = self
            .tracker
            .as_ref()
            .is_some_and(|tracker| matches!(tracker.status(), Status::Attached | Status::Detached));
        let pause = if is_settled {
            self.pause = PATIENCE.0;
            self.sim.draw(|draw| draw.between(SECOND, 3 * SECOND))
        } else {
            self.pause = (self.pause * 2).min(PATIENCE.1);
            self.pause
        };
        self.timer += 1;
        self.sim.after(pause, Event::Timer { client: self.place, number: self.timer });
    }

    /// The timer fires: what is to be done is asked for again; else the client looks whether all is well.
    pub fn tick(&mut self, number: u64) {
        if number != self.timer {
            return;
        }
        let Some(tracker) = &mut self.tracker else { return };
        if let Some(generation) = tracker.needs_key() {
            self.ask_for_keys(generation);
        } else {
            let asks = self.sim.draw(|draw| draw.per_mille(500));
            let message = if asks { tracker.ask() } else { tracker.retry() };
            self.send(message);
        }
        if self.end().is_none() {
            self.send_payload(Payload::Data { epoch: 0, version: 0 });
            self.set_timer(false);
        }
    }

    /// Something that clients do of their own accord.
    pub fn whim(&mut self) {
        if self.tracker.is_none() || self.end().is_some() {
            return self.open();
        }
        let Some(tracker) = &mut self.tracker else { return };
        let message = match self.sim.draw(|draw| draw.below(20)) {
            0..7 => {
                self.new_address();
                self.tracker.as_mut().and_then(Tracker::moved)
            }
            7..11 => {
                // A NAT has forgotten it, and the client knows nothing of that.
                self.new_address();
                None
            }
            11..13 => tracker.detach(),
            13..15 => tracker.moved(),
            15..17 => self.restart(),
            17 => tracker.close(),
            _ => tracker.ask(),
        };
        self.send(message);
        self.set_timer(true);
    }

    /// The faults are over: it wants its session, and nothing else.
    pub fn calm(&mut self) {
        let Some(tracker) = &mut self.tracker else { return };
        let message = tracker.moved();
        self.send(message);
        self.set_timer(true);
    }

    fn open(&mut self) {
        self.sim.order(None, Order::Open { client: self.place, address: self.address });
    }

    fn new_address(&mut self) {
        self.addresses += 1;
        self.address = address(self.place, self.addresses);
        self.sim.tell("moves", (self.place, self.address));
    }

    /// It has kept its memory when its version last changed, and only some of its nonces since.
    fn restart(&mut self) -> Option<Message> {
        let tracker = self.tracker.as_mut()?;
        let memory = tracker.memory();
        let unsaved = memory.next.get() - memory.first.get();
        let kept = Memory { next: memory.first, ..memory };
        let session = tracker.session();
        let credentials =
            self.sim.secrets.borrow().current().credentials(session, memory.key_generation);
        self.keys.push(credentials.clone());
        *tracker = Tracker::resumed(session, kept.after_restart(unsaved + 3), credentials);
        tracker.retry()
    }
}

fn address(client: usize, number: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, client as u8, high, low)), 4000)
}

/// Which client has, or had, this address.
pub fn client_at(address: SocketAddr) -> usize {
    match address.ip() {
        IpAddr::V4(ip) => usize::from(ip.octets()[1]),
        IpAddr::V6(_) => unreachable!("clients have IPv4 addresses"),
    }
}
