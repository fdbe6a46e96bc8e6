use std::time::Duration;
use thiserror::Error;

/// How fast a node is drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    at_once: usize,
    interval: Duration,
    left_over: LeftOver,
}

/// What becomes of sessions that are left when a drain's deadline comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LeftOver {
    /// They are moved without waiting for their application: it starts anew at the destination.
    Move,
    /// They end.
    #[default]
    Terminate,
}

/// Limits that nothing could be drained with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadLimits {
    /// No session may be under way.
    #[error("a drain needs at least one session at once")]
    NothingAtOnce,
    /// No session is started.
    #[error("a drain has to start at least one session a second")]
    NoRate,
}

impl Limits {
    /// At most `at_once` sessions are under way, and `per_second` of them are started; as many as may be
    /// under way are started together after a pause.
    ///
    /// # Errors
    ///
    /// If either is zero.
    pub fn new(at_once: usize, per_second: u32, left_over: LeftOver) -> Result<Self, BadLimits> {
        if at_once == 0 {
            return Err(BadLimits::NothingAtOnce);
        }
        if per_second == 0 {
            return Err(BadLimits::NoRate);
        }
        Ok(Self { at_once, interval: Duration::from_secs(1) / per_second, left_over })
    }

    /// How many sessions may be under way.
    pub fn at_once(self) -> usize {
        self.at_once
    }

    /// How long after one session the next is started, on average.
    pub fn interval(self) -> Duration {
        self.interval
    }

    /// What becomes of what is left.
    pub fn left_over(self) -> LeftOver {
        self.left_over
    }
}
