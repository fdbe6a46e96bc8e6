//! A cluster in virtual time, without I/O: nodes, their store, their clients, and all that can go wrong
//! between them. Every run follows from one seed.
//!
//! The nodes are the crate's own state machines; between those and the world stands [`node`], which is as thin
//! as it can be. What must be true of every run stands in [`check`]; that a daemon which does one thing wrong
//! is found, in [`broken`].
//!
//! A failure names its seed, and the command that repeats that run and shows all of it: with `JUMPGATE_SEED`
//! only that seed is run. `JUMPGATE_FULL=1` runs 10,000 seeds instead of 500.

mod broken;
mod check;
mod client;
mod draw;
mod executor;
mod faults;
mod kernel;
mod machine;
mod network;
mod node;
mod plan;
mod seeds;
mod sim;
mod store;
mod time;
mod trace;
mod world;

use broken::Broken;
use check::Violation;
use std::collections::BTreeSet;

const QUICK: u64 = 500;
const FULL: u64 = 10_000;

/// How many runs it may take until something that is done wrong is found. Some hundred have been enough.
const MOST: u64 = 2_000;

/// How many failures are enough to stop, and how many events of the first are shown.
const ENOUGH: usize = 8;
const SHOWN: usize = 100;

/// How many runs are repeated.
const SAMPLES: u64 = 5;

/// How to see one run, all of it.
fn command(seed: u64) -> String {
    format!(
        "JUMPGATE_SEED={seed} cargo test -p ownership --test simulation every_run -- --nocapture"
    )
}

#[test]
fn every_run_keeps_every_promise() {
    if let Ok(seed) = std::env::var("JUMPGATE_SEED") {
        let seed = seed.parse().expect("JUMPGATE_SEED is a number");
        let (ran, events) = seeds::told(seed, usize::MAX);
        println!("{events}");
        ran.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        return;
    }
    let is_full = std::env::var_os("JUMPGATE_FULL").is_some();
    let found = seeds::find(0..if is_full { FULL } else { QUICK }, None, ENOUGH, |_| true);
    if let Some((first, _)) = found.first() {
        println!("the end of seed {first}:\n{}", seeds::told(*first, SHOWN).1);
        let told = |(seed, violation): &(u64, Violation)| {
            format!("seed {seed}: {violation}\n  {}", command(*seed))
        };
        let all: Vec<_> = found.iter().map(told).collect();
        panic!("{}", all.join("\n"));
    }
}

#[test]
fn a_seed_is_the_whole_run() {
    let mut runs = BTreeSet::new();
    for seed in 0..SAMPLES {
        let (ran, events) = seeds::told(seed, usize::MAX);
        let (again, repeated) = seeds::told(seed, usize::MAX);
        assert!(events == repeated, "seed {seed} does not repeat: {ran:?}, then {again:?}");
        assert_eq!(ran, again, "seed {seed}");
        assert_eq!(ran, seeds::run(seed, None), "seed {seed}, with nobody watching");
        assert!(runs.insert(events), "seed {seed} is the run of another");
    }
}

#[test]
fn whatever_is_done_wrong_is_found() {
    for broken in Broken::ALL {
        let found = seeds::find(0..MOST, Some(broken), 1, |violation| broken.shows_as(violation));
        let (seed, violation) = found.first().unwrap_or_else(|| panic!("{broken:?} is not found"));
        println!("{broken:?}: seed {seed}: {violation}");
    }
}
