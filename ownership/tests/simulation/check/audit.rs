//! The audit logs of all stores, as one.

use super::{Ledger, Violation};
use ownership::{
    audit::Verifier,
    store::{AuditKey, AuditRow, Row, Span, StoredSession, Tables},
};
use std::collections::BTreeMap;

/// Verifies the log of a directory and of the nodes' own stores, and that it leads to what they keep and to
/// what they have acknowledged.
pub fn audited(directory: &Tables, own: &[Tables], ledger: &Ledger) -> Result<(), Violation> {
    let wrong = |finding: ownership::audit::Finding| Violation::Audit(finding.to_string());
    let mut verifier = Verifier::default();
    let mut kept: BTreeMap<_, StoredSession> = BTreeMap::new();
    for (stream, tables) in std::iter::once(directory).chain(own).enumerate() {
        for row in tables.rows(Span::Audit) {
            let Row::Audit(row) = row else { continue };
            // Each store numbers its own rows.
            let key = AuditKey { stream: stream as u64, ..row.key };
            verifier.row(&AuditRow { key, ..row.clone() }).map_err(wrong)?;
        }
        for row in tables.rows(Span::Sessions) {
            let Row::Session(stored) = row else { continue };
            let newest = kept.entry(stored.record.id()).or_insert(*stored);
            if newest.record.version() < stored.record.version() {
                *newest = *stored;
            }
        }
    }
    verifier.whole().map_err(wrong)?;
    verifier.sessions_after(kept.values().copied()).map_err(wrong)?;
    for row in directory.rows(Span::Fences) {
        if let Row::Fence(fence) = row {
            verifier.node_after(fence).map_err(wrong)?;
        }
    }
    if let Some(Row::Placement(placement)) = directory.get(&ownership::store::Key::Placement) {
        verifier.placement_after(placement).map_err(wrong)?;
    }
    for stored in ledger.sessions() {
        if kept.get(&stored.record.id()) != Some(stored) {
            return Err(Violation::Gone(stored.record.id()));
        }
    }
    Ok(())
}
