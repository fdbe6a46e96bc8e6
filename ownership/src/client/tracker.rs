use super::{
    Contradiction, Dropped, End, Memory, Next, Status,
    keyring::Keyring,
    memory::Advance,
    sent::{Requests, Sent},
};
use crate::{
    SessionId,
    control::{Answer, Ask, Cookie, Credentials, KeyName, Message, Request, Snapshot},
    model::{Accepted, Nonce, Reason},
};

/// How many requests answers may prompt without any progress, until the timer fires: enough for
/// whoever sends a client challenges that were meant for another address, and no flood.
const PROMPTS: u8 = 4;

/// After how many unanswered requests in a row a client tries its newest keys and those that it knows to be in
/// force by turns: the cluster secret of these may be gone, and with it whoever could say so.
const SILENCE: u32 = 2;

/// One client's side of one session.
#[derive(Clone, Debug)]
pub struct Tracker {
    session: SessionId,
    keys: Keyring,
    memory: Memory,
    /// The client's addresses, counted.
    path: u32,
    cookie: Cookie,
    bound: Option<Bound>,
    requests: Requests,
    goal: Goal,
    /// Besides the goal, a question: answered by what is said to this request or a later one.
    pub(super) question: Option<Nonce>,
    prompts: u8,
    /// How often the timer has fired since the last answer.
    unanswered: u32,
    /// Whether it tries its newest keys, not those that it knows to be in force.
    tries_newest: bool,
    /// Whether the owner has refused keys for being newer than those that are in force.
    is_ahead: bool,
    end: Option<End>,
}

/// What the client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    Attached,
    Detached,
    Closed,
}

/// Whether the session is bound to the client's address, at the version that is known.
#[derive(Clone, Copy, Debug)]
struct Bound {
    is_bound: bool,
    /// The request that was told so. A later one may have come from elsewhere, behind a NAT.
    nonce: Nonce,
}

impl Tracker {
    /// The client of a session that was opened, and bound to its address, a moment ago.
    pub fn opened(session: SessionId, memory: Memory, credentials: Credentials) -> Self {
        let bound = Some(Bound { is_bound: true, nonce: memory.first });
        Self { bound, ..Self::resumed(session, memory, credentials) }
    }

    /// A client that goes on with a session of before: it is not known to be attached, and
    /// [`Tracker::retry`] makes its first request.
    pub fn resumed(session: SessionId, memory: Memory, credentials: Credentials) -> Self {
        Self {
            session,
            keys: Keyring::new(credentials),
            memory,
            path: 0,
            cookie: Cookie::NONE,
            bound: None,
            requests: Requests::default(),
            goal: Goal::Attached,
            question: None,
            prompts: PROMPTS,
            unanswered: 0,
            tries_newest: false,
            is_ahead: false,
            end: None,
        }
    }

    /// The session.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// What it knows, to be kept if it is to go on after a restart.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        match (self.end, self.bound, self.goal) {
            (Some(end), _, _) => Status::Closed(end),
            (None, Some(Bound { is_bound: true, .. }), Goal::Attached) => Status::Attached,
            (None, Some(Bound { is_bound: false, .. }), Goal::Detached) => Status::Detached,
            (None, _, _) => Status::Unsettled,
        }
    }

    /// The generation of the keys that it lacks to go on, if it lacks them.
    pub fn needs_key(&self) -> Option<u32> {
        let generation = self.memory.key_generation;
        let is_right = |name: KeyName| name.generation == generation || !self.is_ahead;
        let held = self.keys.in_force(generation).filter(|held| is_right(held.name()));
        held.is_none().then_some(generation)
    }

    /// Takes keys of another generation, or of another cluster secret. It holds those of two
    /// generations; the oldest go first.
    pub fn give(&mut self, credentials: Credentials) {
        self.keys.give(credentials);
    }

    /// The client has another address, or comes back: makes the request to bind the session to it.
    /// Nothing if it is over, or if keys are lacking.
    pub fn moved(&mut self) -> Option<Message> {
        self.path = self.path.wrapping_add(1);
        (self.cookie, self.bound) = (Cookie::NONE, None);
        if self.goal == Goal::Detached {
            self.goal = Goal::Attached;
        }
        self.retry()
    }

    /// The client leaves its address and will come back ([`Tracker::moved`]): makes the request to
    /// bind the session to nobody until then.
    pub fn detach(&mut self) -> Option<Message> {
        if self.goal == Goal::Attached {
            (self.goal, self.bound) = (Goal::Detached, None);
        }
        self.retry()
    }

    /// The client is done: makes the request to end the session.
    pub fn close(&mut self) -> Option<Message> {
        self.goal = Goal::Closed;
        self.retry()
    }

    /// Makes a request that asks how the session stands: is it still bound to this address? For
    /// clients behind a NAT that forgets.
    pub fn ask(&mut self) -> Option<Message> {
        self.question = Some(self.memory.next);
        self.retry()
    }

    /// The timer has fired: makes the request for what is still to be done.
    pub fn retry(&mut self) -> Option<Message> {
        self.prompts = PROMPTS;
        self.unanswered = self.unanswered.saturating_add(1);
        if self.unanswered > SILENCE {
            self.tries_newest = !self.tries_newest;
        }
        self.again()
    }

    /// Judges a datagram from the control port.
    ///
    /// # Errors
    ///
    /// If it was dropped. Nothing has changed then.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Next, Dropped> {
        if self.is_closed() {
            return Err(Dropped::Closed);
        }
        let unverified = Answer::parse(bytes)?;
        if unverified.session() != self.session {
            return Err(Dropped::OtherSession);
        }
        let sent = self.requests.find(unverified.nonce()).ok_or(Dropped::Unasked)?;
        let key = self.keys.named(sent.key).ok_or(Dropped::Unasked)?.answer_key();
        let answer = unverified.verify(&key, &sent.tag).ok_or(Dropped::Forged)?;
        self.unanswered = 0;
        match answer {
            Answer::Challenge(cookie) => Ok(self.challenged(&sent, cookie)),
            Answer::Ack(snapshot) => self.acknowledged(&sent, &snapshot),
            Answer::Reject { code, snapshot } => self.rejected(&sent, code, snapshot),
            Answer::State(snapshot) => {
                self.learn(&sent, &snapshot)?;
                Ok(self.next(true, None))
            }
            Answer::Pending => Ok(self.next(false, None)),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.end.is_some()
    }

    pub(super) fn request(&mut self, ask: Ask) -> Option<Message> {
        let credentials = if self.tries_newest {
            self.keys.newest()
        } else {
            self.keys.in_force(self.memory.key_generation)?
        };
        let Some(nonce) = self.memory.draw() else {
            self.end = Some(End::NoncesExhausted);
            return None;
        };
        let Self { session, cookie, path, memory: Memory { version, .. }, .. } = *self;
        let key = credentials.name();
        let request = Request { ask, session, key, version, nonce, cookie };
        let message = request.seal(&credentials.request_key());
        let tag = *message.last_chunk().expect("a message ends with its tag");
        self.requests.add(Sent { ask, nonce, version, key, tag, path });
        Some(message)
    }

    /// The request for what is still to be done.
    fn again(&mut self) -> Option<Message> {
        let ask = match (self.status(), self.goal) {
            (Status::Closed(_), _) => return None,
            (Status::Attached | Status::Detached, _) if self.question.is_some() => Ask::Query,
            (Status::Attached | Status::Detached, _) => return None,
            (Status::Unsettled, Goal::Attached) => Ask::Reattach,
            (Status::Unsettled, Goal::Detached) => Ask::Detach,
            (Status::Unsettled, Goal::Closed) => Ask::Close,
        };
        self.request(ask)
    }

    fn challenged(&mut self, sent: &Sent, cookie: Cookie) -> Next {
        // A cookie for an address that the client has left is worth nothing; one that it has already
        // came a second time.
        if sent.path != self.path || cookie == self.cookie {
            return self.next(false, None);
        }
        self.cookie = cookie;
        self.next(true, None)
    }

    fn acknowledged(&mut self, sent: &Sent, snapshot: &Snapshot) -> Result<Next, Dropped> {
        let Sent { ask, nonce, version, .. } = *sent;
        let led_to = match ask {
            Ask::Close => version.last(),
            Ask::Reattach | Ask::Query | Ask::Detach => version.next(),
        };
        let follows = match ask {
            Ask::Reattach => {
                snapshot.accepted == Some(Accepted { version: snapshot.version, nonce })
            }
            Ask::Detach | Ask::Close => true,
            Ask::Query => false,
        };
        if led_to != Ok(snapshot.version) || !follows {
            self.over(End::Contradiction(Contradiction::Acknowledgement));
            return Ok(self.next(false, None));
        }
        self.learn(sent, snapshot)?;
        if ask == Ask::Close {
            self.over(End::Requested);
        }
        Ok(self.next(self.is_news(), None))
    }

    fn rejected(
        &mut self,
        sent: &Sent,
        code: u16,
        snapshot: Option<Snapshot>,
    ) -> Result<Next, Dropped> {
        let reason = Reason::from_code(code);
        if let Some(reason) = reason.filter(|reason| is_final(*reason)) {
            self.over(End::Terminated(reason));
            return Ok(self.next(false, None));
        }
        if let Some(snapshot) = snapshot {
            self.learn(sent, &snapshot)?;
            self.is_ahead = reason == Some(Reason::KeyGeneration)
                && sent.key.generation > self.memory.key_generation;
        }
        // What failed for want of knowledge is asked again with it; what policy refused has to wait.
        let now = self.is_news() && reason.is_some_and(is_of_outdated_knowledge);
        if matches!(reason, Some(Reason::NonceReplayed | Reason::NonceTooOld)) {
            self.memory.skip_used();
        }
        Ok(self.next(now, Some(code)))
    }

    fn learn(&mut self, sent: &Sent, snapshot: &Snapshot) -> Result<(), Dropped> {
        match self.memory.learn(snapshot) {
            Err(contradiction) => {
                self.over(End::Contradiction(contradiction));
                return Ok(());
            }
            Ok(Advance::Lower) => return Err(Dropped::Lower),
            Ok(Advance::Same) => {}
            Ok(Advance::Forward) => {
                (self.bound, self.is_ahead) = (None, false);
                self.prompts = PROMPTS;
                self.requests.forget_before(self.memory.key_generation);
            }
        }
        let is_latest = self.bound.is_none_or(|bound| bound.nonce <= sent.nonce);
        if sent.path == self.path && is_latest {
            self.bound = Some(Bound { is_bound: snapshot.is_bound, nonce: sent.nonce });
        }
        if self.question.is_some_and(|question| question <= sent.nonce) {
            self.question = None;
        }
        self.tries_newest = false;
        Ok(())
    }

    /// Whether nothing has been asked yet at the version that is known.
    fn is_news(&self) -> bool {
        self.memory.first == self.memory.next
    }

    /// What is left to do, at once if `now` and if that is not too much.
    fn next(&mut self, now: bool, code: Option<u16>) -> Next {
        let status = self.status();
        let is_as_wanted = matches!(status, Status::Attached | Status::Detached);
        if is_as_wanted && self.question.is_none() || matches!(status, Status::Closed(_)) {
            return Next::Done(status);
        }
        if let Some(generation) = self.needs_key() {
            return Next::KeyNeeded(generation);
        }
        if !now || self.prompts == 0 {
            return Next::Wait(code);
        }
        self.prompts -= 1;
        match self.again() {
            Some(message) => Next::Send(message),
            None => Next::Done(self.status()),
        }
    }

    fn over(&mut self, end: End) {
        self.end.get_or_insert(end);
    }
}

/// Whether the session, or its client's part in it, is over for good.
fn is_final(reason: Reason) -> bool {
    match reason {
        Reason::SessionTerminated
        | Reason::SessionExpired
        | Reason::TransportLossExpired
        | Reason::RecoveryWindowOver
        | Reason::VersionsExhausted
        | Reason::UnknownSession => true,
        Reason::OwnershipConflict
        | Reason::StaleVersion
        | Reason::VersionAhead
        | Reason::NonceReplayed
        | Reason::NonceTooOld
        | Reason::AlreadyAttached
        | Reason::NotAttached
        | Reason::OldTransport
        | Reason::Frozen
        | Reason::NotFrozen
        | Reason::WrongDestination
        | Reason::HandedOff
        | Reason::SwitchRate
        | Reason::SwitchCooldown
        | Reason::NotExpired
        | Reason::KeyGeneration
        | Reason::NotFenced
        | Reason::ConcurrentMutation
        | Reason::StoreUnavailable
        | Reason::BadProof
        | Reason::PartialWrite => false,
    }
}

fn is_of_outdated_knowledge(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::StaleVersion | Reason::NonceReplayed | Reason::NonceTooOld | Reason::KeyGeneration
    )
}
