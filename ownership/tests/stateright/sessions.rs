//! What the daemon is in a node, for one session at a time: how it finds it, and what it changes of it.

use crate::{
    client,
    driver::{Driver, Of},
    node::{Entry, Work},
    shelf::{Delivery, index},
    way::Way,
    world::id,
};
use ownership::{
    model::{Hold, Input, State, birth},
    pending::{Done, NotDone, Pending, Progress, change},
    store::{DirectoryWrite, Identity, Key, Mismatch, Outcome, Row, SessionWrite, StoredSession},
    takeover::{Knowledge, Strategy, Verdict, act, contradiction},
    transfer::{Frozen, Inherited, resume},
};

impl<W: Way> Driver<'_, W> {
    pub fn take(&mut self, session: usize) -> Work<W> {
        std::mem::replace(&mut self.process().work[session], Work::None)
    }

    pub fn put(&mut self, session: usize, work: Work<W>) {
        self.process().work[session] = work;
    }

    fn work(&self, session: usize) -> &Work<W> {
        self.node.work(session).expect("it runs")
    }

    pub fn set(&mut self, session: usize, entry: Entry) {
        self.node.kernel.entries[session] = entry;
    }

    pub fn becomes(&mut self, session: usize, entry: Entry, work: Work<W>) {
        self.set(session, entry);
        self.put(session, work);
    }

    /// Looks at a session that this process has nothing to do with.
    pub fn find(&mut self, session: usize) {
        let me = self.me();
        self.saw();
        let row = self.world.session(self.at, session).copied();
        if let Some(row) = row.filter(|row| row.record.owner() == me.owner) {
            return self.found(session, row, me);
        }
        if let Some(row) = row.filter(|row| row.record.owner().node == me.owner.node)
            && !self.settle_earlier(session, row, me)
        {
            return;
        }
        let redirect = self.sight().elsewhere(session);
        let (entry, work) = match redirect {
            Some(redirect) => (Entry::Redirect(redirect.to().node), Work::Elsewhere(redirect)),
            None if self.sight().is_left_behind(session) => (Entry::Wait, Work::None),
            None => (Entry::None, Work::None),
        };
        self.becomes(session, entry, work);
    }

    /// It is this node's, in this epoch.
    pub fn found(&mut self, session: usize, row: StoredSession, me: Identity) {
        match (row.record.state(), row.record.hold()) {
            (State::Terminated(_), _) => self.becomes(session, Entry::None, Work::None),
            (_, Hold::Active) => {
                self.becomes(session, Entry::Local, Work::Serves(row, Knowledge::Read));
            }
            (_, Hold::Frozen { .. }) => {
                let inherited = Inherited::new(&row, me).expect("frozen here");
                self.becomes(session, Entry::Hold, Work::Inherited(inherited));
            }
            (_, Hold::HandedOff { .. }) => {
                self.becomes(session, Entry::Local, Work::Arrived(row));
            }
        }
    }

    /// *Sticky*: a session that was frozen in an earlier epoch of this node. That one decides nothing any
    /// more, so what stands of its decision is all of it. Gives whether this epoch goes on.
    fn settle_earlier(&mut self, session: usize, row: StoredSession, me: Identity) -> bool {
        let is_frozen = matches!(row.record.hold(), Hold::Frozen { .. });
        let frozen = row.record.version();
        let transfer = self.world.directory.tables().get(&Key::Transfer(id(session), frozen));
        if let Some(Row::Transfer(decided)) = transfer.filter(|_| is_frozen).cloned() {
            let copy = SessionWrite::settle(Some(&row), &decided, me).expect("its own row");
            assert!(self.send_own(copy).is_won(), "nobody else writes there");
            return self.tidies(DirectoryWrite::forget_transfer(&decided, me));
        }
        true
    }

    /// A session is made.
    pub fn birth(&mut self, session: usize, delivery: Delivery) {
        let (me, context) = (self.me(), self.context(Of::Change, session));
        let Some(placed) = &self.node.kernel.placed else { return };
        let commit = birth(id(session), 1, &context);
        let write = SessionWrite::birth(&commit, me, placed.applied.revision()).expect("a birth");
        let _told = self.send_change(session, Pending::new(write), Work::None, delivery);
    }

    /// Something changes that has nothing to do with who owns it.
    pub fn change(&mut self, session: usize, delivery: Delivery) {
        let Work::Serves(row, _) = self.work(session) else { return };
        let (row, me, context) = (*row, self.me(), self.context(Of::Change, session));
        let pending = change(&row, &Input::RotateKey, me, &context).expect("legal");
        let work = self.take(session);
        let _told = self.send_change(session, pending, work, delivery);
    }

    pub fn freeze(&mut self, session: usize, to: u16, delivery: Delivery) {
        let Work::Serves(row, _) = self.work(session) else { return };
        let (row, me, context) = (*row, self.me(), self.context(Of::Change, session));
        let to = index(to);
        let Ok(pending) = Frozen::freeze(&row, to, me, &context) else { return };
        let work = self.take(session);
        let _told = self.send_change(session, pending, work, delivery);
    }

    /// An arrived session goes on.
    pub fn resume_session(&mut self, session: usize, delivery: Delivery) {
        let Work::Arrived(row) = self.work(session) else { return };
        let (row, me, context) = (*row, self.me(), self.context(Of::Change, session));
        let pending = resume(&row, me, &context).expect("legal");
        let work = self.take(session);
        let _told = self.send_change(session, pending, work, delivery);
    }

    /// The loss of its owner is acted on, if that is proven.
    pub fn take_over(&mut self, session: usize, delivery: Delivery) {
        let Some((row, input)) = self.sight().loss(session) else { return };
        let (me, context) = (self.me(), self.context(Of::Change, session));
        let routes =
            self.sight().routes(session, me.owner.node).filter(|_| W::STRATEGY == Strategy::Shared);
        let pending = act(&row, &input, routes.as_ref(), me, &context).expect("legal");
        let work = self.take(session);
        let _told = self.send_change(session, pending, work, delivery);
    }

    /// A client's request is committed; gives what came of it.
    pub fn reattached(
        &mut self,
        session: usize,
        pending: Pending<SessionWrite>,
        delivery: Delivery,
    ) -> Outcome {
        let work = self.take(session);
        self.send_change(session, pending, work, delivery)
    }

    /// The session is attached for the first time.
    pub fn attach(&mut self, session: usize) {
        let Work::Serves(row, _) = self.work(session) else { return };
        let (row, me, context) = (*row, self.me(), self.context(Of::Change, session));
        let pending = change(&row, &client::attach(), me, &context).expect("legal");
        let _won = self.reattached(session, pending, Delivery::Whole);
    }

    fn send_change(
        &mut self,
        session: usize,
        pending: Pending<SessionWrite>,
        from: Work<W>,
        delivery: Delivery,
    ) -> Outcome {
        let outcome = self.send_session(pending.write().clone(), delivery);
        let before = pending.write().before().copied();
        let progress = pending.answered(outcome);
        self.progress(session, progress, before, from);
        outcome
    }

    /// What is known of a change.
    pub fn progress(
        &mut self,
        session: usize,
        progress: Progress<SessionWrite>,
        before: Option<StoredSession>,
        from: Work<W>,
    ) {
        let not_done = match progress {
            Progress::Done(done) => return self.changed(session, &done),
            Progress::Pending(pending) => {
                // The session stands still. One that is not this node's stays as it is.
                if self.node.kernel.entries[session] == Entry::Local {
                    self.set(session, Entry::Hold);
                }
                let work = Work::Changes(Box::new((pending, from)));
                return self.put(session, work);
            }
            Progress::NotDone(not_done) => not_done,
        };
        let me = self.me();
        let believed = before.filter(|before| before.record.owner() == me.owner);
        match (not_done, believed) {
            (NotDone::Fenced, _) => self.over(),
            (
                NotDone::Lost(Mismatch::Row) | NotDone::Superseded | NotDone::Past,
                Some(believed),
            ) => {
                let knowledge = match from {
                    Work::Serves(_, knowledge) => knowledge,
                    // An earlier process may have sent the RESUME.
                    Work::Arrived(_) => Knowledge::Read,
                    _ => Knowledge::Written,
                };
                self.contradicted(session, &believed, knowledge);
            }
            _ => {
                let entry = self.node.kernel.entries[session];
                let is_served = matches!(from, Work::Serves(..) | Work::Arrived(_));
                let entry = if is_served && entry == Entry::Hold { Entry::Local } else { entry };
                self.becomes(session, entry, from);
            }
        }
    }

    /// A change is done.
    fn changed(&mut self, session: usize, done: &Done<SessionWrite>) {
        let (row, me) = (*done.after(), self.me());
        let record = &row.record;
        if record.is_terminated() {
            self.becomes(session, Entry::None, Work::None);
        } else if let Some(frozen) = Frozen::new(done, me) {
            self.becomes(session, Entry::Local, Work::Frozen(frozen));
        } else {
            self.becomes(session, Entry::Local, Work::Serves(row, Knowledge::Written));
        }
    }

    /// Somebody else has written a session that this node owns.
    pub fn contradicted(&mut self, session: usize, believed: &StoredSession, knowledge: Knowledge) {
        self.becomes(session, Entry::None, Work::Stopped);
        let (me, context) = (self.me(), self.context(Of::End, session));
        let stands = self.world.session(self.at, session).copied();
        match contradiction(believed, knowledge, stands.as_ref(), me, &context) {
            Ok(Verdict::Predecessor(row)) => self.found(session, row, me),
            Ok(Verdict::End(pending)) => {
                let _told = self.send_change(session, *pending, Work::Stopped, Delivery::Whole);
            }
            Ok(Verdict::Leave) => {}
            Err(why) => panic!("{why}"),
        }
    }
}
