//! Takes in what other nodes hand over.

use super::{Node, baggage, commit::Changed, is_handed_off};
use crate::{broken::Broken, check::Violation};
use ownership::{
    model::Input,
    pending::NotDone,
    store::{Directory, InboxRow, SessionWrite, Sessions},
    takeover::{Knowledge, Strategy},
    transfer::Arrived,
};
use std::rc::Rc;

impl Node {
    pub(super) async fn look_after_inbox(self: Rc<Self>) {
        let node = self.machine.node;
        loop {
            self.machine.rest(100, 400).await;
            let Ok(waiting) = self.directory.inbox(node, None, 100).await else { continue };
            for row in waiting {
                let session = row.session.record.id();
                self.look_into(session, |node| async move { node.take_in(row).await });
            }
        }
    }

    async fn take_in(self: &Rc<Self>, row: InboxRow) {
        match Arrived::new(row.clone(), self.by()) {
            Some(arrived) => self.arrive(arrived).await,
            None => self.adopt_lost(row).await,
        }
    }

    /// *Sticky*: what was handed to an earlier epoch of this node is in nobody's own store yet. Once it is
    /// in this one, it is taken over like the rest of that epoch's.
    async fn adopt_lost(self: &Rc<Self>, row: InboxRow) {
        if self.sim.plan.strategy == Strategy::Shared {
            return;
        }
        let session = row.session.record.id();
        let before = self.read(|| self.sessions.get(session)).await;
        if let Ok(copy) = SessionWrite::adopt(before.as_ref(), &row, self.by()) {
            let pending = ownership::pending::Pending::new(copy);
            if self.carry_copy(session, pending).await.is_err() {
                return;
            }
        }
        let take = ownership::store::DirectoryWrite::take_from_inbox(&row, self.by());
        self.tidy(take).await;
    }

    /// A session that was handed to this node goes on here.
    pub(super) async fn arrive(self: &Rc<Self>, arrived: Arrived) {
        let handed = *arrived.session();
        let session = handed.record.id();
        if arrived.baggage() != Ok(baggage(session)) {
            self.sim.accuse(Violation::Glue(format!("{session} came with another's baggage")));
        }
        let is_sticky = self.sim.plan.strategy == Strategy::Sticky;
        let mut stands = self.read(|| self.sessions.get(session)).await;
        if is_sticky && let Some(pending) = arrived.copy(stands.as_ref()) {
            self.hold(session);
            if self.carry_copy(session, pending).await.is_err() {
                return;
            }
            stands = Some(handed);
        }
        let Some(stands) = stands else { return self.sim.accuse(Violation::Gone(session)) };
        if stands.record.owner() == self.me() && is_handed_off(&stands.record) {
            if self.owned(session).is_some_and(|owned| owned.is_busy) {
                return;
            }
            self.own(stands, Knowledge::Read);
            if self.is_broken(Broken::NeverResumes) {
                return;
            }
            let Some(turn) = self.turn(session) else { return };
            match arrived.resume(&stands, &self.context()) {
                Ok(pending) => {
                    let _end = self.commit(&turn, pending, Input::Resume, |_| {}).await;
                }
                Err(why) => return self.sim.accuse(Violation::Glue(why.to_string())),
            }
        }
        if is_sticky {
            self.tidy(arrived.take()).await;
        }
    }

    /// Goes on with a session that was taken out of the inbox, but not resumed.
    pub(super) async fn finish_arrival(self: &Rc<Self>, session: ownership::SessionId) {
        if self.is_broken(Broken::NeverResumes) {
            return;
        }
        let Some(turn) = self.turn(session) else { return };
        if let Changed::Refused(reason) = self.change(&turn, Input::Resume).await {
            self.sim.accuse(Violation::Glue(format!("{session} cannot be resumed: {reason}")));
        }
    }

    async fn carry_copy(
        &self,
        session: ownership::SessionId,
        pending: ownership::pending::Pending<SessionWrite>,
    ) -> Result<(), ()> {
        match self.carry(session, pending, || None, |_| {}).await {
            Ok(_) => Ok(()),
            Err(NotDone::Fenced) => {
                self.exit(crate::sim::Exit::Fenced);
                Err(())
            }
            Err(NotDone::Unavailable(fault)) => {
                self.faulted(fault);
                Err(())
            }
            // Somebody else of this process has copied it.
            Err(_) => Err(()),
        }
    }
}
