use crate::{
    SessionId, StateVersion,
    control::{Answer, AnswerKey, InReplyTo, Message, Snapshot},
    model::{Class, Owner, Reason, SessionRecord, Transport},
};

/// An answer, to be sent to where its request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a request is answered"]
pub struct Reply {
    message: Message,
    refused: Option<Refused>,
}

impl Reply {
    /// The datagram's payload.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// What was refused, if something was: to be told as the event of its class.
    pub fn refused(&self) -> Option<Refused> {
        self.refused
    }
}

/// A request that was refused. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The session that it named.
    pub session: SessionId,
    /// Why.
    pub reason: Reason,
    /// The version that the session has, if that is known.
    pub stood: Option<StateVersion>,
}

impl Refused {
    /// Whether it is a SECURITY_EVENT or a POLICY_EVENT.
    pub fn class(&self) -> Class {
        self.reason.class()
    }
}

/// Where a request came from, and how to answer it.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) transport: Transport,
    pub(super) to: InReplyTo,
    pub(super) key: AnswerKey,
}

impl Origin {
    pub(super) fn say(&self, answer: Answer) -> Reply {
        Reply { message: answer.seal(&self.to, &self.key), refused: None }
    }

    pub(super) fn refuse(&self, reason: Reason, snapshot: Option<Snapshot>) -> Reply {
        let stood = snapshot.map(|snapshot| snapshot.version);
        let refused = Refused { session: self.to.session, reason, stood };
        Reply { refused: Some(refused), ..self.say(Answer::reject(reason, snapshot)) }
    }

    /// How the session stands, seen from where the request came from.
    pub(super) fn snapshot(&self, record: &SessionRecord) -> Snapshot {
        Snapshot {
            version: record.version(),
            epoch: record.owner().epoch,
            key_generation: record.key_generation(),
            accepted: record.accepted(),
            is_bound: record.transport() == Some(self.transport),
        }
    }

    /// The same, if `actor` can vouch for it: nothing follows a session's end, and until then only
    /// its owner knows.
    pub(super) fn vouched(&self, record: &SessionRecord, actor: Owner) -> Option<Snapshot> {
        let knows = record.owner() == actor || record.is_terminated();
        knows.then(|| self.snapshot(record))
    }
}
