use super::{NoRecord, Reply, Uncommitted, reply::Origin};
use crate::{
    SessionId,
    control::{Answer, Ask, Request},
    model::{
        Cause, Commit, Context, Decision, Freshness, Input, Reason, Reattach, SessionRecord,
        Transport, decide,
    },
};

/// A request whose sender receives at its address and holds the session's key.
#[derive(Debug)]
#[must_use = "a request is answered"]
pub struct Proven {
    pub(super) request: Request,
    pub(super) origin: Origin,
}

/// What came of a request and a record.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "decisions are looked at and gone, never stored")]
#[must_use = "a request is answered"]
pub enum Decided {
    /// To be committed; its outcome makes the answer.
    Commit(Commit, Uncommitted),
    /// Nothing changes. To be sent to where the request came from.
    Reply(Reply),
}

impl Proven {
    /// The session to look up.
    pub fn session(&self) -> SessionId {
        self.request.session
    }

    /// What was asked.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Where it came from.
    pub fn transport(&self) -> Transport {
        self.origin.transport
    }

    /// What it asks of the session. A query asks whether the session is still alive.
    pub fn input(&self) -> Input {
        let Request { ask, version, nonce, key, .. } = self.request;
        let transport = self.origin.transport;
        match ask {
            Ask::Reattach => Input::Reattach(Reattach {
                version,
                nonce,
                transport,
                key_generation: key.generation,
            }),
            Ask::Query => Input::Expire,
            Ask::Detach => Input::LoseTransport { transport },
            Ask::Close => Input::Terminate { cause: Cause::Request },
        }
    }

    /// The answer if there is no record.
    pub fn without(self, why: NoRecord) -> Reply {
        match why.reason() {
            Some(reason) => self.origin.refuse(reason, None),
            None => self.origin.say(Answer::Pending),
        }
    }

    /// Decides by the session's record.
    ///
    /// # Panics
    ///
    /// If the record is another session's.
    pub fn decide(self, record: &SessionRecord, context: &Context) -> Decided {
        assert_eq!(record.id(), self.request.session, "a proof is for one session");
        let input = self.input();
        let reject = |origin: &Origin, reason| {
            Decided::Reply(origin.refuse(reason, origin.vouched(record, context.actor)))
        };
        match (decide(record, &input, context), self.request.ask) {
            (Decision::Reject(Reason::NotExpired), Ask::Query) => match self.guard(record) {
                Ok(()) => {
                    let state = Answer::State(self.origin.snapshot(record));
                    Decided::Reply(self.origin.say(state))
                }
                Err(reason) => reject(&self.origin, reason),
            },
            (Decision::Reject(reason), _) => reject(&self.origin, reason),
            (Decision::Commit(commit), ask) => {
                // Time limits end a session whatever was asked, and whoever asked.
                let is_done = ask != Ask::Query && commit.answer().is_ok();
                match self.guard(record) {
                    Err(reason) if is_done => reject(&self.origin, reason),
                    _ => Decided::Commit(commit, Uncommitted::new(self.origin, ask, &commit)),
                }
            }
        }
    }

    /// What the model checks of a reattach only, and is as true of the rest: the key in force, a nonce
    /// that was not used, the exact version. A version is good for one change, so these cannot be
    /// replayed either, though the record does not keep their nonces.
    fn guard(&self, record: &SessionRecord) -> Result<(), Reason> {
        let Request { ask, version, nonce, key, .. } = self.request;
        if key.generation != record.key_generation() {
            return Err(Reason::KeyGeneration);
        }
        if ask == Ask::Query {
            return Ok(());
        }
        match record.replay().freshness(nonce) {
            Freshness::Fresh => {}
            Freshness::Used => return Err(Reason::NonceReplayed),
            Freshness::TooOld => return Err(Reason::NonceTooOld),
        }
        if version < record.version() {
            return Err(Reason::StaleVersion);
        }
        if version > record.version() {
            return Err(Reason::VersionAhead);
        }
        Ok(())
    }
}
