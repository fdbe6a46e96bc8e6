//! Tasks, one after the other, in an order that follows from what woke them. A task belongs to a process:
//! one that is killed drops its tasks wherever they are, one that is paused does not run them.

use crate::{
    sim::{Event, Sim},
    time::Nanos,
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    pin::Pin,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

/// One run of a daemon, counted over all machines.
pub type ProcessId = u64;

pub type Task = Pin<Box<dyn Future<Output = ()>>>;

#[derive(Default)]
pub struct Tasks {
    tasks: BTreeMap<u64, (ProcessId, Waker, Task)>,
    ready: Arc<Ready>,
    parked: BTreeMap<ProcessId, BTreeSet<u64>>,
    last: u64,
}

#[derive(Default)]
struct Ready(Mutex<VecDeque<u64>>);

struct Alarm {
    task: u64,
    ready: Arc<Ready>,
}

impl Ready {
    fn push(&self, task: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(task);
    }

    fn pop(&self) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.ready.push(self.task);
    }
}

impl Tasks {
    pub fn spawn(&mut self, process: ProcessId, task: Task) {
        self.last += 1;
        let alarm = Alarm { task: self.last, ready: Arc::clone(&self.ready) };
        self.tasks.insert(self.last, (process, Arc::new(alarm).into(), task));
        self.ready.push(self.last);
    }

    /// Runs one task that is ready, if there is one.
    pub fn step(&mut self) -> bool {
        let Some(number) = self.ready.pop() else { return false };
        let Some((process, waker, mut task)) = self.tasks.remove(&number) else { return true };
        if let Some(parked) = self.parked.get_mut(&process) {
            parked.insert(number);
            self.tasks.insert(number, (process, waker, task));
            return true;
        }
        let poll = task.as_mut().poll(&mut Context::from_waker(&waker));
        if poll.is_pending() {
            self.tasks.insert(number, (process, waker, task));
        }
        true
    }

    pub fn pause(&mut self, process: ProcessId) {
        self.parked.entry(process).or_default();
    }

    pub fn go_on(&mut self, process: ProcessId) {
        self.parked.remove(&process).into_iter().flatten().for_each(|task| self.ready.push(task));
    }

    pub fn kill(&mut self, process: ProcessId) {
        self.parked.remove(&process);
        self.tasks.retain(|_, (of, ..)| *of != process);
    }
}

/// Ends at a true time.
pub struct Sleep {
    sim: Rc<Sim>,
    until: Nanos,
    is_set: bool,
}

impl Sleep {
    pub fn new(sim: &Rc<Sim>, until: Nanos) -> Self {
        Self { sim: Rc::clone(sim), until, is_set: false }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.sim.now() >= self.until {
            return Poll::Ready(());
        }
        if !self.is_set {
            self.is_set = true;
            self.sim.at(self.until, Event::Wake(context.waker().clone()));
        }
        Poll::Pending
    }
}
