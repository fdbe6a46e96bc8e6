//! Larger models, explored one at a time with `JUMPGATE_FULL` set.

use crate::{
    config::{Budget, Config},
    configurations::{NOTHING, client, clone, lease, placement, restore, transfer},
    explore::{Search, holds},
    properties::Reached,
};
use ownership::takeover::{
    OnLoss,
    Strategy::{Shared, Sticky},
};
use std::{
    env, fs,
    sync::{Mutex, PoisonError},
};

/// How many states they have together, at least.
const ALL: usize = 30_000_000;

/// How much memory one may take, in KiB.
const MEMORY: u64 = 8 << 20;

const MOVES: Budget =
    Budget { doubts: 2, crashes: 1, reboots: 1, ends: 1, moves: 2, aborts: 1, ..NOTHING };

const SLOTS: Budget = Budget { doubts: 1, crashes: 1, moves: 1, births: 1, plans: 1, ..NOTHING };

const REQUESTS: Budget = Budget { doubts: 1, crashes: 1, moves: 1, requests: 2, ..NOTHING };

const MODELS: [fn() -> Config; 16] = [
    leases,
    long_leases,
    leases_that_deny,
    leases_that_end_sessions,
    sticky_leases,
    shared_transfers,
    sticky_transfers,
    shared_placements,
    sticky_placements,
    slots_that_move_twice,
    clones,
    sticky_clones,
    shared_clients,
    sticky_clients,
    clients_while_slots_move,
    restores,
];

/// Held by the one that is explored.
static ONE: Mutex<()> = Mutex::new(());

fn explore(config: Config) {
    if env::var_os("JUMPGATE_FULL").is_none() {
        return;
    }
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    // The peak is counted from here on: proc_pid_clear_refs(5).
    fs::write("/proc/self/clear_refs", "5").expect("one's own");
    let name = config.name;
    holds(config, Search::Depth);
    let peak = peak();
    println!("{name}: {} MiB", peak >> 10);
    assert!(peak <= MEMORY, "{name}: {peak} KiB");
}

/// The most memory that this process had, in KiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it is there");
    line.trim().trim_end_matches("kB").trim().parse().expect("a number")
}

#[test]
fn they_are_thirty_million_states() {
    let states: usize = MODELS.iter().map(|model| model().least).sum();
    assert!(states >= ALL, "{states}");
}

fn leases() -> Config {
    let budget = Budget { ticks: 5, doubts: 1, crashes: 1, ..NOTHING };
    Config { least: 6_500_000, ..lease(Shared, OnLoss::TakeOver, budget) }
}

#[test]
fn leases_run_out() {
    explore(leases());
}

fn long_leases() -> Config {
    let leases = lease(Shared, OnLoss::TakeOver, Budget { ticks: 10, crashes: 1, ..NOTHING });
    Config { lease: 6, least: 400_000, ..leases }
}

#[test]
fn clocks_differ() {
    explore(long_leases());
}

fn leases_that_deny() -> Config {
    let budget = Budget { ticks: 6, doubts: 1, ..NOTHING };
    Config { least: 1_300_000, ..lease(Shared, OnLoss::Deny, budget) }
}

#[test]
fn sessions_wait_for_a_lost_node() {
    explore(leases_that_deny());
}

fn leases_that_end_sessions() -> Config {
    let budget = Budget { ticks: 4, doubts: 1, reboots: 1, ..NOTHING };
    Config { least: 2_300_000, ..lease(Shared, OnLoss::Terminate, budget) }
}

#[test]
fn sessions_end_with_a_lost_node() {
    explore(leases_that_end_sessions());
}

fn sticky_leases() -> Config {
    let budget = Budget { ticks: 4, doubts: 1, crashes: 1, reboots: 1, ..NOTHING };
    Config { least: 1_500_000, ..lease(Sticky, OnLoss::Deny, budget) }
}

#[test]
fn sticky_sessions_wait_for_a_lost_node() {
    explore(sticky_leases());
}

fn shared_transfers() -> Config {
    Config { least: 1_400_000, ..transfer(Shared, MOVES) }
}

#[test]
fn sessions_in_the_shared_store_move() {
    explore(shared_transfers());
}

fn sticky_transfers() -> Config {
    Config { least: 900_000, ..transfer(Sticky, MOVES) }
}

#[test]
fn sticky_sessions_move() {
    explore(sticky_transfers());
}

fn shared_placements() -> Config {
    Config { least: 10_000_000, ..placement(Shared, SLOTS) }
}

#[test]
fn slots_move() {
    explore(shared_placements());
}

fn sticky_placements() -> Config {
    Config { least: 3_500_000, ..placement(Sticky, SLOTS) }
}

#[test]
fn slots_of_sticky_sessions_move() {
    explore(sticky_placements());
}

fn slots_that_move_twice() -> Config {
    let slots = placement(Shared, Budget { doubts: 1, births: 1, plans: 2, ..NOTHING });
    Config { least: 1_300_000, reaches: &[Reached::Born], ..slots }
}

#[test]
fn slots_move_on_or_back() {
    explore(slots_that_move_twice());
}

fn clones() -> Config {
    let budget = Budget { ticks: 4, doubts: 1, changes: 1, ..NOTHING };
    Config { least: 3_200_000, ..clone(Shared, budget) }
}

#[test]
fn a_clone_runs() {
    explore(clones());
}

fn sticky_clones() -> Config {
    let budget = Budget { ticks: 4, doubts: 1, changes: 1, moves: 1, ..NOTHING };
    Config { least: 180_000, ..clone(Sticky, budget) }
}

#[test]
fn a_clone_of_a_sticky_node_runs() {
    explore(sticky_clones());
}

fn shared_clients() -> Config {
    Config { least: 2_000_000, ..client(Shared, REQUESTS) }
}

#[test]
fn clients_move() {
    explore(shared_clients());
}

fn sticky_clients() -> Config {
    Config { least: 780_000, ..client(Sticky, REQUESTS) }
}

#[test]
fn clients_of_sticky_sessions_move() {
    explore(sticky_clients());
}

fn clients_while_slots_move() -> Config {
    let budget = Budget { doubts: 1, moves: 2, plans: 1, requests: 1, ..NOTHING };
    Config { least: 2_500_000, ..client(Sticky, budget) }
}

#[test]
fn clients_move_while_slots_do() {
    explore(clients_while_slots_move());
}

fn restores() -> Config {
    let budget = Budget { ticks: 4, changes: 3, moves: 1, restores: 1, ..NOTHING };
    Config { least: 270_000, ..restore(budget) }
}

#[test]
fn a_store_goes_back_in_time() {
    explore(restores());
}
