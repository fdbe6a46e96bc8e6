//! Protocols with one rule left out: each is found, in the smallest model in which it shows.

use crate::{
    config::{Budget, Config, Mistake},
    configurations::{NOTHING, client, clone, lease, placement, restore, transfer},
    explore::{Search, explore},
};
use ownership::takeover::{
    OnLoss,
    Strategy::{Shared, Sticky},
};

const ONE_OWNER: &str = "a session is delivered by its owner alone";
const ONE_LINE: &str = "one version is one state, with its event";
const DENIED: &str = "no session that is served is denied";
const LOCKED_OUT: &str = "no client is locked out";

/// One move of a session, and one request whose outcome nobody learns.
const MOVES: Budget = Budget { doubts: 1, moves: 1, ..NOTHING };

/// Explores a model in which this is wrong, and demands that it breaks this property, and that nothing is
/// broken without it.
fn breaks(mistake: Mistake, broken: &str, model: Config) {
    let right = Config { mistake: None, reaches: &[], sample: u64::MAX, ..model.clone() };
    let wrong = explore(right, Search::Breadth).wrong;
    assert!(wrong.is_empty(), "without a mistake: {wrong:#?}");
    finds(broken, Config { mistake: Some(mistake), ..model });
}

fn finds(broken: &str, model: Config) {
    let wrong = explore(Config { reaches: &[], sample: u64::MAX, ..model }, Search::Breadth).wrong;
    assert!(wrong.iter().any(|(property, _)| *property == broken), "{wrong:#?}");
}

#[test]
fn a_deadline_from_the_answers_time_is_found() {
    let model = lease(Shared, OnLoss::TakeOver, Budget { ticks: 5, ..NOTHING });
    breaks(Mistake::DeadlineFromAnswer, ONE_OWNER, model);
}

#[test]
fn a_commit_that_compares_no_epoch_is_found() {
    let model = transfer(Shared, Budget { ends: 1, changes: 1, ..NOTHING });
    breaks(Mistake::NoEpochCompare, ONE_LINE, model);
}

#[test]
fn a_commit_that_compares_no_incarnation_is_found() {
    let model = clone(Shared, Budget { ticks: 4, doubts: 1, ..NOTHING });
    breaks(Mistake::NoIncarnationCompare, ONE_OWNER, model);
}

#[test]
fn an_event_outside_its_commit_is_found() {
    let model = transfer(Shared, Budget { changes: 1, ..NOTHING });
    breaks(Mistake::AuditOutsideCommit, ONE_LINE, model);
}

#[test]
fn a_retry_of_an_unknown_compare_and_swap_is_found() {
    breaks(Mistake::RetryOfUnknown, ONE_OWNER, transfer(Shared, MOVES));
}

#[test]
fn an_unknown_that_is_resolved_by_a_read_is_found() {
    breaks(Mistake::ReadResolvesUnknown, ONE_OWNER, transfer(Shared, MOVES));
}

#[test]
fn a_session_that_is_local_before_its_abort_has_won_is_found() {
    breaks(Mistake::LocalBeforeAbort, ONE_OWNER, transfer(Shared, MOVES));
}

#[test]
fn a_session_that_goes_on_before_its_hand_off_is_found() {
    breaks(Mistake::ResumeBeforeHandOff, ONE_OWNER, transfer(Shared, MOVES));
}

#[test]
fn a_hand_off_without_the_destinations_fence_row_is_found() {
    let model = transfer(Shared, Budget { ends: 1, ..MOVES });
    breaks(Mistake::NoDestinationFence, ONE_LINE, model);
}

#[test]
fn nonces_outside_the_record_are_found() {
    let model = client(Shared, Budget { requests: 2, moves: 1, ..NOTHING });
    breaks(Mistake::NonceOutsideRecord, LOCKED_OUT, model);
}

#[test]
fn a_previous_owner_that_is_cleared_before_the_barrier_is_found() {
    let model = placement(Sticky, Budget { births: 1, plans: 1, ..NOTHING });
    breaks(Mistake::ClearedBeforeBarrier, DENIED, Config { sessions: 0, ..model });
}

#[test]
fn a_redirect_that_is_dropped_while_its_session_lives_is_found() {
    breaks(Mistake::RedirectDropped, DENIED, transfer(Shared, MOVES));
}

#[test]
fn a_denial_without_a_look_at_the_inbox_is_found() {
    let model = client(Sticky, Budget { moves: 1, plans: 1, requests: 1, ..NOTHING });
    breaks(Mistake::InboxUnread, LOCKED_OUT, model);
}

#[test]
fn a_store_that_is_older_than_what_was_seen_of_it_is_found() {
    let model = restore(Budget { ticks: 2, changes: 2, restores: 1, ..NOTHING });
    breaks(Mistake::OlderStoreUsed, ONE_LINE, model);
}

#[test]
fn clocks_that_differ_by_more_than_the_margin_are_found() {
    let mut model = lease(Shared, OnLoss::TakeOver, Budget { ticks: 5, ..NOTHING });
    model.lease = 4;
    model.machines[1].rate = 16;
    finds(ONE_OWNER, model);
}
