use super::Time;
use std::time::Duration;

/// What a service allows its sessions. Every commit says by which revision it was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Counts the changes of this policy.
    pub revision: u32,
    /// How long a session lives in all.
    pub session_ttl: Duration,
    /// How long a session without a transport lives.
    pub transport_loss_ttl: Duration,
    /// How long after it lost its transport a session may still be reattached; no longer than
    /// `transport_loss_ttl`.
    pub recovery_window: Duration,
    /// How many changes of transport may come at once.
    pub switch_burst: u16,
    /// In which time one more change of transport is granted.
    pub switch_interval: Duration,
    /// The least time between two changes of transport.
    pub switch_cooldown: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            revision: 1,
            session_ttl: Duration::from_secs(24 * 3600),
            transport_loss_ttl: Duration::from_secs(300),
            recovery_window: Duration::from_secs(300),
            switch_burst: 20,
            switch_interval: Duration::from_secs(6),
            switch_cooldown: Duration::from_millis(500),
        }
    }
}

/// How much of its allowance of transport changes a session has used: a generic cell rate (ITU-T
/// I.371), which is one time and needs no timer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SwitchAllowance {
    /// When the session will have its whole allowance again.
    pub(super) full_at: Time,
    /// The last change.
    pub(super) last: Option<Time>,
}

/// Why a change of transport comes too soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TooSoon {
    Rate,
    Cooldown,
}

impl SwitchAllowance {
    /// The allowance after a change at `now`, if there is one left.
    pub(super) fn take(self, now: Time, policy: &Policy) -> Result<Self, TooSoon> {
        if self.last.is_some_and(|last| now < last.after(policy.switch_cooldown)) {
            return Err(TooSoon::Cooldown);
        }
        let full_at = self.full_at.max(now).after(policy.switch_interval);
        let most = policy.switch_interval.saturating_mul(u32::from(policy.switch_burst));
        if full_at.since(now) > most {
            return Err(TooSoon::Rate);
        }
        Ok(Self { full_at, last: Some(now) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_one_in_each_interval() {
        let policy = Policy {
            switch_burst: 3,
            switch_interval: Duration::from_secs(10),
            switch_cooldown: Duration::ZERO,
            ..Policy::default()
        };
        let start = Time::from_millis(1_000_000);
        let mut allowance = SwitchAllowance::default();
        for _ in 0..3 {
            allowance = allowance.take(start, &policy).unwrap();
        }
        assert_eq!(allowance.take(start, &policy), Err(TooSoon::Rate));
        let early = start.after(Duration::from_millis(9_999));
        assert_eq!(allowance.take(early, &policy), Err(TooSoon::Rate));
        let later = start.after(Duration::from_secs(10));
        let allowance = allowance.take(later, &policy).unwrap();
        assert_eq!(allowance.take(later, &policy), Err(TooSoon::Rate));
    }

    #[test]
    fn changes_keep_their_distance() {
        let policy = Policy::default();
        let start = Time::from_millis(5);
        let allowance = SwitchAllowance::default().take(start, &policy).unwrap();
        let early = start.after(Duration::from_millis(499));
        assert_eq!(allowance.take(early, &policy), Err(TooSoon::Cooldown));
        assert!(allowance.take(start.after(Duration::from_millis(500)), &policy).is_ok());
    }
}
