//! Outcomes that nobody knows, for stores whose answers can be made to get lost.

use crate::conformance::world::{LOST, World, changed, id, next, transport};
use ownership::{
    model::Input,
    store::{Delivery, Directory, Fate, Outcome, Sessions},
};

/// A store whose next answers a test decides on.
pub trait Unreliable: Directory + Sessions {
    /// Says what becomes of the next write.
    fn deliver_next(&self, delivery: Delivery);

    /// Lets what is late arrive.
    fn let_arrive(&self);
}

pub async fn a_write_whose_answer_is_lost_is_seen_to_be_done<S: Unreliable>(store: S) {
    let world = World::new(store).await;
    let born = world.born(1).await;
    let attach = next(&born, world.one);
    world.store.deliver_next(Delivery::AnswerLost);
    assert_eq!(world.commit(&attach).await, Outcome::Unknown);
    assert_eq!(attach.fate(world.stands(1).await.as_ref()), Fate::Won);
    world.verify().await;
}

pub async fn a_write_that_is_not_seen_may_still_be_done<S: Unreliable>(store: S) {
    let world = World::new(store).await;
    let born = world.born(1).await;
    let attach = next(&born, world.one);
    world.store.deliver_next(Delivery::Late);
    assert_eq!(world.commit(&attach).await, Outcome::Unknown);
    assert_eq!(world.stands(1).await, Some(born));
    assert_eq!(attach.fate(world.stands(1).await.as_ref()), Fate::Open);
    world.store.let_arrive();
    assert_eq!(attach.fate(world.stands(1).await.as_ref()), Fate::Won);
    world.verify().await;
}

pub async fn a_rival_that_has_won_rules_a_late_write_out<S: Unreliable>(store: S) {
    let world = World::new(store).await;
    let born = world.born(1).await;
    let late = changed(&born, Input::Attach { transport: transport(1) }, world.one);
    let rival = changed(&born, Input::Attach { transport: transport(2) }, world.one);
    world.store.deliver_next(Delivery::Late);
    assert_eq!(world.commit(&late).await, Outcome::Unknown);
    let stands = world.won(&rival).await;
    assert_eq!(late.fate(Some(&stands)), Fate::Lost);
    world.store.let_arrive();
    assert_eq!(world.stands(1).await, Some(stands));
    let gone_on = world.won(&next(&stands, world.one)).await;
    assert_eq!(late.fate(Some(&gone_on)), Fate::Past);
    assert_eq!(world.commit(&late).await, LOST);
    world.verify().await;
}

pub async fn a_request_that_is_lost_leaves_everything_as_it_was<S: Unreliable>(store: S) {
    let world = World::new(store).await;
    let birth = world.birth(id(1));
    world.store.deliver_next(Delivery::RequestLost);
    assert_eq!(world.commit(&birth).await, Outcome::Unknown);
    assert_eq!(birth.fate(world.stands(1).await.as_ref()), Fate::Open);
    world.won(&birth).await;
    world.verify().await;
}
