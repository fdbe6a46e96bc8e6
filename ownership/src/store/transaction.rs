use super::{Condition, Key, Outcome, Row};
use crate::audit::Entry;

/// Something that a transaction does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::large_enum_variant, reason = "nearly all transactions hold the large one")]
pub enum Write {
    /// This row stands there from now on.
    Put(Row),
    /// Nothing stands there from now on.
    Delete(Key),
}

/// What is compared, what is written if all of that holds, and the events that tell of it.
///
/// Only the typed writes make one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Transaction {
    pub(super) conditions: Vec<Condition>,
    pub(super) writes: Vec<Write>,
    pub(super) entries: Vec<Entry>,
}

impl Transaction {
    /// What is compared. Whoever writes comes first: to an epoch that is over, nothing else matters.
    pub fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    /// What is written, in this order.
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// The events that go into the audit row.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether everything compared holds.
    ///
    /// # Errors
    ///
    /// With the outcome that the transaction has if not.
    pub fn check<'a>(&self, stands: impl Fn(&Key) -> Option<&'a Row>) -> Result<(), Outcome> {
        self.conditions.iter().try_for_each(|condition| condition.check(stands(&condition.key())))
    }

    /// Whether somebody may wait for what it writes: sessions, what they carry, and audit
    /// rows are watched by nobody.
    pub(super) fn concerns_directory(&self) -> bool {
        self.writes.iter().any(|write| match write {
            Write::Put(row) => !matches!(row, Row::Session(_) | Row::Baggage(_) | Row::Audit(_)),
            Write::Delete(key) => !matches!(key, Key::Session(_) | Key::Baggage(_) | Key::Audit(_)),
        })
    }
}
