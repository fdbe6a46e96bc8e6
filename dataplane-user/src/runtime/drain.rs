//! Sessions follow their slots: a few at a time, until none is left.

use super::{
    Runtime,
    moves::{Haste, Moved},
};
use crate::{
    api::{self, DrainHow, DrainProgress},
    cluster::now,
    node::Refusal,
};
use ownership::{
    NodeIndex, SessionId,
    drain::{Drain, Ending, How, LeftOver, Limits, Progress},
    lease::BootTime,
    model::{Cause, Input},
    store::{Admission, Directory, DirectoryWrite, Fault, Outcome, Store},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// How a node is drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainOrder {
    /// How long its sessions may take to leave.
    pub within: Duration,
    /// What becomes of those that have not.
    pub left_over: LeftOver,
    /// How many are under way at once.
    pub at_once: usize,
    /// How many are started in a second.
    pub per_second: u32,
}

/// How far a node's drain is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrainStatus {
    /// Whether the node takes no more sessions.
    pub is_draining: bool,
    /// Its sessions, wherever their slots are.
    pub sessions: usize,
    /// Slots that it owns, or has owned until its sessions there have gone.
    pub slots: usize,
    /// How far its sessions are on their way.
    pub progress: Progress,
    /// Whether the node is safe to stop: nothing is left here, and every node knows.
    pub is_safe_to_stop: bool,
}

impl Runtime {
    /// Moves the sessions after their slots, unless that is under way.
    pub(super) fn go_home(self: &Arc<Self>) {
        if self.books().is_moving_home || self.books().is_ending || !self.is_barrier_passed() {
            return;
        }
        let leaving = self.leaving();
        if leaving.is_empty() {
            return;
        }
        self.books().is_moving_home = true;
        let order = self.books().drain_order.unwrap_or(self.settings.drain);
        let runtime = Arc::clone(self);
        tokio::spawn(async move {
            runtime.send_home(leaving, order).await;
            runtime.books().is_moving_home = false;
        });
    }

    /// Whether every live node knows of the placement: until then sessions need rows of their own at their
    /// destination.
    fn is_barrier_passed(&self) -> bool {
        let books = self.books();
        let Some(applied) = &books.placing.applied else { return false };
        let slots = applied.placement().slots();
        let leaving = slots.iter().position(|slot| slot.previous == Some(self.me().node));
        leaving.is_some_and(|slot| applied.home(slot as u16) == slots[slot].owner)
    }

    async fn send_home(self: &Arc<Self>, sessions: Vec<SessionId>, order: DrainOrder) {
        let limits = Limits::new(order.at_once, order.per_second, order.left_over);
        let Ok(limits) = limits else { return tracing::error!("a drain that starts nothing") };
        let total = sessions.len();
        tracing::info!(sessions = total, "sessions follow their slots");
        let begun = now();
        let mut drain = Drain::new(sessions, limits, begun, begun.after(order.within));
        let (ended, mut endings) = mpsc::unbounded_channel();
        while !drain.is_done() && self.end.borrow().is_none() && !self.books().is_ending {
            for start in drain.start(now()) {
                let (runtime, ended) = (Arc::clone(self), ended.clone());
                tokio::spawn(async move {
                    let ending = runtime.send_one_home(start.session, start.how).await;
                    let _nobody_waits = ended.send((start.session, ending));
                });
            }
            self.set_progress(drain.progress());
            let wait = drain.next_start().map_or(Duration::MAX, |next: BootTime| next.since(now()));
            tokio::select! {
                Some((session, ending)) = endings.recv() => {
                    end(&mut drain, session, ending);
                    while let Ok((session, ending)) = endings.try_recv() {
                        end(&mut drain, session, ending);
                    }
                }
                () = tokio::time::sleep(wait.min(Duration::from_secs(1))) => {}
            }
        }
        let progress = drain.progress();
        tracing::info!(took = ?now().since(begun), done = ?progress.done, "sessions have followed their slots");
        self.set_progress(progress);
    }

    fn set_progress(&self, progress: Progress) {
        self.books().progress = progress;
    }

    /// What came of it; nothing if the session is where it was.
    async fn send_one_home(self: &Arc<Self>, session: SessionId, how: How) -> Option<Ending> {
        // One that was cut short has the turn still: it comes to its end by itself.
        let Some(turn) = self.next_turn(session).await else { return Some(Ending::Over) };
        let record = self.stored(&turn).record;
        let to = self.home_of(session, record.service());
        let Some(to) = to.filter(|to| *to != self.me().node) else { return Some(Ending::Over) };
        let moved = match how {
            How::HandOver => self.move_session(&turn, to, Haste::None).await,
            How::HandOverInHaste => self.move_session(&turn, to, Haste::Great).await,
            How::Terminate => {
                let input = Input::Terminate { cause: Cause::Operator };
                let ended = self.change(&turn, input).await;
                return ended.is_ok().then_some(Ending::Terminated);
            }
        };
        match moved {
            Ok(Moved::Away { .. }) if how == How::HandOver => Some(Ending::HandedOver),
            Ok(Moved::Away { .. }) => Some(Ending::HandedOverInHaste),
            Ok(Moved::Over) => Some(Ending::Over),
            Ok(Moved::Stays) => None,
            Err(why) => {
                tracing::debug!(%session, %why, "a session is not moved yet");
                None
            }
        }
    }

    fn home_of(&self, session: SessionId, service: u64) -> Option<NodeIndex> {
        self.owner_of_slot(self.slot(session, service)?)
    }

    /// The node of the configuration with this name.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn node_named(&self, name: &str) -> Result<NodeIndex, Refusal> {
        let member = self.settings.members().into_iter().find(|member| member.name == name);
        member.map(|member| member.index).ok_or_else(|| Refusal::NoNode(name.to_owned()))
    }

    /// Lets the node with this name take no more sessions, and give away those that it has.
    ///
    /// # Errors
    ///
    /// If that cannot be, or the order is for another node.
    pub async fn drain(&self, name: &str, how: Option<&DrainHow>) -> Result<(), Refusal> {
        let node = self.node_named(name)?;
        if let Some(how) = how {
            if node != self.me().node {
                return Err(Refusal::OtherNodesDrain(name.to_owned()));
            }
            let default = self.settings.drain;
            let order = DrainOrder {
                within: Duration::from_millis(how.within_ms),
                left_over: match how.left_over {
                    api::LeftOver::Move => LeftOver::Move,
                    api::LeftOver::Terminate => LeftOver::Terminate,
                },
                per_second: how.per_second.unwrap_or(default.per_second),
                ..default
            };
            self.books().drain_order = Some(order);
        }
        Ok(self.admit(node, false).await?)
    }

    /// Lets the node with this name take sessions again.
    ///
    /// # Errors
    ///
    /// If that cannot be.
    pub async fn undrain(&self, name: &str) -> Result<(), Refusal> {
        let node = self.node_named(name)?;
        self.books().drain_order = None;
        Ok(self.admit(node, true).await?)
    }

    /// Lets a node take no more sessions, and give away those that it has; or take them again.
    ///
    /// # Errors
    ///
    /// With the outcome, if that is not committed.
    async fn admit(&self, node: NodeIndex, accepts: bool) -> Result<(), Unadmitted> {
        let fence = self.stores.directory.fence(node).await?.ok_or(Unadmitted::Unknown(node))?;
        let wanted = if accepts { Admission::Accepting } else { Admission::Draining };
        if fence.admission == wanted {
            return Ok(());
        }
        if !accepts {
            let fences = self.stores.directory.fences().await?;
            let others = |other: &&ownership::store::FenceRow| {
                other.node != node && other.admission == Admission::Accepting
            };
            if !fences.iter().any(|fence| others(&fence)) {
                return Err(Unadmitted::Last);
            }
        }
        let write = DirectoryWrite::admit(&fence, accepts, self.attempt());
        let (write, _) = write.map_err(|_| Unadmitted::Fenced)?;
        match self.stores.directory.write(write).await {
            Outcome::Won => Ok(()),
            outcome => Err(Unadmitted::Outcome(outcome)),
        }
    }

    /// How far this node's drain is.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn drain_status(&self) -> Result<DrainStatus, Fault> {
        let me = self.me().node;
        let fence = self.stores.directory.fence(me).await?;
        let is_draining = fence.is_some_and(|fence| fence.admission == Admission::Draining);
        let books = self.books();
        let sessions = books.len();
        let (mut slots, mut is_safe_to_stop) = (0, false);
        if let Some(placement) = books.placing.placement() {
            slots = placement.slots().iter().filter(|slot| slot.involves(me)).count();
            // What was held of a session that has gone may still be on its way after it.
            let barrier = books.placing.barrier.filter(|_| is_draining && !books.is_moving_home);
            is_safe_to_stop =
                barrier.is_some_and(|barrier| placement.is_safe_to_stop(me, barrier, sessions));
        }
        let progress = books.progress.clone();
        Ok(DrainStatus { is_draining, sessions, slots, progress, is_safe_to_stop })
    }

    /// Moves one session to another node, and waits for what comes of it.
    ///
    /// # Errors
    ///
    /// If the node does not own it, or the model or the store refuses it.
    pub async fn hand_over_to(
        self: &Arc<Self>,
        session: SessionId,
        to: NodeIndex,
    ) -> Result<Moved, Refusal> {
        let turn = self.turn_of(session).await?;
        if to == self.me().node {
            return Ok(Moved::Stays);
        }
        Ok(self.move_session(&turn, to, Haste::None).await?)
    }
}

fn end(drain: &mut Drain, session: SessionId, ending: Option<Ending>) {
    match ending {
        Some(ending) => drain.ended(session, ending),
        None => drain.failed(session),
    }
}

/// Why a node's admission is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unadmitted {
    /// It has never been there.
    #[error("node {0} has never registered: there is nothing to drain")]
    Unknown(NodeIndex),
    /// Nobody else would have its sessions.
    #[error("no other node accepts sessions: undrain one first, or add one")]
    Last,
    /// Its epoch is over.
    #[error("the node's epoch is over: its slots go to the others by themselves")]
    Fenced,
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] Fault),
    /// Not committed.
    #[error("not committed ({0:?}): look at `jumpgate nodes`, and try again")]
    Outcome(Outcome),
}

impl From<DrainStatus> for DrainProgress {
    fn from(status: DrainStatus) -> Self {
        let DrainStatus { is_draining, sessions, slots, progress, is_safe_to_stop } = status;
        let done = |ending| progress.done.get(&ending).copied().unwrap_or(0);
        Self {
            is_draining,
            sessions,
            slots,
            waiting: progress.waiting,
            under_way: progress.under_way,
            handed_over: done(Ending::HandedOver),
            in_haste: done(Ending::HandedOverInHaste),
            terminated: done(Ending::Terminated),
            over: done(Ending::Over),
            is_safe_to_stop,
        }
    }
}
