use super::{
    AuditKey, AuditRow, Condition, Generation, Key, Outcome, Page, Position, Row, Span,
    Transaction, Write,
};
use crate::audit::Entry;
use std::{collections::BTreeMap, ops::Bound};

/// What every store means: rows, and what a transaction does to them. No I/O, no clock, no lock.
///
/// A model checker holds one in its state and applies transactions to it; [`super::Memory`] is one
/// behind a lock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tables {
    rows: BTreeMap<Key, Row>,
    position: Position,
    audited: u64,
}

impl Default for Tables {
    fn default() -> Self {
        Self::new(Generation(1))
    }
}

impl Tables {
    /// An empty store.
    pub fn new(generation: Generation) -> Self {
        let row = Row::Generation(generation);
        Self {
            rows: BTreeMap::from([(row.key(), row)]),
            position: Position { generation, revision: 0 },
            audited: 0,
        }
    }

    /// Where it stands.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The row that stands there.
    pub fn get(&self, key: &Key) -> Option<&Row> {
        self.rows.get(key)
    }

    /// The rows of a span, in order.
    pub fn rows(&self, span: Span) -> impl Iterator<Item = &Row> {
        let (first, last) = span.bounds();
        self.rows.range(first..=last).map(|(_, row)| row)
    }

    /// The first rows of a span, or those behind a key.
    pub fn page(&self, span: Span, after: Option<&Key>, limit: usize) -> Page {
        let (first, last) = span.bounds();
        let from = match after {
            Some(key) if *key >= last => return Page::default(),
            Some(key) if *key >= first => Bound::Excluded(key),
            _ => Bound::Included(&first),
        };
        let rows = self.rows.range((from, Bound::Included(&last)));
        Page::of(rows.map(|(_, row)| row), limit)
    }

    /// Does a transaction, if everything compared holds: all of it or nothing.
    pub fn apply(&mut self, transaction: &Transaction) -> Outcome {
        let Transaction { conditions, writes, entries } = transaction;
        self.apply_parts(conditions, writes, entries)
    }

    /// Does the same with a transaction that nobody has made: for models of what must not be.
    pub fn apply_parts(
        &mut self,
        conditions: &[Condition],
        writes: &[Write],
        entries: &[Entry],
    ) -> Outcome {
        for condition in conditions {
            if let Err(outcome) = condition.check(self.rows.get(&condition.key())) {
                return outcome;
            }
        }
        for write in writes {
            match write {
                Write::Put(row) => self.rows.insert(row.key(), row.clone()),
                Write::Delete(key) => self.rows.remove(key),
            };
        }
        if !entries.is_empty() {
            self.audited += 1;
            let key = AuditKey { stream: 0, number: self.audited };
            let row = Row::Audit(AuditRow { key, entries: entries.to_vec() });
            self.rows.insert(row.key(), row);
        }
        if let Some(Row::Generation(generation)) = self.rows.get(&Key::Generation) {
            self.position.generation = *generation;
        }
        self.position.revision += 1;
        Outcome::Won
    }
}
