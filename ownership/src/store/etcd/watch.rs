use super::{Inner, keys::Range};
use crate::store::{Fault, Key};
use etcd_client::WatchOptions;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// How long to wait before a watch that has ended is begun again.
const PAUSE: Duration = Duration::from_millis(200);

/// Watches a range from a revision on, for as long as the store is open, and tells of changes.
pub(super) async fn run(inner: Arc<Inner>, range: Range, mut from: i64) {
    loop {
        if watch(&inner, &range, &mut from).await == Ended::Gap {
            // What has changed meanwhile nobody tells any more: all of it is to be read again.
            if let Ok(now) = inner.revision().await {
                from = now.saturating_add(1);
                inner.tell(now);
            }
        }
        sleep(PAUSE).await;
    }
}

/// Why a watch has ended.
#[derive(PartialEq, Eq)]
enum Ended {
    /// Nothing that follows `from` was left out, if it is begun again there.
    Broken,
    /// History behind `from` is gone.
    Gap,
}

async fn watch(inner: &Inner, (first, end): &Range, from: &mut i64) -> Ended {
    let until = Instant::now() + inner.deadline;
    let Ok(connection) = inner.watches.connection(until).await else { return Ended::Broken };
    let options = WatchOptions::new().with_range(end.as_slice()).with_start_revision(*from);
    let Ok(mut events) = connection.watch().watch(first.as_slice(), Some(options)).await else {
        connection.leave();
        return Ended::Broken;
    };
    while let Ok(Some(message)) = events.message().await {
        if message.compact_revision() > 0 {
            return Ended::Gap;
        }
        if message.canceled() {
            break;
        }
        // The revision in the header may be ahead of the events that have come.
        let changed = message.events().iter().filter_map(|event| event.kv());
        if let Some(last) = changed.map(|row| row.mod_revision()).max() {
            *from = last.saturating_add(1);
            inner.tell(last);
        }
    }
    connection.leave();
    Ended::Broken
}

impl Inner {
    /// Tells those who wait that something may have changed, up to this revision.
    fn tell(&self, revision: i64) {
        let revision = u64::try_from(revision).unwrap_or(0);
        self.changed.send_modify(|told| *told = revision.max(*told));
    }

    /// The revision that the store is at.
    async fn revision(&self) -> Result<i64, Fault> {
        let answer = self.read(Key::Generation).await?;
        answer.header().map(etcd_client::ResponseHeader::revision).ok_or(Fault::Unreachable)
    }
}
