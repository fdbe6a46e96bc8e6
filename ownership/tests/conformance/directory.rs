//! Nodes, epochs, heartbeats, the placement, off-home rows, the generation.

use super::world::{
    LOST, NOW, World, admit, attempt, changed, next_placement, node, operation, register,
    registration, transport, won,
};
use ownership::{
    Epoch, Placement, Revision, StateVersion,
    model::{Input, Owner},
    store::{
        Admission, BadWrite, Directory, DirectoryWrite, Generation, Identity, Incarnation,
        OffHomeKey, OffHomeRow, Outcome, Sessions, WireId,
    },
};
use std::time::Duration;

pub async fn a_new_store_is_empty<S: Directory + Sessions>(store: S) {
    assert!(store.generation().await.unwrap().is_some());
    assert_eq!(store.epochs().await, Ok(None));
    assert_eq!(store.fence(node(1)).await, Ok(None));
    assert_eq!(store.fences().await, Ok(vec![]));
    assert_eq!(store.heartbeats().await, Ok(vec![]));
    assert_eq!(store.placement().await, Ok(None));
    assert_eq!(store.off_home(0, u16::MAX, None, 10).await, Ok(vec![]));
    assert_eq!(store.inbox(node(1), None, 10).await, Ok(vec![]));
    assert_eq!(store.sessions(None, 10).await, Ok(vec![]));
    assert_eq!(store.all_baggage(None, 10).await, Ok(vec![]));
    assert_eq!(store.audit(None, 10).await, Ok(vec![]));
}

pub async fn epochs_come_from_one_counter<S: Directory + Sessions>(store: S) {
    let one = register(&store, 1).await;
    let (rival, _) = registration(&store, 2).await;
    let two = register(&store, 2).await;
    let again = register(&store, 1).await;
    let epochs = [&one, &two, &again].map(|row| row.epoch.get());
    assert_eq!(epochs, [1, 2, 3]);
    assert_eq!(store.epochs().await, Ok(Epoch::new(3)));
    // One that was decided on before the counter moved.
    assert_eq!(store.write(rival).await, LOST);
    assert_eq!(store.fences().await, Ok(vec![again.clone(), two]));
    assert!(again.has_revoked(one.owner()));
    let beat = store.heartbeat(node(1)).await.unwrap().unwrap();
    assert_eq!((beat.epoch, beat.count, beat.applied), (again.epoch, 0, None));
}

pub async fn a_name_keeps_its_index<S: Directory + Sessions>(store: S) {
    let row = register(&store, 1).await;
    let drawn = store.epochs().await.unwrap();
    let other = DirectoryWrite::register(
        node(1),
        "another",
        Some(&row),
        drawn,
        Incarnation(3),
        NOW,
        operation(),
    );
    assert_eq!(other, Err(BadWrite::OtherName));
    let blind =
        DirectoryWrite::register(node(1), "another", None, drawn, Incarnation(3), NOW, operation());
    assert_eq!(store.write(blind.unwrap().0).await, LOST);
}

pub async fn whoever_is_not_who_its_fence_row_says_writes_nothing<S: Directory + Sessions>(
    store: S,
) {
    let world = World::new(store).await;
    let born = world.born(1).await;
    let Identity { owner, incarnation } = world.one;
    let input = Input::Attach { transport: transport(1) };
    let clone = Identity { owner, incarnation: Incarnation(incarnation.0 - 1) };
    assert_eq!(world.commit(&changed(&born, input, clone)).await, Outcome::Fenced);
    let next = register(&world.store, 1).await;
    assert_eq!(world.commit(&changed(&born, input, world.one)).await, Outcome::Fenced);
    assert_eq!(world.stands(1).await, Some(born));
    let birth = world.birth(super::world::id(2));
    assert_eq!(world.commit(&birth).await, Outcome::Fenced);
    assert_eq!(world.stands(2).await, None);
    let nobody = Identity { owner: Owner { node: node(9), epoch: next.epoch }, incarnation };
    let plan = Placement::all_to(node(2));
    for by in [world.one, nobody, clone] {
        let (place, _) = DirectoryWrite::place(None, &plan, attempt(by)).unwrap();
        assert_eq!(world.store.write(place).await, Outcome::Fenced);
        let (fence, _) = DirectoryWrite::fence(&next, attempt(by));
        assert_eq!(world.store.write(fence).await, Outcome::Fenced);
    }
    assert_eq!(world.store.fence(node(1)).await, Ok(Some(next)));
    world.verify().await;
}

pub async fn a_node_that_drains_writes_on_and_one_that_is_fenced_does_not<
    S: Directory + Sessions,
>(
    store: S,
) {
    let world = World::new(store).await;
    let born = world.born(1).await;
    let stale = world.store.fence(node(1)).await.unwrap().unwrap();
    assert_eq!(admit(&world.store, 1, false).await.admission, Admission::Draining);
    let attach = changed(&born, Input::Attach { transport: transport(1) }, world.one);
    let attached = world.won(&attach).await;
    let (fence, _) = DirectoryWrite::fence(&stale, attempt(world.two));
    assert_eq!(world.store.write(fence).await, LOST);
    world.fence_one().await;
    let lose = Input::LoseTransport { transport: transport(1) };
    assert_eq!(world.commit(&changed(&attached, lose, world.one)).await, Outcome::Fenced);
    let fenced = world.store.fence(node(1)).await.unwrap().unwrap();
    let back = DirectoryWrite::admit(&fenced, true, attempt(world.two));
    assert_eq!(back.map(|_| ()), Err(BadWrite::Fenced));
    assert_eq!(world.stands(1).await, Some(attached));
    world.verify().await;
}

pub async fn a_heartbeat_follows_the_one_before<S: Directory + Sessions>(store: S) {
    let world = World::new(store).await;
    let first = world.store.heartbeat(node(1)).await.unwrap().unwrap();
    let beat = |before| DirectoryWrite::beat(before, world.one, Some(Revision::FIRST), operation());
    let (one, second) = beat(&first);
    let (clone, _) = beat(&first);
    won(&world.store, one).await;
    assert_eq!(world.store.write(clone).await, LOST);
    assert_eq!(world.store.heartbeat(node(1)).await, Ok(Some(second.clone())));
    assert_eq!((second.count, second.applied), (first.count + 1, Some(Revision::FIRST)));
    assert_eq!(world.store.heartbeats().await.unwrap().len(), 2);
    world.fence_one().await;
    assert_eq!(world.store.write(beat(&second).0).await, Outcome::Fenced);
}

pub async fn heartbeats_disturb_no_commit<S: Directory + Sessions>(store: S) {
    let world = World::new(store).await;
    let born = world.born(1).await;
    let attach = changed(&born, Input::Attach { transport: transport(1) }, world.one);
    let first = world.store.heartbeat(node(1)).await.unwrap().unwrap();
    won(&world.store, DirectoryWrite::beat(&first, world.one, None, operation()).0).await;
    admit(&world.store, 1, false).await;
    world.won(&attach).await;
}

pub async fn a_placement_follows_the_one_before<S: Directory + Sessions>(store: S) {
    let world = World::new(store).await;
    let first = &world.placement;
    assert_eq!(world.store.placement().await.as_ref(), Ok(&Some(first.clone())));
    let plan = first.placement().unwrap();
    assert_eq!(plan, Placement::all_to(node(1)));
    let next = next_placement(&plan);
    let place = |before| DirectoryWrite::place(before, &next, attempt(world.two));
    assert_eq!(place(None).map(|_| ()), Err(BadWrite::OtherVersion));
    let (one, second) = place(Some(first)).unwrap();
    let (rival, _) = place(Some(first)).unwrap();
    won(&world.store, one).await;
    assert_eq!(world.store.write(rival).await, LOST);
    assert_eq!(world.store.placement().await, Ok(Some(second.clone())));
    let (blind, _) = DirectoryWrite::place(None, &plan, attempt(world.two)).unwrap();
    assert_eq!(world.store.write(blind).await, LOST);
    assert_eq!(second.placement(), Ok(next));
    world.verify().await;
}

fn key(slot: u16, id: &[u8]) -> OffHomeKey {
    OffHomeKey { slot, id: WireId::new(id).unwrap() }
}

pub async fn ids_of_foreign_slots_are_found_by_slot<S: Directory + Sessions>(store: S) {
    let world = World::new(store).await;
    let row = |key| {
        let (session, owner, version) = (super::world::id(1), world.one.owner, StateVersion::BIRTH);
        OffHomeRow { key, session, owner, version }
    };
    let mut rows: Vec<_> =
        [(0, vec![]), (0, vec![9; 255]), (1, vec![0xff; 20]), (2, vec![1]), (2, vec![1, 0])]
            .map(|(slot, id)| row(key(slot, &id)))
            .to_vec();
    rows.push(row(key(u16::MAX, &[0xff; 255])));
    for row in &rows {
        won(&world.store, DirectoryWrite::off_home(row.clone(), world.two)).await;
    }
    let taken = DirectoryWrite::off_home(rows[3].clone(), world.two);
    assert_eq!(world.store.write(taken).await, LOST);
    let found = |first, last| world.store.off_home(first, last, None, 100);
    assert_eq!(found(0, u16::MAX).await.as_ref(), Ok(&rows));
    assert_eq!(found(0, 0).await.unwrap(), rows[..2]);
    assert_eq!(found(1, 2).await.unwrap(), rows[2..5]);
    assert_eq!(found(3, u16::MAX - 1).await, Ok(vec![]));
    assert_eq!(found(u16::MAX, u16::MAX).await.unwrap(), rows[5..]);
    let second = world.store.off_home(0, 2, Some(rows[1].key.clone()), 2).await;
    assert_eq!(second.unwrap(), rows[2..4]);

    let other = OffHomeRow { version: StateVersion::new(7), ..rows[3].clone() };
    assert_eq!(world.store.write(DirectoryWrite::at_home(&other, world.two)).await, LOST);
    won(&world.store, DirectoryWrite::at_home(&rows[3], world.two)).await;
    assert_eq!(found(1, 2).await.unwrap(), [rows[2].clone(), rows[4].clone()]);
}

pub async fn a_generation_follows_the_one_before<S: Directory + Sessions>(store: S) {
    let world = World::new(store).await;
    let generation = world.store.generation().await.unwrap().unwrap();
    let before = world.store.seen();
    assert_eq!(before.generation, generation);
    let next = Generation(generation.0 + 1);
    let drawn = world.store.epochs().await.unwrap();
    let begin = || DirectoryWrite::begin_generation(generation, next, drawn, 1).unwrap();
    won(&world.store, begin()).await;
    assert_eq!(world.store.write(begin()).await, LOST);
    assert_eq!(world.store.generation().await, Ok(Some(next)));
    assert_eq!(world.store.epochs().await, Ok(drawn.map(|last| last.next().unwrap())));
    let back = DirectoryWrite::begin_generation(next, next, drawn, 1);
    assert_eq!(back, Err(BadWrite::OtherVersion));
    let after = world.store.seen();
    assert!(after > before);
    assert_eq!(after.generation, next);
    // The same store goes on.
    world.born(1).await;
    assert!(world.store.seen() > after);
}

pub async fn a_change_of_the_directory_is_hinted_at<S: Directory + Sessions>(store: S) {
    let world = World::new(store).await;
    // What has happened may be told again; so go on until nothing comes.
    let mut since = 0;
    while let Ok(next) =
        tokio::time::timeout(Duration::from_millis(200), Directory::changed(&world.store, since))
            .await
    {
        assert!(next > since);
        since = next;
    }
    let (hint, ()) = tokio::join!(Directory::changed(&world.store, since), async {
        admit(&world.store, 1, false).await;
    });
    assert!(hint > since);
    assert_eq!(world.store.fence(node(1)).await.unwrap().unwrap().admission, Admission::Draining);
}
