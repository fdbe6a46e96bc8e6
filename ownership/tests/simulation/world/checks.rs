//! What must be so at every moment, once all is well again, and at the end.

use super::World;
use crate::check::{Violation, audited, linear};
use ownership::{
    client::{End, Status},
    model::{Hold, Reason, State},
};
use std::collections::{BTreeMap, BTreeSet};

impl World {
    /// At every moment a session is delivered by its owner, and by nobody else.
    pub(super) fn check_owners(&self) {
        let mut delivering: BTreeMap<_, usize> = BTreeMap::new();
        for machine in self.machines.iter().filter(|machine| machine.is_receiving()) {
            let kernel = machine.kernel.borrow();
            for (session, local) in kernel.delivered(machine.now()) {
                let place = machine.place;
                let owner = self.ledger.last(session).map(|stored| stored.record.owner());
                if let Some(other) = delivering.insert(session, place)
                    && !self.has_twin(other)
                    && !self.has_twin(place)
                {
                    let machines = [other, place];
                    self.sim.accuse(Violation::DualOwner { session, machines });
                }
                if owner != Some(local.owner) && !self.has_twin(place) {
                    self.sim.accuse(Violation::NotOwner { session, machine: place });
                }
            }
        }
    }

    /// A client closes only with its session.
    pub(super) fn check_clients(&self) {
        for (client, it) in self.clients.iter().enumerate() {
            let (Some(end), Some(session)) = (it.end(), it.session()) else { continue };
            let state = self.ledger.last(session).map(|stored| stored.record.state());
            let is_right = match end {
                End::Terminated(Reason::RecoveryWindowOver) => {
                    matches!(state, Some(State::Recovering { .. } | State::Terminated(_)))
                }
                End::Requested | End::Terminated(_) => matches!(state, Some(State::Terminated(_))),
                End::Contradiction(_) | End::NoncesExhausted => false,
            };
            if !is_right {
                self.sim.accuse(Violation::LockedOut { client, end });
            }
        }
    }

    /// Whether a machine was copied with its memory, or is the copy: each acts as the same node, until one has
    /// heard of the other, or has heard nothing for a lease.
    fn has_twin(&self, place: usize) -> bool {
        let now = self.sim.now();
        let it = &self.machines[place];
        self.machines.iter().any(|other| {
            let is_same = other.kernel.borrow().pinned == it.kernel.borrow().pinned;
            let until = it.twin_until.get().max(other.twin_until.get());
            is_same && other.place != place && now < until
        })
    }

    /// Whether everything is as it should be, now that nothing goes wrong any more.
    pub(super) fn settled(&self) -> Result<(), String> {
        let mut delivering: BTreeMap<_, usize> = BTreeMap::new();
        for machine in &self.machines {
            let kernel = machine.kernel.borrow();
            delivering.extend(kernel.delivered(machine.now()).map(|(it, _)| (it, machine.place)));
        }
        let mut live = BTreeSet::new();
        for stored in self.ledger.sessions() {
            let record = &stored.record;
            let session = record.id();
            if record.is_terminated() {
                continue;
            }
            live.insert(session);
            if record.hold() != Hold::Active {
                return Err(format!("session {session} is still moving: {record:?}"));
            }
            if !delivering.contains_key(&session) {
                return Err(format!("session {session} is delivered by nobody: {record:?}"));
            }
        }
        for (place, client) in self.clients.iter().enumerate() {
            let (Some(tracker), Some(session)) = (&client.tracker, client.session()) else {
                continue;
            };
            let is_live = live.contains(&session);
            let status = tracker.status();
            match (is_live, status) {
                (_, Status::Closed(_)) => continue,
                (false, _) => {
                    return Err(format!("client {place} does not know that {session} is over"));
                }
                (true, Status::Attached) => {}
                (true, _) => return Err(format!("client {place} is not attached: {status:?}")),
            }
            let stored = self.ledger.last(session).expect("it lives");
            let bound = stored.record.transport();
            if bound != Some(client.address.into())
                || tracker.memory().version != stored.record.version()
            {
                let version = tracker.memory().version;
                return Err(format!("client {place} is at version {version} of {stored:?}"));
            }
        }
        Ok(())
    }

    /// At the end.
    pub(super) fn at_the_end(&self) -> Result<(), Violation> {
        let own: Vec<_> =
            self.machines.iter().map(|machine| machine.disk.own.borrow().clone()).collect();
        audited(&self.tables, &own, &self.ledger)?;
        let history = self.sim.history.borrow();
        let has_twins = self.machines.iter().any(|machine| machine.twin_until.get() > 0);
        for (session, line) in self.ledger.lines() {
            // Until it hears of the other, a twin tells of what it knows.
            let sights = if has_twins { &[] } else { history.sights(session) };
            linear::check(session, line, history.calls(session), sights)?;
        }
        let contradicted = history.contradictions().next();
        match contradicted.filter(|_| !has_twins) {
            Some(session) => Err(Violation::Contradiction(session)),
            None => Ok(()),
        }
    }
}
