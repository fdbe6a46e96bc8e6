//! What all parts of a run share: the time, what is to happen, chance, the network and the log.

use crate::{
    check::{History, Violation},
    client::Word,
    draw::Draw,
    executor::{ProcessId, Task},
    faults::Fault,
    network::{End, Network},
    node::Order,
    plan::Plan,
    store::{Answer, Call, CallId, Submission},
    time::{Nanos, SECOND},
    trace::Trace,
};
use ownership::{
    SessionId,
    control::Message,
    reattach::{Secret, Secrets},
    store::Position,
};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt::Debug,
    hash::Hash,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, Mutex},
    task::Waker,
};

/// Something that happens at some time.
#[derive(Debug)]
pub enum Event {
    Wake(Waker),
    /// A packet of a client comes to a machine.
    Packet {
        machine: usize,
        packet: Packet,
    },
    /// A packet comes to an address.
    Reply {
        to: SocketAddr,
        payload: Payload,
    },
    /// A request comes to the store.
    Call(CallId, Call),
    /// Its answer comes back, from a store that stands there.
    Answer(CallId, Answer, Position),
    /// Whoever asked waits no longer.
    Timeout(CallId),
    /// A process ends itself.
    Exit(ProcessId, Exit),
    /// A machine's daemon is started, unless it runs.
    Start(usize),
    /// A client's timer fires, unless it was set anew.
    Timer {
        client: usize,
        number: u64,
    },
    /// A client does something of its own accord.
    Whim(usize),
    /// Its application tells a client something.
    Word {
        client: usize,
        word: Word,
    },
    /// Somebody asks something of a node: of any, or of the one on this machine.
    Order {
        machine: Option<usize>,
        order: Order,
    },
    /// Something goes wrong.
    Strike,
    /// A fault ends.
    Mend(Fault),
    /// Nothing goes wrong from here on.
    Calm,
    /// Is everything as it should be by now?
    Look,
}

/// Why a process ends itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// Its epoch is over.
    Fenced,
    /// Somebody else is this node: an operator has to look.
    SomebodyElse,
    /// Its own store is shut.
    Latched,
}

/// What a client sends, on its way to the session's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Packet {
    pub session: SessionId,
    pub source: SocketAddr,
    pub payload: Payload,
    pub hops: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Payload {
    Control(Message),
    /// The session's data; from a node with what its header says of the owner.
    Data {
        epoch: u32,
        version: u64,
    },
}

pub struct Sim {
    pub plan: Plan,
    now: Cell<Nanos>,
    queue: RefCell<BTreeMap<(Nanos, u64), Event>>,
    last: Cell<u64>,
    draw: RefCell<Draw>,
    trace: RefCell<Trace>,
    pub network: RefCell<Network>,
    pub history: RefCell<History>,
    /// The cluster's secrets, as its operator has them.
    pub secrets: RefCell<Secrets>,
    /// How many machines there are.
    pub machines: Cell<usize>,
    pub port: Arc<Mutex<Vec<Submission>>>,
    spawned: RefCell<Vec<(ProcessId, Task)>>,
    violation: RefCell<Option<Violation>>,
}

impl Sim {
    pub fn new(plan: Plan, draw: Draw, kept: usize) -> Rc<Self> {
        Rc::new(Self {
            plan,
            now: Cell::new(SECOND),
            queue: RefCell::default(),
            last: Cell::new(0),
            draw: RefCell::new(draw),
            trace: RefCell::new(Trace::new(kept)),
            network: RefCell::default(),
            history: RefCell::default(),
            secrets: RefCell::new(Secrets::new(Secret::new(1, &[1; 32]))),
            machines: Cell::new(plan.nodes),
            port: Arc::default(),
            spawned: RefCell::default(),
            violation: RefCell::new(None),
        })
    }

    pub fn now(&self) -> Nanos {
        self.now.get()
    }

    pub fn at(&self, when: Nanos, event: Event) {
        let number = self.last.get() + 1;
        self.last.set(number);
        self.queue.borrow_mut().insert((when.max(self.now()), number), event);
    }

    pub fn after(&self, span: Nanos, event: Event) {
        self.at(self.now() + span, event);
    }

    /// Goes on to what happens next.
    pub fn next(&self) -> Option<Event> {
        let ((when, _), event) = self.queue.borrow_mut().pop_first()?;
        self.now.set(when);
        Some(event)
    }

    pub fn draw<T>(&self, of: impl FnOnce(&mut Draw) -> T) -> T {
        of(&mut self.draw.borrow_mut())
    }

    pub fn tell(&self, what: &'static str, details: impl Debug + Hash) {
        self.trace.borrow_mut().tell(self.now(), what, details);
    }

    pub fn trace(&self) -> std::cell::Ref<'_, Trace> {
        self.trace.borrow()
    }

    pub fn spawn(&self, process: ProcessId, task: impl Future<Output = ()> + 'static) {
        self.spawned.borrow_mut().push((process, Box::pin(task)));
    }

    pub fn spawned(&self) -> Vec<(ProcessId, Task)> {
        self.spawned.take()
    }

    /// Sends datagrams: each event as often and as late as the network likes.
    pub fn send(&self, from: End, to: End, event: impl Fn() -> Event) {
        let delays = self.draw(|draw| self.network.borrow().datagram(draw, from, to));
        delays.into_iter().for_each(|delay| self.after(delay, event()));
    }

    pub fn order(&self, machine: Option<usize>, order: Order) {
        self.after(0, Event::Order { machine, order });
    }

    /// Something is not as it must be. The first such thing ends the run.
    pub fn accuse(&self, violation: Violation) {
        self.violation.borrow_mut().get_or_insert(violation);
    }

    pub fn violation(&self) -> Option<Violation> {
        self.violation.borrow().clone()
    }
}
