//! The bound on connections.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use thiserror::Error;

/// How many connections are served at a time.
pub const ALL: usize = 256;

/// How many of one process, so that it does not lock out the others.
pub const EACH: usize = 64;

/// How many connections each process has, by its id.
#[derive(Clone, Debug, Default)]
pub struct Places(Arc<Mutex<BTreeMap<i32, usize>>>);

/// A connection's place; free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    places: Places,
    process: i32,
}

/// No place is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Full {
    /// For nobody.
    #[error("{ALL} connections are open already, which is the most; close some")]
    All,
    /// For this process.
    #[error("process {0} has {EACH} connections open already, which is the most; close some")]
    Each(i32),
}

impl Places {
    /// Takes a place for a connection of a process.
    pub fn take(&self, process: i32) -> Result<Place, Full> {
        let mut counts = self.counts();
        if counts.values().sum::<usize>() >= ALL {
            return Err(Full::All);
        }
        let count = counts.entry(process).or_default();
        if *count >= EACH {
            return Err(Full::Each(process));
        }
        *count += 1;
        drop(counts);
        Ok(Place { places: self.clone(), process })
    }

    /// Nobody panics half-way through a change.
    fn counts(&self) -> MutexGuard<'_, BTreeMap<i32, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.places.counts();
        let count = counts.entry(self.process).or_default();
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&self.process);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_leaves_places_for_others() {
        let places = Places::default();
        let mut taken: Vec<_> = (0..EACH).map(|_| places.take(7).expect("a place")).collect();
        assert_eq!(places.take(7).map(drop), Err(Full::Each(7)));
        let _other = places.take(8).expect("a place");
        taken.pop();
        taken.push(places.take(7).expect("it is free again"));
    }

    #[test]
    fn all_together_are_bounded() {
        let places = Places::default();
        let take = |process| places.take(process).expect("a place");
        let taken: Vec<_> = (0..ALL as i32).map(take).collect();
        assert_eq!(places.take(-1).map(drop), Err(Full::All));
        drop(taken);
        assert!(places.take(-1).is_ok());
        assert!(places.counts().is_empty(), "no process is remembered");
    }
}
