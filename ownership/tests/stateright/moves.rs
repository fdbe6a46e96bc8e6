//! What the daemon is in a node: a session moves.

use crate::{
    config::Mistake,
    driver::{Driver, Of},
    node::{Entry, Work},
    shelf::Delivery,
    way::{Copy, Way},
    world::id,
};
use ownership::{
    pending::Due,
    store::StoredSession,
    takeover::{Knowledge, Strategy},
    transfer::{AppContext, Decided, GiveUp, Held, Inherited, Quiesced, Undecided},
};

impl<W: Way> Driver<'_, W> {
    /// The session is on hold, and its application quiet.
    pub fn quiesce(&mut self, session: usize) {
        if let Work::Frozen(frozen) = self.take(session) {
            let quiesced = frozen.quiesced(AppContext::default());
            self.becomes(session, Entry::Hold, Work::Quiesced(quiesced));
        }
    }

    pub fn hand_off(&mut self, session: usize, delivery: Delivery) {
        let Some(to) = self.sight().destination(session) else { return };
        let Some(routes) = self.sight().routes(session, to.owner.node) else { return };
        let context = self.context(Of::HandOff, session);
        if let Work::Quiesced(quiesced) = self.take(session) {
            let undecided = Quiesced::hand_off(quiesced, to, &routes, &context);
            self.send_decision(session, undecided.expect("the node it was frozen for"), delivery);
        }
    }

    pub fn give_up(&mut self, session: usize, delivery: Delivery) {
        let context = self.context(Of::Abort, session);
        let undecided = match self.take(session) {
            Work::Frozen(frozen) => frozen.give_up(GiveUp::Abort, &context).expect("legal"),
            Work::Quiesced(quiesced) => quiesced.give_up(GiveUp::Abort, &context).expect("legal"),
            Work::Inherited(inherited) => {
                inherited.give_up(GiveUp::Abort, &context).expect("legal")
            }
            work => return self.put(session, work),
        };
        self.send_decision(session, undecided, delivery);
    }

    /// Sends what is due of a decision: HANDOFF, its abort, or its rival.
    pub fn send_decision(
        &mut self,
        session: usize,
        mut undecided: Undecided<W>,
        delivery: Delivery,
    ) {
        let context = self.context(Of::Rival, session);
        let is_rival = undecided.due() == Due::Rival;
        let write = undecided.write(&context).expect("legal").expect("due").clone();
        if is_rival && self.makes(Mistake::LocalBeforeAbort) {
            self.set(session, Entry::Local);
        }
        let frozen = *undecided.session();
        let outcome = self.send(write, delivery);
        self.decided(session, undecided.answered(outcome), &frozen);
    }

    /// What is known of a decision.
    pub fn decided(&mut self, session: usize, decided: Decided<W>, frozen: &StoredSession) {
        let me = self.me();
        match decided {
            Decided::HandedOff(moved) => {
                let redirect = moved.redirect();
                self.set(session, Entry::Redirect(redirect.to().node));
                self.copied(session, W::copy_moved(&moved), Work::Elsewhere(redirect));
            }
            Decided::GivenUp(given_up) => {
                let row = *given_up.session();
                match W::copy_given_up(&given_up) {
                    copy @ Some(_) => {
                        self.copied(session, copy, Work::Serves(row, Knowledge::Written));
                    }
                    None => self.found(session, row, me),
                }
            }
            Decided::NotYet(Held::Frozen(frozen), _) => self.put(session, Work::Frozen(frozen)),
            Decided::NotYet(Held::Quiesced(quiesced), _) => {
                self.put(session, Work::Quiesced(quiesced));
            }
            Decided::Over => self.over(),
            Decided::Contradiction => self.contradicted(session, frozen, Knowledge::Written),
            Decided::LookAnew => match Inherited::new(frozen, me) {
                Some(inherited) if W::STRATEGY == Strategy::Sticky => {
                    self.put(session, Work::Inherited(inherited));
                }
                _ => self.find(session),
            },
            Decided::Undecided(undecided) => {
                self.put(session, Work::Undecided(Box::new(undecided)));
            }
        }
    }

    fn copied(&mut self, session: usize, copy: Option<Copy>, then: Work<W>) {
        let work = match copy {
            Some((copy, forget)) => Work::Copies(Box::new((copy.write().clone(), forget, then))),
            None => then,
        };
        self.put(session, work);
    }

    /// A decision is copied, and then forgotten.
    pub fn copy(&mut self, session: usize) {
        if let Work::Copies(copies) = self.take(session) {
            let (copy, forget, then) = *copies;
            assert!(self.send_own(copy).is_won(), "nobody else writes there");
            if forget.is_some_and(|forget| !self.tidies(forget)) {
                return;
            }
            match then {
                Work::Serves(row, _) => {
                    let me = self.me();
                    self.found(session, row, me);
                }
                then => self.put(session, then),
            }
        }
    }

    /// It is taken in.
    pub fn accept(&mut self, session: usize) {
        let Some(arrived) = self.sight().arrival(session) else { return };
        let entry = if arrived.is_owned() { Entry::Local } else { Entry::None };
        let work = match W::STRATEGY {
            Strategy::Shared => Work::Arrived(*arrived.session()),
            Strategy::Sticky => Work::Waits(Box::new(arrived)),
        };
        self.becomes(session, entry, work);
    }

    /// *Sticky*: it is copied, and leaves the inbox.
    pub fn take_in(&mut self, session: usize) {
        if let Work::Waits(arrived) = self.take(session) {
            let before = self.world.own[self.at].session(id(session)).copied();
            if let Some(copy) = arrived.copy(before.as_ref()) {
                assert!(self.send_own(copy.write().clone()).is_won(), "nobody else writes there");
            }
            if !self.tidies(arrived.take()) {
                return;
            }
            let row = self.world.own[self.at].session(id(session)).copied();
            match row {
                Some(row) if arrived.is_owned() => {
                    let me = self.me();
                    self.found(session, row, me);
                }
                _ => self.becomes(session, Entry::None, Work::None),
            }
        }
    }

    /// The mistake of going on with a session that was not handed over yet.
    pub fn accept_early(&mut self, session: usize) {
        self.set(session, Entry::Local);
    }

    /// The mistake of forgetting where a session is.
    pub fn forget(&mut self, session: usize) {
        self.becomes(session, Entry::None, Work::None);
    }
}
