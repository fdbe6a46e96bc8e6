//! Ends the sessions whose time is over.

use super::{Runtime, change::Unchanged};
use crate::cluster::utc;
use ownership::model::{Input, Reason};
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
            let (over, _) = self.books().over(utc());
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
