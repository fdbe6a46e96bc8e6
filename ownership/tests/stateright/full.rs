//! Larger models, with `JUMPGATE_FULL` set.

use crate::{
    config::{Budget, Config},
    configurations::{NOTHING, client, clone, lease, placement, restore, transfer},
    explore::holds,
};
use ownership::takeover::{
    OnLoss,
    Strategy::{Shared, Sticky},
};
use std::{env, fs, num::NonZero, thread};

/// How many states they have together, at least.
const ALL: usize = 10_000_000;

/// How much memory one may take, in KiB.
const MEMORY: u64 = 8 << 20;

fn models() -> Vec<Config> {
    let moves = Budget { doubts: 2, crashes: 2, reboots: 1, ends: 1, moves: 2, ..NOTHING };
    let slots = Budget { moves: 1, births: 1, plans: 2, ..NOTHING };
    let requests = Budget { doubts: 1, crashes: 1, moves: 1, requests: 2, ..NOTHING };
    let leases = |budget| lease(Shared, OnLoss::TakeOver, budget);
    vec![
        leases(Budget { ticks: 5, doubts: 1, crashes: 1, ..NOTHING }),
        // Long enough for what the clocks differ in to matter.
        Config { lease: 6, ..leases(Budget { ticks: 10, crashes: 1, ..NOTHING }) },
        transfer(Shared, moves),
        transfer(Sticky, moves),
        placement(Shared, slots),
        placement(Sticky, slots),
        clone(Budget { ticks: 4, doubts: 1, changes: 1, ..NOTHING }),
        client(Shared, requests),
        client(Sticky, requests),
        restore(Budget { ticks: 4, changes: 3, moves: 1, restores: 1, ..NOTHING }),
    ]
}

#[test]
fn larger_models_hold() {
    if env::var_os("JUMPGATE_FULL").is_none() {
        return;
    }
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let mut states = 0;
    for config in models() {
        let name = config.name;
        states += holds(config, threads);
        let peak = peak();
        println!("{name}: {peak} KiB at most so far");
        assert!(peak <= MEMORY, "{name}: {peak} KiB");
    }
    assert!(states >= ALL, "{states}");
}

/// The most memory that this process ever had, in KiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it is there");
    line.trim().trim_end_matches("kB").trim().parse().expect("a number")
}
