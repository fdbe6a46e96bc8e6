//! A client of a session and the network between it and the nodes, which loses, delays, reorders and
//! repeats.

use crate::{
    config::Mistake,
    digest::{Digest, digest},
    driver::{Driver, Of},
    node::Work,
    shelf::Delivery,
    way::Way,
    world::{NOW, World, id},
};
use ownership::{
    client::{Memory, Next, Status, Tracker},
    control::Message,
    model::{Input, SessionRecord, Transport},
    pending::Pending,
    reattach::{Decided, Examined, NoRecord, Proven, Reply, Secret, Secrets, examine},
    store::{SessionWrite, StoredSession},
    takeover::Strategy,
};
use std::{
    hash::{Hash, Hasher},
    net::SocketAddr,
    sync::LazyLock,
};

static SECRETS: LazyLock<Secrets> = LazyLock::new(|| Secrets::new(Secret::new(1, &[1; 32])));

/// The client of a session.
#[derive(Clone, Debug)]
pub struct Client {
    tracker: Tracker,
    /// Stands for the tracker.
    digest: Digest,
    /// How often it has changed its address.
    address: u16,
    /// What it has sent, from where, and whether it was received at all.
    requests: Vec<(Message, u16, bool)>,
    /// What was sent to it.
    answers: Vec<Message>,
}

impl Hash for Client {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.digest, self.address, &self.requests, &self.answers).hash(state);
    }
}

pub fn transport(address: u16) -> Transport {
    source(address).into()
}

fn source(address: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 1_000 + address))
}

impl Client {
    /// The client of a session that was attached from address 0.
    pub fn new(session: usize, record: &SessionRecord) -> Self {
        let generation = record.key_generation();
        let memory = Memory::opened(record.version(), record.owner().epoch, generation);
        let credentials = SECRETS.current().credentials(id(session), generation);
        let tracker = Tracker::opened(id(session), memory, credentials);
        let digest = Digest::default();
        Self { tracker, digest, address: 0, requests: Vec::new(), answers: Vec::new() }
    }

    pub fn status(&self) -> Status {
        self.tracker.status()
    }

    pub fn address(&self) -> u16 {
        self.address
    }

    /// Requests by number, and whether each was received by anybody.
    pub fn requests(&self) -> impl Iterator<Item = (usize, bool)> {
        self.requests.iter().enumerate().map(|(at, (_, _, is_received))| (at, *is_received))
    }

    pub fn answers(&self) -> usize {
        self.answers.len()
    }

    /// It has another address.
    pub fn moves(&mut self) {
        self.address += 1;
        let request = self.tracker.moved();
        self.posts(request);
    }

    /// Its timer fires.
    pub fn retries(&mut self) {
        let request = self.tracker.retry();
        self.posts(request);
    }

    /// An answer arrives, for the last time or not.
    pub fn hears(&mut self, at: usize, stays: bool) {
        let answer = if stays { self.answers[at] } else { self.answers.remove(at) };
        let heard = self.tracker.receive(&answer);
        if let Ok(Next::Send(message)) = heard {
            self.posts(Some(message));
        }
        self.note();
    }

    /// Sends a request. The challenge that the first one from an address gets depends on nothing that is
    /// explored here, so it comes at once.
    fn posts(&mut self, request: Option<Message>) {
        if let Some(mut message) = request {
            let source = source(self.address);
            while let Examined::Reply(reply) = examine(&SECRETS, &message, source, NOW) {
                let Ok(Next::Send(next)) = self.tracker.receive(reply.message()) else { break };
                message = next;
            }
            self.requests.push((message, self.address, false));
        }
        self.note();
    }

    fn note(&mut self) {
        self.digest = digest(&format!("{:?}", self.tracker));
    }

    fn receive(&mut self, at: usize) -> Option<Proven> {
        let (message, address, is_received) = &mut self.requests[at];
        *is_received = true;
        match examine(&SECRETS, message, source(*address), NOW) {
            Examined::Proven(proven) => Some(proven),
            _ => None,
        }
    }
}

impl<W: Way> Driver<'_, W> {
    /// A client's request arrives at this node.
    pub fn serve(&mut self, session: usize, request: usize, delivery: Delivery) {
        let Some(proven) = self.world.clients[session].change(|client| client.receive(request))
        else {
            return;
        };
        let row = match self.node.work(session) {
            Some(Work::Serves(row, _) | Work::Arrived(row)) => Some(*row),
            Some(Work::Frozen(frozen)) => Some(*frozen.session()),
            Some(Work::Quiesced(quiesced)) => Some(*quiesced.session()),
            _ => None,
        };
        let reply = match row {
            Some(row) => self.answer(session, proven, row, delivery),
            None => proven.without(self.why(session)),
        };
        self.world.clients[session].change(|client| client.answers.push(*reply.message()));
    }

    /// Why this node has no record of a session.
    fn why(&self, session: usize) -> NoRecord {
        match self.node.work(session) {
            Some(Work::None) if self.may_deny(session) => NoRecord::Unknown,
            Some(Work::None | Work::Elsewhere(_) | Work::Stopped) => NoRecord::Elsewhere,
            _ => NoRecord::InDoubt,
        }
    }

    /// Whether nobody can have a session that this node knows nothing of.
    fn may_deny(&self, session: usize) -> bool {
        let placed = self.node.kernel.placed.as_ref();
        let row = self.world.session(self.at, session);
        // *Sticky*: the copy of what was handed away says nothing.
        let is_known = row.is_some_and(|row| {
            W::STRATEGY == Strategy::Shared || row.record.owner().node == self.node.index
        });
        let waits = self.sight().arrival(session).is_some() && !self.makes(Mistake::InboxUnread);
        !is_known
            && !waits
            && placed.is_some_and(|placed| placed.applied.may_deny(0))
            && self.node.delivers_as().is_some()
    }

    fn answer(
        &mut self,
        session: usize,
        proven: Proven,
        row: StoredSession,
        delivery: Delivery,
    ) -> Reply {
        let (me, context) = (self.me(), self.context(Of::Reattach, session));
        let record = self.remembered(session, &row.record);
        match proven.decide(&record, &context) {
            Decided::Reply(reply) => reply,
            Decided::Commit(commit, uncommitted) => {
                let write = SessionWrite::change(&row, &commit, me).expect("the owner's");
                let outcome = self.reattached(session, Pending::new(write), delivery);
                if outcome.is_won()
                    && let Some(process) = &mut self.node.process
                {
                    process.accepted[session] = commit.record().accepted();
                }
                uncommitted.settle(outcome)
            }
        }
    }

    /// A session's record as this process has it: all of it, but for those who keep part of it elsewhere.
    fn remembered(&mut self, session: usize, record: &SessionRecord) -> SessionRecord {
        let is_own = self.process().accepted[session] == record.accepted();
        if is_own || !self.makes(Mistake::NonceOutsideRecord) {
            return *record;
        }
        let mut bytes = record.to_bytes();
        bytes[FLAGS] &= !HAS_ACCEPTED;
        bytes[REPLAY..REPLAY + 32].fill(0);
        SessionRecord::from_bytes(&bytes).expect("a record that has accepted nothing")
    }
}

/// Where a record's bytes say whether a reattach was accepted, and how.
const FLAGS: usize = 90;
const HAS_ACCEPTED: u8 = 1;

/// Where the nonces begin that a record has seen; the last accepted reattach follows them.
const REPLAY: usize = 96;

impl<W: Way> World<W> {
    /// Whether every client is where its session is, or knows that it is over.
    pub fn is_attached(&self) -> bool {
        self.clients.iter().enumerate().all(|(session, client)| {
            let Some(record) = self.history.last(session) else { return true };
            match client.status() {
                Status::Attached => record.transport() == Some(transport(client.address())),
                Status::Closed(_) => record.is_terminated(),
                Status::Detached | Status::Unsettled => false,
            }
        })
    }

    /// Whether no client has given up a session that lives.
    pub fn is_nobody_locked_out(&self) -> bool {
        self.clients.iter().enumerate().all(|(session, client)| {
            let is_over = self.history.last(session).is_none_or(SessionRecord::is_terminated);
            is_over || !matches!(client.status(), Status::Closed(_))
        })
    }
}

/// What is asked of the session in the name of its client, once it was opened.
pub fn attach() -> Input {
    Input::Attach { transport: transport(0) }
}
