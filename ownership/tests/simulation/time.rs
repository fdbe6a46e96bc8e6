//! Virtual time, and what a machine's clocks make of it.

use crate::draw::Draw;
use ownership::{lease::BootTime, model::Time};

/// Nanoseconds since the run began: the time that nobody in it knows.
pub type Nanos = u64;

pub const MILLISECOND: Nanos = 1_000_000;
pub const SECOND: Nanos = 1_000 * MILLISECOND;

/// A machine's clocks. They are as wrong as a disciplined clock may be.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// When the machine was started.
    booted: Nanos,
    /// How many of its nanoseconds pass in a million true ones.
    rate: u64,
    /// How far its UTC is ahead, in milliseconds, plus when the run begins.
    utc: u64,
}

/// How fast a clock may run, in a million true nanoseconds.
const SLOWEST: u64 = 900_000;
const FASTEST: u64 = 1_100_000;

/// How far two clocks may differ in what time of day it is, in milliseconds.
const SKEW: u64 = 6_000;

const BEGINNING: u64 = 1_700_000_000_000;

impl Clocks {
    pub fn new(draw: &mut Draw) -> Self {
        // The ends of the range are what the lease's times are made for.
        let rate = match draw.below(3) {
            0 => SLOWEST,
            1 => FASTEST,
            _ => draw.between(SLOWEST, FASTEST),
        };
        Self { booted: 0, rate, utc: BEGINNING + draw.below(SKEW) }
    }

    /// The machine is started at `now`.
    pub fn restart(&mut self, now: Nanos) {
        self.booted = now;
    }

    pub fn boot(&self, now: Nanos) -> BootTime {
        BootTime::from_nanos(scaled(now - self.booted, self.rate, FULL))
    }

    /// When its clock shows `reading`, or a little later.
    pub fn when(&self, reading: BootTime) -> Nanos {
        self.booted + scaled(reading.nanos(), FULL, self.rate) + 2
    }

    pub fn utc(&self, now: Nanos) -> Time {
        Time::from_millis(self.utc + now / MILLISECOND)
    }
}

const FULL: u64 = 1_000_000;

fn scaled(span: Nanos, by: u64, of: u64) -> Nanos {
    (u128::from(span) * u128::from(by) / u128::from(of)) as Nanos
}
