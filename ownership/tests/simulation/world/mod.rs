//! The world: machines, clients, one store, and what happens to them.

mod checks;
mod machines;
mod requests;

use crate::{
    broken::Broken,
    check::{Ledger, Violation},
    client::Client,
    draw::Draw,
    executor::{ProcessId, Tasks},
    faults::USUAL_LOSS,
    machine::Machine,
    node,
    plan::Plan,
    sim::{Event, Sim},
    store::CallId,
    time::{Nanos, SECOND},
};
use ownership::store::{Fault as StoreFault, Tables};
use requests::Waiting;
use std::{collections::BTreeMap, rc::Rc, sync::PoisonError};

pub struct World {
    pub sim: Rc<Sim>,
    pub tasks: Tasks,
    pub machines: Vec<Rc<Machine>>,
    pub clients: Vec<Client>,
    /// The store that all nodes share.
    pub tables: Tables,
    pub backup: Option<Tables>,
    /// The right tables, while a backup stands in their place.
    pub newer: Option<Tables>,
    pub refuses: Option<StoreFault>,
    /// How often the store was put in another's place.
    pub server: u64,
    pub ledger: Ledger,
    pub calm_at: Nanos,
    pub secrets_rotated: bool,
    waiting: BTreeMap<CallId, Waiting>,
    last_call: CallId,
    last_process: ProcessId,
}

/// How long after the faults have ended everything must be as it should be.
const PATIENCE: Nanos = 300 * SECOND;

impl World {
    pub fn new(seed: u64, broken: Option<Broken>, kept: usize) -> Self {
        let mut draw = Draw::new(seed);
        let plan = Plan::new(&mut draw, broken);
        let sim = Sim::new(plan, draw, kept);
        sim.tell("a run", format!("{plan:?}"));
        sim.network.borrow_mut().loss = USUAL_LOSS;
        let machines = (0..plan.nodes).map(|place| machines::machine(&sim, place)).collect();
        let clients = (0..plan.clients).map(|place| Client::new(place, &sim)).collect();
        let calm_at = sim.now() + plan.chaos;
        Self {
            sim,
            tasks: Tasks::default(),
            machines,
            clients,
            tables: Tables::default(),
            backup: None,
            newer: None,
            refuses: None,
            server: 0,
            ledger: Ledger::default(),
            calm_at,
            secrets_rotated: false,
            waiting: BTreeMap::new(),
            last_call: 0,
            last_process: 0,
        }
    }

    /// Lets the run happen. Gives how many events it had and their hash.
    pub fn run(&mut self) -> Result<(u64, u64), Violation> {
        for machine in 0..self.machines.len() {
            let start = self.sim.draw(|draw| draw.below(2 * SECOND));
            self.sim.after(start, Event::Start(machine));
        }
        for client in 0..self.clients.len() {
            let first = self.sim.draw(|draw| draw.between(4 * SECOND, 12 * SECOND));
            self.sim.after(first, Event::Whim(client));
        }
        self.sim.after(10 * SECOND, Event::Strike);
        self.sim.at(self.calm_at, Event::Calm);
        while let Some(event) = self.sim.next() {
            if matches!(event, Event::Look) {
                match self.settled() {
                    Ok(()) => {
                        self.at_the_end()?;
                        return Ok(self.sim.trace().sum());
                    }
                    Err(what) if self.sim.now() > self.calm_at + PATIENCE => {
                        return Err(Violation::Stuck(what));
                    }
                    Err(_) => self.sim.after(2 * SECOND, Event::Look),
                }
                continue;
            }
            self.happens(event);
            self.run_tasks();
            self.check_owners();
            self.check_clients();
            if let Some(violation) = self.sim.violation() {
                return Err(violation);
            }
        }
        Err(Violation::Stuck("nothing happens any more".into()))
    }

    fn run_tasks(&mut self) {
        loop {
            let is_done = !self.tasks.step();
            for (process, task) in self.sim.spawned() {
                self.tasks.spawn(process, task);
            }
            let submissions =
                std::mem::take(&mut *self.sim.port.lock().unwrap_or_else(PoisonError::into_inner));
            let is_idle = submissions.is_empty();
            submissions.into_iter().for_each(|submission| self.submit(submission));
            if is_done && is_idle {
                return;
            }
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Wake(waker) => waker.wake(),
            Event::Packet { machine, packet } => self.packet(machine, packet),
            Event::Reply { to, payload } => {
                let client = &mut self.clients[crate::client::client_at(to)];
                if client.address == to {
                    client.receives(payload);
                }
            }
            Event::Call(call, request) => self.call(call, &request),
            Event::Answer(call, answer, stands) => self.answer(call, answer, stands),
            Event::Timeout(call) => self.time_out(call),
            Event::Exit(process, why) => self.exit(process, why),
            Event::Start(machine) => self.start(machine),
            Event::Timer { client, number } => self.clients[client].tick(number),
            Event::Whim(client) => self.whim(client),
            Event::Word { client, word } => self.clients[client].hears(word),
            Event::Order { machine, order } => self.order(machine, order),
            Event::Strike => {
                if self.sim.draw(|draw| draw.per_mille(100)) {
                    self.back_up();
                }
                self.strike();
            }
            Event::Mend(fault) => self.mend(&fault),
            Event::Calm => {
                self.calm();
                self.sim.after(10 * SECOND, Event::Look);
            }
            Event::Look => {}
        }
    }

    fn whim(&mut self, client: usize) {
        if self.sim.now() < self.calm_at {
            self.clients[client].whim();
            let next = self.sim.draw(|draw| draw.between(SECOND / 2, 6 * SECOND));
            self.sim.after(next, Event::Whim(client));
        }
    }

    fn order(&mut self, machine: Option<usize>, order: node::Order) {
        let machine =
            machine.unwrap_or_else(|| self.sim.draw(|draw| draw.place(self.machines.len())));
        if let Some(process) = self.machines[machine].process.borrow().as_ref() {
            let _is_gone = process.orders.send(order);
        }
    }
}
