//! Sees a session's write to its end, whatever the store says.

use super::{AGAIN, Runtime, Turn, change::Unchanged};
use ownership::{
    SessionId,
    model::Input,
    pending::{Done, Due, NoChange, NotDone, Pending, Progress, change},
    store::{DirectoryWrite, Mismatch, Outcome, SessionWrite, Sessions, Store},
    takeover::{Knowledge, Verdict, contradiction, security_event},
};
use std::sync::Arc;

impl Runtime {
    /// Asks something of a session and sees to the end of it.
    pub(super) async fn change(
        &self,
        turn: &Turn,
        input: Input,
    ) -> Result<Done<SessionWrite>, Unchanged> {
        let before = self.stored(turn);
        let context = self.context(before.record.service());
        let pending = change(&before, &input, self.by, &context).inspect_err(|why| {
            if let NoChange::Refused(reason) = why {
                self.instruments.refused(reason.name(), reason.class().name());
            }
        })?;
        self.commit(turn, pending, input, |_| {}).await
    }

    /// Sends the write of what an input makes of a session; `first` is told what came of that, if only
    /// that nobody knows.
    pub(super) async fn commit(
        &self,
        turn: &Turn,
        pending: Pending<SessionWrite>,
        input: Input,
        first: impl FnOnce(Outcome) + Send,
    ) -> Result<Done<SessionWrite>, Unchanged> {
        let before = self.stored(turn);
        // A rival is the same input as another attempt; if that is refused by now, the same attempt.
        let again = || {
            let context = self.context(before.record.service());
            let rival = change(&before, &input, self.by, &context);
            rival.map(|pending| pending.write().clone()).ok()
        };
        match self.carry(turn.session, pending, again, first).await {
            Ok(done) => {
                self.own(done.after(), Knowledge::Written);
                self.instruments.changed(input.name());
                Ok(done)
            }
            Err(not_done) => {
                self.not_done(turn, not_done).await;
                Err(Unchanged::NotDone(not_done))
            }
        }
    }

    /// Sends a write, and holds the session still for as long as nobody knows what came of it.
    pub(super) async fn carry(
        &self,
        session: SessionId,
        mut pending: Pending<SessionWrite>,
        again: impl Fn() -> Option<SessionWrite> + Send + Sync,
        first: impl FnOnce(Outcome) + Send,
    ) -> Result<Done<SessionWrite>, NotDone> {
        let mut first = Some(first);
        loop {
            let progress = match pending.due() {
                Due::Send => {
                    let outcome = self.send(pending.write().clone()).await;
                    if let Some(first) = first.take() {
                        first(outcome);
                    }
                    pending.answered(outcome)
                }
                Due::Look => match self.stores.sessions.get(session).await {
                    Ok(stands) => pending.found(stands.as_ref()),
                    Err(fault) => {
                        self.faulted(fault);
                        tokio::time::sleep(AGAIN).await;
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
                    tokio::time::sleep(AGAIN).await;
                    pending = next;
                }
            }
        }
    }

    pub(super) async fn send(&self, write: SessionWrite) -> Outcome {
        let outcomes = self.stores.sessions.commit(vec![write]).await;
        let outcome = outcomes.first().copied().unwrap_or(Outcome::Unknown);
        if let Outcome::Unavailable(fault) = outcome {
            self.faulted(fault);
        }
        outcome
    }

    async fn not_done(&self, turn: &Turn, not_done: NotDone) {
        match not_done {
            NotDone::Fenced => self.fenced(),
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
            let Some(owned) = self.owned(session) else { return };
            let (believed, knowledge) = (owned.stored, owned.knowledge);
            let stands = self.read(|| self.stores.sessions.get(session)).await;
            let context = self.context(believed.record.service());
            let verdict = contradiction(&believed, knowledge, stands.as_ref(), self.by, &context);
            match verdict {
                Ok(Verdict::Predecessor(stored)) => return self.own(&stored, Knowledge::Written),
                Ok(Verdict::End(pending)) => {
                    tracing::error!(%session, "somebody else has written this session: it ends");
                    let event = security_event(&believed, self.by, &context);
                    let told = self.stores.directory.write(DirectoryWrite::tell([event])).await;
                    if !told.is_won() {
                        tracing::warn!(%session, ?told, "the audit log may not have this SECURITY_EVENT");
                    }
                    match self.carry(session, *pending, || None, |_| {}).await {
                        Ok(done) => return self.own(done.after(), Knowledge::Written),
                        Err(NotDone::Fenced) => return self.fenced(),
                        Err(_) => tokio::time::sleep(AGAIN).await,
                    }
                }
                Ok(Verdict::Leave) => {
                    match stands {
                        Some(stored) => self.disown(&stored),
                        None => {
                            tracing::error!(%session, "a session is gone from the store: stopped");
                            self.books().remove(session);
                            self.node().leave(session);
                        }
                    }
                    return;
                }
                Err(why) => {
                    tracing::error!(%session, %why, "a contradiction that this node cannot judge");
                    return;
                }
            }
        }
    }

    /// Begins a task about a session, unless another one is about it.
    pub(super) fn look_into<F: Future<Output = ()> + Send + 'static>(
        self: &Arc<Self>,
        session: SessionId,
        task: impl FnOnce(Arc<Self>) -> F,
    ) {
        if self.books().begin(session) {
            let (runtime, task) = (Arc::clone(self), task(Arc::clone(self)));
            tokio::spawn(async move {
                task.await;
                runtime.books().finish(session);
            });
        }
    }
}
