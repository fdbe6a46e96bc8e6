//! What sessions carry besides their records.

use super::world::{
    LOST, World, baggage, changed, decided, handed_off, id, next, register, taken_over, won,
};
use ownership::{
    SessionId,
    baggage::Baggage,
    model::{Cause, FenceProof, Input, Policy},
    store::{
        BaggageRow, Directory, DirectoryWrite, Outcome, SessionWrite, Sessions, TransferWrite,
    },
};

fn end() -> Input {
    Input::Terminate { cause: Cause::Request }
}

/// Gives a session of the first node something to carry.
async fn packed<S: Directory + Sessions>(world: &World<S>, number: u32) -> BaggageRow {
    let (pack, row) = DirectoryWrite::pack(None, id(number), baggage(&[1, 2]), world.one);
    won(&world.store, pack).await;
    row
}

async fn carries<S: Directory + Sessions>(world: &World<S>, number: u32) -> Option<BaggageRow> {
    world.store.baggage(id(number)).await.unwrap()
}

pub async fn what_a_session_carries_follows_what_it_carried<S: Directory + Sessions>(store: S) {
    let world = World::new(store).await;
    let born = world.born(1).await;
    assert_eq!(carries(&world, 1).await, None);
    let pack = |before, baggage| DirectoryWrite::pack(before, id(1), baggage, world.one);
    let (write, first) = pack(None, baggage(&[1]));
    won(&world.store, write).await;
    assert_eq!(world.store.write(pack(None, baggage(&[2])).0).await, LOST);
    assert_eq!(carries(&world, 1).await, Some(first.clone()));

    let (write, second) = pack(Some(&first), baggage(&[2; 4096]));
    won(&world.store, write).await;
    assert_eq!((second.changes, &second.baggage), (first.changes + 1, &baggage(&[2; 4096])));
    assert_eq!(world.store.write(pack(Some(&first), baggage(&[3])).0).await, LOST);
    assert_eq!(carries(&world, 1).await, Some(second.clone()));
    // There and back again is not where it was.
    let (write, third) = pack(Some(&second), first.baggage.clone());
    won(&world.store, write).await;
    assert_eq!(world.store.write(pack(Some(&first), baggage(&[3])).0).await, LOST);
    let (write, nothing) = pack(Some(&third), Baggage::default());
    won(&world.store, write).await;
    assert_eq!(carries(&world, 1).await, Some(nothing.clone()));

    // It is no version of the session, and neither disturbs the other.
    assert_eq!(world.stands(1).await, Some(born));
    world.won(&next(&born, world.one)).await;
    won(&world.store, pack(Some(&nothing), baggage(&[4])).0).await;
    world.verify().await;
}

pub async fn what_an_epoch_that_is_over_packs_is_not_kept<S: Directory + Sessions>(store: S) {
    let world = World::new(store).await;
    world.born(1).await;
    let row = packed(&world, 1).await;
    let late = |before| DirectoryWrite::pack(before, id(1), baggage(&[9]), world.one).0;
    let again = register(&world.store, 1).await.identity();
    assert_eq!(world.store.write(late(Some(&row))).await, Outcome::Fenced);
    assert_eq!(world.store.write(late(None)).await, Outcome::Fenced);
    assert_eq!(carries(&world, 1).await, Some(row.clone()));
    // The next epoch goes on with it.
    won(&world.store, DirectoryWrite::pack(Some(&row), id(1), baggage(&[3]), again).0).await;
}

pub async fn baggage_is_given_in_pages<S: Directory + Sessions>(store: S) {
    let world = World::new(store).await;
    let mut all = Vec::new();
    // Not in the order of their ids, and not every session carries something.
    for number in (0..7_u32).map(|number| number.wrapping_mul(0x9e37_79b9)) {
        world.born(number).await;
        all.push(packed(&world, number).await);
        world.born(number ^ 1).await;
    }
    all.sort_by_key(|row| row.session);
    for limit in [1, 3, 6, 7, 8, 1000] {
        let (mut pages, mut after) = (Vec::new(), None);
        loop {
            let page = world.store.all_baggage(after, limit).await.unwrap();
            assert!(page.len() <= limit);
            pages.extend_from_slice(&page);
            match page.last() {
                Some(last) if page.len() == limit => after = Some(last.session),
                _ => break,
            }
        }
        assert_eq!(pages, all, "{limit} at once");
    }
    let last = SessionId::new([0xff; 16]);
    assert_eq!(world.store.all_baggage(Some(last), 10).await, Ok(vec![]));
}

pub async fn what_a_session_carries_goes_with_its_end<S: Directory + Sessions>(store: S) {
    let world = World::new(store).await;
    let (born, other, lost) = (world.born(1).await, world.born(2).await, world.born(3).await);
    let (row, kept) = (packed(&world, 1).await, packed(&world, 2).await);
    packed(&world, 3).await;
    // What is not done deletes nothing.
    let (next, late) = (next(&born, world.one), changed(&born, end(), world.one));
    let attached = world.won(&next).await;
    assert_eq!(world.commit(&late).await, LOST);
    assert_eq!(carries(&world, 1).await, Some(row.clone()));
    world.won(&changed(&attached, end(), world.one)).await;
    assert_eq!(carries(&world, 1).await, None);
    let (pack, _) = DirectoryWrite::pack(Some(&row), id(1), baggage(&[9]), world.one);
    assert_eq!(world.store.write(pack).await, LOST);

    // One that carries nothing ends like any other.
    let light = world.born(4).await;
    world.won(&changed(&light, end(), world.one)).await;

    world.fence_one().await;
    let proof = FenceProof::new(world.one.owner);
    world.won(&changed(&lost, Input::TerminateLost { proof }, world.two)).await;
    assert_eq!(carries(&world, 3).await, None);
    world.won(&taken_over(&other, world.two)).await;
    assert_eq!(carries(&world, 2).await, Some(kept.clone()));
    let (pack, _) = DirectoryWrite::pack(Some(&kept), id(2), baggage(&[5]), world.two);
    won(&world.store, pack).await;
    world.verify().await;
}

pub async fn what_a_session_carries_stays_with_a_hand_off_in_one_store<S: Directory + Sessions>(
    store: S,
) {
    let world = World::new(store).await;
    let frozen = world.frozen(1).await;
    let row = packed(&world, 1).await;
    let away = world.won(&handed_off(&frozen, world.one, world.two)).await;
    assert_eq!(carries(&world, 1).await, Some(row.clone()));
    let resumed = world.won(&changed(&away, Input::Resume, world.two)).await;
    let (pack, after) = DirectoryWrite::pack(Some(&row), id(1), baggage(&[5]), world.two);
    won(&world.store, pack).await;
    assert_eq!(carries(&world, 1).await, Some(after));
    world.won(&changed(&resumed, end(), world.two)).await;
    assert_eq!(carries(&world, 1).await, None);
}

/// In a node's own store, which here is the directory too.
pub async fn what_a_session_carries_leaves_the_store_of_a_node_with_it<S: Directory + Sessions>(
    store: S,
) {
    let world = World::new(store).await;
    let one = world.one;
    let hand_off = Input::HandOff { to: world.two.owner };
    for (number, input) in [(1, hand_off), (2, Input::Abort), (3, end())] {
        let frozen = world.frozen(number).await;
        let row = packed(&world, number).await;
        let commit = decided(&frozen, input, one.owner);
        let write = match input {
            Input::HandOff { .. } => {
                let context = baggage(&[4]).to_bytes().into();
                TransferWrite::hand_off(&frozen, &commit, one, world.two, context).unwrap()
            }
            _ => TransferWrite::abort(&frozen, &commit, one).unwrap(),
        };
        assert_eq!(Directory::decide(&world.store, vec![write.clone()]).await, [Outcome::Won]);
        assert_eq!(carries(&world, number).await, Some(row.clone()), "nothing is copied yet");
        let copy = SessionWrite::settle(Some(&frozen), write.row(), one).unwrap();
        world.won(&copy).await;
        let stays = matches!(input, Input::Abort);
        assert_eq!(carries(&world, number).await, stays.then_some(row), "{input:?}");
    }
}

pub async fn what_was_packed_too_late_is_forgotten_with_the_session<S: Directory + Sessions>(
    store: S,
) {
    let world = World::new(store).await;
    let over = world.won(&changed(&world.born(1).await, end(), world.one)).await;
    packed(&world, 1).await;
    let policy = Policy::default();
    let now = over.record.born().after(policy.session_ttl);
    let forget = DirectoryWrite::forget_session(&over, world.one, &policy, now).unwrap();
    won(&world.store, forget).await;
    assert_eq!((world.stands(1).await, carries(&world, 1).await), (None, None));
}
