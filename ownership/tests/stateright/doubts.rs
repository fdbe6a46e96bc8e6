//! What the daemon is in a node: what it does until it knows what came of a request.

use crate::{
    config::Mistake,
    driver::{Driver, Of},
    node::{Entry, Work},
    shelf::Delivery,
    way::Way,
    world::id,
};
use ownership::{
    audit::Event,
    model::{ChangeCause, Input, birth},
    pending::{Pending, change},
    store::{SessionWrite, StoredSession},
    takeover::Knowledge,
};

impl<W: Way> Driver<'_, W> {
    /// What is due of a doubt: to look.
    pub fn look(&mut self, session: usize) {
        self.saw();
        match self.take(session) {
            Work::Changes(changes) => {
                let (pending, from) = *changes;
                let before = pending.write().before().copied();
                let stands = self.world.session(self.at, session).copied();
                self.progress(session, pending.found(stands.as_ref()), before, from);
            }
            Work::Undecided(undecided) => {
                let frozen = *undecided.session();
                let version = frozen.record.version();
                let stands = W::stands(&self.world.directory, id(session), version);
                let is_there = stands.as_ref().is_some_and(|row| *W::session(row) != frozen);
                if self.makes(Mistake::ReadResolvesUnknown) && !is_there {
                    return self.found_still_frozen(session, frozen);
                }
                self.decided(session, undecided.found(stands.as_ref()), &frozen);
            }
            Work::Inherited(inherited) => {
                let frozen = *inherited.session();
                let row = W::stands(&self.world.directory, id(session), frozen.record.version());
                let decided = row.and_then(|row| W::decided(&inherited, &row));
                match decided {
                    Some(decided) => self.decided(session, decided, &frozen),
                    None => self.put(session, Work::Inherited(inherited)),
                }
            }
            work => self.put(session, work),
        }
    }

    /// The mistake of believing that it is here still.
    fn found_still_frozen(&mut self, session: usize, frozen: StoredSession) {
        self.becomes(session, Entry::Local, Work::Serves(frozen, Knowledge::Written));
    }

    /// The mistake of sending a hand-off once more, and of believing that what is Lost is not done.
    pub fn retry(&mut self, session: usize) {
        if let Work::Undecided(undecided) = self.take(session) {
            let frozen = *undecided.session();
            let write = undecided.writes().next().expect("the first").clone();
            match self.send(write, Delivery::Whole) {
                outcome if outcome.is_won() => {
                    self.decided(session, undecided.answered(outcome), &frozen);
                }
                _ => self.found_still_frozen(session, frozen),
            }
        }
    }

    /// What is due of a doubt: to send a rival.
    pub fn rival(&mut self, session: usize, delivery: Delivery) {
        match self.take(session) {
            Work::Undecided(undecided) => self.send_decision(session, *undecided, delivery),
            Work::Changes(changes) => {
                let (mut pending, from) = *changes;
                let before = pending.write().before().copied();
                let may_mint = self
                    .node
                    .kernel
                    .placed
                    .as_ref()
                    .is_some_and(|placed| placed.applied.may_mint(0));
                if before.is_none() && !may_mint {
                    // Its id is never used again. If it comes into the world all the same, it is found.
                    return self.put(session, from);
                }
                let again = self.same(session, &pending);
                let write = pending.rival(|| again).clone();
                let outcome = self.send_session(write, delivery);
                self.progress(session, pending.answered(outcome), before, from);
            }
            work => self.put(session, work),
        }
    }

    /// The same change as a new attempt.
    fn same(&mut self, session: usize, pending: &Pending<SessionWrite>) -> SessionWrite {
        let (me, context) = (self.me(), self.context(Of::Rival, session));
        let write = pending.write();
        let Some(before) = write.before() else {
            let revision = self.node.kernel.placed.as_ref().expect("applied").applied.revision();
            let commit = birth(write.after().record.id(), 1, &context);
            return SessionWrite::birth(&commit, me, revision).expect("a birth");
        };
        let input = cause(write);
        change(before, &input, me, &context).expect("as before").write().clone()
    }
}

/// What a change came from.
fn cause(write: &SessionWrite) -> Input {
    let entries = write.transaction().entries();
    match entries.first().map(|entry| &entry.event) {
        Some(Event::StateChange(change)) => match change.cause() {
            ChangeCause::Input(input) => input,
            ChangeCause::Birth { .. } => panic!("no birth"),
        },
        other => panic!("{other:?}"),
    }
}
