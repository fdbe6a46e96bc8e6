//! Moves a session to another node.

use super::{Carried, Node, Turn, baggage, commit::Changed};
use crate::{broken::Broken, check::Violation, kernel::slot};
use ownership::{
    NodeIndex, SessionId,
    model::{Input, Reason},
    pending::{Due, NotDone},
    store::{Admission, Directory, DirectoryWrite, OffHomeKey, Outcome, Store},
    takeover::Knowledge,
    transfer::{
        ContextLimit, Decided, Frozen, GiveUp, GivenUp, HandedOff, Held, NoStep, Routes, Undecided,
    },
};
use std::rc::Rc;

/// How often a hand-off is tried before the move is given up.
const ATTEMPTS: u32 = 3;

impl Node {
    pub(super) async fn send_away(self: Rc<Self>, session: SessionId, to: NodeIndex) {
        let Some(turn) = self.turn(session) else { return };
        self.move_session(turn, to).await;
    }

    pub(super) async fn hand_over<W: Carried>(self: Rc<Self>, turn: Turn, to: NodeIndex) {
        let session = turn.session;
        let before = self.stored(&turn);
        let Ok(pending) = Frozen::freeze(&before, to, self.by(), &self.context()) else { return };
        let Changed::Done(done) = self.commit(&turn, pending, Input::Freeze { to }, |_| {}).await
        else {
            return;
        };
        let Some(frozen) = Frozen::new(&done, self.by()) else { return };
        self.set_moving(session, true);
        if !self.is_broken(Broken::HandOffWithoutHold) {
            self.hold(session);
        }
        // The CPUs, their queues and the application come to rest.
        self.machine.rest(1, 40).await;
        let packed = baggage(session).packed(ContextLimit::ETCD).expect("16 bytes");
        let mut held = Held::Quiesced(frozen.quiesced(packed));
        for _ in 0..ATTEMPTS {
            let quiesced = match held {
                Held::Quiesced(quiesced) => quiesced,
                Held::Frozen(_) => break,
            };
            let fence = self.read(|| self.directory.fence(to)).await;
            let fence = fence.filter(|fence| fence.admission == Admission::Accepting);
            let (Some(fence), Some(routes)) = (fence, self.routes(session, to)) else {
                held = Held::Quiesced(quiesced);
                break;
            };
            self.machine.stall().await;
            match quiesced.hand_off::<W>(fence.identity(), &routes, &self.context()) {
                Ok(undecided) => match self.decide(undecided).await {
                    Decided::NotYet(still, why) => {
                        held = still;
                        self.sim.tell("not yet", (self.machine.place, session, why));
                        self.machine.rest(20, 200).await;
                    }
                    decided => return self.decided(&turn, decided).await,
                },
                Err(NoStep { held: still, why }) => {
                    self.sim.tell("no step", (self.machine.place, session, why.to_string()));
                    held = *still;
                    break;
                }
            }
        }
        loop {
            match held.give_up::<W>(GiveUp::Abort, &self.context()) {
                Ok(undecided) => match self.decide(undecided).await {
                    Decided::NotYet(still, NotDone::Unavailable(fault)) => {
                        self.faulted(fault);
                        held = still;
                    }
                    decided => return self.decided(&turn, decided).await,
                },
                Err(NoStep { why, .. }) => {
                    let why = format!("{session} cannot be given up: {why}");
                    return self.sim.accuse(Violation::Glue(why));
                }
            }
            self.machine.rest(50, 500).await;
        }
    }

    fn set_moving(&self, session: SessionId, is_moving: bool) {
        if let Some(owned) = self.owned.borrow_mut().get_mut(&session) {
            owned.is_moving = is_moving;
        }
    }

    /// Where the packets of a session are sent whose new owner is on `to`.
    pub(super) fn routes(&self, session: SessionId, to: NodeIndex) -> Option<Routes> {
        let placing = self.placing.borrow();
        let key = OffHomeKey { slot: slot(session), id: session.into() };
        Some(Routes::new(to, placing.applied.as_ref()?, [key]))
    }

    /// Sees a decision to its end. Until then the session is held.
    pub(super) async fn decide<W: Carried>(&self, mut undecided: Undecided<W>) -> Decided<W> {
        let session = undecided.session().record.id();
        self.set_moving(session, false);
        loop {
            let decided = match undecided.due() {
                Due::Look => match W::look(self, undecided.session()).await {
                    Ok(row) => {
                        if self.is_broken(Broken::ReadSettlesUnknown)
                            && row.as_ref().is_none_or(|row| W::session(row) == undecided.session())
                        {
                            self.own(*undecided.session(), Knowledge::Written);
                        }
                        undecided.found(row.as_ref())
                    }
                    Err(fault) => {
                        self.faulted(fault);
                        self.machine.rest(50, 400).await;
                        continue;
                    }
                },
                Due::Send | Due::Rival => match undecided.write(&self.context()) {
                    Ok(Some(write)) => {
                        let write = write.clone();
                        let outcome = W::send(self, write).await;
                        undecided.answered(outcome)
                    }
                    Ok(None) => continue,
                    Err(why) => panic!("its owner may give it up: {why}"),
                },
            };
            match decided {
                Decided::Undecided(next) => {
                    self.machine.rest(50, 400).await;
                    undecided = next;
                }
                decided => return decided,
            }
        }
    }

    /// Does what follows from a decision.
    pub(super) async fn decided<W: Carried>(self: &Rc<Self>, turn: &Turn, decided: Decided<W>) {
        match decided {
            Decided::HandedOff(handed_off) => {
                self.sim.tell("handed off", (self.machine.place, handed_off.session()));
                if let Some(copy) = W::copy_of_hand_off(&handed_off) {
                    self.copy(turn.session, copy).await;
                }
                self.disown(handed_off.session());
                self.sim.spawn(self.process, Rc::clone(self).wait_for_destination(handed_off));
            }
            Decided::GivenUp(given_up) => {
                self.sim.tell("given up", (self.machine.place, given_up.session()));
                self.keep(turn, given_up).await;
            }
            Decided::Over => self.exit(crate::sim::Exit::Fenced),
            Decided::Contradiction => self.contradicted(turn).await,
            Decided::LookAnew | Decided::NotYet(..) | Decided::Undecided(_) => {
                self.sim.accuse(Violation::Glue("that is no end of a decision".into()));
            }
        }
    }

    async fn keep<W: Carried>(&self, turn: &Turn, given_up: GivenUp<W>) {
        if let Some(copy) = W::copy_of_abort(&given_up) {
            self.copy(turn.session, copy).await;
        }
        self.own(*given_up.session(), Knowledge::Written);
    }

    /// *Sticky*: the copy into the node's own store; then the decision may be forgotten.
    async fn copy(
        &self,
        session: SessionId,
        copy: Result<super::strategy::Copy, ownership::store::BadWrite>,
    ) {
        let (pending, forget) = match copy {
            Ok(copy) => copy,
            Err(bad) => return self.sim.accuse(Violation::Glue(bad.to_string())),
        };
        match self.carry(session, pending, || None, |_| {}).await {
            Ok(_) => {
                if let Some(forget) = forget {
                    self.tidy(forget).await;
                }
            }
            Err(NotDone::Fenced) => self.exit(crate::sim::Exit::Fenced),
            // Shut, so the next process does it.
            Err(NotDone::Unavailable(fault)) => self.faulted(fault),
            Err(other) => self.sim.accuse(Violation::Glue(format!("no copy: {other:?}"))),
        }
    }

    /// Removes a row of the directory that has served.
    pub(super) async fn tidy(&self, write: DirectoryWrite) {
        loop {
            match self.directory.write(write.clone()).await {
                Outcome::Won | Outcome::Lost(_) => return,
                Outcome::Fenced => return self.exit(crate::sim::Exit::Fenced),
                Outcome::Unknown | Outcome::Unavailable(_) => self.machine.rest(50, 500).await,
            }
        }
    }

    async fn wait_for_destination<W: Carried>(self: Rc<Self>, mut handed_off: HandedOff<W>) {
        let record = handed_off.session().record;
        let (session, to) = (record.id(), record.owner().node);
        loop {
            let inbox = self.read(|| self.directory.inbox_of(to, session)).await;
            match handed_off.resumed(inbox.as_ref()) {
                Ok(_) => return self.sim.tell("resumed", (self.machine.place, session)),
                Err(still) => handed_off = still,
            }
            self.machine.rest(300, 1500).await;
        }
    }

    pub(super) async fn rotate(self: Rc<Self>, session: SessionId) {
        let Some(turn) = self.turn(session) else { return };
        let _refused = self.change(&turn, Input::RotateKey).await;
    }

    pub(super) async fn lose(self: Rc<Self>, session: SessionId) {
        let Some(turn) = self.turn(session) else { return };
        if let Some(transport) = self.stored(&turn).record.transport() {
            let _refused = self.change(&turn, Input::LoseTransport { transport }).await;
        }
    }

    /// Ends the sessions whose time is over.
    pub(super) async fn sweep(self: Rc<Self>) {
        loop {
            self.machine.rest(700, 1300).await;
            let now = self.machine.utc();
            let is_over = |owned: &super::Owned| {
                let record = &owned.stored.record;
                !record.is_terminated() && record.is_over(&self.sim.plan.policy, now)
            };
            let over: Vec<_> = {
                let owned = self.owned.borrow();
                owned.iter().filter(|(_, it)| is_over(it)).map(|(id, _)| *id).collect()
            };
            for session in over {
                let Some(turn) = self.turn(session) else { continue };
                if self.owned(session).is_none_or(|owned| !is_over(&owned)) {
                    // Something else has ended it meanwhile.
                    continue;
                }
                if let Changed::Refused(reason) = self.change(&turn, Input::Expire).await {
                    assert_eq!(reason, Reason::NotExpired, "it belongs to this node");
                }
            }
        }
    }
}
