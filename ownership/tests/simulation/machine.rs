//! A machine: its clocks, kernel and disk, and the process that runs on it.

use crate::{
    client::client_at,
    executor::{ProcessId, Sleep},
    kernel::Kernel,
    network::End,
    node::Order,
    sim::{Event, Packet, Payload, Sim},
    time::{Clocks, MILLISECOND, Nanos},
};
use ownership::{
    NodeIndex,
    lease::{BootId, BootTime, IncarnationRecord},
    model::{OperationId, Time},
    reattach::Secrets,
    store::{Position, Tables},
};
use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, Mutex},
};
use tokio::sync::mpsc::UnboundedSender;

pub struct Machine {
    pub place: usize,
    pub node: NodeIndex,
    pub sim: Rc<Sim>,
    pub clocks: RefCell<Clocks>,
    pub boot: Cell<BootId>,
    pub kernel: RefCell<Kernel>,
    pub disk: Disk,
    pub secrets: RefCell<Secrets>,
    pub state: Cell<Power>,
    pub process: RefCell<Option<Process>>,
    /// Of a clone that has its original's memory too: when its lease is over at the latest.
    pub twin_until: Cell<Nanos>,
    pub is_clone: Cell<bool>,
}

/// Whether a machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    On,
    /// Its processes stand still, and maybe its kernel.
    Paused {
        is_whole: bool,
    },
    Off,
    /// It does nothing until an operator has looked.
    Quarantined,
    /// It is gone for good.
    Gone,
}

/// The daemon that runs.
#[derive(Clone)]
pub struct Process {
    pub id: ProcessId,
    pub socket: UnboundedSender<Packet>,
    pub orders: UnboundedSender<Order>,
}

/// What outlives the daemon and the machine's boot.
pub struct Disk {
    pub incarnation: Cell<Option<IncarnationRecord>>,
    /// How much of the directory was seen.
    pub seen: Arc<Mutex<Position>>,
    /// The node's own store.
    pub own: RefCell<Tables>,
    pub own_seen: Arc<Mutex<Position>>,
    /// Whether it was shut after an I/O error.
    pub is_latched: Cell<bool>,
    /// Whether its next write meets one.
    pub is_failing: Cell<bool>,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            incarnation: Cell::new(None),
            seen: Arc::new(Mutex::new(Position::START)),
            own: RefCell::default(),
            own_seen: Arc::new(Mutex::new(Position::START)),
            is_latched: Cell::new(false),
            is_failing: Cell::new(false),
        }
    }
}

impl Machine {
    /// CLOCK_BOOTTIME.
    pub fn now(&self) -> BootTime {
        self.clocks.borrow().boot(self.sim.now())
    }

    pub fn utc(&self) -> Time {
        self.clocks.borrow().utc(self.sim.now())
    }

    pub async fn sleep_until(&self, reading: BootTime) {
        let when = self.clocks.borrow().when(reading);
        Sleep::new(&self.sim, when).await;
    }

    /// Waits for about that many milliseconds.
    pub async fn rest(&self, least: u64, most: u64) {
        let span = self.sim.draw(|draw| draw.between(least * MILLISECOND, most * MILLISECOND));
        Sleep::new(&self.sim, self.sim.now() + span).await;
    }

    /// Somewhere where a process may be stopped for a moment.
    pub async fn stall(&self) {
        if self.sim.draw(|draw| draw.per_mille(30)) && !self.sim.network.borrow().is_calm {
            self.rest(1, 3000).await;
        }
    }

    pub fn operation(&self) -> OperationId {
        OperationId(self.sim.draw(|draw| draw.wide()))
    }

    /// Sends something to a client's address.
    pub fn send(&self, to: SocketAddr, payload: Payload) {
        let (from, client) = (End::Machine(self.place), End::Client(client_at(to)));
        self.sim.send(from, client, || Event::Reply { to, payload });
    }

    /// Whether packets are looked at.
    pub fn is_receiving(&self) -> bool {
        match self.state.get() {
            Power::On | Power::Paused { is_whole: false } | Power::Quarantined => true,
            Power::Paused { is_whole: true } | Power::Off | Power::Gone => false,
        }
    }
}
