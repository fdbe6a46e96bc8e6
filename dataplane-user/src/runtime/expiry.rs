//! Ends the sessions whose time is over.

use super::{Runtime, change::Unchanged};
use crate::cluster::utc;
use ownership::{
    model::{Input, Reason},
    store::{DirectoryWrite, Outcome, Sessions, Store},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How often it is looked.
const TICK: Duration = Duration::from_millis(500);

/// How often the sessions in each state are counted.
const COUNTING: Duration = Duration::from_secs(5);

/// How many end at once.
const TOGETHER: usize = 256;

impl Runtime {
    /// Forgets sessions that are over, once no client can still hold them.
    async fn forget_tombstones(&self) {
        let due: Vec<_> = {
            let books = self.books();
            let now = utc();
            let due = books.tombstones.iter().take_while(|(time, _)| *time <= now);
            due.take(TOGETHER).copied().collect()
        };
        for (time, session) in due {
            let Ok(stands) = self.stores.sessions.get(session).await else { return };
            if let Some(stored) = stands {
                let policy = self.settings.policy(stored.record.service());
                if let Ok(write) = DirectoryWrite::forget_session(&stored, self.by, &policy, utc())
                {
                    match self.stores.sessions.write(write).await {
                        Outcome::Won | Outcome::Lost(_) => {}
                        Outcome::Fenced => return self.fenced(),
                        Outcome::Unavailable(_) | Outcome::Unknown => return,
                    }
                }
            }
            self.books().tombstones.remove(&(time, session));
        }
    }

    pub(super) async fn expire(self: Arc<Self>) {
        let mut counted = Instant::now();
        loop {
            tokio::time::sleep(TICK).await;
            if counted.elapsed() >= COUNTING {
                counted = Instant::now();
                for (state, sessions) in self.books().by_state() {
                    self.instruments.set_sessions(state, sessions);
                }
            }
            if !self.is_open() {
                continue;
            }
            self.forget_tombstones().await;
            let over = self.books().over(utc());
            for some in over.chunks(TOGETHER) {
                let mut tasks = tokio::task::JoinSet::new();
                for &session in some {
                    let runtime = Arc::clone(&self);
                    tasks.spawn(async move {
                        let Some(turn) = runtime.turn(session) else { return };
                        // Something else may have been asked of it meanwhile: then it is not over.
                        match runtime.change(&turn, Input::Expire).await {
                            Ok(_) | Err(Unchanged::Refused(Reason::NotExpired)) => {}
                            Err(why) => tracing::warn!(%session, %why, "a session has not ended"),
                        }
                    });
                }
                tasks.join_all().await;
            }
        }
    }
}
