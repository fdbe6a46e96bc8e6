//! I/O errors: the store is shut, its callers know what they can know, and a journal tells of it.

use crate::{
    conformance::world::{World, id, next},
    disk::Disk,
    everything, on_disk, open,
};
use ownership::{
    audit::{Event, read_rows},
    model::Reason,
    store::{Engine, Fault, Outcome, Position, Seen, Sessions},
};
use std::fs;

const LATCHED: Outcome = Outcome::Unavailable(Fault::Latched);

/// Lets a commit fail in its op with this number; gives what came of it.
async fn fail_at(op: usize, tears: bool) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal");
    let disk = Disk::default();
    let world = World::new(open(&disk, &journal, Seen::new(Position::START)).unwrap()).await;
    let born = world.born(1).await;
    let before = everything(&world.store).await;
    let write = next(&born, world.one);

    disk.fail_in(op, tears);
    let outcome = world.commit(&write).await;
    if outcome == Outcome::Won {
        return outcome;
    }
    // The disk is well again, but nobody knows what is on it.
    disk.repair();
    assert_eq!(world.commit(&write).await, LATCHED);
    assert_eq!(Sessions::get(&world.store, id(1)).await, Err(Fault::Latched));
    assert_eq!(Sessions::sessions(&world.store, None, 10).await, Err(Fault::Latched));
    assert_eq!(Engine::seen(&world.store), before.0);
    let World { store, .. } = world;
    drop(store);

    let log = fs::read(&journal).unwrap();
    let rows: Vec<_> = read_rows(&log[..]).map(Result::unwrap).collect();
    let entries: Vec<_> = rows.iter().flat_map(|row| &row.entries).collect();
    let Event::Refusal(refusal) = &entries[0].event else { panic!("{entries:?}") };
    assert_eq!((entries.len(), refusal.reason), (1, Reason::PartialWrite));
    assert_eq!((refusal.session, refusal.stood), (Some(id(1)), None));

    let store = on_disk(&disk, Seen::new(before.0));
    let found = everything(&store).await;
    let stands = Sessions::get(&store, id(1)).await.unwrap();
    match outcome {
        Outcome::Unavailable(Fault::Latched) => assert_eq!(found, before),
        Outcome::Unknown => assert!(stands == Some(born) || stands == Some(*write.after())),
        other => panic!("{other:?}"),
    }
    let world = World { store, one: world.one, two: world.two, placement: world.placement };
    world.won(&next(&stands.unwrap(), world.one)).await;
    world.verify().await;
    outcome
}

#[tokio::test]
async fn whatever_fails_in_a_commit_shuts_the_store() {
    for tears in [false, true] {
        let mut outcomes = Vec::new();
        loop {
            let outcome = fail_at(outcomes.len(), tears).await;
            if outcome == Outcome::Won {
                break;
            }
            outcomes.push(outcome);
        }
        assert!(outcomes.contains(&Outcome::Unknown), "{outcomes:?}");
    }
}

#[tokio::test]
async fn what_waits_behind_a_failure_is_not_done() {
    let disk = Disk::default();
    let world = World::new(on_disk(&disk, Seen::new(Position::START))).await;
    let born = world.born(1).await;
    let before = everything(&world.store).await;
    disk.fail_in(0, false);
    let (one, other) = (next(&born, world.one), world.birth(id(2)));
    let (one, other) = tokio::join!(world.commit(&one), world.commit(&other));
    assert!(!one.is_won() && !other.is_won(), "{one:?} {other:?}");
    let World { store, .. } = world;
    drop(store);
    disk.repair();
    assert_eq!(everything(&on_disk(&disk, Seen::new(before.0))).await, before);
}

#[tokio::test]
async fn a_disk_that_fails_while_the_store_is_closed_loses_nothing() {
    let disk = Disk::default();
    let world = World::new(on_disk(&disk, Seen::new(Position::START))).await;
    let born = world.born(1).await;
    let before = everything(&world.store).await;
    disk.fail_in(0, false);
    drop(world);
    disk.repair();
    let store = on_disk(&disk, Seen::new(before.0));
    assert_eq!(everything(&store).await, before);
    assert_eq!(Sessions::get(&store, id(1)).await, Ok(Some(born)));
}
