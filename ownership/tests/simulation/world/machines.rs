//! Machines: what comes to them, and how they start and end.

use super::World;
use crate::executor::ProcessId;
use crate::{
    faults::Fault,
    kernel::{Kernel, Route},
    machine::{Disk, Machine, Power},
    network::End,
    node,
    sim::{Event, Exit, Packet, Payload, Sim},
    time::{Clocks, Nanos, SECOND},
};
use ownership::{NodeIndex, lease::BootId};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::PoisonError,
};

impl World {
    /// A packet comes to a machine: its kernel delivers it, sends it on, or gives it to the daemon.
    pub(super) fn packet(&mut self, place: usize, packet: Packet) {
        let machine = &self.machines[place];
        if !machine.is_receiving() {
            return;
        }
        let now = machine.now();
        let kernel = machine.kernel.borrow();
        let route = kernel.route(packet.session, machine.node, packet.hops);
        match (route, packet.payload) {
            (Route::To(node), _) => {
                drop(kernel);
                self.forward(place, node, packet);
            }
            (Route::Here, Payload::Control(_)) => {
                if let Some(process) = machine.process.borrow().as_ref() {
                    let _is_gone = process.socket.send(packet);
                }
            }
            (Route::Here, Payload::Data { .. }) => {
                let Some(local) = kernel.delivers(packet.session, now) else { return };
                if local.bound == Some(packet.source.into()) {
                    self.sim.tell("delivered", (place, packet.session));
                    let (epoch, version) = (local.owner.epoch.get(), local.version);
                    machine.send(packet.source, Payload::Data { epoch, version });
                }
            }
        }
    }

    fn forward(&self, from: usize, to: NodeIndex, packet: Packet) {
        let targets: Vec<_> =
            (0..self.machines.len()).filter(|place| self.machines[*place].node == to).collect();
        let Some(machine) = self.sim.draw(|draw| draw.one(&targets)) else { return };
        let packet = Packet { hops: packet.hops + 1, ..packet };
        let (from, to) = (End::Machine(from), End::Machine(machine));
        self.sim.send(from, to, || Event::Packet { machine, packet });
    }

    pub(super) fn start(&mut self, place: usize) {
        let machine = &self.machines[place];
        if machine.state.get() == Power::On && machine.process.borrow().is_none() {
            self.last_process += 1;
            self.sim.tell("start", (place, self.last_process));
            node::start(machine, self.last_process);
        }
    }

    pub fn kill(&mut self, place: usize) {
        if let Some(process) = self.machines[place].process.take() {
            self.tasks.kill(process.id);
        }
    }

    pub(super) fn exit(&mut self, process: ProcessId, why: Exit) {
        let is_it = |machine: &Rc<Machine>| {
            machine.process.borrow().as_ref().is_some_and(|running| running.id == process)
        };
        let Some(place) = self.machines.iter().position(is_it) else { return };
        self.sim.tell("exit", (place, why));
        self.kill(place);
        if why == Exit::SomebodyElse {
            // Until an operator has looked.
            self.machines[place].state.set(Power::Quarantined);
            self.sim.after(30 * SECOND, Event::Mend(Fault::Down(place)));
        } else {
            let pause = self.sim.draw(|draw| draw.between(SECOND / 4, 2 * SECOND));
            self.sim.after(pause, Event::Start(place));
        }
    }

    /// A copy of a machine, at a place of its own.
    pub fn copy_machine(&mut self, original: usize) -> usize {
        let place = self.machines.len();
        let copy = machine(&self.sim, place);
        let copy = Rc::into_inner(copy).expect("nobody has it yet");
        let original = &self.machines[original];
        let is_twin = self.sim.draw(|draw| draw.per_mille(500));
        let disk = &original.disk;
        copy.disk.incarnation.set(disk.incarnation.get());
        *copy.disk.seen.lock().unwrap_or_else(PoisonError::into_inner) =
            *disk.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let copy = Machine { node: original.node, ..copy };
        *copy.secrets.borrow_mut() = original.secrets.borrow().clone();
        copy.is_clone.set(true);
        if is_twin && original.state.get() == Power::On {
            // Its memory too: a daemon that was just started again would go on like this.
            copy.boot.set(original.boot.get());
            *copy.clocks.borrow_mut() = *original.clocks.borrow();
            *copy.kernel.borrow_mut() = original.kernel.borrow().clone();
            copy.twin_until.set(Nanos::MAX);
        }
        self.sim.tell("clone", (place, original.place, is_twin));
        self.machines.push(Rc::new(copy));
        self.sim.machines.set(self.machines.len());
        place
    }
}

/// A machine that was never started.
pub(super) fn machine(sim: &Rc<Sim>, place: usize) -> Rc<Machine> {
    let number = (place + 1) as u16;
    let clocks = sim.draw(Clocks::new);
    Rc::new(Machine {
        place,
        node: NodeIndex::new(number).expect("few machines"),
        sim: Rc::clone(sim),
        clocks: RefCell::new(clocks),
        boot: Cell::new(BootId(sim.draw(|draw| draw.wide()))),
        kernel: RefCell::new(Kernel::default()),
        disk: Disk::default(),
        secrets: RefCell::new(sim.secrets.borrow().clone()),
        state: Cell::new(Power::On),
        process: RefCell::new(None),
        twin_until: Cell::new(0),
        is_clone: Cell::new(false),
    })
}
