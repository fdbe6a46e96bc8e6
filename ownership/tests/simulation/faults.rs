//! What goes wrong.

use crate::{
    machine::Power,
    network::End,
    node::Order,
    sim::Event,
    time::{MILLISECOND, Nanos, SECOND},
    world::World,
};
use ownership::{lease::BootId, reattach::Secret, store::Fault as StoreFault};

/// A fault that lasts for a while.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Nothing comes through from one to the other.
    Cut(Vec<(End, End)>),
    /// From one to the other everything takes seconds.
    Slow(End, End),
    /// More datagrams are lost than usual.
    Loss,
    /// A machine's daemon, or all of it, stands still.
    Pause(usize),
    /// A machine has lost its daemon, or was switched off.
    Down(usize),
    /// The store turns everything away.
    Refusing,
    /// A backup stands in the store's place.
    Restored,
    /// A clone of a machine runs, at this place.
    Clone(usize),
    /// A node is drained.
    Drained(usize),
}

impl World {
    /// Something goes wrong, and later something else.
    pub fn strike(&mut self) {
        let plan = self.sim.plan;
        let until = self.sim.draw(|draw| draw.between(SECOND / 2, 2 * plan.between_faults));
        if self.sim.now() + until < self.calm_at {
            self.sim.after(until, Event::Strike);
        }
        let machine = self.sim.draw(|draw| draw.place(self.machines.len()));
        let kind = self.sim.draw(|draw| draw.below(100));
        let short = self.sim.draw(|draw| draw.between(SECOND / 10, 8 * SECOND));
        let long = self.sim.draw(|draw| draw.between(SECOND, 30 * SECOND));
        match kind {
            0..9 => self.cut_from_store(machine, long),
            9..16 => self.slow_from_store(machine),
            16..20 => self.cut_from_client(machine, short),
            20..22 => self.cut_from_machine(machine, long),
            22..24 => self.begin(Fault::Loss, long),
            24..36 => self.pause(machine, long),
            36..48 => self.crash(machine, short),
            48..54 => self.switch_off(machine, long),
            54..58 => self.begin(Fault::Refusing, short),
            58..62 => self.machines[machine].disk.is_failing.set(true),
            62..66 => self.restore(short),
            66..70 => self.clone_machine(machine, long),
            70..82 => self.move_some_session(),
            82..86 => self.drain(machine, long),
            86..92 => self.rotate_some_key(),
            92..94 => self.rotate_secret(),
            94..96 => self.lose_some_transport(),
            _ => self.fence(machine),
        }
    }

    fn begin(&mut self, fault: Fault, span: Nanos) {
        self.sim.tell("fault", (&fault, span));
        match &fault {
            Fault::Cut(links) => self.sim.network.borrow_mut().blocked.extend(links),
            Fault::Slow(from, to) => drop(self.sim.network.borrow_mut().slow.insert((*from, *to))),
            Fault::Loss => self.sim.network.borrow_mut().loss = 300,
            Fault::Refusing => {
                let faults = [StoreFault::Unreachable, StoreFault::Overloaded, StoreFault::Full];
                self.refuses = self.sim.draw(|draw| draw.one(&faults));
            }
            Fault::Pause(_)
            | Fault::Down(_)
            | Fault::Restored
            | Fault::Clone(_)
            | Fault::Drained(_) => {}
        }
        self.sim.after(span, Event::Mend(fault));
    }

    pub fn mend(&mut self, fault: &Fault) {
        self.sim.tell("mended", fault);
        match fault {
            Fault::Cut(links) => {
                let mut network = self.sim.network.borrow_mut();
                network.blocked.retain(|link| !links.contains(link));
            }
            Fault::Slow(from, to) => self.slow_no_more(*from, *to),
            Fault::Loss => self.sim.network.borrow_mut().loss = USUAL_LOSS,
            Fault::Pause(machine) => self.go_on(*machine),
            Fault::Down(machine) => self.power_on(*machine),
            Fault::Refusing => self.refuses = None,
            Fault::Restored => {
                if let Some(newer) = self.newer.take() {
                    self.tables = newer;
                    self.server += 1;
                }
            }
            Fault::Clone(machine) => self.remove(*machine),
            Fault::Drained(machine) => self.sim.order(Some(*machine), Order::Drain(false)),
        }
    }

    /// All that can be mended is mended.
    pub fn calm(&mut self) {
        self.sim.tell("calm", ());
        {
            let mut network = self.sim.network.borrow_mut();
            network.blocked.clear();
            network.slow.clear();
            network.is_calm = true;
        }
        self.refuses = None;
        self.mend(&Fault::Restored);
        for machine in 0..self.machines.len() {
            if self.machines[machine].is_clone.get() {
                self.remove(machine);
                continue;
            }
            self.machines[machine].disk.is_failing.set(false);
            self.go_on(machine);
            self.power_on(machine);
            self.sim.after(20 * SECOND, Event::Mend(Fault::Drained(machine)));
        }
        self.clients.iter_mut().for_each(crate::client::Client::calm);
    }

    fn cut_from_store(&mut self, machine: usize, span: Nanos) {
        let (machine, store) = (End::Machine(machine), End::Store);
        let links = match self.sim.draw(|draw| draw.below(3)) {
            0 => vec![(machine, store)],
            1 => vec![(store, machine)],
            _ => vec![(machine, store), (store, machine)],
        };
        self.begin(Fault::Cut(links), span);
    }

    fn slow_from_store(&mut self, machine: usize) {
        let (machine, store) = (End::Machine(machine), End::Store);
        let is_back = self.sim.draw(|draw| draw.per_mille(600));
        let (from, to) = if is_back { (store, machine) } else { (machine, store) };
        let span = self.sim.draw(|draw| draw.between(3 * SECOND, 10 * SECOND));
        self.begin(Fault::Slow(from, to), span);
    }

    /// What was slow is often broken next.
    fn slow_no_more(&mut self, from: End, to: End) {
        self.sim.network.borrow_mut().slow.remove(&(from, to));
        if self.sim.now() < self.calm_at && self.sim.draw(|draw| draw.per_mille(500)) {
            let span = self.sim.draw(|draw| draw.between(10 * SECOND, 30 * SECOND));
            self.begin(Fault::Cut(vec![(from, to), (to, from)]), span);
        }
    }

    fn cut_from_machine(&mut self, machine: usize, span: Nanos) {
        let other = self.sim.draw(|draw| draw.place(self.machines.len()));
        let (one, other) = (End::Machine(machine), End::Machine(other));
        let links = if self.sim.draw(|draw| draw.per_mille(500)) {
            vec![(one, other)]
        } else {
            vec![(one, other), (other, one)]
        };
        self.begin(Fault::Cut(links), span);
    }

    fn cut_from_client(&mut self, machine: usize, span: Nanos) {
        let client = End::Client(self.sim.draw(|draw| draw.place(self.clients.len())));
        let all: Vec<_> = (0..self.machines.len()).map(End::Machine).collect();
        let machines = if self.sim.draw(|draw| draw.per_mille(500)) {
            vec![End::Machine(machine)]
        } else {
            all
        };
        let (there, back) = match self.sim.draw(|draw| draw.below(3)) {
            0 => (true, false),
            1 => (false, true),
            _ => (true, true),
        };
        let there = machines.iter().filter(|_| there).map(|machine| (client, *machine));
        let back = machines.iter().filter(|_| back).map(|machine| (*machine, client));
        self.begin(Fault::Cut(there.chain(back).collect()), span);
    }

    fn pause(&mut self, machine: usize, span: Nanos) {
        let power = &self.machines[machine].state;
        if power.get() != Power::On {
            return;
        }
        power.set(Power::Paused { is_whole: self.sim.draw(|draw| draw.per_mille(400)) });
        if let Some(process) = self.machines[machine].process.borrow().as_ref() {
            self.tasks.pause(process.id);
        }
        self.begin(Fault::Pause(machine), span);
    }

    fn go_on(&mut self, machine: usize) {
        let it = &self.machines[machine];
        if let Power::Paused { .. } = it.state.get() {
            it.state.set(Power::On);
            match it.process.borrow().as_ref() {
                Some(process) => self.tasks.go_on(process.id),
                None => self.sim.after(SECOND / 2, Event::Start(machine)),
            }
        }
    }

    /// The daemon is gone, and is started again after a while. The kernel goes on.
    fn crash(&mut self, machine: usize, span: Nanos) {
        if self.machines[machine].state.get() == Power::On {
            self.kill(machine);
            self.sim.tell("crash", machine);
            self.sim.after(span, Event::Start(machine));
        }
    }

    fn switch_off(&mut self, machine: usize, span: Nanos) {
        if self.machines[machine].state.get() == Power::On {
            self.kill(machine);
            self.machines[machine].state.set(Power::Off);
            *self.machines[machine].kernel.borrow_mut() = crate::kernel::Kernel::default();
            self.begin(Fault::Down(machine), span);
        }
    }

    fn power_on(&mut self, machine: usize) {
        let it = &self.machines[machine];
        match it.state.get() {
            Power::Off => {
                it.boot.set(BootId(self.sim.draw(|draw| draw.wide())));
                it.clocks.borrow_mut().restart(self.sim.now());
                it.twin_until.set(0);
            }
            Power::Quarantined => {}
            Power::Gone | Power::On | Power::Paused { .. } => return,
        }
        it.state.set(Power::On);
        self.sim.after(SECOND / 2, Event::Start(machine));
    }

    /// Switched off for good.
    fn remove(&mut self, machine: usize) {
        self.kill(machine);
        self.machines[machine].state.set(Power::Gone);
        *self.machines[machine].kernel.borrow_mut() = crate::kernel::Kernel::default();
    }

    /// A backup that every machine has seen more than is put in the place of the store.
    fn restore(&mut self, span: Nanos) {
        let Some(backup) = self.backup.clone().filter(|_| self.sim.plan.has_restore) else {
            return;
        };
        let is_older = |machine: &std::rc::Rc<crate::machine::Machine>| {
            let seen = machine.disk.seen.lock().map_or(backup.position(), |seen| *seen);
            seen > backup.position()
        };
        if self.newer.is_none() && self.machines.iter().all(is_older) {
            self.newer = Some(std::mem::replace(&mut self.tables, backup));
            self.server += 1;
            self.begin(Fault::Restored, span);
        }
    }

    pub fn back_up(&mut self) {
        if self.newer.is_none() {
            self.backup = Some(self.tables.clone());
        }
    }

    /// Somebody starts a copy of a machine: of its disk, or of all of it as it runs.
    fn clone_machine(&mut self, machine: usize, span: Nanos) {
        let has_one = self.machines.iter().any(|it| it.is_clone.get());
        if !self.sim.plan.has_clone || has_one {
            return;
        }
        let place = self.copy_machine(machine);
        self.begin(Fault::Clone(place), span);
        self.sim.after(MILLISECOND, Event::Start(place));
    }

    fn some_session(&self) -> Option<(ownership::SessionId, usize)> {
        let live: Vec<_> = self
            .ledger
            .sessions()
            .filter(|stored| !stored.record.is_terminated())
            .map(|stored| (stored.record.id(), stored.record.owner().node))
            .collect();
        let (session, owner) = self.sim.draw(|draw| draw.one(&live))?;
        let at = self.machines.iter().position(|machine| machine.node == owner)?;
        Some((session, at))
    }

    fn move_some_session(&mut self) {
        let Some((session, at)) = self.some_session() else { return };
        let to = self.sim.draw(|draw| draw.place(self.sim.plan.nodes));
        let to = self.machines[to].node;
        self.sim.order(Some(at), Order::Move { session, to });
    }

    /// The application gives the client its next key, then has the key rotated.
    fn rotate_some_key(&mut self) {
        let Some((session, at)) = self.some_session() else { return };
        self.give_next_key(session);
        self.sim.order(Some(at), Order::Rotate(session));
    }

    fn give_next_key(&mut self, session: ownership::SessionId) {
        let Some(stored) = self.ledger.last(session) else { return };
        let next = stored.record.key_generation() + 1;
        let credentials = self.sim.secrets.borrow().current().credentials(session, next);
        for client in &mut self.clients {
            if client.session() == Some(session) {
                client.hears(crate::client::Word::Keys(credentials.clone()));
            }
        }
    }

    /// A new cluster secret comes to every node, and then every session gets keys of it.
    fn rotate_secret(&mut self) {
        if self.secrets_rotated {
            return;
        }
        self.secrets_rotated = true;
        let next = Secret::new(2, &[2; 32]);
        let taken = self.sim.secrets.borrow_mut().rotate(next.clone());
        assert!(taken.is_ok(), "its number is new");
        for machine in &self.machines {
            let taken = machine.secrets.borrow_mut().rotate(next.clone());
            assert!(taken.is_ok(), "its number is new");
        }
        self.sim.tell("a new secret", ());
        let live: Vec<_> = self.ledger.sessions().map(|stored| stored.record.id()).collect();
        for session in live {
            self.give_next_key(session);
            self.sim.order(None, Order::Rotate(session));
        }
    }

    fn lose_some_transport(&mut self) {
        let Some((session, at)) = self.some_session() else { return };
        self.sim.order(Some(at), Order::Lose(session));
    }

    fn drain(&mut self, machine: usize, span: Nanos) {
        self.sim.order(Some(machine), Order::Drain(true));
        self.begin(Fault::Drained(machine), span);
    }

    fn fence(&mut self, machine: usize) {
        let node = self.machines[machine].node;
        let by = self.sim.draw(|draw| draw.place(self.machines.len()));
        self.sim.order(Some(by), Order::Fence(node));
    }
}

/// How many datagrams in a thousand are lost while nothing else is wrong.
pub const USUAL_LOSS: u64 = 20;
