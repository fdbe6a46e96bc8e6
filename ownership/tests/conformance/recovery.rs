//! What a recovery leaves of a store, and what it does not.

use super::world::{
    World, baggage, changed, context, handed_off, id, next, node, register, taken_over, transport,
    won,
};
use ownership::{
    Epoch, Revision,
    model::{Cause, Input, State},
    store::{
        Admission, Directory, DirectoryWrite, Generation, Identity, OffHomeKey, OffHomeRow,
        Outcome, Position, Sessions, WireId,
        recover::{self, EPOCHS_SKIPPED, Ended},
    },
};

async fn end_older<S: Directory + Sessions>(store: &S, by: Identity) -> Ended {
    recover::end_older(store, by, || context(by.owner)).await.unwrap()
}

/// Begins a generation, and the first epoch in it.
async fn begun<S: Directory + Sessions>(store: &S) -> Identity {
    recover::begin(store, Position::START).await.unwrap();
    register(store, 1).await.identity()
}

pub async fn epochs_go_on_behind_those_that_a_backup_knows_nothing_of<S: Directory + Sessions>(
    store: S,
) {
    // It was made before anybody had registered.
    let by = begun(&store).await;
    assert!(by.owner.epoch.get() > EPOCHS_SKIPPED, "{by:?}");
}

pub async fn nothing_that_is_older_goes_on<S: Directory + Sessions>(store: S) {
    let world = World::new(store).await;
    let born = world.born(1).await;
    let attached = world.won(&next(&world.born(2).await, world.one)).await;
    let frozen = world.frozen(3).await;
    let moved = world.won(&handed_off(&world.frozen(4).await, world.one, world.two)).await;
    let over = Input::Terminate { cause: Cause::Operator };
    let over = world.won(&changed(&world.born(5).await, over, world.one)).await;
    let key = OffHomeKey { slot: 9, id: WireId::new(&[1, 2, 3]).unwrap() };
    let (session, owner) = (attached.record.id(), world.one.owner);
    let row = OffHomeRow { key, session, owner, version: attached.record.version() };
    won(&world.store, DirectoryWrite::off_home(row, world.two)).await;
    // One goes with its session. Two were packed too late: of these, one's session is forgotten.
    for number in [2, 5, 6] {
        let (pack, _) = DirectoryWrite::pack(None, id(number), baggage(&[1]), world.one);
        won(&world.store, pack).await;
    }
    let drawn = world.store.epochs().await.unwrap().unwrap();

    let seen = Position { generation: Generation(7), revision: 1 };
    assert_eq!(recover::begin(&world.store, seen).await, Ok(Generation(8)));
    let by = register(&world.store, 1).await.identity();
    assert_eq!(by.owner.epoch.get(), drawn.get() + EPOCHS_SKIPPED + 1);
    let ended = Ended { nodes: 1, sessions: 4, off_home: 1, baggage: 2 };
    assert_eq!(end_older(&world.store, by).await, ended);

    assert!(world.store.seen() > seen);
    assert_eq!(world.store.fence(node(2)).await.unwrap().unwrap().admission, Admission::Fenced);
    for (number, before) in [(1, born), (2, attached), (3, frozen), (4, moved)] {
        let stands = world.stands(number).await.unwrap().record;
        assert_eq!(stands.state(), State::Terminated(Cause::OwnerLost));
        assert_eq!(Ok(stands.version()), before.record.version().next());
    }
    assert_eq!(world.stands(5).await, Some(over));
    assert_eq!(world.store.inbox(node(2), None, 10).await, Ok(vec![]));
    assert_eq!(world.store.off_home(0, u16::MAX, None, 10).await, Ok(vec![]));
    assert_eq!(world.store.all_baggage(None, 10).await, Ok(vec![]));
    // Whoever was somebody before is nobody.
    assert_eq!(world.commit(&next(&attached, world.one)).await, Outcome::Fenced);
    assert_eq!(world.commit(&next(&moved, world.two)).await, Outcome::Fenced);
    // One event for each version.
    world.verify().await;
}

pub async fn the_placement_goes_on_behind_what_any_node_has_applied<S: Directory + Sessions>(
    store: S,
) {
    let world = World::new(store).await;
    let by = begun(&world.store).await;
    let applied = Revision::new(4).unwrap();
    let pass = || recover::pass_revision(&world.store, by, applied, || context(by.owner));
    assert_eq!(pass().await, Ok(Revision::new(5)));
    assert_eq!(pass().await, Ok(Revision::new(5)), "it is behind them already");
    let before = world.placement.placement().unwrap();
    let stands = world.store.placement().await.unwrap().unwrap().placement().unwrap();
    assert_eq!(stands.revision(), Revision::new(5).unwrap());
    assert_eq!(stands.slots(), before.slots());
    world.verify().await;
}

pub async fn a_recovery_that_was_cut_short_is_run_again<S: Directory + Sessions>(store: S) {
    let world = World::new(store).await;
    world.born(1).await;
    world.born(2).await;
    let by = begun(&world.store).await;
    let first = world.stands(1).await.unwrap();
    let end = Input::Terminate { cause: Cause::Operator };
    let taken = world.won(&taken_over(&first, by)).await;
    world.won(&changed(&taken, end, by)).await;

    let again = begun(&world.store).await;
    assert!(again.owner.epoch.get() > by.owner.epoch.get() + EPOCHS_SKIPPED);
    let ended = end_older(&world.store, again).await;
    assert_eq!(ended, Ended { nodes: 1, sessions: 1, ..Ended::default() });
    assert_eq!(end_older(&world.store, again).await, Ended::default());
    world.verify().await;
}

pub async fn a_node_that_comes_back_meanwhile_is_left_alone<S: Directory + Sessions>(store: S) {
    let world = World::new(store).await;
    let born = world.born(1).await;
    let by = begun(&world.store).await;
    let two = register(&world.store, 2).await;
    assert!(two.epoch > by.owner.epoch && by.owner.epoch > Epoch::new(EPOCHS_SKIPPED).unwrap());
    let taken = world.won(&taken_over(&born, by)).await;
    assert_eq!(end_older(&world.store, by).await, Ended::default());
    assert_eq!(world.stands(1).await, Some(taken));
    assert_eq!(world.store.fence(node(2)).await, Ok(Some(two)));
    let attach = Input::Attach { transport: transport(7) };
    world.won(&changed(&taken, attach, by)).await;
    world.verify().await;
}
