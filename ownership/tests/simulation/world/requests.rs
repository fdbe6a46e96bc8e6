//! What the nodes' requests to their stores come to.

use super::World;
use crate::{
    broken::Broken,
    network::End,
    sim::Event,
    store::{self, Answer, Call, CallId, Request, Submission, Which},
    time::{MILLISECOND, SECOND},
};
use ownership::{
    model::OperationId,
    store::{Fault as StoreFault, Outcome, Position, Row, Span, Transaction, Write},
};
use std::sync::{MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Somebody waits for an answer.
pub(super) struct Waiting {
    machine: usize,
    which: Which,
    is_write: bool,
    reply: oneshot::Sender<Answer>,
}

impl World {
    pub(super) fn submit(&mut self, submission: Submission) {
        let Submission { machine, which, request, reply } = submission;
        self.last_call += 1;
        let call = self.last_call;
        let is_write = matches!(request, Request::Commit(_));
        self.waiting.insert(call, Waiting { machine, which, is_write, reply });
        match which {
            Which::Directory => {
                let seen = *self.seen(machine, which);
                let from = End::Machine(machine);
                let request = Call { request, seen, from, server: self.server };
                let patience = self.sim.draw(|draw| draw.between(2 * SECOND, 6 * SECOND));
                self.sim.after(patience, Event::Timeout(call));
                let delay =
                    self.sim.draw(|draw| self.sim.network.borrow().stream(draw, from, End::Store));
                if let Some(delay) = delay {
                    self.sim.after(delay, Event::Call(call, request));
                }
            }
            Which::Own => {
                let (answer, stands) = self.ask_disk(machine, request);
                let delay = self.sim.draw(|draw| draw.between(MILLISECOND / 50, 3 * MILLISECOND));
                self.sim.after(delay, Event::Answer(call, answer, stands));
            }
        }
    }

    fn seen(&self, machine: usize, which: Which) -> MutexGuard<'_, Position> {
        let disk = &self.machines[machine].disk;
        let seen = match which {
            Which::Directory => &disk.seen,
            Which::Own => &disk.own_seen,
        };
        seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn call(&mut self, number: CallId, call: &Call) {
        if call.server != self.server {
            return;
        }
        let answer = match self.refuses {
            Some(fault) => Answer::Fault(fault),
            None => store::answer(&mut self.tables, call),
        };
        self.note(&call.request, &answer);
        if self.sim.plan.broken == Some(Broken::LosesAuditRows) {
            self.lose_audit_row();
        }
        let stands = self.tables.position();
        let delay =
            self.sim.draw(|draw| self.sim.network.borrow().stream(draw, End::Store, call.from));
        if let Some(delay) = delay {
            self.sim.after(delay, Event::Answer(number, answer, stands));
        }
    }

    /// Now and then the last row of the audit log is gone.
    fn lose_audit_row(&mut self) {
        let last = self.tables.rows(Span::Audit).last().map(Row::key);
        if let Some(key) = last.filter(|_| self.sim.draw(|draw| draw.per_mille(10))) {
            let lost = self.tables.apply_parts(&[], &[Write::Delete(key)], &[]);
            self.sim.tell("an audit row is lost", lost);
        }
    }

    /// A machine's own store: what is written is there at once or not at all, and an error shuts it.
    fn ask_disk(&mut self, machine: usize, request: Request) -> (Answer, Position) {
        let disk = &self.machines[machine].disk;
        let mut own = disk.own.borrow_mut();
        let is_write = matches!(request, Request::Commit(_));
        let mut is_done = true;
        let mut answer = None;
        if disk.is_latched.get() {
            (is_done, answer) = (false, Some(Answer::Fault(StoreFault::Latched)));
        } else if is_write && disk.is_failing.replace(false) {
            disk.is_latched.set(true);
            is_done = self.sim.draw(|draw| draw.per_mille(500));
            answer = Some(Answer::Outcomes(vec![Outcome::Unknown]));
            self.sim.tell("a disk fails", (machine, is_done));
        }
        let from = End::Machine(machine);
        let call = Call { request, seen: Position::START, from, server: 0 };
        if is_done {
            let real = store::answer(&mut own, &call);
            let stands = own.position();
            drop(own);
            self.note(&call.request, &real);
            return (answer.unwrap_or(real), stands);
        }
        (answer.unwrap_or(Answer::Fault(StoreFault::Latched)), own.position())
    }

    /// Takes note of what a store has done.
    fn note(&mut self, request: &Request, answer: &Answer) {
        let (Request::Commit(batch), Answer::Outcomes(outcomes)) = (request, answer) else {
            return;
        };
        for (transaction, outcome) in batch.iter().zip(outcomes) {
            self.sim.tell("store", (described(transaction), outcome));
            if outcome.is_won()
                && let Err(violation) = self.ledger.done(transaction)
            {
                self.sim.accuse(violation);
            }
        }
    }

    pub(super) fn answer(&mut self, call: CallId, answer: Answer, stands: Position) {
        let Some(waiting) = self.waiting.remove(&call) else { return };
        if !matches!(answer, Answer::Fault(_)) {
            let mut seen = self.seen(waiting.machine, waiting.which);
            *seen = stands.max(*seen);
        }
        let _is_gone = waiting.reply.send(answer);
    }

    pub(super) fn time_out(&mut self, call: CallId) {
        let Some(waiting) = self.waiting.remove(&call) else { return };
        let answer = match waiting.is_write {
            true => Answer::Outcomes(vec![Outcome::Unknown]),
            false => Answer::Fault(StoreFault::Unreachable),
        };
        let _is_gone = waiting.reply.send(answer);
    }
}

/// A transaction in few words: what it writes, and by which attempt.
fn described(transaction: &Transaction) -> Vec<(String, Option<OperationId>)> {
    let row = |row: &Row| {
        let operation = match row {
            Row::Fence(row) => Some(row.operation),
            Row::Heartbeat(row) => Some(row.operation),
            Row::Session(row) => Some(row.operation),
            Row::Transfer(row) => Some(row.session.operation),
            _ => None,
        };
        (format!("{:?}", row.key()), operation)
    };
    let write = |write: &Write| match write {
        Write::Put(it) => row(it),
        Write::Delete(key) => (format!("no {key:?}"), None),
    };
    transaction.writes().iter().map(write).collect()
}
