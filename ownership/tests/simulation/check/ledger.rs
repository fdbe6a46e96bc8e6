//! Each session's versions, as the stores have taken them.

use super::Violation;
use ownership::{
    SessionId,
    store::{Row, StoredSession, Transaction, TransferRow, Write},
};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub struct Ledger {
    lines: BTreeMap<SessionId, Vec<StoredSession>>,
}

impl Ledger {
    /// A store has done a transaction.
    pub fn done(&mut self, transaction: &Transaction) -> Result<(), Violation> {
        for write in transaction.writes() {
            if let Write::Put(
                Row::Session(stored) | Row::Transfer(TransferRow { session: stored, .. }),
            ) = write
            {
                self.add(stored)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, stored: &StoredSession) -> Result<(), Violation> {
        let (session, version) = (stored.record.id(), stored.record.version());
        let line = self.lines.entry(session).or_default();
        match line.get(version.get() as usize) {
            // A copy.
            Some(known) if known == stored => Ok(()),
            Some(_) => Err(Violation::VersionUsedTwice { session, version }),
            None if version.get() == line.len() as u64 => {
                line.push(*stored);
                Ok(())
            }
            None => Err(Violation::VersionLeftOut { session, version }),
        }
    }

    pub fn lines(&self) -> impl Iterator<Item = (SessionId, &[StoredSession])> {
        self.lines.iter().map(|(session, line)| (*session, line.as_slice()))
    }

    pub fn last(&self, session: SessionId) -> Option<&StoredSession> {
        self.lines.get(&session)?.last()
    }

    pub fn sessions(&self) -> impl Iterator<Item = &StoredSession> {
        self.lines.values().filter_map(|line| line.last())
    }
}
