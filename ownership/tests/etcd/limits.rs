//! What etcd takes in one transaction, how much it keeps, and what it keeps of the past.

use crate::{
    cluster::Options,
    conformance::world::{
        World, attempt, changed, decided, id, next, next_placement, node, operation, won,
    },
    fixture::{cluster, config, open, patient, shared},
};
use etcd_client::{Client, GetOptions};
use ownership::{
    baggage::Baggage,
    model::{FenceProof, Input},
    store::{
        AuditKey, Directory, DirectoryWrite, Fault, Identity, Outcome, SessionWrite, Sessions,
        Store, WireId,
        etcd::{Etcd, EtcdConfig},
    },
    transfer::ContextLimit,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

#[tokio::test]
async fn what_is_too_large_is_refused_and_the_rest_of_its_batch_is_done() {
    let Some(cluster) = shared() else { return };
    let world = World::new(open(&config(cluster.urls())).await).await;
    let (small, large) = (world.born(1).await, world.frozen(2).await);
    let hand_off = decided(&large, Input::HandOff { to: world.two.owner }, world.one.owner);
    let with = |context: usize| {
        let context = vec![7; context].into();
        SessionWrite::hand_off(&large, &hand_off, world.one, world.two, context).unwrap()
    };
    let too_large = Outcome::Unavailable(Fault::TooLarge);
    let outcomes = world.store.commit(vec![with(2 << 20), next(&small, world.one)]).await;
    assert_eq!(outcomes, [too_large, Outcome::Won]);
    assert_eq!(world.stands(2).await, Some(large));
    world.won(&with(64 << 10)).await;
    let waiting = world.store.inbox(node(2), None, 10).await.unwrap();
    assert_eq!(waiting[0].context.len(), 64 << 10);

    let keys = |count| (1..=count).map(|number| AuditKey { stream: 1, number });
    assert_eq!(world.store.write(DirectoryWrite::trim(keys(200))).await, too_large);
    won(&world.store, DirectoryWrite::trim(keys(100))).await;
    world.verify().await;
}

/// Be it packed in the place of as much, or on its way with the sessions, which go all at once.
#[tokio::test]
async fn the_most_that_sessions_may_carry_is_taken() {
    let Some(cluster) = shared() else { return };
    let world = World::new(open(&config(cluster.urls())).await).await;
    let most = |byte| {
        let ids = vec![WireId::new(&[byte; WireId::MAX]).unwrap(); Baggage::MAX_WIRE_IDS];
        Baggage::new(ids, vec![byte; ContextLimit::ETCD.bytes()].into()).unwrap()
    };
    let mut hand_offs = Vec::new();
    for number in 0..100 {
        let frozen = world.frozen(number).await;
        let pack = |before, baggage| DirectoryWrite::pack(before, id(number), baggage, world.one);
        let (write, row) = pack(None, most(1));
        won(&world.store, write).await;
        won(&world.store, pack(Some(&row), most(2)).0).await;
        let commit = decided(&frozen, Input::HandOff { to: world.two.owner }, world.one.owner);
        let packed = most(2).packed(ContextLimit::ETCD).unwrap().bytes().into();
        let write = SessionWrite::hand_off(&frozen, &commit, world.one, world.two, packed);
        hand_offs.push(write.unwrap());
    }
    let outcomes = world.store.commit(hand_offs).await;
    assert!(outcomes.iter().all(|outcome| outcome.is_won()), "{outcomes:?}");
    let waiting = world.store.inbox(node(2), None, 1_000).await.unwrap();
    assert_eq!(waiting.len(), 100);
    for row in waiting {
        let kept = world.store.baggage(row.session.record.id()).await.unwrap().unwrap();
        assert_eq!((Baggage::unpacked(&row.context), kept.baggage), (Ok(most(2)), most(2)));
    }
    // Each end is two writes of etcd's, and they are all done.
    let end = Input::TerminateLost { proof: FenceProof::new(world.two.owner) };
    let before = world.store.fence(node(2)).await.unwrap().unwrap();
    won(&world.store, DirectoryWrite::fence(&before, attempt(world.one)).0).await;
    let sessions = world.store.sessions(None, 1_000).await.unwrap();
    let ends: Vec<_> = sessions.iter().map(|session| changed(session, end, world.one)).collect();
    assert!(world.store.commit(ends).await.iter().all(|outcome| outcome.is_won()));
    assert_eq!(world.store.all_baggage(None, 1).await, Ok(vec![]));
    world.verify().await;
}

/// Sessions enough for many of etcd's transactions, some of them out of date.
#[tokio::test]
async fn many_that_are_lost_leave_the_rest_of_a_large_batch() {
    let Some(cluster) = shared() else { return };
    let world = World::new(open(&config(cluster.urls())).await).await;
    let births: Vec<_> = (0..1_000).map(|number| world.birth(id(number))).collect();
    let born: Vec<_> = births.iter().map(|write| *write.after()).collect();
    let outcomes = world.store.commit(births).await;
    assert!(outcomes.iter().all(|outcome| outcome.is_won()));
    let stale: Vec<_> = born.iter().step_by(7).map(|session| next(session, world.one)).collect();
    assert!(world.store.commit(stale).await.iter().all(|outcome| outcome.is_won()));
    let batch: Vec<_> = born.iter().map(|session| next(session, world.one)).collect();
    let outcomes = world.store.commit(batch).await;
    for (number, outcome) in outcomes.iter().enumerate() {
        let is_won = number % 7 != 0;
        assert_eq!(outcome.is_won(), is_won, "{number}: {outcome:?}");
    }
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_says_so_and_can_be_trimmed() {
    let arguments = vec!["--quota-backend-bytes=6291456".to_owned()];
    let Some(cluster) = cluster(3, Options { arguments, ..Options::default() }) else { return };
    let config = config(cluster.urls());
    let world = Arc::new(World::new(open(&config).await).await);
    // Each through another member, so that one lets in what another would keep out.
    let mut callers = JoinSet::new();
    for caller in 0..3_u32 {
        let mut members = cluster.urls();
        members.rotate_left(caller as usize);
        let config = EtcdConfig { members, ..config.clone() };
        let world = Arc::clone(&world);
        callers.spawn(async move {
            let store = open(&config).await;
            let (mut done, mut number) = (Vec::new(), caller << 24);
            loop {
                let births: Vec<_> = (0..100).map(|more| world.birth(id(number + more))).collect();
                number += 100;
                let start = Instant::now();
                let outcomes = store.commit(births.clone()).await;
                assert!(start.elapsed() < config.deadline + Duration::from_secs(1));
                let is_full = outcomes.contains(&Outcome::Unavailable(Fault::Full));
                done.extend(births.into_iter().zip(outcomes));
                if is_full {
                    return done;
                }
            }
        });
    }
    let mut full = 0;
    for (birth, outcome) in callers.join_all().await.into_iter().flatten() {
        let stands = world.store.get(birth.after().record.id()).await.unwrap();
        match outcome {
            Outcome::Won => assert_eq!(stands.as_ref(), Some(birth.after())),
            Outcome::Unavailable(Fault::Full) => {
                assert_eq!(stands, None);
                full += 1;
            }
            outcome => panic!("{outcome:?}"),
        }
    }
    assert!(full >= 3 * 100);
    world.verify().await;
    let beat = world.store.heartbeat(node(1)).await.unwrap().unwrap();
    let (beat, _) = DirectoryWrite::beat(&beat, world.one, None, operation());
    assert_eq!(world.store.write(beat).await, Outcome::Unavailable(Fault::Full));
    let rows = world.store.audit(None, 50).await.unwrap();
    won(&world.store, DirectoryWrite::trim(rows.iter().map(|row| row.key))).await;
    assert_ne!(world.store.audit(None, 1).await.unwrap()[0].key, rows[0].key);
}

/// Members that have stopped are as slow as can be: what was sent is in doubt, and what waits here is not
/// sent any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_behind_a_slow_etcd_is_turned_away() {
    let Some(cluster) = cluster(3, Options::default()) else { return };
    let config = config(cluster.urls());
    let world = Arc::new(World::new(open(&patient(config.clone())).await).await);
    let deadline = Duration::from_secs(1);
    let store = Arc::new(open(&EtcdConfig { deadline, ..config }).await);
    (0..3).for_each(|at| cluster.stop(at));
    let (start, mut callers) = (Instant::now(), JoinSet::new());
    for number in 0..300 {
        let (store, birth) = (Arc::clone(&store), world.birth(id(number)));
        callers.spawn(async move { (birth.clone(), store.commit(vec![birth]).await[0]) });
    }
    let outcomes = callers.join_all().await;
    assert!(start.elapsed() < 3 * deadline);
    (0..3).for_each(|at| cluster.go_on(at));
    let mut refused = 0;
    for (birth, outcome) in outcomes {
        match outcome {
            Outcome::Unknown => {}
            Outcome::Unavailable(Fault::Overloaded | Fault::Unreachable) => {
                refused += 1;
                let stands = world.store.get(birth.after().record.id()).await;
                assert_eq!(stands, Ok(None));
            }
            outcome => panic!("{outcome:?}"),
        }
    }
    assert!(refused >= 100, "{refused}");
    world.verify().await;
}

/// Bulk work goes over one connection, so much of it at once; heartbeats over one of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_does_not_wait_behind_bulk_work() {
    let Some(cluster) = shared() else { return };
    let config = EtcdConfig { deadline: Duration::from_secs(60), ..config(cluster.urls()) };
    let world = Arc::new(World::new(open(&config).await).await);
    let before = world.store.heartbeat(node(1)).await.unwrap().unwrap();
    let mut bulk = JoinSet::new();
    for number in 0..1_000 {
        let world = Arc::clone(&world);
        bulk.spawn(async move {
            let births = (0..20).map(|more| world.birth(id(number * 20 + more))).collect();
            assert!(world.store.commit(births).await.iter().all(|outcome| outcome.is_won()));
        });
    }
    for _ in 0..20 {
        bulk.join_next().await.unwrap().unwrap();
    }
    won(&world.store, DirectoryWrite::beat(&before, world.one, None, operation()).0).await;
    while let Some(result) = bulk.try_join_next() {
        result.unwrap();
    }
    // Behind all others it would have come among the last.
    assert!(bulk.len() > 300, "only {} are left", bulk.len());
    bulk.join_all().await;
}

#[tokio::test]
async fn history_is_compacted_by_one_of_many() {
    let Some(cluster) = cluster(1, Options::default()) else { return };
    let period = Duration::from_millis(600);
    let config = EtcdConfig {
        accepts_single_member: true,
        compacts_every: Some(period),
        ..config(cluster.urls())
    };
    let mut nodes: Vec<Etcd> = Vec::new();
    for _ in 0..5 {
        nodes.push(open(&config).await);
    }
    let world = World::new(nodes.pop().unwrap()).await;
    let mut client = Client::connect(cluster.urls(), None).await.unwrap();
    let early = client.get("", Some(GetOptions::new().with_all_keys())).await.unwrap();
    let early = early.header().unwrap().revision();
    let start = Instant::now();
    let mut stands = world.born(1).await;
    while start.elapsed() < 10 * period {
        stands = world.won(&next(&stands, world.one)).await;
        for node in &nodes {
            // Nodes learn of revisions by what they do themselves.
            node.get(id(1)).await.unwrap();
        }
        sleep(Duration::from_millis(20)).await;
    }
    let at = GetOptions::new().with_revision(early);
    let gone = client.get("any", Some(at)).await.unwrap_err().to_string();
    assert!(gone.contains("required revision has been compacted"), "{gone}");
    let name = "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds_count";
    let compactions = cluster.measured(0, name);
    let elapsed = start.elapsed().div_duration_f64(period);
    assert!(compactions >= 3.0, "{compactions}");
    assert!(compactions <= 2.0 * elapsed + 2.0, "{compactions} in {elapsed} periods");
    world.verify().await;
}

/// The watch is at one of the members; whichever is killed, hints go on.
#[tokio::test]
async fn hints_outlive_the_member_that_is_watched() {
    let Some(mut cluster) = cluster(3, Options::default()) else { return };
    let config = config(cluster.urls());
    let world = World::new(open(&config).await).await;
    let other = open(&config).await;
    let patience = Duration::from_secs(8);
    for at in 0..3 {
        let since = world.store.seen().revision;
        cluster.kill(at);
        let start = Instant::now();
        // What is in doubt while a leader is chosen may be done, or be done later: so go on until
        // one is.
        while !place(&other, world.one).await {
            assert!(start.elapsed() < patience);
            sleep(Duration::from_millis(20)).await;
        }
        let hint = timeout(patience, Directory::changed(&world.store, since)).await;
        assert!(hint.expect("a hint in time") > since);
        cluster.run(at);
        cluster.await_health();
    }
}

/// Changes the placement.
async fn place(store: &Etcd, by: Identity) -> bool {
    let Ok(Some(before)) = store.placement().await else { return false };
    let plan = next_placement(&before.placement().unwrap());
    let (write, _) = DirectoryWrite::place(Some(&before), &plan, attempt(by)).unwrap();
    store.write(write).await.is_won()
}
