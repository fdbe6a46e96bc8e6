//! From a path to what is answered.

use super::{Instruments, Pulse, snapshot::Snapshot};
use crate::{
    dataplane::fence::open_for,
    node::{Node, lock},
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// How long after the end of its lease a keeper that does not stir is taken for stuck.
const STUCK: Duration = Duration::from_secs(10);

/// Plain text.
const TEXT: &str = "text/plain; charset=utf-8";

/// OpenMetrics 1.0.
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where answers come from.
#[derive(Clone)]
pub struct Source {
    /// The node.
    pub node: Arc<Mutex<Node>>,
    /// What was counted as it happened.
    pub instruments: Instruments,
    /// Of whoever keeps the lease.
    pub keeper: Pulse,
    /// How long a lease lasts.
    pub lease: Duration,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// Of HTTP.
    pub status: u16,
    pub content_type: &'static str,
    pub body: String,
}

impl Answer {
    pub(super) fn text(status: u16, line: &str) -> Self {
        Self { status, content_type: TEXT, body: format!("{line}\n") }
    }
}

impl Source {
    /// Blocks for moments. The thread is in the node's network namespace.
    pub(super) fn answer(&self, path: &str) -> Answer {
        match path {
            "/metrics" => self.metrics(),
            "/healthz" => health(self.keeper.silence(), self.lease),
            "/readyz" => self.readiness(),
            _ => Answer::text(404, "not found: there are /metrics, /healthz and /readyz"),
        }
    }

    fn metrics(&self) -> Answer {
        let snapshot = match Snapshot::take(&self.node) {
            Ok(snapshot) => snapshot,
            Err(refusal) => return Answer::text(500, &refusal.to_string()),
        };
        let node = ("node".into(), snapshot.status.node.clone().into());
        let mut registry = Registry::with_prefix_and_labels("jumpgate", [node].into_iter());
        self.instruments.register(&mut registry);
        registry.register_collector(Box::new(snapshot));
        let mut body = String::new();
        encode(&mut body, &registry).expect("a string takes all that is written");
        Answer { status: 200, content_type: METRICS, body }
    }

    fn readiness(&self) -> Answer {
        let open = open_for(lock(&self.node).dataplane.memory.local_row());
        match open {
            Some(left) => Answer::text(
                200,
                &format!("ready: the lease is open for {:.1} s more", left.as_secs_f64()),
            ),
            None => Answer::text(
                503,
                "not ready: the fence is shut, as the lease has run out and could not be renewed in \
                 the store",
            ),
        }
    }
}

/// Of a daemon whose keeper has not stirred for a time.
fn health(silence: Duration, lease: Duration) -> Answer {
    if silence < lease + STUCK {
        return Answer::text(200, "healthy");
    }
    let silence = silence.as_secs();
    Answer::text(503, &format!("whoever keeps the lease has not stirred for {silence} s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keeper_that_is_stuck_is_told_of() {
        let lease = Duration::from_secs(10);
        let well = health(Duration::from_secs(19), lease);
        assert_eq!((well.status, &*well.body), (200, "healthy\n"));
        let stuck = health(Duration::from_secs(21), lease);
        assert_eq!(stuck.status, 503);
        assert_eq!(stuck.body, "whoever keeps the lease has not stirred for 21 s\n");
    }

    #[test]
    fn a_loop_that_turns_is_not_silent() {
        let pulse = Pulse::default();
        let seen = pulse.clone();
        std::thread::sleep(Duration::from_millis(20));
        let before = seen.silence();
        pulse.beat();
        assert!(before >= Duration::from_millis(20) && seen.silence() < before);
    }
}
