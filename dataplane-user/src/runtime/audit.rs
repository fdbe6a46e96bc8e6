//! The audit log: verified by replaying it, and exported.

use super::{Runtime, pages::PAGE};
use crate::cluster::Backend;
use ownership::{
    audit::{ExportError, Finding, JsonLines, Verifier, export},
    store::{Directory, Fault, Sessions, Store},
    takeover::Strategy,
};
use std::{io, path::Path};
use thiserror::Error;

/// What the log was found to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Its rows.
    pub rows: usize,
    /// Its events.
    pub events: usize,
    /// The sessions that the store keeps, each of which is what the log leads to.
    pub sessions: usize,
}

/// Why a log is not verified.
#[derive(Debug, Error)]
pub enum NotVerified {
    /// The store did not answer.
    #[error("reading the audit log")]
    Store(#[from] Fault),
    /// It is not whole, or not what it should be.
    #[error("the audit log is not whole: {0}")]
    Finding(#[from] Finding),
    /// Each node has a log of its own.
    #[error(
        "each node keeps its own sessions and their log: export the logs of all nodes, and verify them together \
         (`jumpgate audit verify --log FILE --log FILE`)"
    )]
    OwnLogs,
}

/// Why a log is not exported. What was taken is whole; the rest waits in the store.
#[derive(Debug, Error)]
pub enum NotExported {
    /// The file cannot be written.
    #[error("the file cannot be written, or is no such log")]
    File(#[from] io::Error),
    /// It ended early.
    #[error(transparent)]
    Export(#[from] ExportError),
}

impl Runtime {
    /// Replays the whole log and compares what it leads to with what the store keeps. Sessions that change
    /// meanwhile are told to be other than the log: ask again.
    ///
    /// # Errors
    ///
    /// With what is not as it must be.
    pub async fn verify_audit(&self) -> Result<Verified, NotVerified> {
        if self.settings.strategy() == Strategy::Sticky {
            return Err(NotVerified::OwnLogs);
        }
        let store = &*self.stores.directory;
        // What is kept is read first: the log is then at least as far.
        let fences = store.fences().await?;
        let placement = store.placement().await?;
        let mut sessions = Vec::new();
        self.all_sessions(|page| sessions.extend_from_slice(page)).await?;
        let (verifier, mut verified) = replayed(store).await?;
        verified.sessions = sessions.len();
        verifier.whole()?;
        // What has changed since then is not compared: the log is past it.
        let mut same = Vec::new();
        for stored in sessions {
            let stands = store.get(stored.record.id()).await?;
            if stands == Some(stored) {
                same.push(stored);
            }
        }
        verifier.sessions_after(same)?;
        for fence in fences {
            if store.fence(fence.node).await?.as_ref() == Some(&fence) {
                verifier.node_after(&fence)?;
            }
        }
        if let Some(placement) = placement
            && store.placement().await?.as_ref() == Some(&placement)
        {
            verifier.placement_after(&placement)?;
        }
        Ok(verified)
    }

    /// Moves what waits in this node's logs to a file with one line for each event.
    ///
    /// # Errors
    ///
    /// If the store or the file fails.
    pub async fn export_audit(&self, path: &Path) -> Result<usize, NotExported> {
        let mut sink = JsonLines::open(path)?;
        let mut rows = 0;
        let own = (self.settings.strategy() == Strategy::Sticky).then_some(&self.stores.sessions);
        for store in [Some(&self.stores.directory), own].into_iter().flatten() {
            loop {
                match export::<Backend>(store, &mut sink).await? {
                    0 => break,
                    more => rows += more,
                }
            }
        }
        Ok(rows)
    }
}

async fn replayed(store: &Backend) -> Result<(Verifier, Verified), NotVerified> {
    let (mut verifier, mut verified) = (Verifier::default(), Verified::default());
    let mut after = None;
    loop {
        let rows = store.audit(after, PAGE).await?;
        after = rows.last().map(|row| row.key);
        for row in &rows {
            verifier.row(row)?;
            verified.events += row.entries.len();
        }
        verified.rows += rows.len();
        if rows.len() < PAGE {
            return Ok((verifier, verified));
        }
    }
}
