use std::{fmt, time::Duration};

/// A reading of CLOCK_BOOTTIME in nanoseconds: goes on while the machine sleeps, is never set, and
/// means nothing on another machine or after the next boot.
///
/// Leases are measured by it. It is no UTC: that is [`crate::model::Time`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootTime(u64);

impl BootTime {
    /// The reading `nanoseconds` after the boot.
    pub const fn from_nanos(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// Nanoseconds since the boot.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// The time `span` later; the end of time if that is beyond it.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        let span = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(span))
    }

    /// How long ago `earlier` was; nothing if it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for BootTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} after the boot", Duration::from_nanos(self.0))
    }
}
