//! A store with requests that are late, and what nobody in the model can see: every version that was ever
//! made.

use crate::{
    config::Mistake,
    digest::{Digest, digest},
};
use ownership::{
    NodeIndex, SessionId,
    audit::{Entry, Event},
    model::{ChangeCause, Hold, Owner, SessionRecord, StateChange},
    store::{
        Admission, Condition, FenceRow, HeartbeatRow, Identity, InboxRow, Key, Outcome,
        PlacementRow, Row, Span, StoredSession, Tables, Transaction, Write,
    },
};
use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// It is done, and its sender told.
    Whole,
    /// It is done, and nobody is told.
    AnswerLost,
    /// It is done some time later or never, and nobody is told.
    Late,
}

/// A store.
#[derive(Clone, Debug)]
pub struct Shelf {
    tables: Arc<Tables>,
    late: Vec<Arc<Transaction>>,
    /// Whether states differ that differ in nothing but how much was written.
    counts: bool,
    digest: Digest,
}

impl Hash for Shelf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

impl Shelf {
    pub fn new(counts: bool) -> Self {
        let (tables, late, digest) = (Arc::default(), Vec::new(), Digest::default());
        let mut shelf = Self { tables, late, counts, digest };
        shelf.note();
        shelf
    }

    pub fn send(
        &mut self,
        transaction: impl Into<Transaction>,
        delivery: Delivery,
        history: &mut History,
    ) -> Outcome {
        let transaction = transaction.into();
        match delivery {
            Delivery::Whole => self.apply(&transaction, history),
            Delivery::AnswerLost => {
                let _nobody_is_told = self.apply(&transaction, history);
                Outcome::Unknown
            }
            Delivery::Late => {
                self.late.push(Arc::new(transaction));
                self.note();
                Outcome::Unknown
            }
        }
    }

    /// How many requests are late.
    pub fn late(&self) -> usize {
        self.late.len()
    }

    /// One that was late is done.
    pub fn arrive(&mut self, at: usize, history: &mut History) {
        let transaction = self.late.remove(at);
        let _nobody_is_told = self.apply(&transaction, history);
        self.note();
    }

    /// What is late never arrives.
    pub fn lose_late(&mut self) {
        self.late.clear();
        self.note();
    }

    pub fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    /// Puts a backup in its place. What was on its way to the store that is gone is gone too.
    pub fn restore(&mut self, backup: &Arc<Tables>) {
        self.tables = Arc::clone(backup);
        self.late.clear();
        self.note();
    }

    fn apply(&mut self, transaction: &Transaction, history: &mut History) -> Outcome {
        let (conditions, writes, entries) = history.as_written(&self.tables, transaction);
        let before = Arc::clone(&self.tables);
        let tables = Arc::make_mut(&mut self.tables);
        let outcome = tables.apply_parts(&conditions, writes, entries);
        if outcome.is_won() {
            history.note(&before, writes, entries);
            // Nobody here reads the log, and it would make every state another one.
            let told: Vec<_> =
                tables.rows(Span::Audit).map(|row| Write::Delete(row.key())).collect();
            if !told.is_empty() {
                let _trimmed = tables.apply_parts(&[], &told, &[]);
            }
            self.note();
        }
        outcome
    }

    fn note(&mut self) {
        let spans = [
            Span::Fences,
            Span::Heartbeats,
            Span::Sessions,
            Span::OffHome(0, u16::MAX),
            Span::Inbox(index(1)),
            Span::Inbox(index(2)),
            Span::Inbox(index(3)),
            Span::Transfers,
        ];
        let rows: Vec<_> = spans.iter().flat_map(|span| self.tables.rows(*span)).collect();
        let others = (self.tables.get(&Key::Epochs), self.tables.get(&Key::Placement));
        let position = self.counts.then(|| self.tables.position());
        self.digest = digest(&(rows, others, &self.late, position));
    }

    pub fn fence(&self, node: NodeIndex) -> Option<&FenceRow> {
        match self.tables.get(&Key::Fence(node)) {
            Some(Row::Fence(row)) => Some(row),
            _ => None,
        }
    }

    pub fn fences(&self) -> Vec<FenceRow> {
        let row = |row: &Row| if let Row::Fence(row) = row { Some(row.clone()) } else { None };
        self.tables.rows(Span::Fences).filter_map(row).collect()
    }

    pub fn heartbeats(&self) -> Vec<HeartbeatRow> {
        let row = |row: &Row| if let Row::Heartbeat(row) = row { Some(row.clone()) } else { None };
        self.tables.rows(Span::Heartbeats).filter_map(row).collect()
    }

    pub fn heartbeat(&self, node: NodeIndex) -> Option<&HeartbeatRow> {
        match self.tables.get(&Key::Heartbeat(node)) {
            Some(Row::Heartbeat(row)) => Some(row),
            _ => None,
        }
    }

    pub fn session(&self, id: SessionId) -> Option<&StoredSession> {
        match self.tables.get(&Key::Session(id)) {
            Some(Row::Session(row)) => Some(row),
            _ => None,
        }
    }

    pub fn inbox(&self, node: NodeIndex, id: SessionId) -> Option<&InboxRow> {
        match self.tables.get(&Key::Inbox(node, id)) {
            Some(Row::Inbox(row)) => Some(row),
            _ => None,
        }
    }

    pub fn placement(&self) -> Option<&PlacementRow> {
        match self.tables.get(&Key::Placement) {
            Some(Row::Placement(row)) => Some(row),
            _ => None,
        }
    }
}

pub fn index(number: u16) -> NodeIndex {
    NodeIndex::new(number).expect("a few nodes")
}

/// All that has ever been committed, in whatever store, and what was wrong with it.
#[derive(Clone, Debug, Hash)]
pub struct History {
    mistake: Option<MistakeInWrite>,
    lines: Vec<Line>,
    wrong: Option<&'static str>,
}

/// The mistakes that are made when something is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum MistakeInWrite {
    Epoch,
    Incarnation,
    Audit,
    Destination,
}

/// The versions of one session.
#[derive(Clone, Debug, Default, Hash)]
struct Line {
    /// One record for each version, from 0 on.
    records: Vec<Digest>,
    last: Option<SessionRecord>,
    /// What made each version but the first, by name.
    inputs: Vec<&'static str>,
}

impl History {
    pub fn new(mistake: Option<Mistake>, sessions: usize) -> Self {
        let mistake = match mistake {
            Some(Mistake::NoEpochCompare) => Some(MistakeInWrite::Epoch),
            Some(Mistake::NoIncarnationCompare) => Some(MistakeInWrite::Incarnation),
            Some(Mistake::AuditOutsideCommit) => Some(MistakeInWrite::Audit),
            Some(Mistake::NoDestinationFence) => Some(MistakeInWrite::Destination),
            _ => None,
        };
        Self { mistake, lines: vec![Line::default(); sessions], wrong: None }
    }

    /// What was ever wrong.
    pub fn wrong(&self) -> Option<&'static str> {
        self.wrong
    }

    /// A session at its last version, wherever that was committed.
    pub fn last(&self, session: usize) -> Option<&SessionRecord> {
        self.lines[session].last.as_ref()
    }

    /// Whether this was ever done with a session.
    pub fn has_done(&self, session: usize, input: &str) -> bool {
        self.lines[session].inputs.contains(&input)
    }

    /// A transaction as it is written by whoever makes the mistake.
    fn as_written<'a>(
        &self,
        tables: &Tables,
        transaction: &'a Transaction,
    ) -> (Vec<Condition>, &'a [Write], &'a [Entry]) {
        let is_of_session = transaction.writes().iter().any(|write| session_of(write).is_some());
        let mistake = self.mistake.filter(|_| is_of_session);
        let compared = |condition: &Condition| match (mistake, condition) {
            (Some(MistakeInWrite::Epoch), Condition::Acting(_))
            | (Some(MistakeInWrite::Destination), Condition::Accepting(_)) => None,
            (Some(MistakeInWrite::Incarnation), Condition::Acting(by)) => {
                let stands = standing(tables, by).filter(|stands| stands.owner == by.owner);
                Some(Condition::Acting(stands.unwrap_or(*by)))
            }
            (_, condition) => Some(condition.clone()),
        };
        let conditions = transaction.conditions().iter().filter_map(compared).collect();
        let is_told = mistake != Some(MistakeInWrite::Audit);
        let entries = if is_told { transaction.entries() } else { &[] };
        (conditions, transaction.writes(), entries)
    }

    fn note(&mut self, before: &Tables, writes: &[Write], entries: &[Entry]) {
        let rows: Vec<_> = writes.iter().filter_map(session_of).collect();
        for entry in entries {
            if let Event::StateChange(change) = &entry.event {
                self.told(before, change, &rows);
            }
        }
        for row in rows {
            let line = &self.lines[number(row.id())];
            match line.records.get(row.version().get() as usize) {
                None => self.found("a version without its event"),
                Some(record) if *record != digest(&row) => self.found("one version, two states"),
                Some(_) => {}
            }
        }
    }

    /// A version comes into the world.
    fn told(&mut self, before: &Tables, change: &StateChange, rows: &[&SessionRecord]) {
        let line = &mut self.lines[number(change.session())];
        let version = change.version().get() as usize;
        if version != line.records.len() {
            let used = version < line.records.len();
            return self.found(if used {
                "a version was used twice"
            } else {
                "a version is missing"
            });
        }
        let of_it = |row: &&&SessionRecord| {
            (row.id(), row.version()) == (change.session(), change.version())
        };
        let Some(row) = rows.iter().find(of_it) else {
            return self.found("an event without its version");
        };
        line.records.push(digest(row));
        if let ChangeCause::Input(input) = change.cause() {
            line.inputs.push(input.name());
        }
        let last = line.last.replace(**row);
        let fence = |owner: Owner| match before.get(&Key::Fence(owner.node)) {
            Some(Row::Fence(fence)) if fence.owner() == owner => Some(fence.admission),
            _ => None,
        };
        let may_act = |owner| fence(owner).is_some_and(|fence| fence != Admission::Fenced);
        if !may_act(change.context().actor) {
            self.found("a version was made in an epoch that is over");
        }
        let moved = last.is_some_and(|last| last.owner() != row.owner());
        let accepts = fence(row.owner()) == Some(Admission::Accepting);
        if moved && matches!(row.hold(), Hold::HandedOff { .. }) && !accepts {
            self.found("a session was handed to an epoch that is over, and is lost");
        }
    }

    fn found(&mut self, wrong: &'static str) {
        self.wrong.get_or_insert(wrong);
    }
}

/// The number of a session: the first byte of its id.
pub fn number(id: SessionId) -> usize {
    usize::from(id.bytes()[0])
}

fn session_of(write: &Write) -> Option<&SessionRecord> {
    match write {
        Write::Put(Row::Session(row)) => Some(&row.record),
        Write::Put(Row::Transfer(row)) => Some(&row.session.record),
        Write::Put(Row::Inbox(row)) => Some(&row.session.record),
        _ => None,
    }
}

/// The identity that stands in a fence row: what a condition comes down to that does not look at it.
fn standing(tables: &Tables, by: &Identity) -> Option<Identity> {
    match tables.get(&Key::Fence(by.owner.node)) {
        Some(Row::Fence(fence)) => Some(fence.identity()),
        _ => None,
    }
}
