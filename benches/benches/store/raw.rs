//! The engine by itself: the same writes, nothing compared.

use crate::callers::Callers;
use anyhow::{Context, Result};
use ownership::store::{AuditKey, StoredSession};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use std::{
    path::Path,
    time::{Duration, Instant},
};

type Session = [u8; StoredSession::LENGTH];

// The store's tables, which its file has.
const SESSIONS: TableDefinition<&[u8; 16], &Session> = TableDefinition::new("sessions");
const AUDIT: TableDefinition<&[u8; 16], &[u8]> = TableDefinition::new("audit");
const DIRECTORY: TableDefinition<&[u8], &[u8]> = TableDefinition::new("directory");

/// How many audit rows are trimmed at once, as in an export.
const TRIMMED_AT_ONCE: usize = ownership::audit::EXPORTED_AT_ONCE;

/// What the store committed together.
pub(crate) struct Group {
    pub(crate) key: AuditKey,
    pub(crate) sessions: Vec<([u8; 16], Session)>,
    pub(crate) audit: Vec<u8>,
}

impl Group {
    fn key(&self) -> [u8; 16] {
        (u128::from(self.key.stream) << 64 | u128::from(self.key.number)).to_be_bytes()
    }
}

/// A file of redb's.
pub(crate) struct Raw(Database);

impl Raw {
    pub(crate) fn open(file: &Path, cache: usize) -> Result<Self> {
        let mut builder = Database::builder();
        builder.set_cache_size(cache);
        Ok(Self(builder.open(file).context("opening the copy")?))
    }

    /// Writes these groups; how long that took. Then trims what the audit log has grown by.
    pub(crate) fn round(&mut self, groups: &[Group]) -> Result<Duration> {
        let begun = Instant::now();
        for group in groups {
            let transaction = self.begin()?;
            write(&transaction, group)?;
            transaction.commit()?;
        }
        let took = begun.elapsed();
        for groups in groups.chunks(TRIMMED_AT_ONCE) {
            let transaction = self.begin()?;
            let mut audit = transaction.open_table(AUDIT)?;
            for group in groups {
                audit.remove(&group.key())?;
            }
            drop(audit);
            transaction.commit()?;
        }
        Ok(took)
    }

    fn begin(&self) -> Result<WriteTransaction> {
        let mut transaction = self.0.begin_write()?;
        transaction.set_two_phase_commit(true);
        transaction.set_quick_repair(true);
        Ok(transaction)
    }

    /// Makes sure that both hold the same sessions: both sides did the same.
    pub(crate) fn compare(&self, callers: &Callers<'_>) -> Result<()> {
        let ours = callers.all()?;
        let table = self.0.begin_read()?.open_table(SESSIONS)?;
        let mut count = 0;
        for (ours, theirs) in ours.iter().zip(table.iter()?) {
            let (id, row) = theirs?;
            let same = ours.record.id().bytes() == *id.value() && ours.to_bytes() == *row.value();
            anyhow::ensure!(same, "{} differs between the two sides", ours.record.id());
            count += 1;
        }
        anyhow::ensure!(count == ours.len(), "{count} sessions, not {}", ours.len());
        Ok(())
    }
}

fn write(transaction: &WriteTransaction, group: &Group) -> Result<()> {
    let mut sessions = transaction.open_table(SESSIONS)?;
    for (id, row) in &group.sessions {
        sessions.insert(id, row)?;
    }
    let number = group.key.number.to_be_bytes();
    transaction.open_table(DIRECTORY)?.insert(&b"revision"[..], &number[..])?;
    transaction.open_table(AUDIT)?.insert(&group.key(), &group.audit[..])?;
    Ok(())
}
