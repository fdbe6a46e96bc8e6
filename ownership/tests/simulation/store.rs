//! A store behind a network: the real tables, asked from far away.

use crate::{network::End, sim::Sim};
use ownership::store::{
    Engine, Fault, Key, Outcome, Page, Position, Row, Seen, Span, Tables, Transaction,
};
use std::{
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::oneshot;

pub type CallId = u64;

/// Which store is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Which {
    /// The one that all nodes share.
    Directory,
    /// The machine's own.
    Own,
}

#[derive(Clone, Debug)]
pub enum Request {
    Get(Key),
    Page(Span, Option<Key>, usize),
    Commit(Vec<Transaction>),
}

#[derive(Clone, Debug)]
pub enum Answer {
    Row(Option<Row>),
    Page(Page),
    Outcomes(Vec<Outcome>),
    Fault(Fault),
}

/// A request on its way.
#[derive(Clone, Debug)]
pub struct Call {
    pub request: Request,
    /// How much of the store its sender had seen: an older one must not answer.
    pub seen: Position,
    pub from: End,
    /// To which of the servers that have stood there one after the other: connections end with them.
    pub server: u64,
}

/// A request that a task makes.
#[derive(Debug)]
pub struct Submission {
    pub machine: usize,
    pub which: Which,
    pub request: Request,
    pub reply: oneshot::Sender<Answer>,
}

/// A store as one process sees it.
#[derive(Clone)]
pub struct Remote {
    machine: usize,
    which: Which,
    port: Arc<Mutex<Vec<Submission>>>,
    seen: Arc<Mutex<Position>>,
}

impl Remote {
    pub fn new(sim: &Rc<Sim>, machine: usize, which: Which, seen: Arc<Mutex<Position>>) -> Self {
        Self { machine, which, port: Arc::clone(&sim.port), seen }
    }

    async fn ask(&self, request: Request) -> Answer {
        let (reply, answer) = oneshot::channel();
        let Self { machine, which, .. } = *self;
        let submission = Submission { machine, which, request, reply };
        self.port.lock().unwrap_or_else(PoisonError::into_inner).push(submission);
        answer.await.unwrap_or(Answer::Fault(Fault::Unreachable))
    }
}

impl Engine for Remote {
    async fn get(&self, key: Key) -> Result<Option<Row>, Fault> {
        match self.ask(Request::Get(key)).await {
            Answer::Row(row) => Ok(row),
            Answer::Fault(fault) => Err(fault),
            Answer::Page(_) | Answer::Outcomes(_) => Err(Fault::Corrupt),
        }
    }

    async fn page(&self, span: Span, after: Option<Key>, limit: usize) -> Result<Page, Fault> {
        match self.ask(Request::Page(span, after, limit)).await {
            Answer::Page(page) => Ok(page),
            Answer::Fault(fault) => Err(fault),
            Answer::Row(_) | Answer::Outcomes(_) => Err(Fault::Corrupt),
        }
    }

    async fn commit(&self, batch: Vec<Transaction>) -> Vec<Outcome> {
        let length = batch.len();
        match self.ask(Request::Commit(batch)).await {
            Answer::Outcomes(outcomes) => outcomes,
            Answer::Fault(fault) => vec![Outcome::Unavailable(fault); length],
            Answer::Row(_) | Answer::Page(_) => vec![Outcome::Unknown; length],
        }
    }

    fn seen(&self) -> Position {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn changed(&self, _since: u64) -> u64 {
        // It is no more than a hint, and everybody looks by themselves.
        std::future::pending().await
    }
}

/// Does what is asked of these tables.
pub fn answer(tables: &mut Tables, call: &Call) -> Answer {
    if Seen::new(call.seen).admit(tables.position()).is_err() {
        return Answer::Fault(Fault::Older);
    }
    match &call.request {
        Request::Get(key) => Answer::Row(tables.get(key).cloned()),
        Request::Page(span, after, limit) => {
            Answer::Page(tables.page(*span, after.as_ref(), *limit))
        }
        Request::Commit(batch) => {
            Answer::Outcomes(batch.iter().map(|transaction| tables.apply(transaction)).collect())
        }
    }
}
