//! Sticky transfers: decided in the directory, copied by both nodes.

use super::world::{LOST, World, admit, attempt, changed, decided, id, next_placement, node};
use ownership::{
    model::{Commit, Input},
    store::{
        BadWrite, Directory, DirectoryWrite, Mismatch, Outcome, SessionWrite, Sessions,
        StoredSession, TransferWrite,
    },
};

fn commits<S>(world: &World<S>, frozen: &StoredSession) -> (Commit, Commit) {
    let hand_off = decided(frozen, Input::HandOff { to: world.two.owner }, world.one.owner);
    (hand_off, decided(frozen, Input::Abort, world.one.owner))
}

fn hand_off<S>(world: &World<S>, frozen: &StoredSession) -> TransferWrite {
    let (commit, _) = commits(world, frozen);
    TransferWrite::hand_off(frozen, &commit, world.one, world.two, [4, 5].into()).unwrap()
}

fn abort<S>(world: &World<S>, frozen: &StoredSession) -> TransferWrite {
    let (_, commit) = commits(world, frozen);
    TransferWrite::abort(frozen, &commit, world.one).unwrap()
}

pub async fn of_hand_off_and_abort_one_is_decided<S: Directory + Sessions>(store: S) {
    let world = World::new(store).await;
    let (first, second) = (world.frozen(1).await, world.frozen(2).await);
    let batch = vec![
        hand_off(&world, &first),
        abort(&world, &second),
        abort(&world, &first),
        hand_off(&world, &second),
    ];
    let outcomes = Directory::decide(&world.store, batch.clone()).await;
    assert_eq!(outcomes, [Outcome::Won, Outcome::Won, LOST, LOST]);
    for (frozen, write) in [(&first, &batch[0]), (&second, &batch[1])] {
        let record = &frozen.record;
        let row = world.store.transfer(record.id(), record.version()).await.unwrap();
        assert_eq!(row.as_ref(), Some(write.row()));
    }
    let waiting = world.store.inbox(node(2), None, 10).await.unwrap();
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].session, batch[0].row().session);
}

pub async fn both_nodes_copy_what_was_decided<S: Directory + Sessions>(store: S) {
    let world = World::new(store).await;
    let frozen = world.frozen(1).await;
    let write = hand_off(&world, &frozen);
    assert_eq!(Directory::decide(&world.store, vec![write.clone()]).await, [Outcome::Won]);
    let copy = SessionWrite::settle(Some(&frozen), write.row(), world.one).unwrap();
    assert_eq!(*copy.after(), write.row().session);
    world.won(&copy).await;
    assert_eq!(world.stands(1).await, Some(write.row().session));
    won(&world, DirectoryWrite::forget_transfer(write.row(), world.one)).await;
    assert_eq!(world.store.transfer(id(1), frozen.record.version()).await, Ok(None));

    let inbox = world.store.inbox_of(node(2), id(1)).await.unwrap().unwrap();
    assert_eq!(&*inbox.context, [4, 5]);
    // In a store of its own the destination copies it over nothing; this one has it already.
    let adopt = SessionWrite::adopt(None, &inbox, world.two).unwrap();
    assert_eq!(world.commit(&adopt).await, LOST);
    won(&world, DirectoryWrite::take_from_inbox(&inbox, world.two)).await;
    let again = DirectoryWrite::take_from_inbox(&inbox, world.two);
    assert_eq!(world.store.write(again).await, LOST);
    world.won(&changed(&write.row().session, Input::Resume, world.two)).await;
    // The decision's event and the copies together: one event for each version.
    world.verify().await;
}

async fn won<S: Directory + Sessions>(world: &World<S>, write: DirectoryWrite) {
    super::world::won(&world.store, write).await;
}

pub async fn a_transfer_needs_a_destination_that_accepts<S: Directory + Sessions>(store: S) {
    let world = World::new(store).await;
    let frozen = world.frozen(1).await;
    admit(&world.store, 2, false).await;
    let outcomes = Directory::decide(&world.store, vec![hand_off(&world, &frozen)]).await;
    assert_eq!(outcomes, [Outcome::Lost(Mismatch::Destination)]);
    world.fence_one().await;
    let outcomes = Directory::decide(&world.store, vec![abort(&world, &frozen)]).await;
    assert_eq!(outcomes, [Outcome::Fenced]);
    assert_eq!(world.store.transfer(id(1), frozen.record.version()).await, Ok(None));
    assert_eq!(world.store.inbox(node(2), None, 10).await, Ok(vec![]));
}

/// In a node's own store its fence row and the placement are copies of what stands in the directory; here
/// one store plays both.
pub async fn a_nodes_own_store_follows_the_directory<S: Directory + Sessions>(store: S) {
    let world = World::new(store).await;
    let fence = world.store.fence(node(1)).await.unwrap().unwrap();
    let birth = world.birth(id(1));
    let plan = next_placement(&world.placement.placement().unwrap());
    let (_, placement) =
        DirectoryWrite::place(Some(&world.placement), &plan, attempt(world.one)).unwrap();
    let copy = |before| DirectoryWrite::copy_placement(before, &placement);
    won(&world, copy(Some(&world.placement)).unwrap()).await;
    assert_eq!(copy(Some(&placement)), Err(BadWrite::OtherVersion), "no step back");
    assert_eq!(world.commit(&birth).await, Outcome::Lost(Mismatch::Placement));

    let (_, later) = super::world::registration(&world.store, 1).await;
    let copy = |before, row| DirectoryWrite::copy_fence(before, row);
    assert_eq!(copy(Some(&later), &fence), Err(BadWrite::OtherVersion), "no earlier epoch");
    won(&world, copy(Some(&fence), &later).unwrap()).await;
    assert_eq!(world.commit(&birth).await, Outcome::Fenced);
    assert_eq!(world.store.fence(node(1)).await, Ok(Some(later)));
}
