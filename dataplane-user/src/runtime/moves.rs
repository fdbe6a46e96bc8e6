//! Moves a session to another node.

use super::{AGAIN, Carried, Notice, Runtime, Turn, change::Unchanged};
use crate::cluster::now;
use ownership::{
    NodeIndex, SessionId,
    model::Input,
    pending::{Due, NotDone},
    store::{Admission, BadWrite, DirectoryWrite, Outcome, SessionWrite, Store, TransferWrite},
    takeover::{Knowledge, Strategy},
    transfer::{AppContext, Decided, Frozen, GiveUp, GivenUp, Held, NoStep, Undecided},
};
use std::sync::Arc;

/// How often a hand-off is tried before the move is given up.
const ATTEMPTS: u32 = 3;

/// How a session is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Haste {
    /// Its application is waited for, and all that is in flight.
    None,
    /// Nobody is.
    Great,
}

/// What came of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// Another node owns the session; whether the application's context went with it as the application
    /// wanted it.
    Away {
        /// Whether it did.
        with_context: bool,
    },
    /// It goes on here.
    Stays,
    /// It is over.
    Over,
}

impl Runtime {
    /// Moves a session the way that the strategy moves sessions.
    pub(super) async fn move_session(
        self: &Arc<Self>,
        turn: &Turn,
        to: NodeIndex,
        haste: Haste,
    ) -> Result<Moved, Unchanged> {
        let moved = match self.settings.strategy() {
            Strategy::Shared => self.hand_over::<SessionWrite>(turn, to, haste).await,
            Strategy::Sticky => self.hand_over::<TransferWrite>(turn, to, haste).await,
        };
        self.instruments.handed_over(match &moved {
            Ok(Moved::Away { with_context: true }) => "completed",
            Ok(Moved::Away { with_context: false }) => "completed_without_context",
            Ok(Moved::Stays) => "given_up",
            Ok(Moved::Over) => "over",
            Err(_) => "refused",
        });
        moved
    }

    async fn hand_over<W: Carried>(
        self: &Arc<Self>,
        turn: &Turn,
        to: NodeIndex,
        haste: Haste,
    ) -> Result<Moved, Unchanged> {
        let session = turn.session;
        let before = self.stored(turn);
        let service = before.record.service();
        let pending = Frozen::freeze(&before, to, self.by, &self.context(service))?;
        let done = self.commit(turn, pending, Input::Freeze { to }, |_| {}).await?;
        let Some(frozen) = Frozen::new(&done, self.by) else { return Ok(Moved::Over) };
        self.books().set_moving(session, true);
        self.notices.tell(Notice::Freezes { session, service, to });
        let begun = now();
        let (mut held, with_context) = self.quiesce(frozen, haste).await;
        for _ in 0..ATTEMPTS {
            let quiesced = match held {
                Held::Quiesced(quiesced) => quiesced,
                Held::Frozen(_) => break,
            };
            let fence = self.read(|| self.stores.directory.fence(to)).await;
            let fence = fence.filter(|fence| fence.admission == Admission::Accepting);
            let (Some(fence), Some(routes)) = (fence, self.routes(session, to)) else {
                held = Held::Quiesced(quiesced);
                break;
            };
            match quiesced.hand_off::<W>(fence.identity(), &routes, &self.context(service)) {
                Ok(undecided) => match self.decide(undecided).await {
                    Decided::NotYet(still, why) => {
                        held = still;
                        tracing::debug!(%session, ?why, "not handed off yet");
                        tokio::time::sleep(AGAIN).await;
                    }
                    decided => {
                        let moved = self.decided(turn, decided, with_context).await;
                        if matches!(moved, Moved::Away { .. }) {
                            self.instruments.waited(now().since(begun));
                        }
                        return Ok(moved);
                    }
                },
                Err(NoStep { held: still, why }) => {
                    tracing::warn!(%session, %why, "a session cannot be handed off");
                    held = *still;
                    break;
                }
            }
        }
        Ok(self.give_up::<W>(turn, held, GiveUp::Abort).await)
    }

    /// Holds a session, waits until nothing of it is in flight and its application has given its last
    /// context. If it does not come to rest, its move is to be given up.
    async fn quiesce(&self, frozen: Frozen, haste: Haste) -> (Held, bool) {
        let (session, service) = (frozen.session().record.id(), frozen.session().record.service());
        match haste {
            Haste::None => {
                self.books().stopped.insert(session);
                if let Err(why) = self.holding.hold(session, self.settings.quiet).await {
                    tracing::warn!(%session, why, "a session does not come to rest");
                    return (Held::Frozen(frozen), false);
                }
            }
            Haste::Great => self.hold(session),
        }
        let mut baggage = self.books().baggage(session).map(|row| row.baggage.clone());
        let mut with_context = true;
        if haste == Haste::None {
            let notice = Notice::Quiesce { session, service };
            match self.notices.ask(session, notice, self.settings.application).await {
                Some(Some(context)) => {
                    let kept = baggage.take().unwrap_or_default();
                    baggage = Some(kept.with_context(context.into()));
                }
                Some(None) => {}
                // Nobody to be asked, or who does not answer: what was left before goes.
                None => with_context = false,
            }
        }
        let packed = baggage.unwrap_or_default().packed(self.context_limit());
        let packed = packed.unwrap_or_else(|why| {
            tracing::error!(%session, %why, "a session goes without its application's context");
            with_context = false;
            AppContext::default()
        });
        (Held::Quiesced(frozen.quiesced(packed)), with_context)
    }

    /// Gives a move up, by a commit that wins.
    pub(super) async fn give_up<W: Carried>(
        self: &Arc<Self>,
        turn: &Turn,
        mut held: Held,
        how: GiveUp,
    ) -> Moved {
        loop {
            let service = held.session().record.service();
            match held.give_up::<W>(how, &self.context(service)) {
                Ok(undecided) => match self.decide(undecided).await {
                    Decided::NotYet(still, NotDone::Unavailable(fault)) => {
                        self.faulted(fault);
                        held = still;
                    }
                    Decided::NotYet(still, _) => held = still,
                    decided => return self.decided(turn, decided, false).await,
                },
                Err(NoStep { why, .. }) => {
                    tracing::error!(session = %turn.session, %why, "a move cannot be given up");
                    return Moved::Stays;
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Sees a decision to its end. Until then the session is held, and nobody's.
    pub(super) async fn decide<W: Carried>(&self, mut undecided: Undecided<W>) -> Decided<W> {
        let record = undecided.session().record;
        let (session, service) = (record.id(), record.service());
        self.books().set_moving(session, false);
        self.node().doubt(session);
        loop {
            let decided = match undecided.due() {
                Due::Look => match W::look(self, *undecided.session()).await {
                    Ok(row) => undecided.found(row.as_ref()),
                    Err(fault) => {
                        self.faulted(fault);
                        tokio::time::sleep(AGAIN).await;
                        continue;
                    }
                },
                Due::Send | Due::Rival => {
                    let write = undecided.write(&self.context(service));
                    match write.map(|write| write.cloned()) {
                        Ok(Some(write)) => {
                            let outcome = W::send(self, write).await;
                            undecided.answered(outcome)
                        }
                        Ok(None) => continue,
                        Err(why) => {
                            tracing::error!(%session, %why, "a decision cannot be ruled out");
                            tokio::time::sleep(AGAIN).await;
                            continue;
                        }
                    }
                }
            };
            match decided {
                Decided::Undecided(next) => {
                    tokio::time::sleep(AGAIN).await;
                    undecided = next;
                }
                decided => return decided,
            }
        }
    }

    /// Does what follows from a decision.
    pub(super) async fn decided<W: Carried>(
        self: &Arc<Self>,
        turn: &Turn,
        decided: Decided<W>,
        with_context: bool,
    ) -> Moved {
        match decided {
            Decided::HandedOff(handed_off) => {
                let record = handed_off.session().record;
                let (service, to) = (record.service(), record.owner().node);
                self.books().remove(turn.session);
                self.notices.tell(Notice::Lost { session: turn.session, service, to });
                // Until the other node knows of it, it has no place there for what comes.
                self.taken_in(turn.session, to).await;
                self.publish(handed_off.session());
                if let Some(copy) = W::copy_of_hand_off(&handed_off) {
                    self.copy(turn.session, copy).await;
                }
                Moved::Away { with_context }
            }
            Decided::GivenUp(given_up) => self.keep(turn, given_up).await,
            Decided::Over => {
                self.fenced();
                Moved::Stays
            }
            Decided::Contradiction => {
                self.contradicted(turn).await;
                Moved::Stays
            }
            Decided::LookAnew | Decided::NotYet(..) | Decided::Undecided(_) => {
                tracing::error!(session = %turn.session, "a move has no end");
                Moved::Stays
            }
        }
    }

    async fn keep<W: Carried>(&self, turn: &Turn, given_up: GivenUp<W>) -> Moved {
        if let Some(copy) = W::copy_of_abort(&given_up) {
            self.copy(turn.session, copy).await;
        }
        let stored = *given_up.session();
        self.own(&stored, Knowledge::Written);
        if stored.record.is_terminated() {
            return Moved::Over;
        }
        let service = stored.record.service();
        self.notices.tell(Notice::Thaws { session: turn.session, service });
        self.tell_change(turn.session);
        Moved::Stays
    }

    /// *Sticky*: the copy into the node's own store; then the decision may be forgotten.
    async fn copy(&self, session: SessionId, copy: Result<super::strategy::Copy, BadWrite>) {
        let (pending, forget) = match copy {
            Ok(copy) => copy,
            Err(why) => return tracing::error!(%session, %why, "a decision cannot be copied"),
        };
        match self.carry(session, pending, || None, |_| {}).await {
            Ok(_) => {
                if let Some(forget) = forget {
                    self.tidy(forget).await;
                }
            }
            Err(NotDone::Fenced) => self.fenced(),
            // Shut, so the next process does it.
            Err(NotDone::Unavailable(fault)) => self.faulted(fault),
            Err(why) => tracing::error!(%session, ?why, "a decision was not copied"),
        }
    }

    /// Removes a row of the directory that has served.
    pub(super) async fn tidy(&self, write: DirectoryWrite) {
        loop {
            match self.stores.directory.write(write.clone()).await {
                Outcome::Won | Outcome::Lost(_) => return,
                Outcome::Fenced => return self.fenced(),
                Outcome::Unavailable(fault) => self.faulted(fault),
                Outcome::Unknown => {}
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}
