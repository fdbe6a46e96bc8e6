//! The log of a run: all that happened, in order. Two runs are the same if their logs are.

use crate::time::{Nanos, SECOND};
use std::{
    collections::VecDeque,
    fmt::Debug,
    hash::{Hash, Hasher},
};
use xxhash_rust::xxh64::Xxh64;

pub struct Trace {
    hash: Xxh64,
    events: u64,
    lines: VecDeque<String>,
    kept: usize,
}

impl Trace {
    /// Keeps so many of its last lines for people to read.
    pub fn new(kept: usize) -> Self {
        Self { hash: Xxh64::new(0), events: 0, lines: VecDeque::new(), kept }
    }

    pub fn tell(&mut self, now: Nanos, what: &'static str, details: impl Debug + Hash) {
        self.events += 1;
        now.hash(&mut self.hash);
        what.hash(&mut self.hash);
        details.hash(&mut self.hash);
        if self.kept == 0 {
            return;
        }
        if self.lines.len() == self.kept {
            self.lines.pop_front();
        }
        let (seconds, rest) = (now / SECOND, now % SECOND);
        self.lines.push_back(format!("{seconds:4}.{rest:09} {what}: {details:?}"));
    }

    /// How many events there were, and the hash over all of them.
    pub fn sum(&self) -> (u64, u64) {
        (self.events, self.hash.finish())
    }

    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}
