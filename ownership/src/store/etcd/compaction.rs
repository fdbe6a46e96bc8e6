use super::Inner;
use crate::store::Key;
use etcd_client::GetOptions;
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// Compacts history away, often and little at a time, up to what stood a period ago.
///
/// All nodes do this, and nobody is chosen for it: who finds that history was compacted in the last
/// half period leaves it at that. So it is done at most twice in a period, however many nodes there
/// are.
pub(super) async fn run(inner: Arc<Inner>, period: Duration) {
    // Revisions, half a period apart.
    let mut past: VecDeque<i64> = VecDeque::with_capacity(PAST);
    loop {
        // Nodes that were started together go apart.
        sleep(period.mul_f64(rand::random_range(0.4..0.6))).await;
        let now = i64::try_from(inner.shared.standing.seen().revision).unwrap_or(i64::MAX);
        if past.len() == PAST {
            past.pop_front();
        }
        past.push_back(now);
        let [oldest, target, ..] = *past.make_contiguous() else { continue };
        if past.len() == PAST && target > oldest && !inner.is_compacted(oldest).await {
            inner.compact(target).await;
        }
    }
}

/// Now, half a period ago, a whole one, and one and a half.
const PAST: usize = 4;

impl Inner {
    /// Whether history at this revision is gone, or nobody can tell.
    async fn is_compacted(&self, revision: i64) -> bool {
        let key = self.shared.keys.of(&Key::Generation);
        let options = GetOptions::new().with_revision(revision).with_serializable();
        let read = self.bulk.read(Instant::now() + self.deadline, |connection| {
            let (key, options) = (key.clone(), options.clone());
            async move { connection.kv().get(key, Some(options)).await }
        });
        read.await.is_err()
    }

    async fn compact(&self, revision: i64) {
        let compact = self.bulk.read(Instant::now() + self.deadline, |connection| async move {
            connection.kv().compact(revision, None).await
        });
        // Somebody else may have been faster, or only others may do it; the next time will tell.
        let _is_done = compact.await;
    }
}
