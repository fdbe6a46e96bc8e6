//! How a node begins: in the epoch of an earlier process, or in a new one.

use super::{Carried, Node};
use crate::{broken::Broken, time::Nanos};
use ownership::{
    SessionId,
    lease::{Found, Holder, IncarnationRecord, Registered, Registration, Resuming, is_unsettled},
    store::{
        Directory, DirectoryWrite, InboxRow, Incarnation, SessionWrite, Sessions, Store,
        StoredSession, TransferWrite,
    },
    takeover::{Knowledge, Strategy},
    transfer::{Arrived, Decided, GiveUp, Inherited},
};
use std::rc::Rc;

impl Node {
    pub(super) async fn begin(self: &Rc<Self>) {
        let holder = match self.resume().await {
            Some(holder) => holder,
            None => {
                let registered = self.register().await;
                let identity = registered.identity();
                self.identity.set(identity);
                self.machine.kernel.borrow_mut().pin(identity);
                self.copy_fence().await;
                let boot = self.machine.boot.get();
                self.machine.disk.incarnation.set(Some(IncarnationRecord { identity, boot }));
                Holder::new(registered, self.sim.plan.times)
            }
        };
        self.sim.tell("begins", (self.machine.place, self.by()));
        self.holder.replace(Some(holder));
        self.leased(Ok(()));
        if self.machine.twin_until.get() == Nanos::MAX {
            // From its first heartbeat on its original has none any more.
            let lease = self.sim.plan.times.lease().as_nanos() as Nanos;
            self.machine.twin_until.set(self.sim.now() + 2 * lease);
        }
    }

    async fn register(&self) -> Registered {
        let node = self.machine.node;
        let incarnation = Incarnation(self.sim.draw(|draw| draw.wide()));
        let mut registration = Registration::new(node, &format!("node {node}"), incarnation);
        loop {
            let fence = self.read(|| self.directory.fence(node)).await;
            let heartbeat = self.read(|| self.directory.heartbeat(node)).await;
            if let Some(registered) = registration.found(fence.as_ref(), heartbeat.as_ref()) {
                return registered;
            }
            let drawn = self.read(|| self.directory.epochs()).await;
            let (sent, now) = (self.machine.now(), self.machine.utc());
            let attempt = registration.attempt(fence.as_ref(), drawn, sent, now, self.operation());
            let write = attempt.expect("the node has one name, and epochs are left");
            self.machine.stall().await;
            let outcome = self.directory.write(write).await;
            self.sim.tell("registration", (self.machine.place, outcome));
            if let Some(registered) = registration.answered(outcome) {
                return registered;
            }
            self.machine.rest(50, 500).await;
        }
    }

    /// *Sticky*: the node's own store takes writes of this epoch from here on, and of no other.
    async fn copy_fence(&self) {
        if self.sim.plan.strategy == Strategy::Shared {
            return;
        }
        let node = self.machine.node;
        let fence = self.read(|| self.directory.fence(node)).await.expect("it has registered");
        loop {
            let before = self.read(|| self.sessions.fence(node)).await;
            if before.as_ref() == Some(&fence) {
                return;
            }
            let copy = DirectoryWrite::copy_fence(before.as_ref(), &fence);
            let outcome = self.sessions.write(copy.expect("it is a later one")).await;
            self.sim.tell("own fence row", (self.machine.place, outcome));
        }
    }

    /// Goes on in the epoch of the earlier process, if the rules allow it.
    async fn resume(self: &Rc<Self>) -> Option<Holder> {
        let mut recorded = self.machine.disk.incarnation.get()?;
        let (boot, pinned) = (self.machine.boot.get(), self.machine.kernel.borrow().pinned);
        let mut found = Found { boot, pinned };
        if self.is_broken(Broken::ResumesAnywhere) {
            recorded.boot = boot;
            found.pinned = Some(recorded.identity);
            self.machine.kernel.borrow_mut().pinned = found.pinned;
        }
        let node = self.machine.node;
        let fence = self.read(|| self.directory.fence(node)).await;
        let heartbeat = self.read(|| self.directory.heartbeat(node)).await;
        let sessions = self.all_sessions().await;
        let waiting = self.read(|| self.directory.inbox(node, None, 1000)).await;
        let me = recorded.identity.owner;
        let arrived = waiting.iter().filter(|row| row.session.record.owner() == me);
        let arrived = arrived.map(|row| row.session.record.id());
        let unsettled = sessions.iter().filter(|stored| is_unsettled(&stored.record, me));
        let unsettled = unsettled.map(|stored| stored.record.id()).chain(arrived);
        let times = self.sim.plan.times;
        let resuming =
            Resuming::new(recorded, found, fence.as_ref(), heartbeat.as_ref(), times, unsettled);
        let mut resuming = match resuming {
            Ok(resuming) => resuming,
            Err(why) => {
                self.sim.tell("not resumable", (self.machine.place, why.to_string()));
                return None;
            }
        };
        self.identity.set(resuming.identity());
        for stored in &sessions {
            let record = &stored.record;
            if record.owner() != me {
                // It was handed over, and that process did not come to telling its kernel.
                self.pass_on(stored);
            } else if !record.is_terminated() && !is_unsettled(record, me) {
                self.own(*stored, Knowledge::Read);
            }
        }
        let unsettled: Vec<SessionId> = resuming.unsettled().collect();
        for session in unsettled {
            let inbox = waiting.iter().find(|row| row.session.record.id() == session);
            self.settle(session, inbox).await;
            resuming.settled(session);
        }
        resuming.resume().ok()
    }

    /// Puts in order what an earlier process has left: a session that is frozen, or was handed here.
    async fn settle(self: &Rc<Self>, session: SessionId, inbox: Option<&InboxRow>) {
        let arrived = inbox.and_then(|row| Arrived::new(row.clone(), self.by()));
        if let Some(arrived) = arrived {
            return self.arrive(arrived).await;
        }
        let Some(stored) = self.read(|| self.sessions.get(session)).await else { return };
        self.hold(session);
        self.own(stored, Knowledge::Read);
        self.hold(session);
        match self.sim.plan.strategy {
            Strategy::Shared => self.inherit::<SessionWrite>(stored).await,
            Strategy::Sticky => self.inherit::<TransferWrite>(stored).await,
        }
    }

    /// A session that was found frozen: its move is given up, or turns out to be done.
    pub(super) async fn inherit<W: Carried>(self: &Rc<Self>, mut stored: StoredSession) {
        let session = stored.record.id();
        let Some(turn) = self.turn(session) else { return };
        loop {
            let Some(inherited) = Inherited::new(&stored, self.by()) else {
                // It turned out not to be frozen.
                if stored.record.owner() == self.me() {
                    self.own(stored, Knowledge::Read);
                } else {
                    self.disown(&stored);
                }
                return;
            };
            let row = self.read(|| W::look(self, &stored)).await;
            let decided = match W::earlier(&inherited, row) {
                Some(decided) => decided,
                None => match inherited.give_up::<W>(GiveUp::Abort, &self.context()) {
                    Ok(undecided) => self.decide(undecided).await,
                    Err(why) => panic!("its owner may give it up: {why}"),
                },
            };
            match decided {
                Decided::LookAnew | Decided::NotYet(..) => {
                    self.machine.rest(50, 300).await;
                    if let Some(stands) = self.read(|| self.sessions.get(session)).await {
                        stored = stands;
                    }
                }
                decided => return self.decided(&turn, decided).await,
            }
        }
    }

    /// Every session of the store.
    pub(super) async fn all_sessions(&self) -> Vec<StoredSession> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = self.read(|| self.sessions.sessions(after, 100)).await;
            after = page.last().map(|stored| stored.record.id());
            let is_last = page.len() < 100;
            all.extend(page);
            if is_last {
                return all;
            }
        }
    }
}
