//! How fast waiting packets are sent.

use std::time::{Duration, Instant};

/// The most that is made up for when nobody could run, in time.
pub(super) const CATCH_UP: Duration = Duration::from_millis(5);

/// An allowance of packets: so many a second, and one more for each that arrives meanwhile, or a
/// queue would never get shorter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    per_second: f64,
    /// Packets that may be sent now; below 0 never.
    credit: f64,
    last: Instant,
}

impl Pace {
    /// An empty allowance at `now`.
    pub fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second: per_second.into(), credit: 0.0, last: now }
    }

    /// One more has arrived.
    pub fn arrived(&mut self) {
        self.credit += 1.0;
    }

    /// Grants what belongs to the time since the last grant.
    pub fn grant(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.last).min(CATCH_UP);
        self.last = now;
        self.credit += passed.as_secs_f64() * self.per_second;
    }

    /// How many packets may be sent by each of `parts` that are still to be served.
    pub fn share(&self, parts: usize) -> usize {
        (self.credit / parts as f64).floor() as usize
    }

    /// So many were sent.
    pub fn spend(&mut self, packets: usize) {
        self.credit = (self.credit - packets as f64).max(0.0);
    }

    /// Forgets what was not used: that is no reason for a burst. What is left may still grow to a
    /// whole packet, however slow the pace is.
    pub fn settle(&mut self) {
        self.credit = self.credit.min((self.per_second * CATCH_UP.as_secs_f64()).max(1.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends all that may be sent at each of `ticks` moments, 1 ms apart; `arriving` come in each.
    fn run(pace: &mut Pace, start: Instant, ticks: u32, arriving: usize) -> usize {
        let mut sent = 0;
        for tick in 1..=ticks {
            (0..arriving).for_each(|_| pace.arrived());
            pace.grant(start + Duration::from_millis(1) * tick);
            let share = pace.share(1);
            pace.spend(share);
            sent += share;
            pace.settle();
        }
        sent
    }

    #[test]
    fn so_many_a_second() {
        let start = Instant::now();
        for per_second in [1, 1_500, 50_000] {
            let sent = run(&mut Pace::new(per_second, start), start, 2_000, 0);
            assert!(sent.abs_diff(2 * per_second as usize) <= 1, "{sent} of {per_second} a second");
        }
    }

    #[test]
    fn what_arrives_is_sent_beside() {
        let start = Instant::now();
        let sent = run(&mut Pace::new(1_000, start), start, 1_000, 7);
        assert!(sent.abs_diff(1_000 + 7_000) <= 1, "{sent}");
    }

    #[test]
    fn little_is_made_up_for_and_nothing_saved_for_a_burst() {
        let start = Instant::now();
        let mut pace = Pace::new(10_000, start);
        pace.grant(start + Duration::from_secs(60));
        assert_eq!(pace.share(1), 50, "of a minute without a run, 5 ms");
        for tick in 1..1_000 {
            pace.grant(start + Duration::from_secs(60) + Duration::from_millis(1) * tick);
            pace.settle();
        }
        assert_eq!(pace.share(1), 50, "of a second without need, 5 ms");
        assert_eq!(pace.share(4), 12);
    }

    #[test]
    fn time_that_goes_back_grants_nothing() {
        let start = Instant::now() + Duration::from_secs(1);
        let mut pace = Pace::new(1_000, start);
        pace.grant(start - Duration::from_millis(500));
        assert_eq!(pace.share(1), 0);
    }
}
