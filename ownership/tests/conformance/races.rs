//! Many writers at once.

use super::world::{World, changed, id, register, registration, transport};
use ownership::{
    model::Input,
    store::{Directory, Outcome, Sessions},
};
use std::{collections::BTreeSet, sync::Arc};
use tokio::task::JoinSet;

const WRITERS: u16 = 16;

pub async fn of_many_writes_of_one_version_one_is_done<S: Directory + Sessions + 'static>(
    store: S,
) {
    let world = Arc::new(World::new(store).await);
    let mut stands = world.born(1).await;
    for round in 0..10 {
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let (world, before) = (Arc::clone(&world), stands);
            writers.spawn(async move {
                let input = match before.record.transport() {
                    None if round == 0 => Input::Attach { transport: transport(writer) },
                    _ => Input::RotateKey,
                };
                let write = changed(&before, input, world.one);
                (world.commit(&write).await, *write.after())
            });
        }
        let outcomes = writers.join_all().await;
        let won: Vec<_> = outcomes.iter().filter(|(outcome, _)| outcome.is_won()).collect();
        assert_eq!(won.len(), 1);
        assert!(
            outcomes.iter().all(|(outcome, _)| matches!(outcome, Outcome::Won | Outcome::Lost(_)))
        );
        stands = won[0].1;
        assert_eq!(world.store.get(id(1)).await, Ok(Some(stands)));
    }
    world.verify().await;
}

pub async fn of_many_nodes_each_draws_its_own_epoch<S: Directory + Sessions + 'static>(store: S) {
    let store = Arc::new(World::new(store).await);
    let mut nodes = JoinSet::new();
    for number in 3..3 + WRITERS {
        let world = Arc::clone(&store);
        nodes.spawn(async move {
            loop {
                let (write, row) = registration(&world.store, number).await;
                match world.store.write(write).await {
                    Outcome::Won => return row.epoch,
                    outcome => assert!(matches!(outcome, Outcome::Lost(_)), "{outcome:?}"),
                }
            }
        });
    }
    let epochs: BTreeSet<_> = nodes.join_all().await.into_iter().collect();
    assert_eq!(epochs.len(), usize::from(WRITERS));
    let last = register(&store.store, 1).await.epoch;
    assert!(epochs.iter().all(|epoch| *epoch < last));
    store.verify().await;
}
