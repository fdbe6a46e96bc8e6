//! A node's daemon: the crate's state machines, and between them and the world as little as there can be.
//!
//! Everything is a task of its own: [`lease`], [`watch`] (other nodes, the placement, what was lost),
//! [`inbox`], and one for each datagram and each move. A session has one write under way at a time
//! ([`Turn`]).

mod commit;
mod inbox;
mod lease;
mod lost;
mod moves;
mod open;
mod placing;
mod serve;
mod start;
mod strategy;
mod watch;

pub use strategy::Carried;

use crate::{
    broken::Broken,
    executor::ProcessId,
    kernel::{Entry, Local},
    machine::{Machine, Process},
    sim::{Event, Exit, Packet, Sim},
    store::{Remote, Which},
};
use ownership::{
    Epoch, NodeIndex, SessionId,
    baggage::Baggage,
    lease::{Holder, Taker},
    model::{Context, Hold, OperationId, Owner, SessionRecord},
    placement::Applied,
    store::{
        Attempt, Fault, Identity, Incarnation, PlacementRow, SessionWrite, StoredSession,
        TransferWrite,
    },
    takeover::{Knowledge, Strategy},
    transfer::Redirect,
};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// What an operator or an application asks of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// Open a session for this client, who is at one of its addresses.
    Open { client: usize, address: std::net::SocketAddr },
    /// Move a session.
    Move { session: SessionId, to: NodeIndex },
    /// Rotate a session's key.
    Rotate(SessionId),
    /// The client is gone, says the application.
    Lose(SessionId),
    /// Take no more sessions, and give those here away; or take them again.
    Drain(bool),
    /// End another node's epoch.
    Fence(NodeIndex),
}

pub struct Node {
    pub sim: Rc<Sim>,
    pub machine: Rc<Machine>,
    process: ProcessId,
    /// The directory, and where sessions are kept.
    directory: Remote,
    sessions: Remote,
    identity: Cell<Identity>,
    holder: RefCell<Option<Holder>>,
    owned: RefCell<BTreeMap<SessionId, Owned>>,
    /// Sessions that a task is about, whether this node owns them or not.
    at_work: RefCell<BTreeSet<SessionId>>,
    takers: RefCell<BTreeMap<NodeIndex, Taker>>,
    placing: RefCell<Placing>,
    is_over: Cell<bool>,
}

/// What the node knows of the placement.
#[derive(Default)]
struct Placing {
    row: Option<PlacementRow>,
    applied: Option<Applied>,
}

/// A session that this node owns, or that ended here.
#[derive(Clone, Copy, Debug)]
struct Owned {
    stored: StoredSession,
    knowledge: Knowledge,
    /// Whether somebody has the turn.
    is_busy: bool,
    /// Whether it is frozen and waits for nothing but the next step of its move.
    is_moving: bool,
}

/// The right to write a session. Only one has it at a time.
struct Turn {
    node: Rc<Node>,
    session: SessionId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(owned) = self.node.owned.borrow_mut().get_mut(&self.session) {
            (owned.is_busy, owned.is_moving) = (false, false);
        }
    }
}

/// Starts a daemon on a machine.
pub fn start(machine: &Rc<Machine>, process: ProcessId) {
    let (socket, packets) = unbounded_channel();
    let (orders, waiting) = unbounded_channel();
    machine.process.replace(Some(Process { id: process, socket, orders }));
    machine.disk.is_latched.set(false);
    let sim = &machine.sim;
    let remote = |which, seen| Remote::new(sim, machine.place, which, seen);
    let directory = remote(Which::Directory, machine.disk.seen.clone());
    let sessions = match sim.plan.strategy {
        Strategy::Shared => directory.clone(),
        Strategy::Sticky => remote(Which::Own, machine.disk.own_seen.clone()),
    };
    // Nobody yet.
    let owner = Owner { node: machine.node, epoch: Epoch::FIRST };
    let node = Rc::new(Node {
        sim: Rc::clone(sim),
        machine: Rc::clone(machine),
        process,
        directory,
        sessions,
        identity: Cell::new(Identity { owner, incarnation: Incarnation(0) }),
        holder: RefCell::new(None),
        owned: RefCell::default(),
        at_work: RefCell::default(),
        takers: RefCell::default(),
        placing: RefCell::default(),
        is_over: Cell::new(false),
    });
    sim.spawn(process, node.run(packets, waiting));
}

impl Node {
    async fn run(
        self: Rc<Self>,
        mut packets: UnboundedReceiver<Packet>,
        mut orders: UnboundedReceiver<Order>,
    ) {
        self.begin().await;
        self.sim.spawn(self.process, Rc::clone(&self).keep_lease());
        self.sim.spawn(self.process, Rc::clone(&self).watch());
        self.sim.spawn(self.process, Rc::clone(&self).look_after_inbox());
        self.sim.spawn(self.process, Rc::clone(&self).sweep());
        let node = Rc::clone(&self);
        self.sim.spawn(self.process, async move {
            while let Some(order) = orders.recv().await {
                node.sim.spawn(node.process, Rc::clone(&node).obey(order));
            }
        });
        while let Some(packet) = packets.recv().await {
            self.sim.spawn(self.process, Rc::clone(&self).serve(packet));
        }
    }

    async fn obey(self: Rc<Self>, order: Order) {
        self.sim.tell("order", (self.machine.place, order));
        match order {
            Order::Open { client, address } => self.open(client, address).await,
            Order::Move { session, to } => self.send_away(session, to).await,
            Order::Rotate(session) => self.rotate(session).await,
            Order::Lose(session) => self.lose(session).await,
            Order::Drain(is_draining) => self.drain(is_draining).await,
            Order::Fence(node) => self.fence(node).await,
        }
    }

    fn is_broken(&self, how: Broken) -> bool {
        self.sim.plan.broken == Some(how)
    }

    fn me(&self) -> Owner {
        self.identity.get().owner
    }

    fn by(&self) -> Identity {
        self.identity.get()
    }

    /// The circumstances of a decision.
    fn context(&self) -> Context {
        let (now, operation) = (self.machine.utc(), self.machine.operation());
        Context { now, actor: self.me(), policy: self.sim.plan.policy, operation }
    }

    fn attempt(&self) -> Attempt {
        Attempt { by: self.by(), now: self.machine.utc(), operation: self.machine.operation() }
    }

    fn operation(&self) -> OperationId {
        self.machine.operation()
    }

    fn is_open(&self) -> bool {
        self.machine.kernel.borrow().is_open(self.machine.now())
    }

    /// The process ends itself, at once.
    fn exit(&self, why: Exit) {
        if !self.is_over.replace(true) {
            self.machine.kernel.borrow_mut().arm(None);
            self.sim.after(0, Event::Exit(self.process, why));
        }
    }

    /// Reads until there is an answer.
    async fn read<T, F: Future<Output = Result<T, Fault>>>(&self, what: impl Fn() -> F) -> T {
        loop {
            match what().await {
                Ok(answer) => return answer,
                Err(Fault::Latched) => self.exit(Exit::Latched),
                Err(_) => {}
            }
            self.machine.rest(100, 800).await;
        }
    }

    /// Begins a task about a session, unless another one is about it.
    fn look_into<F: Future<Output = ()>>(
        self: &Rc<Self>,
        session: SessionId,
        task: impl FnOnce(Rc<Self>) -> F + 'static,
    ) {
        if self.at_work.borrow_mut().insert(session) {
            let node = Rc::clone(self);
            self.sim.spawn(self.process, async move {
                task(Rc::clone(&node)).await;
                node.at_work.borrow_mut().remove(&session);
            });
        }
    }

    /// The right to write a session that this node owns, unless somebody has it.
    fn turn(self: &Rc<Self>, session: SessionId) -> Option<Turn> {
        let mut owned = self.owned.borrow_mut();
        let owned = owned.get_mut(&session).filter(|owned| !owned.is_busy)?;
        owned.is_busy = true;
        Some(Turn { node: Rc::clone(self), session })
    }

    fn owned(&self, session: SessionId) -> Option<Owned> {
        self.owned.borrow().get(&session).copied()
    }

    fn stored(&self, turn: &Turn) -> StoredSession {
        self.owned(turn.session).expect("whoever has the turn keeps it").stored
    }

    /// From here on the node owns a session; whoever has the turn, if it is known already.
    fn own(&self, stored: StoredSession, knowledge: Knowledge) {
        let mut owned = self.owned.borrow_mut();
        let new = Owned { stored, knowledge, is_busy: false, is_moving: false };
        let entry = owned.entry(stored.record.id()).or_insert(new);
        (entry.stored, entry.knowledge) = (stored, knowledge);
        drop(owned);
        self.publish(&stored);
    }

    /// Tells the kernel what to do with a session's packets, now that its record is this one.
    fn publish(&self, stored: &StoredSession) {
        let (record, me) = (&stored.record, self.me());
        let mut kernel = self.machine.kernel.borrow_mut();
        if record.is_terminated() {
            kernel.put(record.id(), Entry::Hold);
        } else if record.owner() == me {
            kernel.put(record.id(), Entry::Local(local(record)));
        } else {
            kernel.put(record.id(), Entry::Redirect(Redirect::to_owner(stored)));
        }
        self.sim.tell("publish", (self.machine.place, stored));
    }

    fn hold(&self, session: SessionId) {
        self.machine.kernel.borrow_mut().put(session, Entry::Hold);
        self.sim.tell("hold", (self.machine.place, session));
    }

    /// Sends on what comes for a session that an earlier process may have left held.
    fn pass_on(&self, stored: &StoredSession) {
        let is_known = self.machine.kernel.borrow().knows(stored.record.id());
        if is_known {
            self.publish(stored);
        }
    }

    /// Another node owns it.
    fn disown(&self, stored: &StoredSession) {
        self.owned.borrow_mut().remove(&stored.record.id());
        self.publish(stored);
    }

    /// Moves a session the way that the strategy moves sessions.
    async fn move_session(self: Rc<Self>, turn: Turn, to: NodeIndex) {
        match self.sim.plan.strategy {
            Strategy::Shared => self.hand_over::<SessionWrite>(turn, to).await,
            Strategy::Sticky => self.hand_over::<TransferWrite>(turn, to).await,
        }
    }
}

fn local(record: &SessionRecord) -> Local {
    Local { owner: record.owner(), version: record.version().get(), bound: record.transport() }
}

/// Whether a session waits for its destination to go on.
/// What a session takes along: nothing that another one could have.
fn baggage(session: SessionId) -> Baggage {
    Baggage::new(vec![session.into()], session.bytes().into()).expect("one id")
}

fn is_handed_off(record: &SessionRecord) -> bool {
    matches!(record.hold(), Hold::HandedOff { .. })
}
