use crate::store::{Fault, Generation, OlderStore, Position, Seen};
use etcd_client::ResponseHeader;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The latest point that was seen of the store. Once an answer is of an older one, the store is
/// refused for good.
///
/// A cluster that is restored keeps its ids and hands old revisions out again, so the revision is
/// what tells; the id tells of an entirely different cluster.
pub(super) struct Standing {
    seen: Mutex<Seen>,
    cluster: OnceLock<u64>,
    refused: OnceLock<OlderStore>,
}

impl Standing {
    pub(super) fn new(seen: Seen) -> Self {
        Self { seen: Mutex::new(seen), cluster: OnceLock::new(), refused: OnceLock::new() }
    }

    pub(super) fn seen(&self) -> Position {
        self.lock().position()
    }

    /// What was seen before a request is sent: its answer must not be older.
    pub(super) fn asks(&self) -> Result<Position, Fault> {
        if self.refused.get().is_some() { Err(Fault::Older) } else { Ok(self.seen()) }
    }

    /// Why the store is refused, if it is.
    pub(super) fn refused(&self) -> Option<OlderStore> {
        self.refused.get().copied()
    }

    /// Takes note of an answer to what was asked when `asked` was seen.
    pub(super) fn answered(
        &self,
        asked: Position,
        header: Option<&ResponseHeader>,
    ) -> Result<(), OlderStore> {
        let generation = self.seen().generation;
        self.stands(asked, generation, header)
    }

    /// The same of an answer that tells the generation.
    pub(super) fn stands(
        &self,
        asked: Position,
        generation: Generation,
        header: Option<&ResponseHeader>,
    ) -> Result<(), OlderStore> {
        // Revisions are positive; without a header there is nothing to go by.
        let (revision, cluster) = header.map_or((0, 0), |header| {
            (u64::try_from(header.revision()).unwrap_or(0), header.cluster_id())
        });
        let stands = Position { generation, revision };
        let is_other = *self.cluster.get_or_init(|| cluster) != cluster;
        if is_other || stands < asked {
            return Err(*self.refused.get_or_init(|| OlderStore { stands, seen: asked }));
        }
        let mut seen = self.lock();
        // Answers overtake each other: this one may be older than what has been seen meanwhile.
        if stands > seen.position() {
            *seen = Seen::new(stands);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // Nothing panics while it is held.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
