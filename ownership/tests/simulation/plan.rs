//! What a run is like: drawn from its seed before anything happens.

use crate::{
    broken::Broken,
    draw::Draw,
    time::{Nanos, SECOND},
};
use ownership::{
    lease::LeaseTimes,
    model::Policy,
    takeover::{LossPolicy, OnLoss, Strategy},
};
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub broken: Option<Broken>,
    pub strategy: Strategy,
    pub loss: LossPolicy,
    pub nodes: usize,
    pub clients: usize,
    pub policy: Policy,
    pub times: LeaseTimes,
    /// For how long things go wrong.
    pub chaos: Nanos,
    /// How often, on average.
    pub between_faults: Nanos,
    /// Whether a clone of a node may appear.
    pub has_clone: bool,
    /// Whether the store may be replaced by a backup of it.
    pub has_restore: bool,
}

impl Plan {
    pub fn new(draw: &mut Draw, broken: Option<Broken>) -> Self {
        let kind = draw.below(6);
        let (strategy, on_loss) = match kind {
            _ if broken.is_some_and(Broken::needs_takeover) => (Strategy::Shared, OnLoss::TakeOver),
            0 => (Strategy::Sticky, OnLoss::Deny),
            1 => (Strategy::Sticky, OnLoss::Terminate),
            2 => (Strategy::Shared, OnLoss::Deny),
            3 => (Strategy::Shared, OnLoss::Terminate),
            _ => (Strategy::Shared, OnLoss::TakeOver),
        };
        let seconds = Duration::from_secs;
        let [lease, beat] = [10, 2].map(seconds);
        let [wait, margin] = [12_600, 100].map(Duration::from_millis);
        let is_short = draw.per_mille(250);
        let policy = Policy {
            session_ttl: if draw.per_mille(200) { seconds(70) } else { seconds(24 * 3600) },
            transport_loss_ttl: seconds(if is_short { 25 } else { 600 }),
            recovery_window: seconds(if is_short { 20 } else { 600 }),
            ..Policy::default()
        };
        Self {
            broken,
            strategy,
            loss: LossPolicy::new(strategy, on_loss).expect("shared where it must be"),
            nodes: draw.between(2, 4) as usize,
            clients: draw.between(4, 10) as usize,
            policy,
            times: LeaseTimes::new(lease, beat, wait, margin).expect("the shortest safe wait"),
            chaos: draw.between(40 * SECOND, 120 * SECOND),
            between_faults: draw.between(SECOND, 6 * SECOND),
            // What is kept on a node alone is cloned with it.
            has_clone: strategy == Strategy::Shared && draw.per_mille(200),
            has_restore: draw.per_mille(150),
        }
    }
}
