//! The memory store does what every store must, and refuses to be older than what was seen of it.

mod conformance;
#[path = "conformance/unknown.rs"]
mod unknown;

use conformance::world::{World, id, next};
use ownership::store::{Delivery, Fault, Memory, Outcome, Seen, Sessions, Store};
use unknown::Unreliable;

conformance! { async { Memory::default() } }

impl Unreliable for Memory {
    fn deliver_next(&self, delivery: Delivery) {
        self.deliver([delivery]);
    }

    fn let_arrive(&self) {
        while self.arrive().is_some() {}
    }
}

#[tokio::test]
async fn nobody_knows_and_then_somebody_does() {
    unknown::a_write_whose_answer_is_lost_is_seen_to_be_done(Memory::default()).await;
    unknown::a_write_that_is_not_seen_may_still_be_done(Memory::default()).await;
    unknown::a_rival_that_has_won_rules_a_late_write_out(Memory::default()).await;
    unknown::a_request_that_is_lost_leaves_everything_as_it_was(Memory::default()).await;
}

#[tokio::test]
async fn a_store_that_was_restored_from_a_backup_is_refused() {
    let world = World::new(Memory::default()).await;
    let born = world.born(1).await;
    let backup = world.store.tables();
    world.won(&next(&born, world.one)).await;
    let seen = Seen::new(world.store.seen());
    assert_eq!(Memory::open(backup.clone(), seen).unwrap_err().seen, seen.position());
    world.store.restore(backup);
    assert_eq!(Sessions::get(&world.store, id(1)).await, Err(Fault::Older));
    let again = world.commit(&next(&born, world.one)).await;
    assert_eq!(again, Outcome::Unavailable(Fault::Older));
}
