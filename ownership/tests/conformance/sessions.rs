//! Sessions, and what is written with them.

use super::world::{
    LOST, World, admit, attempt, changed, decided, handed_off, id, next, next_placement, node,
    register, taken_over, transport, won,
};
use ownership::{
    SessionId,
    audit::{Entry, Event, Refusal},
    model::{Cause, FenceProof, Input, Policy, Reason, Time},
    store::{
        BadWrite, Directory, DirectoryWrite, Identity, Incarnation, Mismatch, OffHomeKey, Outcome,
        SessionWrite, Sessions, StoredSession,
    },
};

pub async fn a_session_is_born_once<S: Directory + Sessions>(store: S) {
    let world = World::new(store).await;
    let birth = world.birth(id(1));
    assert_eq!(world.stands(1).await, None);
    let born = world.won(&birth).await;
    assert_eq!(world.commit(&birth).await, LOST);
    assert_eq!(world.commit(&world.birth(id(1))).await, LOST);
    assert_eq!(world.stands(1).await, Some(born));
    world.verify().await;
}

pub async fn a_session_is_born_only_under_the_placement_it_was_minted_by<
    S: Directory + Sessions,
>(
    store: S,
) {
    let world = World::new(store).await;
    let birth = world.birth(id(1));
    let plan = next_placement(&world.placement.placement().unwrap());
    let (place, _) =
        DirectoryWrite::place(Some(&world.placement), &plan, attempt(world.two)).unwrap();
    won(&world.store, place).await;
    assert_eq!(world.commit(&birth).await, Outcome::Lost(Mismatch::Placement));
    assert_eq!(world.stands(1).await, None);
    world.verify().await;
}

pub async fn of_two_writes_of_one_version_one_is_done<S: Directory + Sessions>(store: S) {
    let world = World::new(store).await;
    let born = world.born(1).await;
    let one = changed(&born, Input::Attach { transport: transport(1) }, world.one);
    let other = changed(&born, Input::Attach { transport: transport(2) }, world.one);
    let attached = world.won(&one).await;
    assert_eq!(world.commit(&other).await, LOST);
    assert_eq!(world.commit(&one).await, LOST);
    assert_eq!(world.stands(1).await, Some(attached));
    world.verify().await;
}

pub async fn one_that_is_not_done_leaves_the_rest_of_its_batch<S: Directory + Sessions>(store: S) {
    let world = World::new(store).await;
    let mut born = Vec::new();
    for number in 0..150 {
        born.push(world.born(number).await);
    }
    let moved = world.won(&next(&born[70], world.one)).await;
    let batch: Vec<_> = born.iter().map(|session| next(session, world.one)).collect();
    let outcomes = world.store.commit(batch.clone()).await;
    assert_eq!(outcomes.len(), batch.len());
    for (at, (outcome, write)) in outcomes.into_iter().zip(&batch).enumerate() {
        let stands = world.stands(at as u32).await;
        if at == 70 {
            assert_eq!((outcome, stands), (LOST, Some(moved)));
        } else {
            assert_eq!((outcome, stands), (Outcome::Won, Some(*write.after())));
        }
    }
    assert_eq!(world.store.commit(Vec::new()).await, []);
    world.verify().await;
}

pub async fn a_session_may_be_written_twice_in_one_batch<S: Directory + Sessions>(store: S) {
    let world = World::new(store).await;
    let birth = world.birth(id(1));
    let attach = next(birth.after(), world.one);
    let lose = next(attach.after(), world.one);
    let rival = next(birth.after(), world.one);
    let batch = vec![birth, attach, rival, lose.clone()];
    let outcomes = world.store.commit(batch).await;
    assert_eq!(outcomes, [Outcome::Won, Outcome::Won, LOST, Outcome::Won]);
    assert_eq!(world.stands(1).await, Some(*lose.after()));
    world.verify().await;
}

pub async fn a_hand_off_writes_all_or_nothing<S: Directory + Sessions>(store: S) {
    let world = World::new(store).await;
    let frozen = world.frozen(1).await;
    let commit = decided(&frozen, Input::HandOff { to: world.two.owner }, world.one.owner);
    assert_eq!(SessionWrite::change(&frozen, &commit, world.one), Err(BadWrite::OtherKind));
    let key = OffHomeKey { slot: 9, id: id(1).into() };
    let write = handed_off(&frozen, world.one, world.two).off_home(key.clone());
    let away = world.won(&write).await;
    let inbox = world.store.inbox(node(2), None, 10).await.unwrap();
    assert_eq!(inbox.len(), 1);
    assert_eq!((inbox[0].session, inbox[0].from), (away, world.one.owner));
    assert_eq!(&*inbox[0].context, [1, 2, 3]);
    assert_eq!(world.store.inbox_of(node(2), id(1)).await, Ok(Some(inbox[0].clone())));
    assert_eq!(world.store.inbox(node(1), None, 10).await, Ok(vec![]));
    let off_home = world.store.off_home(9, 9, None, 10).await.unwrap();
    assert_eq!((off_home.len(), off_home[0].owner), (1, world.two.owner));
    assert_eq!(off_home[0].version, away.record.version());
    // The origin has let go of it.
    assert_eq!(world.commit(&changed(&frozen, Input::Abort, world.one)).await, LOST);

    let resume = changed(&away, Input::Resume, world.two);
    let resumed = world.won(&resume).await;
    assert_eq!(world.store.inbox(node(2), None, 10).await, Ok(vec![]));
    assert_eq!(world.store.off_home(9, 9, None, 10).await, Ok(off_home));

    // And back, which is home.
    let freeze = world.won(&changed(&resumed, Input::Freeze { to: node(1) }, world.two)).await;
    let back = handed_off(&freeze, world.two, world.one).at_home(key);
    world.won(&back).await;
    assert_eq!(world.store.off_home(9, 9, None, 10).await, Ok(vec![]));
    assert_eq!(world.store.inbox(node(1), None, 10).await.unwrap().len(), 1);
    world.verify().await;
}

pub async fn a_hand_off_needs_a_destination_that_accepts<S: Directory + Sessions>(store: S) {
    let world = World::new(store).await;
    let frozen = world.frozen(1).await;
    let refused = Outcome::Lost(Mismatch::Destination);
    let Identity { owner, incarnation } = world.two;
    let clone = Identity { owner, incarnation: Incarnation(incarnation.0 - 1) };
    assert_eq!(world.commit(&handed_off(&frozen, world.one, clone)).await, refused);
    admit(&world.store, 2, false).await;
    let hand_off = handed_off(&frozen, world.one, world.two);
    assert_eq!(world.commit(&hand_off).await, refused);
    let again = register(&world.store, 2).await.identity();
    assert_eq!(world.commit(&hand_off).await, refused);
    assert_eq!(world.stands(1).await, Some(frozen));
    assert_eq!(world.store.inbox(node(2), None, 10).await, Ok(vec![]));
    world.verify().await;
    world.won(&handed_off(&frozen, world.one, again)).await;
}

pub async fn a_lost_owner_is_replaced_only_once_it_is_revoked<S: Directory + Sessions>(store: S) {
    let world = World::new(store).await;
    let (first, second) = (world.born(1).await, world.born(2).await);
    let refused = Outcome::Lost(Mismatch::Owner);
    let take = taken_over(&first, world.two);
    assert_eq!(world.commit(&take).await, refused);
    world.fence_one().await;
    let taken = world.won(&take).await;
    assert_eq!(taken.record.owner(), world.two.owner);
    // A later epoch of the node revokes as well.
    register(&world.store, 1).await;
    let proof = FenceProof::new(world.one.owner);
    world.won(&changed(&second, Input::TerminateLost { proof }, world.two)).await;
    world.verify().await;
}

pub async fn what_was_handed_to_a_node_that_was_lost_leaves_its_inbox<S: Directory + Sessions>(
    store: S,
) {
    let world = World::new(store).await;
    let (mut away, frozen) = (Vec::new(), [world.frozen(1).await, world.frozen(2).await]);
    for frozen in &frozen {
        away.push(world.won(&handed_off(frozen, world.one, world.two)).await);
    }
    let before = world.store.fence(node(2)).await.unwrap().unwrap();
    won(&world.store, DirectoryWrite::fence(&before, attempt(world.one)).0).await;
    world.won(&taken_over(&away[0], world.one)).await;
    let waiting = world.store.inbox(node(2), None, 10).await.unwrap();
    assert_eq!(waiting.iter().map(|row| row.session).collect::<Vec<_>>(), away[1..]);
    let proof = FenceProof::new(world.two.owner);
    world.won(&changed(&away[1], Input::TerminateLost { proof }, world.one)).await;
    assert_eq!(world.store.inbox(node(2), None, 10).await, Ok(vec![]));
    world.verify().await;
}

pub async fn an_epoch_that_is_over_comes_before_everything_else<S: Directory + Sessions>(store: S) {
    let world = World::new(store).await;
    let born = world.born(1).await;
    let frozen = world.frozen(2).await;
    let (one, rival) = (next(&born, world.one), next(&born, world.one));
    world.won(&rival).await;
    admit(&world.store, 2, false).await;
    world.fence_one().await;
    assert_eq!(world.commit(&one).await, Outcome::Fenced);
    let hand_off = handed_off(&frozen, world.one, world.two);
    assert_eq!(world.commit(&hand_off).await, Outcome::Fenced);
}

pub async fn pages_give_every_row_once<S: Directory + Sessions>(store: S) {
    let world = World::new(store).await;
    // Not in the order of their ids.
    let numbers: Vec<u32> = (0..23_u32).map(|number| number.wrapping_mul(0x9e37_79b9)).collect();
    let births: Vec<_> = numbers.iter().map(|number| world.birth(id(*number))).collect();
    let mut all: Vec<StoredSession> = births.iter().map(|write| *write.after()).collect();
    all.sort_by_key(|session| session.record.id());
    assert!(world.store.commit(births).await.into_iter().all(Outcome::is_won));
    for limit in [1, 5, 22, 23, 24, 1000] {
        let (mut pages, mut after) = (Vec::new(), None);
        loop {
            let page = world.store.sessions(after, limit).await.unwrap();
            assert!(page.len() <= limit);
            pages.extend_from_slice(&page);
            match page.last() {
                Some(last) if page.len() == limit => after = Some(last.record.id()),
                _ => break,
            }
        }
        assert_eq!(pages, all, "{limit} at once");
    }
    let last = SessionId::new([0xff; 16]);
    assert_eq!(world.store.sessions(Some(last), 10).await, Ok(vec![]));
    let middle = all[11].record.id();
    assert_eq!(world.store.sessions(Some(middle), 1000).await.unwrap(), all[12..]);

    let mut moved = Vec::new();
    for session in &all {
        let frozen = world.won(&changed(session, Input::Freeze { to: node(2) }, world.one)).await;
        moved.push(world.won(&handed_off(&frozen, world.one, world.two)).await);
    }
    let (mut waiting, mut after) = (Vec::new(), None);
    loop {
        let page = world.store.inbox(node(2), after, 5).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.session.record.id());
        waiting.extend(page.into_iter().map(|row| row.session));
    }
    assert_eq!(waiting, moved);
}

fn state_changes(entries: &[Entry]) -> usize {
    entries.iter().filter(|entry| matches!(entry.event, Event::StateChange(_))).count()
}

pub async fn a_session_that_is_over_is_forgotten_when_no_client_can_hold_it<
    S: Directory + Sessions,
>(
    store: S,
) {
    let world = World::new(store).await;
    let born = world.born(1).await;
    let policy = Policy::default();
    let end = born.record.born().after(policy.session_ttl);
    let forget = |stored, now| DirectoryWrite::forget_session(stored, world.one, &policy, now);
    assert_eq!(forget(&born, end), Err(BadWrite::NotOver), "it lives");
    let over = changed(&born, Input::Terminate { cause: Cause::Request }, world.one);
    let over = world.won(&over).await;
    let early = Time::from_millis(end.millis() - 1);
    assert_eq!(forget(&over, early), Err(BadWrite::NotOver), "it is a tombstone");
    let write = forget(&over, end).unwrap();
    assert_eq!(world.store.write(write.clone()).await, Outcome::Won);
    assert_eq!(world.stands(1).await, None);
    assert_eq!(world.store.write(write).await, LOST, "it is gone");
    // The log keeps all that it was.
    world.verify().await;
}

pub async fn the_log_tells_of_all_that_was_done_and_of_nothing_else<S: Directory + Sessions>(
    store: S,
) {
    let world = World::new(store).await;
    let births: Vec<_> = (0..9).map(|number| world.birth(id(number % 7))).collect();
    let outcomes = world.store.commit(births.clone()).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_won()).count(), 7);
    let changes: usize = world.log().await.iter().map(|row| state_changes(&row.entries)).sum();
    assert_eq!(changes, 7);
    let log = world.log().await;
    assert!(log.is_sorted_by_key(|row| row.key));
    // Every event is the one of its write, and has that write's head.
    for write in &births[..7] {
        let of_it = |entry: &&Entry| **entry == write.transaction().entries()[0];
        let found = log.iter().flat_map(|row| &row.entries).filter(of_it).count();
        assert_eq!(found, 1);
        let stands = world.store.get(write.after().record.id()).await.unwrap().unwrap();
        assert_eq!(write.transaction().entries()[0].head, Some(stands.head));
    }
    world.verify().await;
}

pub async fn refusals_are_told_and_rows_trimmed<S: Directory + Sessions>(store: S) {
    let world = World::new(store).await;
    let born = world.born(1).await;
    let refusal = Refusal {
        reason: Reason::StaleVersion,
        session: Some(id(1)),
        stood: Some(born.record.version()),
        count: 2,
        actor: node(1),
        now: super::world::NOW,
    };
    let before = world.log().await.len();
    assert!(world.store.write(DirectoryWrite::tell([refusal])).await.is_won());
    let log = world.log().await;
    assert_eq!(log.len(), before + 1);
    assert_eq!(log[before].entries, [Entry { event: Event::Refusal(refusal), head: None }]);
    assert_eq!(world.stands(1).await, Some(born));
    world.verify().await;

    let trim = || DirectoryWrite::trim(log[..before].iter().map(|row| row.key));
    assert!(world.store.write(trim()).await.is_won());
    assert_eq!(world.log().await, log[before..]);
    // What is gone may be trimmed again.
    assert!(world.store.write(trim()).await.is_won());
    // Trimming takes no number back.
    world.won(&next(&born, world.one)).await;
    assert!(world.log().await[1].key > log[before].key);
}
