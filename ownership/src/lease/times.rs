use std::time::Duration;
use thiserror::Error;

/// How long a lease lasts, and how long whoever would end it has to wait.
///
/// The two are measured by different clocks. A disciplined clock may be slewed by 10 % either way, so
/// the wait is at least 1.25 times the lease (1.1 / 0.9 is 1.223), and a margin for what the holder
/// does between its last look at the clock and the act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseTimes {
    lease: Duration,
    beat: Duration,
    wait: Duration,
    margin: Duration,
}

/// Times that no lease is safe with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadLeaseTimes {
    /// Whoever waits would not outwait a holder whose clock is slow.
    #[error("the wait of {wait:?} is too short for a lease of {lease:?}: at least {least:?}")]
    Wait {
        /// The lease.
        lease: Duration,
        /// The wait that was asked for.
        wait: Duration,
        /// The shortest one that is safe.
        least: Duration,
    },
    /// One lost heartbeat would end the lease.
    #[error("a heartbeat every {beat:?} is too seldom for a lease of {lease:?}: at most {most:?}")]
    Beat {
        /// The lease.
        lease: Duration,
        /// The time between heartbeats that was asked for.
        beat: Duration,
        /// The longest one: two fit into a lease.
        most: Duration,
    },
}

impl LeaseTimes {
    /// A lease of length `lease`, renewed every `beat`; others may end it after `wait`.
    ///
    /// # Errors
    ///
    /// If the wait is shorter than 1.25 times the lease and `margin`, or if a lease is over before its
    /// second heartbeat.
    pub fn new(
        lease: Duration,
        beat: Duration,
        wait: Duration,
        margin: Duration,
    ) -> Result<Self, BadLeaseTimes> {
        // Rounded up: a quarter of a nanosecond less would be too little.
        let quarter = (lease + Duration::from_nanos(3)) / 4;
        let least = lease.saturating_add(quarter).saturating_add(margin);
        if wait < least {
            return Err(BadLeaseTimes::Wait { lease, wait, least });
        }
        let most = lease / 2;
        if beat > most {
            return Err(BadLeaseTimes::Beat { lease, beat, most });
        }
        Ok(Self { lease, beat, wait, margin })
    }

    /// How long a node may act after it sent a heartbeat.
    pub fn lease(self) -> Duration {
        self.lease
    }

    /// How long after one heartbeat the next is sent.
    pub fn beat(self) -> Duration {
        self.beat
    }

    /// How long a node's heartbeat must have stood unchanged before the node may be fenced.
    pub fn wait(self) -> Duration {
        self.wait
    }

    /// How long after its deadline a holder may take to notice it.
    pub fn margin(self) -> Duration {
        self.margin
    }
}

impl Default for LeaseTimes {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(10),
            beat: Duration::from_secs(2),
            wait: Duration::from_secs(15),
            margin: Duration::from_secs(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_outwaits_a_slow_clock() {
        let times = |lease, beat, wait, margin| {
            let [lease, beat, wait, margin] = [lease, beat, wait, margin].map(Duration::from_nanos);
            LeaseTimes::new(lease, beat, wait, margin)
        };
        assert!(times(100, 20, 130, 5).is_ok());
        let least = Duration::from_nanos(130);
        let short = times(100, 20, 129, 5).unwrap_err();
        assert!(matches!(short, BadLeaseTimes::Wait { least: l, .. } if l == least), "{short}");
        assert!(times(101, 20, 131, 5).is_err(), "a part of a nanosecond counts");
        assert!(times(100, 50, 200, 5).is_ok());
        assert!(matches!(times(100, 51, 200, 5), Err(BadLeaseTimes::Beat { .. })));
        let LeaseTimes { lease, beat, wait, margin } = LeaseTimes::default();
        assert_eq!(LeaseTimes::new(lease, beat, wait, margin), Ok(LeaseTimes::default()));
    }
}
