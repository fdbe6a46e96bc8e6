//! Ends the sessions whose time is over.

use super::{Runtime, change::Unchanged};
use crate::cluster::utc;
use ownership::model::{Input, Reason};
use std::{sync::Arc, time::Duration};

/// How often it is looked.
const TICK: Duration = Duration::from_millis(500);

/// How many end at once.
const TOGETHER: usize = 256;

impl Runtime {
    pub(super) async fn expire(self: Arc<Self>) {
        loop {
            tokio::time::sleep(TICK).await;
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
