//! The one place where a session changes.

use super::{
    Accepted, Cause, ChangeCause, Commit, Context, Decision, Freshness, Hold, Input, Owner, Policy,
    Reason, Reattach, ReplayWindow, SessionRecord, State, StateChange, SwitchAllowance, Time,
    Transport, policy::TooSoon,
};
use crate::{NodeIndex, SessionId, StateVersion};

/// Makes a session: BIRTH, at version 0, owned by whoever decides.
///
/// `id` must be freshly minted; the store refuses one that exists.
pub fn birth(id: SessionId, service: u64, context: &Context) -> Commit {
    let record = SessionRecord {
        id,
        service,
        version: StateVersion::BIRTH,
        owner: context.actor,
        state: State::Birth,
        hold: Hold::Active,
        born: context.now,
        changed: context.now,
        key_generation: 0,
        replay: ReplayWindow::default(),
        accepted: None,
        switches: SwitchAllowance::default(),
    };
    commit(record, ChangeCause::Birth { service }, context, None)
}

/// What an input makes of a record.
///
/// Pure and total: the same record, input and context always give the same decision, and every
/// combination gives one (versioning-model §12). A commit has the next version, exactly; a refusal
/// changes nothing.
///
/// In this order: a session that is over stays so; whoever does not own it is refused; a time limit
/// that has passed ends it, whatever was asked; then the input itself.
pub fn decide(record: &SessionRecord, input: &Input, context: &Context) -> Decision {
    if let State::Terminated(cause) = record.state {
        return Decision::Reject(cause.reason());
    }
    if let Err(reason) = authority(record, input, context.actor) {
        return Decision::Reject(reason);
    }
    let now = context.now.max(record.changed);
    let change = Change { record, input, context, now };
    match expired(record, &context.policy, now) {
        Some(cause) if matches!(input, Input::Expire) => change.end(cause, None),
        Some(cause) => change.end(cause, Some(cause.reason())),
        None => match change.apply() {
            Ok(next) => change.commit(next),
            Err(reason) => Decision::Reject(reason),
        },
    }
}

/// Whether `actor` may ask this of the session: its owner may ask everything, another node may only
/// act for an owner that is proven to be gone.
fn authority(record: &SessionRecord, input: &Input, actor: Owner) -> Result<(), Reason> {
    let proof = match input {
        Input::TakeOver { proof } | Input::TerminateLost { proof } => proof,
        Input::Attach { .. }
        | Input::LoseTransport { .. }
        | Input::Reattach(_)
        | Input::Freeze { .. }
        | Input::Abort
        | Input::HandOff { .. }
        | Input::Resume
        | Input::RotateKey
        | Input::Expire
        | Input::Terminate { .. } => {
            let owns = actor == record.owner;
            return owns.then_some(()).ok_or(Reason::OwnershipConflict);
        }
    };
    // A proof that covers the actor itself proves that it may not act.
    if !proof.covers(record.owner) || proof.covers(actor) {
        return Err(Reason::NotFenced);
    }
    Ok(())
}

impl SessionRecord {
    /// Whether a time limit of the session has passed: whatever is asked of it next ends it.
    pub fn is_over(&self, policy: &Policy, now: Time) -> bool {
        expired(self, policy, now.max(self.changed)).is_some()
    }
}

/// The time limit that has passed, if one has.
fn expired(record: &SessionRecord, policy: &Policy, now: Time) -> Option<Cause> {
    let lost = match record.state {
        State::Terminated(_) => return None,
        State::Recovering { since } => Some(since),
        // One that nobody ever attached to is no better than one that lost its transport.
        State::Birth => Some(record.born),
        State::Attached(_) => None,
    };
    if now >= record.born.after(policy.session_ttl) {
        return Some(Cause::SessionTtl);
    }
    (now >= lost?.after(policy.transport_loss_ttl)).then_some(Cause::TransportLossTtl)
}

/// An input on its way to a decision.
struct Change<'a> {
    record: &'a SessionRecord,
    input: &'a Input,
    context: &'a Context,
    now: Time,
}

impl Change<'_> {
    /// The record that the input leads to, its version and time still the old ones.
    fn apply(&self) -> Result<SessionRecord, Reason> {
        let record = *self.record;
        match *self.input {
            Input::Attach { transport } => self.attach(transport),
            Input::LoseTransport { transport } => self.lose(transport),
            Input::Reattach(request) => self.reattach(&request),
            Input::Freeze { to } => self.freeze(to),
            Input::Abort => match record.hold {
                Hold::Frozen { .. } => Ok(SessionRecord { hold: Hold::Active, ..record }),
                Hold::Active => Err(Reason::NotFrozen),
                Hold::HandedOff { .. } => Err(Reason::HandedOff),
            },
            Input::HandOff { to } => match record.hold {
                Hold::Frozen { to: node } if node == to.node => {
                    let hold = Hold::HandedOff { from: record.owner.node };
                    Ok(SessionRecord { owner: to, hold, ..record })
                }
                Hold::Frozen { .. } => Err(Reason::WrongDestination),
                Hold::Active => Err(Reason::NotFrozen),
                Hold::HandedOff { .. } => Err(Reason::HandedOff),
            },
            Input::Resume => match record.hold {
                Hold::HandedOff { .. } => Ok(SessionRecord { hold: Hold::Active, ..record }),
                Hold::Active | Hold::Frozen { .. } => Err(Reason::NotFrozen),
            },
            Input::TakeOver { .. } => Ok(self.taken_over()),
            Input::RotateKey => match record.key_generation.checked_add(1) {
                Some(key_generation) => Ok(SessionRecord { key_generation, ..record }),
                None => Err(Reason::KeyGeneration),
            },
            Input::Expire => Err(Reason::NotExpired),
            Input::Terminate { cause } => Ok(ended(record, cause)),
            Input::TerminateLost { .. } => Ok(ended(record, Cause::OwnerLost)),
        }
    }

    fn attach(&self, transport: Transport) -> Result<SessionRecord, Reason> {
        self.not_moving()?;
        match self.record.state {
            State::Birth => Ok(SessionRecord { state: State::Attached(transport), ..*self.record }),
            State::Attached(_) | State::Recovering { .. } => Err(Reason::AlreadyAttached),
            State::Terminated(cause) => Err(cause.reason()),
        }
    }

    /// Legal while the session moves: it binds nothing.
    fn lose(&self, transport: Transport) -> Result<SessionRecord, Reason> {
        match self.record.state {
            State::Attached(bound) if bound == transport => {
                let state = State::Recovering { since: self.now };
                Ok(SessionRecord { state, ..*self.record })
            }
            State::Attached(_) | State::Recovering { .. } => Err(Reason::OldTransport),
            State::Birth => Err(Reason::NotAttached),
            State::Terminated(cause) => Err(cause.reason()),
        }
    }

    fn reattach(&self, request: &Reattach) -> Result<SessionRecord, Reason> {
        let record = self.record;
        if request.key_generation != record.key_generation {
            return Err(Reason::KeyGeneration);
        }
        // A repeated request is told that it is one, not only that its version is old.
        match record.replay.freshness(request.nonce) {
            Freshness::Fresh => {}
            Freshness::Used => return Err(Reason::NonceReplayed),
            Freshness::TooOld => return Err(Reason::NonceTooOld),
        }
        if request.version < record.version {
            return Err(Reason::StaleVersion);
        }
        if request.version > record.version {
            return Err(Reason::VersionAhead);
        }
        self.not_moving()?;
        match record.state {
            State::Attached(_) => {}
            State::Recovering { since } => {
                if self.now >= since.after(self.context.policy.recovery_window) {
                    return Err(Reason::RecoveryWindowOver);
                }
            }
            State::Birth => return Err(Reason::NotAttached),
            State::Terminated(cause) => return Err(cause.reason()),
        }
        let switches =
            record.switches.take(self.now, &self.context.policy).map_err(|soon| match soon {
                TooSoon::Rate => Reason::SwitchRate,
                TooSoon::Cooldown => Reason::SwitchCooldown,
            })?;
        let version = record.version.next().map_err(|_| Reason::VersionsExhausted);
        let accepted = version.ok().map(|version| Accepted { version, nonce: request.nonce });
        Ok(SessionRecord {
            state: State::Attached(request.transport),
            replay: record.replay.with(request.nonce),
            accepted,
            switches,
            ..*record
        })
    }

    fn freeze(&self, to: NodeIndex) -> Result<SessionRecord, Reason> {
        self.not_moving()?;
        if to == self.record.owner.node {
            return Err(Reason::WrongDestination);
        }
        Ok(SessionRecord { hold: Hold::Frozen { to }, ..*self.record })
    }

    /// The client has to prove itself anew: what it sent in the meantime went nowhere, and nobody
    /// vouches for its transport.
    fn taken_over(&self) -> SessionRecord {
        let state = match self.record.state {
            State::Attached(_) => State::Recovering { since: self.now },
            state @ (State::Birth | State::Recovering { .. } | State::Terminated(_)) => state,
        };
        SessionRecord { owner: self.context.actor, state, hold: Hold::Active, ..*self.record }
    }

    fn not_moving(&self) -> Result<(), Reason> {
        match self.record.hold {
            Hold::Active => Ok(()),
            Hold::Frozen { .. } | Hold::HandedOff { .. } => Err(Reason::Frozen),
        }
    }

    fn end(&self, cause: Cause, refused: Option<Reason>) -> Decision {
        self.finish(ended(*self.record, cause), refused)
    }

    /// Gives the record its version. The last one is for the end of the session only.
    fn commit(&self, next: SessionRecord) -> Decision {
        if next.is_terminated() || self.record.version.next().is_ok() {
            self.finish(next, None)
        } else {
            let cause = Cause::VersionsExhausted;
            self.end(cause, Some(cause.reason()))
        }
    }

    fn finish(&self, next: SessionRecord, refused: Option<Reason>) -> Decision {
        let version = match next.state {
            State::Terminated(_) => self.record.version.last(),
            _ => self.record.version.next(),
        };
        // A record that is not over has never used the last version.
        let Ok(version) = version else { return Decision::Reject(Reason::VersionsExhausted) };
        let record = SessionRecord { version, changed: self.now, ..next };
        Decision::Commit(commit(record, ChangeCause::Input(*self.input), self.context, refused))
    }
}

/// The only place where a record and its event are made, which is why neither is without the other.
fn commit(
    record: SessionRecord,
    cause: ChangeCause,
    context: &Context,
    refused: Option<Reason>,
) -> Commit {
    let SessionRecord { id: session, version, .. } = record;
    Commit { record, event: StateChange { session, version, cause, context: *context }, refused }
}

fn ended(record: SessionRecord, cause: Cause) -> SessionRecord {
    SessionRecord { state: State::Terminated(cause), hold: Hold::Active, ..record }
}
