//! Sees a session's write to its end, whatever the store says.

use super::{Node, Turn};
use crate::{broken::Broken, check::Violation, sim::Exit};
use ownership::{
    SessionId,
    model::{Input, Reason},
    pending::{Done, Due, NoChange, NotDone, Pending, Progress, change},
    store::{DirectoryWrite, Fault, Mismatch, Outcome, SessionWrite, Sessions, Store},
    takeover::{Knowledge, Verdict, contradiction, security_event},
};

/// What became of what was asked of a session.
#[expect(clippy::large_enum_variant, reason = "it is looked at and gone, never stored")]
pub enum Changed {
    /// It is so.
    Done(Done<SessionWrite>),
    /// The model refuses it.
    Refused(Reason),
    /// It is not so. What the node knows of the session is right again, or the node is over.
    NotDone,
}

impl Node {
    /// Asks something of a session and sees to the end of it.
    pub(super) async fn change(&self, turn: &Turn, input: Input) -> Changed {
        let before = self.stored(turn).record;
        match change(&self.stored(turn), &input, self.by(), &self.context()) {
            Ok(pending) => self.commit(turn, pending, input, |_| {}).await,
            Err(NoChange::Refused(reason)) => Changed::Refused(reason),
            Err(NoChange::Bad(bad)) => {
                self.sim.accuse(Violation::Glue(format!("{input:?} of {before:?}: {bad}")));
                Changed::NotDone
            }
        }
    }

    /// Sends the write of what an input makes of a session; `first` is told what came of that, if only
    /// that nobody knows.
    pub(super) async fn commit(
        &self,
        turn: &Turn,
        pending: Pending<SessionWrite>,
        input: Input,
        first: impl FnOnce(Outcome),
    ) -> Changed {
        let before = self.stored(turn);
        // A rival is the same input as another attempt; if that is refused by now, the same attempt.
        let again = || {
            let rival = change(&before, &input, self.by(), &self.context());
            rival.map(|pending| pending.write().clone()).ok()
        };
        match self.carry(turn.session, pending, again, first).await {
            Ok(done) => {
                self.own(*done.after(), Knowledge::Written);
                Changed::Done(done)
            }
            Err(not_done) => {
                self.not_done(turn, not_done).await;
                Changed::NotDone
            }
        }
    }

    /// Sends a write, and holds the session still for as long as nobody knows what came of it.
    pub(super) async fn carry(
        &self,
        session: SessionId,
        mut pending: Pending<SessionWrite>,
        again: impl Fn() -> Option<SessionWrite>,
        first: impl FnOnce(Outcome),
    ) -> Result<Done<SessionWrite>, NotDone> {
        let mut first = Some(first);
        loop {
            let progress = match pending.due() {
                Due::Send => {
                    let write = pending.write().clone();
                    let outcome = self.send(write).await;
                    if let Some(first) = first.take() {
                        first(outcome);
                    }
                    if self.is_broken(Broken::RetriedAsAnother)
                        && outcome == Outcome::Unknown
                        && let Some(other) = again()
                    {
                        let outcome = self.send(other.clone()).await;
                        Pending::new(other).answered(outcome)
                    } else {
                        pending.answered(outcome)
                    }
                }
                Due::Look => match self.sessions.get(session).await {
                    Ok(stands) => {
                        self.sim.tell("found", (self.machine.place, stands));
                        if self.is_broken(Broken::ReadSettlesUnknown)
                            && stands.as_ref() == pending.write().before()
                        {
                            return Err(NotDone::Unavailable(Fault::Unreachable));
                        }
                        pending.found(stands.as_ref())
                    }
                    Err(fault) => {
                        self.faulted(fault);
                        self.machine.rest(100, 600).await;
                        continue;
                    }
                },
                Due::Rival => {
                    let write = pending.write().clone();
                    let rival = pending.rival(|| again().unwrap_or(write)).clone();
                    let outcome = self.send(rival).await;
                    pending.answered(outcome)
                }
            };
            match progress {
                Progress::Done(done) => return Ok(done),
                Progress::NotDone(not_done) => return Err(not_done),
                Progress::Pending(next) => {
                    self.hold(session);
                    self.machine.rest(50, 400).await;
                    pending = next;
                }
            }
        }
    }

    pub(super) async fn send(&self, write: SessionWrite) -> Outcome {
        let call = self.sim.history.borrow_mut().call(self.sim.now(), &write);
        let outcomes = self.sessions.commit(vec![write]).await;
        let outcome = outcomes.first().copied().unwrap_or(Outcome::Unknown);
        self.sim.history.borrow_mut().answered(self.sim.now(), call, outcome);
        self.sim.tell("outcome", (self.machine.place, outcome));
        if let Outcome::Unavailable(fault) = outcome {
            self.faulted(fault);
        }
        outcome
    }

    /// A store that was shut stays so until the process is started again.
    pub(super) fn faulted(&self, fault: Fault) {
        if fault == Fault::Latched {
            self.exit(Exit::Latched);
        }
    }

    pub(super) async fn not_done(&self, turn: &Turn, not_done: NotDone) {
        match not_done {
            NotDone::Fenced => self.exit(Exit::Fenced),
            NotDone::Unavailable(_)
            | NotDone::Lost(Mismatch::Destination | Mismatch::Placement | Mismatch::Owner) => {
                self.publish(&self.stored(turn));
            }
            NotDone::Lost(Mismatch::Row) | NotDone::Superseded | NotDone::Past => {
                self.contradicted(turn).await;
            }
        }
    }

    /// Somebody else has written a session that this node owns.
    pub(super) async fn contradicted(&self, turn: &Turn) {
        let session = turn.session;
        self.hold(session);
        loop {
            let owned = self.owned(session).expect("whoever has the turn keeps it");
            let believed = owned.stored;
            let stands = self.read(|| self.sessions.get(session)).await;
            let context = self.context();
            let knowledge = owned.knowledge;
            let verdict = contradiction(&believed, knowledge, stands.as_ref(), self.by(), &context);
            self.sim.tell("contradiction", (self.machine.place, &believed, stands));
            match verdict {
                Ok(Verdict::Predecessor(stored)) => return self.own(stored, Knowledge::Written),
                Ok(Verdict::End(pending)) => {
                    self.sim.history.borrow_mut().contradicted(session);
                    let event = security_event(&believed, self.by(), &context);
                    let _told = self.directory.write(DirectoryWrite::tell([event])).await;
                    match self.carry(session, *pending, || None, |_| {}).await {
                        Ok(done) => return self.own(*done.after(), Knowledge::Written),
                        Err(NotDone::Fenced) => return self.exit(Exit::Fenced),
                        Err(_) => self.machine.rest(100, 500).await,
                    }
                }
                Ok(Verdict::Leave) => {
                    match stands {
                        Some(stored) if stored.record.is_terminated() => {
                            self.own(stored, Knowledge::Written);
                        }
                        Some(stored) => self.disown(&stored),
                        None => self.sim.accuse(Violation::Gone(session)),
                    }
                    return;
                }
                Err(bad) => return self.sim.accuse(Violation::Glue(bad.to_string())),
            }
        }
    }
}
