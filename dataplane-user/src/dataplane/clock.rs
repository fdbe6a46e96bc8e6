//! Clocks: the lease's exact one, and the kernel's jiffies that XDP can read for free.

use super::{Dataplane, object::xdp};
use aya::programs::{ProgramError, TestRun, TestRunOptions};
use std::{io, time::Duration};
use thiserror::Error;

/// How late jiffies may be, in ticks: one for the tick itself, five when the CPU that keeps time
/// stalls.
pub const JIFFIES_LATE: u64 = 6;

/// CLOCK_BOOTTIME, which goes on while the machine sleeps: what leases are measured by.
pub fn boottime() -> Duration {
    read(libc::CLOCK_BOOTTIME).expect("Linux has CLOCK_BOOTTIME since 2.6.39")
}

/// CLOCK_MONOTONIC, by which jiffies advance.
pub fn monotonic() -> Duration {
    read(libc::CLOCK_MONOTONIC).expect("Linux has CLOCK_MONOTONIC")
}

fn read(clock: libc::clockid_t) -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec.
    match unsafe { libc::clock_gettime(clock, &mut time) } {
        0 => Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The length of a tick: the resolution of the coarse clock (1/CONFIG_HZ).
pub fn tick() -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec.
    match unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &mut time) } {
        0 => Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Jiffies as a line over CLOCK_MONOTONIC, through one reading of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jiffies {
    /// The reading of jiffies. It may have been late, never early.
    pub jiffies: u64,
    /// CLOCK_MONOTONIC at that reading.
    pub monotonic: Duration,
    /// The length of a tick.
    pub tick: Duration,
}

impl Jiffies {
    /// Jiffies that are reached no later than `monotonic`, however late the kernel counts them.
    pub fn not_after(&self, monotonic: Duration) -> u64 {
        self.at(monotonic).saturating_sub(JIFFIES_LATE)
    }

    /// When `jiffies` were reached, by CLOCK_MONOTONIC; what was before the reading, at the reading.
    pub fn time(&self, jiffies: u64) -> Duration {
        let ahead = jiffies.saturating_sub(self.jiffies);
        self.monotonic + self.tick.saturating_mul(u32::try_from(ahead).unwrap_or(u32::MAX))
    }

    /// Whether this reading was less late than another, earlier one.
    pub fn is_less_late_than(&self, other: &Self) -> bool {
        self.jiffies > other.at(self.monotonic)
    }

    /// Jiffies at `monotonic` by the line; 0 before the reading.
    fn at(&self, monotonic: Duration) -> u64 {
        let Some(ahead) = monotonic.checked_sub(self.monotonic) else {
            return 0;
        };
        self.jiffies + (ahead.as_nanos() / self.tick.as_nanos()) as u64
    }
}

/// Why the kernel's time could not be read.
#[derive(Debug, Error)]
pub enum ClockError {
    /// Running the clock program failed.
    #[error("running the clock program failed")]
    Program(#[from] ProgramError),
    /// The clock program found no room for its answer.
    #[error("the clock program refused its packet")]
    Refused,
    /// The tick's length is not known.
    #[error("reading the length of a tick failed")]
    Tick(#[source] io::Error),
}

impl Dataplane {
    /// Reads jiffies and the clock they follow.
    pub fn jiffies(&mut self) -> Result<Jiffies, ClockError> {
        let tick = tick().map_err(ClockError::Tick)?;
        // The least late of several, as one reading may fall into a stall.
        let mut best: Option<Jiffies> = None;
        for _ in 0..4 {
            let [jiffies, monotonic, _] = self.clocks()?;
            let reading = Jiffies { jiffies, monotonic: Duration::from_nanos(monotonic), tick };
            if best.is_none_or(|best| reading.is_less_late_than(&best)) {
                best = Some(reading);
            }
        }
        Ok(best.expect("four readings"))
    }

    /// Jiffies, CLOCK_MONOTONIC and CLOCK_BOOTTIME as a program sees them in one moment.
    fn clocks(&mut self) -> Result<[u64; 3], ClockError> {
        let mut out = [0; 64];
        let program = xdp(&mut self.ebpf, "clock")?;
        let result = program.test_run(TestRunOptions {
            data_in: Some(&[0; 64]),
            data_out: Some(&mut out),
            ..TestRunOptions::default()
        })?;
        if result.return_value != 2 {
            return Err(ClockError::Refused);
        }
        let word = |at: usize| u64::from_ne_bytes(out[at..at + 8].try_into().expect("8 bytes"));
        Ok([word(0), word(8), word(16)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_in_jiffies_is_reached_before_the_deadline() {
        let tick = Duration::from_millis(4);
        let line = Jiffies { jiffies: 1_000, monotonic: Duration::from_secs(50), tick };
        assert_eq!(line.not_after(Duration::from_secs(51)), 1_000 + 250 - JIFFIES_LATE);
        assert_eq!(line.time(1_250), Duration::from_secs(51));
        assert_eq!(line.time(1), Duration::from_secs(50), "no earlier than the reading");
        // A part of a tick does not count.
        assert_eq!(line.not_after(Duration::from_millis(51_003)), 1_250 - JIFFIES_LATE);
        assert_eq!(line.not_after(Duration::from_secs(49)), 0, "in the past");
    }

    #[test]
    fn of_two_readings_the_one_that_was_less_late_is_known() {
        let tick = Duration::from_millis(4);
        let reading = |jiffies, milliseconds| Jiffies {
            jiffies,
            monotonic: Duration::from_millis(milliseconds),
            tick,
        };
        let late = reading(1_000, 50_000);
        assert!(reading(1_003, 50_008).is_less_late_than(&late), "three ticks in the time of two");
        assert!(!reading(1_002, 50_008).is_less_late_than(&late));
        assert!(!reading(1_001, 50_008).is_less_late_than(&late), "even later");
    }

    #[test]
    fn the_tick_is_one_that_linux_can_have() {
        let hertz = 1_000_000_000 / tick().unwrap().as_nanos();
        assert!([100, 250, 300, 1_000].contains(&hertz), "{hertz} Hz");
    }
}
