use crate::{
    NodeIndex,
    audit::{Entry, Event, JsonLines, Refusal, Sink},
    model::{Reason, Time},
    store::{AuditKey, AuditRow, Transaction},
};
use std::{
    io,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

/// The stream of a journal's rows.
const STREAM: u64 = u64::MAX;

/// Where a store that may be written to no more tells of that: a file beside it, in the form of
/// [`JsonLines`].
#[derive(Debug)]
pub(super) struct Journal {
    lines: JsonLines,
    node: NodeIndex,
}

impl Journal {
    pub(super) fn open(path: &Path, node: NodeIndex) -> io::Result<Self> {
        Ok(Self { lines: JsonLines::open(path)?, node })
    }

    /// Tells that a commit of these transactions was cut short: one SECURITY_EVENT for each session,
    /// or one for all if it was about none.
    pub(super) fn cut_short<'a>(
        &mut self,
        error: &dyn std::error::Error,
        transactions: impl Iterator<Item = &'a Transaction>,
    ) {
        let actor = self.node;
        let refusal = |session, stood, now| Refusal {
            reason: Reason::PartialWrite,
            session,
            stood,
            count: 1,
            actor,
            now,
        };
        let entries = transactions.flat_map(Transaction::entries).filter_map(|entry| {
            let Event::StateChange(change) = &entry.event else { return None };
            Some(refusal(Some(change.session()), None, change.context().now))
        });
        let mut refusals: Vec<_> = entries.collect();
        if refusals.is_empty() {
            refusals.push(refusal(None, None, now()));
        }
        tracing::error!(%error, sessions = refusals.len(), "the store was shut after an I/O error");
        let entry = |refusal| Entry { event: Event::Refusal(refusal), head: None };
        let number = self.lines.last().map_or(1, |key| key.number + 1);
        let row = AuditRow {
            key: AuditKey { stream: STREAM, number },
            entries: refusals.into_iter().map(entry).collect(),
        };
        if let Err(error) = self.lines.take(&[row]) {
            tracing::error!(%error, "the journal could not be written either");
        }
    }
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_millis(since.as_millis().try_into().unwrap_or(u64::MAX))
}
