//! What is done for a lost owner, and about two that claim to be one.

use ownership::{
    Epoch, NodeIndex, Placement, SessionId,
    model::{
        Cause, Context, FenceProof, Hold, Input, OperationId, Owner, Policy, Reason, State, Time,
        birth,
    },
    pending::{Progress, change},
    placement::Applied,
    store::{
        Attempt, DirectoryWrite, FenceRow, Identity, Incarnation, Key, Mismatch, OffHomeKey,
        Outcome, Row, SessionWrite, StoredSession, Tables, WireId,
    },
    takeover::{
        Knowledge, LossPolicy, NeedsShared, OnLoss, Strategy, Verdict, act, contradiction,
        security_event,
    },
    transfer::Routes,
};
use std::net::SocketAddr;

const NOW: Time = Time::from_millis(1_000_000);
const LATER: Time = Time::from_millis(1_000_000 + 100 * 3_600_000);
const ID: SessionId = SessionId::new([7; 16]);

fn node(number: u16) -> NodeIndex {
    NodeIndex::new(number).unwrap()
}

fn owner(number: u16, epoch: u32) -> Owner {
    Owner { node: node(number), epoch: Epoch::new(epoch).unwrap() }
}

fn context(by: Identity, now: Time, operation: u128) -> Context {
    Context { now, actor: by.owner, policy: Policy::default(), operation: OperationId(operation) }
}

fn register(tables: &mut Tables, number: u16, before: Option<&FenceRow>) -> FenceRow {
    let drawn = match tables.get(&Key::Epochs) {
        Some(Row::Epochs(epoch)) => Some(*epoch),
        _ => None,
    };
    let incarnation = Incarnation(drawn.map_or(0, Epoch::get).into());
    let (name, operation) = (format!("node {number}"), OperationId(1));
    let node = node(number);
    let register =
        DirectoryWrite::register(node, &name, before, drawn, incarnation, NOW, operation);
    let (write, row) = register.unwrap();
    assert_eq!(tables.apply(write.transaction()), Outcome::Won);
    row
}

/// Nodes 1 and 2 in epochs 1 and 2, and an attached session of node 1.
fn cluster() -> (Tables, FenceRow, Identity, StoredSession) {
    let mut tables = Tables::default();
    let lost = register(&mut tables, 1, None);
    let taker = register(&mut tables, 2, None).identity();
    let by = lost.identity();
    let placement = Placement::all_to(node(2));
    let attempt = Attempt { by, now: NOW, operation: OperationId(2) };
    let (write, _) = DirectoryWrite::place(None, &placement, attempt).unwrap();
    assert_eq!(tables.apply(write.transaction()), Outcome::Won);
    let commit = birth(ID, 1, &context(by, NOW, 3));
    let write = SessionWrite::birth(&commit, by, placement.revision()).unwrap();
    assert_eq!(tables.apply(write.transaction()), Outcome::Won);
    let transport = SocketAddr::from(([192, 0, 2, 1], 9)).into();
    let session = changed(&mut tables, write.after(), Input::Attach { transport }, by, 4);
    (tables, lost, taker, session)
}

fn changed(
    tables: &mut Tables,
    before: &StoredSession,
    input: Input,
    by: Identity,
    operation: u128,
) -> StoredSession {
    let pending = change(before, &input, by, &context(by, NOW, operation)).unwrap();
    assert_eq!(tables.apply(pending.write().transaction()), Outcome::Won);
    *pending.write().after()
}

#[test]
fn only_shared_sessions_are_taken_over() {
    assert_eq!(LossPolicy::new(Strategy::Sticky, OnLoss::TakeOver), Err(NeedsShared));
    for on_loss in [OnLoss::Deny, OnLoss::Terminate] {
        assert!(LossPolicy::new(Strategy::Sticky, on_loss).is_ok());
    }
    assert_eq!(OnLoss::default(), OnLoss::Deny);
}

#[test]
fn each_policy_does_what_it_says_to_the_sessions_of_a_lost_node() {
    let (.., session) = cluster();
    let proof = FenceProof::new(owner(1, 1));
    let end = Some(Input::TerminateLost { proof });
    let take = Some(Input::TakeOver { proof });
    // Policy, and what comes of another node's session, of the node's own, of another's past its time.
    let table = [
        (Strategy::Shared, OnLoss::Deny, None, take, end),
        (Strategy::Shared, OnLoss::Terminate, end, end, end),
        (Strategy::Shared, OnLoss::TakeOver, take, take, end),
        (Strategy::Sticky, OnLoss::Deny, None, take, None),
        (Strategy::Sticky, OnLoss::Terminate, None, end, None),
    ];
    for (strategy, on_loss, others, own, over) in table {
        let policy = LossPolicy::new(strategy, on_loss).unwrap();
        let answer = |me, now| policy.answer(&session.record, proof, me, &Policy::default(), now);
        assert_eq!(answer(owner(2, 2), NOW), others, "{policy:?}");
        assert_eq!(answer(owner(1, 3), NOW), own, "{policy:?}");
        assert_eq!(answer(owner(2, 2), LATER), over, "{policy:?}");
    }
}

#[test]
fn nothing_is_done_without_a_proof_or_for_a_session_that_is_over() {
    let (mut tables, lost, _, session) = cluster();
    let policy = LossPolicy::new(Strategy::Shared, OnLoss::TakeOver).unwrap();
    let answer = |session: &StoredSession, fenced, me| {
        let proof = FenceProof::new(fenced);
        policy.answer(&session.record, proof, me, &Policy::default(), NOW)
    };
    assert!(answer(&session, owner(1, 1), owner(2, 2)).is_some());
    assert_eq!(answer(&session, owner(3, 9), owner(2, 2)), None, "another node's fence");
    assert_eq!(answer(&session, owner(1, 3), owner(1, 2)), None, "it is fenced itself");
    let end = Input::Terminate { cause: Cause::Request };
    let ended = changed(&mut tables, &session, end, lost.identity(), 5);
    assert_eq!(answer(&ended, owner(1, 1), owner(2, 2)), None);
}

#[test]
fn a_session_is_taken_over_only_once_its_owner_is_revoked() {
    let (mut tables, lost, taker, session) = cluster();
    let input = Input::TakeOver { proof: FenceProof::new(lost.owner()) };
    let key = OffHomeKey { slot: 9, id: WireId::from(ID) };
    let applied = Applied::new(node(2), Placement::all_to(node(2)).into());
    let routes = Routes::new(node(2), &applied, [key]);
    let context = context(taker, NOW, 10);
    let pending = act(&session, &input, Some(&routes), taker, &context).unwrap();
    let transaction = pending.write().transaction().clone();
    // A proof that lies is of no use.
    assert_eq!(tables.apply(&transaction), Outcome::Lost(Mismatch::Owner));
    let attempt = Attempt { by: taker, now: NOW, operation: OperationId(11) };
    let (fence, _) = DirectoryWrite::fence(&lost, attempt);
    assert_eq!(tables.apply(fence.transaction()), Outcome::Won);
    let outcome = tables.apply(&transaction);
    let Progress::Done(done) = pending.answered(outcome) else { panic!("{outcome:?}") };
    let record = done.after().record;
    assert_eq!((record.owner(), record.hold()), (taker.owner, Hold::Active));
    assert!(matches!(record.state(), State::Recovering { .. }), "the client proves itself anew");
}

#[test]
fn a_session_past_its_time_is_reaped_with_the_cause_of_its_time() {
    let (mut tables, lost, taker, session) = cluster();
    let policy = LossPolicy::new(Strategy::Shared, OnLoss::Deny).unwrap();
    let proof = FenceProof::new(lost.owner());
    let answer = policy.answer(&session.record, proof, taker.owner, &Policy::default(), LATER);
    let attempt = Attempt { by: taker, now: NOW, operation: OperationId(11) };
    let (fence, _) = DirectoryWrite::fence(&lost, attempt);
    assert_eq!(tables.apply(fence.transaction()), Outcome::Won);
    let context = context(taker, LATER, 10);
    let reap = act(&session, &answer.expect("it is over"), None, taker, &context).unwrap();
    assert_eq!(tables.apply(reap.write().transaction()), Outcome::Won);
    let state = reap.write().after().record.state();
    assert_eq!(state, State::Terminated(Cause::SessionTtl));
}

#[test]
fn sessions_of_a_node_that_was_cut_off_go_on_or_end_by_policy() {
    let (mut tables, lost, taker, session) = cluster();
    let by = lost.identity();
    let lapsed = |on_loss, me: Identity| {
        LossPolicy::new(Strategy::Shared, on_loss).unwrap().lapsed(&session.record, me.owner)
    };
    assert_eq!(lapsed(OnLoss::Deny, by), None);
    assert_eq!(lapsed(OnLoss::TakeOver, by), None);
    assert_eq!(lapsed(OnLoss::Terminate, taker), None, "it is another node's");
    let end = lapsed(OnLoss::Terminate, by).expect("it ends");
    let ended = changed(&mut tables, &session, end, by, 20);
    assert_eq!(ended.record.state(), State::Terminated(Cause::OwnerLost));
    let policy = LossPolicy::new(Strategy::Shared, OnLoss::Terminate).unwrap();
    assert_eq!(policy.lapsed(&ended.record, by.owner), None, "once");
}

#[test]
fn a_session_that_two_write_is_ended() {
    let (mut tables, lost, _, session) = cluster();
    let by = lost.identity();
    let written = changed(&mut tables, &session, Input::RotateKey, by, 20);
    let context = context(by, NOW, 21);
    let judge = |knowledge, stands| contradiction(&session, knowledge, stands, by, &context);
    let Ok(Verdict::End(end)) = judge(Knowledge::Written, Some(&written)) else { panic!() };
    let state = end.write().after().record.state();
    assert_eq!(state, State::Terminated(Cause::Contradiction));
    assert_eq!(tables.apply(end.write().transaction()), Outcome::Won);
    let ended = *end.write().after();
    assert_eq!(judge(Knowledge::Written, Some(&ended)), Ok(Verdict::Leave), "it is over");
    assert_eq!(judge(Knowledge::Written, None), Ok(Verdict::Leave));
    let event = security_event(&session, by, &context);
    assert_eq!((event.reason, event.session), (Reason::ConcurrentMutation, Some(ID)));
}

#[test]
fn the_last_write_of_an_earlier_process_is_no_contradiction() {
    let (mut tables, lost, _, session) = cluster();
    let by = lost.identity();
    let late = changed(&mut tables, &session, Input::RotateKey, by, 20);
    let context = context(by, NOW, 21);
    let judge = |stands: &StoredSession| {
        contradiction(&session, Knowledge::Read, Some(stands), by, &context)
    };
    assert_eq!(judge(&late), Ok(Verdict::Predecessor(late)));
    let another = changed(&mut tables, &late, Input::RotateKey, by, 22);
    assert!(matches!(judge(&another), Ok(Verdict::End(_))), "it had one write under way");
}
