//! From the outbox, which the audit rows of a store are, to where logs are kept. What fails here
//! touches no version: the rows stay until somebody took them.

mod json_lines;
mod line;
mod tracing;

pub use json_lines::{JsonLines, LogError, read_rows};
pub use line::BadLine;
pub use tracing::Tracing;

use crate::store::{AuditRow, DirectoryWrite, Engine, Failure, Row, Span};
use std::io;
use thiserror::Error;

/// The most rows that are exported, and then trimmed, at once. etcd takes 128 operations in one
/// transaction.
pub const EXPORTED_AT_ONCE: usize = 100;

/// Where events go.
pub trait Sink {
    /// Takes rows, all of their events, and returns when they are safe there. It is given rows again
    /// that it has taken, if their trimming failed.
    ///
    /// # Errors
    ///
    /// If it could not take all of them: they are kept, and given again.
    fn take(&mut self, rows: &[AuditRow]) -> io::Result<()>;
}

/// Why an export ended early. It touches nothing but the export: come again.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The store did not answer as it should.
    #[error("exporting audit rows: {0}")]
    Store(#[from] Failure),
    /// The sink did not take them.
    #[error("exporting audit rows: they could not be written: {0}")]
    Sink(#[from] io::Error),
}

/// Exports the first rows that wait, up to [`EXPORTED_AT_ONCE`], and trims them. Gives how many they
/// were: none if none wait.
///
/// # Errors
///
/// If the store or the sink fails. Rows that the sink took and that were not trimmed are given to it
/// again.
pub async fn export<E: Engine>(store: &E, sink: &mut impl Sink) -> Result<usize, ExportError> {
    let page = store.page(Span::Audit, None, EXPORTED_AT_ONCE).await.map_err(Failure::from)?;
    let rows: Vec<AuditRow> = page
        .rows
        .into_iter()
        .map(|row| if let Row::Audit(row) = row { Ok(row) } else { Err(Failure::Corrupt) })
        .collect::<Result<_, _>>()?;
    if rows.is_empty() {
        return Ok(0);
    }
    sink.take(&rows)?;
    let trim = DirectoryWrite::trim(rows.iter().map(|row| row.key));
    for outcome in store.commit(vec![trim.into()]).await {
        outcome.done()?;
    }
    Ok(rows.len())
}
