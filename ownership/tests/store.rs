//! The memory store: what a transaction does, and what becomes of one that nobody knows about.

use ownership::{
    Epoch, NodeIndex, Placement, SessionId,
    model::{Commit, Context, Input, OperationId, Owner, Policy, Time, birth, decide},
    store::{
        Attempt, BadWrite, Delivery, Directory, DirectoryWrite, Fate, Fault, FenceRow, Identity,
        Incarnation, Memory, Mismatch, Outcome, Seen, SessionWrite, Sessions, StoredSession,
    },
};
use std::net::SocketAddr;

const NOW: Time = Time::from_millis(1_000_000);

fn node(number: u16) -> NodeIndex {
    NodeIndex::new(number).unwrap()
}

fn context(actor: Owner, operation: u128) -> Context {
    Context { now: NOW, actor, policy: Policy::default(), operation: OperationId(operation) }
}

async fn register(store: &Memory, number: u16) -> FenceRow {
    let before = store.fence(node(number)).await.unwrap();
    let drawn = store.epochs().await.unwrap();
    let incarnation = Incarnation(drawn.map_or(0, Epoch::get).into());
    let name = format!("node {number}");
    let (write, row) = DirectoryWrite::register(
        node(number),
        &name,
        before.as_ref(),
        drawn,
        incarnation,
        NOW,
        OperationId(1),
    )
    .unwrap();
    assert_eq!(Directory::write(store, write).await, Outcome::Won);
    row
}

/// Two nodes, a placement, and a session of the first.
async fn set_up() -> (Memory, Identity, Identity, StoredSession) {
    let store = Memory::default();
    let (first, second) =
        (register(&store, 1).await.identity(), register(&store, 2).await.identity());
    let attempt = Attempt { by: first, now: NOW, operation: OperationId(3) };
    let placement = Placement::all_to(node(1));
    let (write, _) = DirectoryWrite::place(None, &placement, attempt).unwrap();
    assert_eq!(Directory::write(&store, write).await, Outcome::Won);
    let commit = birth(SessionId::new([7; 16]), 1, &context(first.owner, 4));
    let write = SessionWrite::birth(&commit, first, placement.revision()).unwrap();
    let session = *write.after();
    assert_eq!(store.commit(vec![write.clone(), write]).await, [Outcome::Won, ROW]);
    (store, first, second, session)
}

const ROW: Outcome = Outcome::Lost(Mismatch::Row);

fn decided(before: &StoredSession, input: Input, actor: Owner, operation: u128) -> Commit {
    decide(&before.record, &input, &context(actor, operation)).commit().expect("legal")
}

fn attach(before: &StoredSession, by: Identity, operation: u128) -> SessionWrite {
    let transport = SocketAddr::from(([192, 0, 2, 1], operation as u16)).into();
    let commit = decided(before, Input::Attach { transport }, by.owner, operation);
    SessionWrite::change(before, &commit, by).unwrap()
}

async fn commit(store: &Memory, write: &SessionWrite) -> Outcome {
    store.commit(vec![write.clone()]).await[0]
}

#[tokio::test]
async fn of_two_writes_of_one_version_one_is_done() {
    let (store, first, _, session) = set_up().await;
    let (one, other) = (attach(&session, first, 10), attach(&session, first, 11));
    assert_eq!(commit(&store, &one).await, Outcome::Won);
    assert_eq!(commit(&store, &other).await, ROW);
    let stands = store.get(session.record.id()).await.unwrap();
    assert_eq!(stands.as_ref(), Some(one.after()));
    assert_eq!(other.fate(stands.as_ref()), Fate::Lost);
}

#[tokio::test]
async fn an_epoch_that_is_over_writes_nothing() {
    let (store, first, _, session) = set_up().await;
    let next = register(&store, 1).await;
    assert!(next.has_revoked(first.owner));
    assert_eq!(commit(&store, &attach(&session, first, 10)).await, Outcome::Fenced);
}

#[tokio::test]
async fn a_session_is_handed_off_only_to_a_node_that_accepts_it() {
    let (store, first, second, session) = set_up().await;
    let freeze = decided(&session, Input::Freeze { to: node(2) }, first.owner, 10);
    let freeze = SessionWrite::change(&session, &freeze, first).unwrap();
    assert_eq!(commit(&store, &freeze).await, Outcome::Won);
    let frozen = freeze.after();
    let hand_off = decided(frozen, Input::HandOff { to: second.owner }, first.owner, 11);
    assert_eq!(SessionWrite::change(frozen, &hand_off, first), Err(BadWrite::OtherKind));
    let write = || SessionWrite::hand_off(frozen, &hand_off, first, second, [1, 2].into()).unwrap();

    let fence = store.fence(node(2)).await.unwrap().unwrap();
    let attempt = Attempt { by: second, now: NOW, operation: OperationId(12) };
    let (drain, draining) = DirectoryWrite::admit(&fence, false, attempt).unwrap();
    assert_eq!(Directory::write(&store, drain).await, Outcome::Won);
    assert_eq!(commit(&store, &write()).await, Outcome::Lost(Mismatch::Destination));
    let (accept, _) = DirectoryWrite::admit(&draining, true, attempt).unwrap();
    assert_eq!(Directory::write(&store, accept).await, Outcome::Won);
    assert_eq!(commit(&store, &write()).await, Outcome::Won);

    let waiting = store.inbox(node(2), None, 10).await.unwrap();
    assert_eq!(waiting.len(), 1);
    assert_eq!((&*waiting[0].context, waiting[0].session), (&[1, 2][..], *write().after()));
    let resume = decided(write().after(), Input::Resume, second.owner, 13);
    let resume = SessionWrite::change(write().after(), &resume, second).unwrap();
    assert_eq!(commit(&store, &resume).await, Outcome::Won);
    assert_eq!(store.inbox(node(2), None, 10).await.unwrap(), []);
}

#[tokio::test]
async fn an_unknown_outcome_ends_only_when_the_write_is_seen_or_a_rival_has_won() {
    let (store, first, _, session) = set_up().await;
    let id = session.record.id();
    let (late, rival) = (attach(&session, first, 10), attach(&session, first, 11));
    store.deliver([Delivery::Late]);
    assert_eq!(commit(&store, &late).await, Outcome::Unknown);
    assert_eq!(late.fate(store.get(id).await.unwrap().as_ref()), Fate::Open);
    assert_eq!(commit(&store, &rival).await, Outcome::Won);
    assert_eq!(store.arrive(), Some(ROW));
    assert_eq!(late.fate(store.get(id).await.unwrap().as_ref()), Fate::Lost);

    let before = *rival.after();
    let lose = Input::LoseTransport { transport: before.record.transport().unwrap() };
    let lost = decided(&before, lose, first.owner, 12);
    let lost = SessionWrite::change(&before, &lost, first).unwrap();
    store.deliver([Delivery::AnswerLost]);
    assert_eq!(commit(&store, &lost).await, Outcome::Unknown);
    assert_eq!(lost.fate(store.get(id).await.unwrap().as_ref()), Fate::Won);
}

#[tokio::test]
async fn a_store_that_was_restored_from_a_backup_is_refused() {
    let (store, first, _, session) = set_up().await;
    let backup = store.tables();
    assert_eq!(commit(&store, &attach(&session, first, 10)).await, Outcome::Won);
    let seen = Seen::new(Sessions::seen(&store));
    assert_eq!(Memory::open(backup.clone(), seen).unwrap_err().seen, seen.position());
    store.restore(backup);
    assert_eq!(store.get(session.record.id()).await, Err(Fault::Older));
    let again = commit(&store, &attach(&session, first, 11)).await;
    assert_eq!(again, Outcome::Unavailable(Fault::Older));
}
