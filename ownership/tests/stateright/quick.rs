//! The models that are explored to their ends in every test run.

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

/// How many states they have together, at least.
const ALL: usize = 1_000_000;

const MOVES: Budget = Budget { doubts: 2, crashes: 1, ends: 1, moves: 2, ..NOTHING };

const SLOTS: Budget = Budget { moves: 1, births: 1, plans: 1, ..NOTHING };

const REQUESTS: Budget = Budget { doubts: 1, crashes: 1, moves: 1, requests: 1, ..NOTHING };

const MODELS: [fn() -> Config; 15] = [
    leases,
    long_leases,
    leases_that_deny,
    leases_that_end_sessions,
    sticky_leases,
    shared_transfers,
    sticky_transfers,
    shared_placements,
    sticky_placements,
    clones,
    sticky_clones,
    shared_clients,
    sticky_clients,
    clients_while_slots_move,
    restores,
];

#[test]
fn they_are_a_million_states() {
    let states: usize = MODELS.iter().map(|model| model().least).sum();
    assert!(states >= ALL, "{states}");
}

fn leases() -> Config {
    let budget = Budget { ticks: 4, doubts: 1, crashes: 1, ..NOTHING };
    Config { least: 650_000, ..lease(Shared, OnLoss::TakeOver, budget) }
}

#[test]
fn no_session_has_two_owners_while_leases_run_out() {
    holds(leases(), Search::Breadth);
}

fn long_leases() -> Config {
    // Long enough for what the clocks differ in to matter.
    let leases = lease(Shared, OnLoss::TakeOver, Budget { ticks: 7, ..NOTHING });
    Config { lease: 4, least: 8_000, reaches: &[Reached::TakenOver], ..leases }
}

#[test]
fn no_session_has_two_owners_if_clocks_differ_by_no_more_than_the_margin() {
    holds(long_leases(), Search::Breadth);
}

fn leases_that_deny() -> Config {
    let budget = Budget { ticks: 6, ..NOTHING };
    Config { least: 80_000, ..lease(Shared, OnLoss::Deny, budget) }
}

#[test]
fn sessions_of_a_lost_node_wait_for_it() {
    holds(leases_that_deny(), Search::Breadth);
}

fn leases_that_end_sessions() -> Config {
    let budget = Budget { ticks: 4, reboots: 1, ..NOTHING };
    Config { least: 150_000, ..lease(Shared, OnLoss::Terminate, budget) }
}

#[test]
fn sessions_of_a_lost_node_end() {
    holds(leases_that_end_sessions(), Search::Breadth);
}

fn sticky_leases() -> Config {
    let budget = Budget { ticks: 4, crashes: 1, reboots: 1, ..NOTHING };
    Config { least: 140_000, ..lease(Sticky, OnLoss::Deny, budget) }
}

#[test]
fn sticky_sessions_of_a_lost_node_wait_for_it() {
    holds(sticky_leases(), Search::Breadth);
}

fn shared_transfers() -> Config {
    Config { least: 100_000, ..transfer(Shared, MOVES) }
}

#[test]
fn a_session_in_the_shared_store_moves_once_or_not_at_all() {
    holds(shared_transfers(), Search::Breadth);
}

fn sticky_transfers() -> Config {
    let budget = Budget { crashes: 2, changes: 1, moves: 1, aborts: 1, ..MOVES };
    Config { least: 100_000, ..transfer(Sticky, budget) }
}

#[test]
fn a_sticky_session_moves_once_or_not_at_all() {
    holds(sticky_transfers(), Search::Breadth);
}

fn shared_placements() -> Config {
    Config { least: 50_000, ..placement(Shared, SLOTS) }
}

#[test]
fn sessions_in_the_shared_store_are_found_while_slots_move() {
    holds(shared_placements(), Search::Breadth);
}

fn sticky_placements() -> Config {
    Config { least: 50_000, ..placement(Sticky, SLOTS) }
}

#[test]
fn sticky_sessions_are_found_while_slots_move() {
    holds(sticky_placements(), Search::Breadth);
}

fn clones() -> Config {
    Config { least: 100_000, ..clone(Shared, Budget { ticks: 3, doubts: 1, ..NOTHING }) }
}

#[test]
fn a_clone_takes_nothing_from_its_node_while_that_may_act() {
    holds(clones(), Search::Breadth);
}

fn sticky_clones() -> Config {
    let budget = Budget { ticks: 4, doubts: 1, moves: 1, ..NOTHING };
    Config { least: 80_000, ..clone(Sticky, budget) }
}

#[test]
fn a_clone_without_its_nodes_store_takes_nothing_from_it() {
    holds(sticky_clones(), Search::Breadth);
}

fn shared_clients() -> Config {
    Config { least: 19_000, ..client(Shared, REQUESTS) }
}

#[test]
fn a_client_gets_through_while_its_session_moves() {
    holds(shared_clients(), Search::Breadth);
}

fn sticky_clients() -> Config {
    Config { least: 100_000, ..client(Sticky, Budget { repeats: 1, ..REQUESTS }) }
}

#[test]
fn a_client_gets_through_while_its_sticky_session_moves() {
    holds(sticky_clients(), Search::Breadth);
}

fn clients_while_slots_move() -> Config {
    let budget = Budget { moves: 1, plans: 1, requests: 1, ..NOTHING };
    Config { least: 30_000, ..client(Sticky, budget) }
}

#[test]
fn a_client_gets_through_while_its_slot_moves() {
    holds(clients_while_slots_move(), Search::Breadth);
}

fn restores() -> Config {
    Config { least: 500, ..restore(Budget { ticks: 3, changes: 2, restores: 1, ..NOTHING }) }
}

#[test]
fn a_store_that_went_back_in_time_is_refused() {
    holds(restores(), Search::Breadth);
}
