//! Rows in redb's tables.

use crate::{
    SessionId,
    store::{
        AuditKey, AuditRow, BadRow, Condition, Identity, Key, Outcome, Page, Row, Span,
        StoredSession, Transaction, Write,
    },
};
use redb::{
    ReadOnlyTable, ReadTransaction, ReadableTable, StorageError, Table, TableDefinition,
    TableError, WriteTransaction,
};
use std::ops::Bound;
use thiserror::Error;

type Id = &'static [u8; 16];
type Session = &'static [u8; StoredSession::LENGTH];
type Bytes = &'static [u8];

/// Sessions, by id.
const SESSIONS: TableDefinition<Id, Session> = TableDefinition::new("sessions");
/// Audit rows, by stream and number.
const AUDIT: TableDefinition<Id, Bytes> = TableDefinition::new("audit");
/// All other rows, by the bytes of their keys.
const DIRECTORY: TableDefinition<Bytes, Bytes> = TableDefinition::new("directory");

/// Where the revision stands in the directory's table: behind all keys, which begin with a hexadecimal digit.
const REVISION: &[u8] = b"revision";

/// Why a row could not be read or written.
#[derive(Debug, Error)]
pub(super) enum RowError {
    /// The engine failed.
    #[error("{0}")]
    Engine(#[from] StorageError),
    /// The row has no meaning.
    #[error("{0}")]
    Corrupt(#[from] BadRow),
}

/// The tables, open for reading or writing.
pub(super) struct Tables<S, A, D> {
    sessions: S,
    audit: A,
    directory: D,
}

pub(super) type Reading =
    Tables<ReadOnlyTable<Id, Session>, ReadOnlyTable<Id, Bytes>, ReadOnlyTable<Bytes, Bytes>>;

pub(super) type Writing<'t> =
    Tables<Table<'t, Id, Session>, Table<'t, Id, Bytes>, Table<'t, Bytes, Bytes>>;

impl Reading {
    pub(super) fn of(transaction: &ReadTransaction) -> Result<Self, TableError> {
        Ok(Self {
            sessions: transaction.open_table(SESSIONS)?,
            audit: transaction.open_table(AUDIT)?,
            directory: transaction.open_table(DIRECTORY)?,
        })
    }
}

impl<S, A, D> Tables<S, A, D>
where
    S: ReadableTable<Id, Session>,
    A: ReadableTable<Id, Bytes>,
    D: ReadableTable<Bytes, Bytes>,
{
    /// Looks at the bytes that stand under a key.
    fn look<T>(&self, key: &Key, look: impl FnOnce(Option<&[u8]>) -> T) -> Result<T, StorageError> {
        match key {
            Key::Session(id) => {
                let row = self.sessions.get(&id.bytes())?;
                Ok(look(row.as_ref().map(|row| row.value().as_slice())))
            }
            Key::Audit(key) => {
                let row = self.audit.get(&number(*key))?;
                Ok(look(row.as_ref().map(|row| row.value())))
            }
            Key::Generation
            | Key::Epochs
            | Key::Fence(_)
            | Key::Heartbeat(_)
            | Key::Placement
            | Key::OffHome(_)
            | Key::Inbox(..)
            | Key::Transfer(..)
            | Key::Baggage(_) => {
                let row = self.directory.get(key.to_bytes().as_slice())?;
                Ok(look(row.as_ref().map(|row| row.value())))
            }
        }
    }

    /// The row that stands under a key.
    pub(super) fn get(&self, key: &Key) -> Result<Option<Row>, RowError> {
        let row = self.look(key, |row| row.map(|bytes| Row::from_bytes(key, bytes)).transpose())?;
        Ok(row?)
    }

    /// How many transactions have been done.
    pub(super) fn revision(&self) -> Result<Option<u64>, RowError> {
        let Some(row) = self.directory.get(REVISION)? else { return Ok(None) };
        let bytes = row.value().try_into().map_err(|_| BadRow::POSITION)?;
        Ok(Some(u64::from_be_bytes(bytes)))
    }

    /// Whether something that a transaction compares holds.
    fn holds(&self, condition: &Condition) -> Result<bool, StorageError> {
        // Nearly all conditions that are looked at are this one.
        if let Condition::Is(Row::Session(session)) = condition {
            let row = self.sessions.get(&session.record.id().bytes())?;
            return Ok(row.is_some_and(|row| *row.value() == session.to_bytes()));
        }
        let compared = condition.compared();
        self.look(&condition.key(), |row| compared.holds(row))
    }

    /// The first rows of a span, or those behind a key.
    pub(super) fn page(
        &self,
        span: Span,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Page, RowError> {
        let (first, last) = span.bounds();
        let (from, is_behind) = match after {
            Some(key) if *key >= last => return Ok(Page::default()),
            Some(key) if *key >= first => (key, true),
            _ => (&first, false),
        };
        let limit = limit.max(1);
        let rows = match (from, &last) {
            (Key::Session(from), Key::Session(last)) => {
                let (from, last) = (from.bytes(), last.bytes());
                let range = (bound(&from, is_behind), Bound::Included(&last));
                rows(self.sessions.range::<&[u8; 16]>(range)?, limit, |id, row| {
                    Row::from_bytes(&Key::Session(SessionId::new(*id)), row)
                })?
            }
            (Key::Audit(from), Key::Audit(last)) => {
                let (from, last) = (number(*from), number(*last));
                let range = (bound(&from, is_behind), Bound::Included(&last));
                rows(self.audit.range::<&[u8; 16]>(range)?, limit, |key, row| {
                    Row::from_bytes(&Key::Audit(numbered(key)), row)
                })?
            }
            (from, last) => {
                let (from, last) = (from.to_bytes(), last.to_bytes());
                let range = (bound(from.as_slice(), is_behind), Bound::Included(last.as_slice()));
                rows(self.directory.range::<&[u8]>(range)?, limit, |key, row| {
                    Row::from_bytes(&Key::from_bytes(key)?, row)
                })?
            }
        };
        let next = rows.last().filter(|_| rows.len() == limit).map(Row::key);
        Ok(Page { rows, next })
    }
}

impl<'t> Writing<'t> {
    pub(super) fn of(transaction: &'t WriteTransaction) -> Result<Self, TableError> {
        Ok(Self {
            sessions: transaction.open_table(SESSIONS)?,
            audit: transaction.open_table(AUDIT)?,
            directory: transaction.open_table(DIRECTORY)?,
        })
    }

    /// Does a transaction but for its events, if everything compared holds.
    pub(super) fn apply(
        &mut self,
        transaction: &Transaction,
        acting: &mut Option<Identity>,
    ) -> Result<Outcome, StorageError> {
        let (mut conditions, mut writes) = (transaction.conditions(), transaction.writes());
        // Nearly all replace one session, which is then looked up once.
        let mut replaced = None;
        if let [others @ .., last @ Condition::Is(Row::Session(before))] = conditions
            && let [Write::Put(Row::Session(after)), rest @ ..] = writes
            && before.record.id() == after.record.id()
        {
            (conditions, writes, replaced) = (others, rest, Some((before, after, last)));
        }
        for condition in conditions {
            let acts = match condition {
                Condition::Acting(identity) => Some(*identity),
                _ => None,
            };
            // A node's sessions all ask for the same row.
            if acts.is_some() && acts == *acting {
                continue;
            }
            if !self.holds(condition)? {
                return Ok(condition.otherwise());
            }
            *acting = acts.or(*acting);
        }
        if let Some((before, after, last)) = replaced
            && !self.replace(before, after)?
        {
            return Ok(last.otherwise());
        }
        for write in writes {
            if let Write::Put(Row::Fence(_)) | Write::Delete(Key::Fence(_)) = write {
                *acting = None;
            }
            match write {
                Write::Put(row) => self.put(row)?,
                Write::Delete(key) => self.delete(key)?,
            }
        }
        Ok(Outcome::Won)
    }

    /// Puts a session where this one stands; whether it stands there.
    fn replace(
        &mut self,
        before: &StoredSession,
        after: &StoredSession,
    ) -> Result<bool, StorageError> {
        let Some(mut row) = self.sessions.get_mut(&before.record.id().bytes())? else {
            return Ok(false);
        };
        let stands = *row.value() == before.to_bytes();
        if stands {
            row.insert(&after.to_bytes())?;
        }
        Ok(stands)
    }

    /// Puts a row of the log, given by its bytes.
    pub(super) fn put_audit(&mut self, key: AuditKey, row: &[u8]) -> Result<(), StorageError> {
        self.audit.insert(&number(key), row)?;
        Ok(())
    }

    /// Puts a row where it belongs.
    pub(super) fn put(&mut self, row: &Row) -> Result<(), StorageError> {
        match row {
            Row::Session(session) => {
                self.sessions.insert(&session.record.id().bytes(), &session.to_bytes())?;
            }
            Row::Audit(AuditRow { key, .. }) => {
                self.audit.insert(&number(*key), row.to_bytes().as_slice())?;
            }
            Row::Generation(_)
            | Row::Epochs(_)
            | Row::Fence(_)
            | Row::Heartbeat(_)
            | Row::Placement(_)
            | Row::OffHome(_)
            | Row::Inbox(_)
            | Row::Transfer(_)
            | Row::Baggage(_) => {
                self.directory
                    .insert(row.key().to_bytes().as_slice(), row.to_bytes().as_slice())?;
            }
        }
        Ok(())
    }

    fn delete(&mut self, key: &Key) -> Result<(), StorageError> {
        match key {
            Key::Session(id) => drop(self.sessions.remove(&id.bytes())?),
            Key::Audit(key) => drop(self.audit.remove(&number(*key))?),
            Key::Generation
            | Key::Epochs
            | Key::Fence(_)
            | Key::Heartbeat(_)
            | Key::Placement
            | Key::OffHome(_)
            | Key::Inbox(..)
            | Key::Transfer(..)
            | Key::Baggage(_) => drop(self.directory.remove(key.to_bytes().as_slice())?),
        }
        Ok(())
    }

    /// Counts transactions.
    pub(super) fn set_revision(&mut self, revision: u64) -> Result<(), StorageError> {
        self.directory.insert(REVISION, revision.to_be_bytes().as_slice())?;
        Ok(())
    }
}

fn rows<K: redb::Key, V: redb::Value>(
    range: redb::Range<'_, K, V>,
    limit: usize,
    row: impl for<'a> Fn(K::SelfType<'a>, V::SelfType<'a>) -> Result<Row, BadRow>,
) -> Result<Vec<Row>, RowError> {
    let read = |found: Result<_, StorageError>| {
        let (key, value): (redb::AccessGuard<'_, K>, redb::AccessGuard<'_, V>) = found?;
        Ok(row(key.value(), value.value())?)
    };
    range.take(limit).map(read).collect()
}

fn bound<T: ?Sized>(from: &T, is_behind: bool) -> Bound<&T> {
    if is_behind { Bound::Excluded(from) } else { Bound::Included(from) }
}

/// An audit row's key as bytes, in the order of the keys.
fn number(AuditKey { stream, number }: AuditKey) -> [u8; 16] {
    (u128::from(stream) << 64 | u128::from(number)).to_be_bytes()
}

fn numbered(bytes: &[u8; 16]) -> AuditKey {
    let both = u128::from_be_bytes(*bytes);
    // The two halves.
    AuditKey { stream: (both >> 64) as u64, number: both as u64 }
}
