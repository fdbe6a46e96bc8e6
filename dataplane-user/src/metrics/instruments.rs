//! What is counted and timed as it happens.

use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use std::time::Duration;

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// The instruments of one node. A clone is the same ones.
///
/// Labels are of closed lists, the names of enums of ours: each makes a time series that stays.
#[derive(Clone, Debug)]
pub struct Instruments {
    handover_gap: Histogram,
    handovers: Family<Labels<1>, Counter>,
    store_latency: Family<Labels<1>, Histogram, fn() -> Histogram>,
    store_failures: Family<Labels<1>, Counter>,
    sessions_by_state: Family<Labels<1>, Gauge>,
    state_changes: Family<Labels<1>, Counter>,
    refusals: Family<Labels<2>, Counter>,
    control_requests: Family<Labels<1>, Counter>,
}

/// What the store is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A row, or a page of them.
    Read,
    /// A batch of transactions.
    Commit,
    /// A sign of life.
    Heartbeat,
}

impl Operation {
    /// As its label has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Commit => "commit",
            Self::Heartbeat => "heartbeat",
        }
    }
}

/// What came of a datagram to a control port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asked {
    /// It was answered, if only with a refusal.
    Answered,
    /// It is no request.
    Unreadable,
    /// It names keys that nobody here has, so no answer could be believed.
    Unanswerable,
    /// Too many were under way: dropped.
    Dropped,
    /// The kernel did not take the answer.
    Unsent,
}

impl Asked {
    /// As its label has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Unreadable => "unreadable",
            Self::Unanswerable => "unanswerable",
            Self::Dropped => "dropped",
            Self::Unsent => "unsent",
        }
    }
}

/// 250 µs to 8 s, and 15 ms and 50 ms, which handovers are to stay below.
fn gap_buckets() -> impl Iterator<Item = f64> {
    let mut buckets: Vec<_> = exponential_buckets(0.000_25, 2.0, 16).collect();
    buckets.extend([0.005, 0.015, 0.05]);
    buckets.sort_by(f64::total_cmp);
    buckets.into_iter()
}

/// 50 µs to 13 s.
fn latency_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.000_05, 2.0, 19))
}

impl Default for Instruments {
    fn default() -> Self {
        Self {
            handover_gap: Histogram::new(gap_buckets()),
            handovers: Family::default(),
            store_latency: Family::new_with_constructor(latency_histogram),
            store_failures: Family::default(),
            sessions_by_state: Family::default(),
            state_changes: Family::default(),
            refusals: Family::default(),
            control_requests: Family::default(),
        }
    }
}

impl Instruments {
    /// A session's packets have waited so long while it went to another node, or came from one.
    pub fn waited(&self, gap: Duration) {
        self.handover_gap.observe(gap.as_secs_f64());
    }

    /// A handover has ended: `completed`, or the name of what ended it.
    pub fn handed_over(&self, outcome: &'static str) {
        self.handovers.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// The store has answered after this time; `is_failed` if it is not known what it did, or it did
    /// nothing.
    pub fn asked_store(&self, operation: Operation, took: Duration, is_failed: bool) {
        let labels = [("operation", operation.name())];
        self.store_latency.get_or_create(&labels).observe(took.as_secs_f64());
        // There from the first answer on, so that the first failure is an increase.
        self.store_failures.get_or_create(&labels).inc_by(is_failed.into());
    }

    /// How many sessions of this node are in a state, by the state's name.
    pub fn set_sessions(&self, state: &'static str, sessions: usize) {
        let sessions = i64::try_from(sessions).unwrap_or(i64::MAX);
        self.sessions_by_state.get_or_create(&[("state", state)]).set(sessions);
    }

    /// A session's state was changed by an input with this name.
    pub fn changed(&self, input: &'static str) {
        self.state_changes.get_or_create(&[("input", input)]).inc();
    }

    /// An input was refused, for a reason and by an event of a class.
    pub fn refused(&self, reason: &'static str, class: &'static str) {
        self.refusals.get_or_create(&[("reason", reason), ("class", class)]).inc();
    }

    /// A datagram has come to a control port.
    pub fn asked(&self, outcome: Asked) {
        self.control_requests.get_or_create(&[("outcome", outcome.name())]).inc();
    }

    /// Puts them into a registry.
    pub(super) fn register(&self, registry: &mut Registry) {
        let Self {
            handover_gap,
            handovers,
            store_latency,
            store_failures,
            sessions_by_state,
            state_changes,
            refusals,
            control_requests,
        } = self.clone();
        registry.register(
            "handover_gap_seconds",
            "How long packets of a session waited in a handover",
            handover_gap,
        );
        registry.register("handovers", "Handovers that have ended, by outcome", handovers);
        registry.register(
            "store_latency_seconds",
            "How long the store took to answer, by operation",
            store_latency,
        );
        registry.register(
            "store_failures",
            "Requests to the store that failed, or whose outcome is not known",
            store_failures,
        );
        registry.register(
            "sessions_by_state",
            "Sessions of this node, by their state in the store",
            sessions_by_state,
        );
        registry.register(
            "state_changes",
            "Changes of the state of sessions, by what made them",
            state_changes,
        );
        registry.register("refusals", "Requests about sessions that were refused", refusals);
        registry.register(
            "control_requests",
            "Datagrams to control ports that the daemon answers at, by what came of them",
            control_requests,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;

    fn text(instruments: &Instruments) -> String {
        let mut registry = Registry::with_prefix("jumpgate");
        instruments.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn a_clone_counts_into_the_same_instruments() {
        let instruments = Instruments::default();
        let clone = instruments.clone();
        clone.waited(Duration::from_millis(3));
        clone.handed_over("completed");
        clone.asked_store(Operation::Heartbeat, Duration::from_millis(1), false);
        clone.asked_store(Operation::Heartbeat, Duration::from_secs(1), true);
        clone.set_sessions("attached", 7);
        clone.changed("reattach");
        clone.refused("STALE_VERSION", "SECURITY_EVENT");
        clone.asked(Asked::Dropped);
        let text = text(&instruments);
        for line in [
            "jumpgate_handover_gap_seconds_bucket{le=\"0.002\"} 0",
            "jumpgate_handover_gap_seconds_bucket{le=\"0.005\"} 1",
            "jumpgate_handovers_total{outcome=\"completed\"} 1",
            "jumpgate_store_latency_seconds_count{operation=\"heartbeat\"} 2",
            "jumpgate_store_failures_total{operation=\"heartbeat\"} 1",
            "jumpgate_sessions_by_state{state=\"attached\"} 7",
            "jumpgate_state_changes_total{input=\"reattach\"} 1",
            "jumpgate_refusals_total{reason=\"STALE_VERSION\",class=\"SECURITY_EVENT\"} 1",
            "jumpgate_control_requests_total{outcome=\"dropped\"} 1",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
        }
    }

    #[test]
    fn buckets_go_up() {
        let buckets: Vec<_> = gap_buckets().collect();
        assert!(buckets.windows(2).all(|pair| pair[0] < pair[1]), "{buckets:?}");
    }
}
