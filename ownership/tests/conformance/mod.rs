//! What every store must do, whatever is under it: one suite for all of them.
//!
//! A store runs it by `conformance! { async { a new, empty store } }`; `conformance! { ? async { .. } }` if
//! there may be none, and the tests are to be skipped then. Where answers can be made to
//! get lost, `unknown.rs` is for it too.

pub mod baggage;
pub mod directory;
pub mod races;
pub mod recovery;
pub mod sessions;
pub mod transfers;
pub mod world;

/// Tests a store, of which the expression makes a new and empty one each time it is awaited.
#[macro_export]
macro_rules! conformance {
    ($make:expr) => {
        conformance! { ? async { Some($make.await) } }
    };
    (? $make:expr) => {
        conformance! { @ $make;
            directory: a_new_store_is_empty
                epochs_come_from_one_counter
                a_name_keeps_its_index
                whoever_is_not_who_its_fence_row_says_writes_nothing
                a_node_that_drains_writes_on_and_one_that_is_fenced_does_not
                a_heartbeat_follows_the_one_before
                heartbeats_disturb_no_commit
                a_placement_follows_the_one_before
                ids_of_foreign_slots_are_found_by_slot
                a_generation_follows_the_one_before
                a_change_of_the_directory_is_hinted_at;
            sessions: a_session_is_born_once
                a_session_is_born_only_under_the_placement_it_was_minted_by
                of_two_writes_of_one_version_one_is_done
                one_that_is_not_done_leaves_the_rest_of_its_batch
                a_session_may_be_written_twice_in_one_batch
                a_hand_off_writes_all_or_nothing
                a_hand_off_needs_a_destination_that_accepts
                a_lost_owner_is_replaced_only_once_it_is_revoked
                what_was_handed_to_a_node_that_was_lost_leaves_its_inbox
                an_epoch_that_is_over_comes_before_everything_else
                pages_give_every_row_once
                a_session_that_is_over_is_forgotten_when_no_client_can_hold_it
                the_log_tells_of_all_that_was_done_and_of_nothing_else
                refusals_are_told_and_rows_trimmed;
            baggage: what_a_session_carries_follows_what_it_carried
                what_an_epoch_that_is_over_packs_is_not_kept
                baggage_is_given_in_pages
                what_a_session_carries_goes_with_its_end
                what_a_session_carries_stays_with_a_hand_off_in_one_store
                what_a_session_carries_leaves_the_store_of_a_node_with_it
                what_was_packed_too_late_is_forgotten_with_the_session;
            transfers: of_hand_off_and_abort_one_is_decided
                both_nodes_copy_what_was_decided
                a_nodes_own_store_follows_the_directory
                a_transfer_needs_a_destination_that_accepts;
            recovery: nothing_that_is_older_goes_on
                the_placement_goes_on_behind_what_any_node_has_applied
                epochs_go_on_behind_those_that_a_backup_knows_nothing_of
                a_recovery_that_was_cut_short_is_run_again
                a_node_that_comes_back_meanwhile_is_left_alone;
            races: of_many_writes_of_one_version_one_is_done
                of_many_nodes_each_draws_its_own_epoch;
        }
    };
    (@ $make:expr; $($module:ident: $($test:ident)+;)+) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let Some(store) = $make.await else { return };
                conformance::$module::$test(store).await;
            }
        )+)+
    };
}
