//! Whether a loop still turns.

use crate::cluster::now;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// When a loop turned last. A clone is of the same loop.
#[derive(Clone, Debug)]
pub struct Pulse(Arc<AtomicU64>);

impl Default for Pulse {
    /// As if it turned now.
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(now().nanos())))
    }
}

impl Pulse {
    /// It turns.
    pub fn beat(&self) {
        self.0.store(now().nanos(), Ordering::Relaxed);
    }

    /// How long ago it turned last.
    pub fn silence(&self) -> Duration {
        Duration::from_nanos(now().nanos().saturating_sub(self.0.load(Ordering::Relaxed)))
    }
}
