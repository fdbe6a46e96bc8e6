//! Moving a session: ownership moves by one commit or not at all, and until that is known, nothing moves.

use ownership::{
    NodeIndex, Placement, SessionId,
    baggage::Baggage,
    lease::is_unsettled,
    model::{Cause, Context, Hold, Input, OperationId, Owner, Policy, Reason, State, Time, birth},
    pending::{Due, NoChange, NotDone, Pending, Progress, change},
    placement::{Applied, Member},
    store::{
        Attempt, DirectoryWrite, FenceRow, Identity, InboxRow, Incarnation, Key, Mismatch,
        OffHomeKey, Outcome, Row, SessionWrite, StoredSession, Tables, Transaction, TransferRow,
        TransferWrite, WireId, Write,
    },
    transfer::{
        AppContext, Arrived, ContextLimit, ContextTooLong, Decided, Deciding, Frozen, GiveUp,
        HandedOff, Inherited, NoStep, Quiesced, Redirect, Routes, Undecided,
    },
};
use std::{net::SocketAddr, time::Duration};

const NOW: Time = Time::from_millis(1_000_000);
const ROW: Outcome = Outcome::Lost(Mismatch::Row);
const ID: SessionId = SessionId::new([7; 16]);

fn node(number: u16) -> NodeIndex {
    NodeIndex::new(number).unwrap()
}

/// Two nodes, and a session of node 1 that is attached. One store is everything.
struct Cluster {
    tables: Tables,
    origin: Identity,
    destination: Identity,
    drawn: u128,
    now: Time,
}

impl Cluster {
    fn new() -> (Self, StoredSession) {
        let mut tables = Tables::default();
        let [origin, destination] = [1, 2].map(|number| register(&mut tables, number));
        let placement = Placement::all_to(node(1));
        let attempt = Attempt { by: origin, now: NOW, operation: OperationId(3) };
        let (write, _) = DirectoryWrite::place(None, &placement, attempt).unwrap();
        assert_eq!(tables.apply(write.transaction()), Outcome::Won);
        let mut cluster = Self { tables, origin, destination, drawn: 100, now: NOW };
        let commit = birth(ID, 1, &cluster.context(origin));
        let write = SessionWrite::birth(&commit, origin, placement.revision()).unwrap();
        assert_eq!(cluster.send(write.transaction()), Outcome::Won);
        let transport = SocketAddr::from(([192, 0, 2, 1], 9)).into();
        let session = cluster.change(write.after(), Input::Attach { transport }, origin);
        (cluster, session)
    }

    fn context(&mut self, by: Identity) -> Context {
        self.drawn += 1;
        let operation = OperationId(self.drawn);
        Context { now: self.now, actor: by.owner, policy: Policy::default(), operation }
    }

    fn send(&mut self, transaction: &Transaction) -> Outcome {
        self.tables.apply(transaction)
    }

    fn change(&mut self, before: &StoredSession, input: Input, by: Identity) -> StoredSession {
        let context = self.context(by);
        let pending = change(before, &input, by, &context).unwrap();
        *self.done(pending).after()
    }

    /// Sends a write with nothing in its way.
    fn done(&mut self, pending: Pending<SessionWrite>) -> SessionWrite {
        let outcome = self.send(pending.write().transaction());
        match pending.answered(outcome) {
            Progress::Done(done) => (*done).clone(),
            other => panic!("{other:?}"),
        }
    }

    fn frozen(&mut self, session: &StoredSession) -> Frozen {
        let context = self.context(self.origin);
        let pending = Frozen::freeze(session, node(2), self.origin, &context).unwrap();
        let outcome = self.send(pending.write().transaction());
        let Progress::Done(done) = pending.answered(outcome) else { panic!("{outcome:?}") };
        Frozen::new(&done, self.origin).unwrap()
    }

    fn quiesced(&mut self, session: &StoredSession) -> Quiesced {
        self.frozen(session).quiesced(baggage().packed(ContextLimit::LOCAL).unwrap())
    }

    fn routes(&self) -> Routes {
        let applied = Applied::new(node(1), Placement::all_to(node(1)).into());
        Routes::new(node(2), &applied, [key()])
    }

    fn hand_off<W: Deciding>(&mut self, session: &StoredSession) -> Undecided<W> {
        let (quiesced, context) = (self.quiesced(session), self.context(self.origin));
        quiesced.hand_off(self.destination, &self.routes(), &context).unwrap()
    }

    /// Sends what is due of a decision, and gives what came of it.
    fn sent<W: Deciding>(&mut self, undecided: &mut Undecided<W>) -> Outcome
    where
        Transaction: From<W>,
    {
        let context = self.context(self.origin);
        let write = undecided.write(&context).unwrap().expect("due").clone();
        self.send(&write.into())
    }

    fn session(&self) -> StoredSession {
        match self.tables.get(&Key::Session(ID)) {
            Some(Row::Session(session)) => *session,
            other => panic!("{other:?}"),
        }
    }

    fn inbox(&self) -> Option<InboxRow> {
        match self.tables.get(&Key::Inbox(node(2), ID)) {
            Some(Row::Inbox(row)) => Some(row.clone()),
            _ => None,
        }
    }

    fn transfer(&self, frozen: &StoredSession) -> Option<TransferRow> {
        match self.tables.get(&Key::Transfer(ID, frozen.record.version())) {
            Some(Row::Transfer(row)) => Some(row.clone()),
            _ => None,
        }
    }

    fn off_home(&self) -> Option<Owner> {
        match self.tables.get(&Key::OffHome(key())) {
            Some(Row::OffHome(row)) => Some(row.owner),
            _ => None,
        }
    }

    fn fence(&self, number: u16) -> FenceRow {
        match self.tables.get(&Key::Fence(node(number))) {
            Some(Row::Fence(row)) => row.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// The destination takes no more sessions.
    fn drain_destination(&mut self) {
        let operation = self.context(self.destination).operation;
        let attempt = Attempt { by: self.destination, now: NOW, operation };
        let (write, _) = DirectoryWrite::admit(&self.fence(2), false, attempt).unwrap();
        assert_eq!(self.send(write.transaction()), Outcome::Won);
    }
}

fn register(tables: &mut Tables, number: u16) -> Identity {
    let (before, drawn) = match (tables.get(&Key::Fence(node(number))), tables.get(&Key::Epochs)) {
        (Some(Row::Fence(row)), Some(Row::Epochs(epoch))) => (Some(row.clone()), Some(*epoch)),
        (None, Some(Row::Epochs(epoch))) => (None, Some(*epoch)),
        _ => (None, None),
    };
    let incarnation = Incarnation(drawn.map_or(0, |epoch| epoch.get().into()));
    let name = format!("node {number}");
    let operation = OperationId(1);
    let register = DirectoryWrite::register(
        node(number),
        &name,
        before.as_ref(),
        drawn,
        incarnation,
        NOW,
        operation,
    );
    let (write, row) = register.unwrap();
    assert_eq!(tables.apply(write.transaction()), Outcome::Won);
    row.identity()
}

fn key() -> OffHomeKey {
    OffHomeKey { slot: 5, id: WireId::from(ID) }
}

fn baggage() -> Baggage {
    Baggage::new(vec![WireId::new(&[8; 20]).unwrap()], [1, 2, 3].into()).unwrap()
}

fn handed_off<W: Deciding>(decided: Decided<W>) -> HandedOff<W> {
    match decided {
        Decided::HandedOff(handed_off) => handed_off,
        other => panic!("{other:?}"),
    }
}

fn undecided<W: Deciding>(decided: Decided<W>) -> Undecided<W> {
    match decided {
        Decided::Undecided(undecided) => undecided,
        other => panic!("{other:?}"),
    }
}

#[test]
fn shared_a_session_is_handed_over_with_its_context_and_its_routes() {
    let (mut cluster, session) = Cluster::new();
    let version = session.record.version().get();
    let mut hand_off = cluster.hand_off::<SessionWrite>(&session);
    let outcome = cluster.sent(&mut hand_off);
    let moved = handed_off(hand_off.answered(outcome));
    let (to, redirect) = (cluster.destination.owner, moved.redirect());
    assert_eq!((redirect.to(), redirect.version().get()), (to, version + 2));
    assert_eq!(cluster.off_home(), Some(to), "the slot is node 1's");
    let moved = moved.resumed(cluster.inbox().as_ref()).unwrap_err();

    let arrived = Arrived::new(cluster.inbox().unwrap(), cluster.destination).unwrap();
    assert_eq!((arrived.baggage(), arrived.session()), (Ok(baggage()), &cluster.session()));
    let context = cluster.context(cluster.destination);
    let resume = arrived.resume(&cluster.session(), &context).unwrap();
    let resumed = *cluster.done(resume).after();
    assert_eq!(
        (resumed.record.hold(), resumed.record.version().get()),
        (Hold::Active, version + 3)
    );
    assert_eq!(resumed.record.transport(), session.record.transport());
    assert!(moved.resumed(cluster.inbox().as_ref()).is_ok(), "the empty inbox tells");
}

#[test]
fn shared_a_destination_whose_session_lost_its_transport_meanwhile_goes_on() {
    let (mut cluster, session) = Cluster::new();
    let mut hand_off = cluster.hand_off::<SessionWrite>(&session);
    let outcome = cluster.sent(&mut hand_off);
    let _moved = handed_off(hand_off.answered(outcome));
    let arrived = Arrived::new(cluster.inbox().unwrap(), cluster.destination).unwrap();
    let transport = session.record.transport().unwrap();
    let lose = Input::LoseTransport { transport };
    let lost = cluster.change(&cluster.session(), lose, cluster.destination);
    assert!(cluster.inbox().is_some(), "it is still to be resumed");
    let context = cluster.context(cluster.destination);
    let resume = arrived.resume(&lost, &context).unwrap();
    assert_eq!(cluster.done(resume).after().record.hold(), Hold::Active);
    assert_eq!(cluster.inbox(), None);
}

#[test]
fn sticky_both_nodes_copy_what_the_directory_decided() {
    let (mut directory, session) = Cluster::new();
    // Each node's own store has its own fence row too.
    let (mut first, mut second) = (directory.tables.clone(), Tables::default());
    let _in_own_store = [1, 2].map(|number| register(&mut second, number));
    let quiesced = directory.quiesced(&session);
    let frozen = *quiesced.session();
    let context = directory.context(directory.origin);
    let mut hand_off = quiesced
        .hand_off::<TransferWrite>(directory.destination, &directory.routes(), &context)
        .unwrap();
    let outcome = directory.sent(&mut hand_off);
    let moved = handed_off(hand_off.answered(outcome));

    // The origin's own store, which the freeze went to.
    let put = first.apply_parts(&[], &[Write::Put(Row::Session(frozen))], &[]);
    assert_eq!(put, Outcome::Won);
    let copy = moved.copy().unwrap();
    assert_eq!(first.apply(copy.write().transaction()), Outcome::Won);
    assert_eq!(first.get(&Key::Session(ID)), Some(&Row::Session(*moved.session())));
    let forget = moved.forget().expect("it was never in doubt");
    assert_eq!(directory.send(forget.transaction()), Outcome::Won);
    assert_eq!(directory.transfer(&frozen), None);

    let arrived = Arrived::new(directory.inbox().unwrap(), directory.destination).unwrap();
    let copy = arrived.copy(None).expect("nothing is there yet");
    assert_eq!(second.apply(copy.write().transaction()), Outcome::Won);
    assert_eq!(arrived.copy(Some(arrived.session())), None, "once is enough");
    let context = directory.context(directory.destination);
    let resume = arrived.resume(arrived.session(), &context).unwrap();
    assert_eq!(second.apply(resume.write().transaction()), Outcome::Won);
    let moved = moved.resumed(directory.inbox().as_ref()).unwrap_err();
    assert_eq!(directory.send(arrived.take().transaction()), Outcome::Won);
    assert!(moved.resumed(directory.inbox().as_ref()).is_ok());
}

/// What a hand-off of unknown outcome comes to, if it takes effect before its rival, after it, or never.
fn doubtful<W: Deciding>(look: fn(&Cluster, &StoredSession) -> Option<W::Row>)
where
    Transaction: From<W>,
{
    for arrives in ["before the read", "before the rival", "after the rival", "never"] {
        let (mut cluster, session) = Cluster::new();
        let mut hand_off = cluster.hand_off::<W>(&session);
        let frozen = *hand_off.session();
        let context = cluster.context(cluster.origin);
        let late: Transaction = hand_off.write(&context).unwrap().unwrap().clone().into();
        let mut hand_off = undecided(hand_off.answered(Outcome::Unknown));
        assert_eq!(hand_off.due(), Due::Look);
        assert_eq!(hand_off.write(&context), Ok(None), "nothing is sent before that");
        if arrives == "before the read" {
            assert_eq!(cluster.send(&late), Outcome::Won);
            let stands = look(&cluster, &frozen);
            handed_off(hand_off.found(stands.as_ref()));
            continue;
        }
        let stands = look(&cluster, &frozen);
        hand_off = undecided(hand_off.found(stands.as_ref()));
        assert_eq!(hand_off.due(), Due::Rival, "{arrives}: a read proves nothing");
        if arrives == "before the rival" {
            assert_eq!(cluster.send(&late), Outcome::Won);
        }
        let outcome = cluster.sent(&mut hand_off);
        let decided = hand_off.answered(outcome);
        if arrives == "before the rival" {
            assert_eq!(outcome, ROW);
            let stands = look(&cluster, &frozen);
            handed_off(undecided(decided).found(stands.as_ref()));
            continue;
        }
        let Decided::GivenUp(given_up) = decided else { panic!("{arrives}: {decided:?}") };
        assert_eq!(given_up.session().record.hold(), Hold::Active);
        if arrives == "after the rival" {
            assert_eq!(cluster.send(&late), ROW);
            assert_eq!(cluster.inbox(), None);
        }
    }
}

#[test]
fn a_hand_off_in_doubt_ends_when_it_is_seen_or_its_abort_has_won() {
    doubtful::<SessionWrite>(|cluster, _| Some(cluster.session()));
    doubtful::<TransferWrite>(|cluster, frozen| cluster.transfer(frozen));
}

#[test]
fn a_hand_off_and_its_abort_may_both_be_in_doubt() {
    let (mut cluster, session) = Cluster::new();
    let mut hand_off = cluster.hand_off::<SessionWrite>(&session);
    let stands = Some(cluster.session());
    let context = cluster.context(cluster.origin);
    assert!(hand_off.write(&context).unwrap().is_some());
    hand_off = undecided(undecided(hand_off.answered(Outcome::Unknown)).found(stands.as_ref()));
    let abort = hand_off.write(&context).unwrap().unwrap().clone();
    hand_off = undecided(undecided(hand_off.answered(Outcome::Unknown)).found(stands.as_ref()));
    let again = cluster.context(cluster.origin);
    let again = hand_off.write(&again).unwrap().unwrap().clone();
    assert_eq!(abort, again, "no third write comes into the world");
    // The first sending of the abort arrives; the second is Lost to it.
    assert_eq!(cluster.send(abort.transaction()), Outcome::Won);
    let outcome = cluster.send(again.transaction());
    hand_off = undecided(hand_off.answered(outcome));
    let decided = hand_off.found(Some(&cluster.session()));
    assert!(matches!(decided, Decided::GivenUp(_)), "{decided:?}");
}

#[test]
fn sticky_a_decision_whose_rival_may_still_arrive_is_not_forgotten() {
    let (mut cluster, session) = Cluster::new();
    let mut hand_off = cluster.hand_off::<TransferWrite>(&session);
    let frozen = *hand_off.session();
    let context = cluster.context(cluster.origin);
    let late = hand_off.write(&context).unwrap().unwrap().clone();
    hand_off = undecided(undecided(hand_off.answered(Outcome::Unknown)).found(None));
    let outcome = cluster.sent(&mut hand_off);
    let Decided::GivenUp(given_up) = hand_off.answered(outcome) else { panic!("{outcome:?}") };
    assert_eq!(given_up.forget(), None);
    assert_eq!(cluster.send(late.transaction()), ROW);
    // A later epoch of the origin may: the late one is not done any more.
    let later = register(&mut cluster.tables, 1);
    let row = cluster.transfer(&frozen).unwrap();
    let forget = DirectoryWrite::forget_transfer(&row, later);
    assert_eq!(cluster.send(forget.transaction()), Outcome::Won);
    assert_eq!(cluster.send(late.transaction()), Outcome::Fenced);
}

#[test]
fn a_hand_off_in_doubt_is_recognised_when_the_destination_has_gone_on_already() {
    let (mut cluster, session) = Cluster::new();
    let mut hand_off = cluster.hand_off::<SessionWrite>(&session);
    assert_eq!(cluster.sent(&mut hand_off), Outcome::Won);
    let hand_off = undecided(hand_off.answered(Outcome::Unknown));
    let arrived = Arrived::new(cluster.inbox().unwrap(), cluster.destination).unwrap();
    let context = cluster.context(cluster.destination);
    let resume = arrived.resume(arrived.session(), &context).unwrap();
    assert_eq!(cluster.done(resume).after().record.hold(), Hold::Active);
    let moved = handed_off(hand_off.found(Some(&cluster.session())));
    assert_eq!(moved.redirect().to(), cluster.destination.owner);
}

#[test]
fn a_destination_that_does_not_accept_leaves_everything_as_it_was() {
    let (mut cluster, session) = Cluster::new();
    let mut hand_off = cluster.hand_off::<SessionWrite>(&session);
    cluster.drain_destination();
    let outcome = cluster.sent(&mut hand_off);
    let Decided::NotYet(held, why) = hand_off.answered(outcome) else { panic!("{outcome:?}") };
    assert_eq!(why, NotDone::Lost(Mismatch::Destination));
    let context = cluster.context(cluster.origin);
    let mut abort = held.give_up::<SessionWrite>(GiveUp::Abort, &context).unwrap();
    let outcome = cluster.sent(&mut abort);
    assert!(matches!(abort.answered(outcome), Decided::GivenUp(_)));
}

#[test]
fn an_earlier_epoch_of_the_destination_gets_nothing() {
    let (mut cluster, session) = Cluster::new();
    let mut hand_off = cluster.hand_off::<SessionWrite>(&session);
    register(&mut cluster.tables, 2);
    let outcome = cluster.sent(&mut hand_off);
    assert_eq!(outcome, Outcome::Lost(Mismatch::Destination));
}

#[test]
fn a_placement_that_has_changed_meanwhile_leaves_everything_as_it_was() {
    let (mut cluster, session) = Cluster::new();
    let mut hand_off = cluster.hand_off::<SessionWrite>(&session);
    let Some(Row::Placement(before)) = cluster.tables.get(&Key::Placement).cloned() else {
        panic!("a placement")
    };
    let attempt = Attempt { by: cluster.origin, now: NOW, operation: OperationId(50) };
    let only = Member { index: node(1), name: "node 1".into(), weight: 1 };
    let next = before.placement().unwrap().next(&[only]).unwrap();
    let (write, _) = DirectoryWrite::place(Some(&before), &next, attempt).unwrap();
    assert_eq!(cluster.send(write.transaction()), Outcome::Won);
    let outcome = cluster.sent(&mut hand_off);
    let decided = hand_off.answered(outcome);
    assert!(matches!(decided, Decided::NotYet(_, NotDone::Lost(Mismatch::Placement))));
}

#[test]
fn a_session_is_handed_only_to_the_node_that_it_was_frozen_for() {
    let (mut cluster, session) = Cluster::new();
    let third = register(&mut cluster.tables, 3);
    let (quiesced, context) = (cluster.quiesced(&session), cluster.context(cluster.origin));
    let refused = quiesced.clone().hand_off::<SessionWrite>(third, &cluster.routes(), &context);
    let NoStep { held, .. } = refused.unwrap_err();
    assert_eq!(held.session(), quiesced.session());
}

#[test]
fn a_fenced_origin_stops_whatever_it_was_doing() {
    let (mut cluster, session) = Cluster::new();
    let mut hand_off = cluster.hand_off::<TransferWrite>(&session);
    register(&mut cluster.tables, 1);
    let outcome = cluster.sent(&mut hand_off);
    assert_eq!(hand_off.answered(outcome), Decided::Over);
}

#[test]
fn a_frozen_session_that_somebody_else_writes_is_a_contradiction() {
    let (mut cluster, session) = Cluster::new();
    let mut hand_off = cluster.hand_off::<SessionWrite>(&session);
    cluster.change(&cluster.session(), Input::Abort, cluster.origin);
    let outcome = cluster.sent(&mut hand_off);
    assert_eq!(hand_off.answered(outcome), Decided::Contradiction);
}

#[test]
fn a_session_whose_time_is_over_ends_instead_of_moving() {
    let (mut cluster, session) = Cluster::new();
    let quiesced = cluster.quiesced(&session);
    cluster.now = NOW.after(Duration::from_secs(100 * 3600));
    let context = cluster.context(cluster.origin);
    let mut hand_off = quiesced
        .hand_off::<TransferWrite>(cluster.destination, &cluster.routes(), &context)
        .unwrap();
    let outcome = cluster.sent(&mut hand_off);
    let Decided::GivenUp(ended) = hand_off.answered(outcome) else { panic!("{outcome:?}") };
    assert_eq!(ended.session().record.state(), State::Terminated(Cause::SessionTtl));
    assert_eq!(cluster.inbox(), None);
}

#[test]
fn a_session_may_be_ended_while_it_is_frozen() {
    let (mut cluster, session) = Cluster::new();
    let (frozen, context) = (cluster.frozen(&session), cluster.context(cluster.origin));
    let mut end = frozen.give_up::<TransferWrite>(GiveUp::End(Cause::Operator), &context).unwrap();
    let outcome = cluster.sent(&mut end);
    let Decided::GivenUp(ended) = end.answered(outcome) else { panic!("{outcome:?}") };
    assert_eq!(ended.session().record.state(), State::Terminated(Cause::Operator));
}

#[test]
fn a_process_that_follows_another_aborts_or_finds_what_was_decided() {
    for is_late in [false, true] {
        let (mut cluster, session) = Cluster::new();
        let mut lost = cluster.hand_off::<TransferWrite>(&session);
        let frozen = *lost.session();
        assert!(is_unsettled(&frozen.record, cluster.origin.owner));
        if is_late {
            assert_eq!(cluster.sent(&mut lost), Outcome::Won);
        }
        // What the other process knew is gone.
        let inherited = Inherited::new(&frozen, cluster.origin).unwrap();
        let context = cluster.context(cluster.origin);
        let mut abort = inherited.give_up::<TransferWrite>(GiveUp::Abort, &context).unwrap();
        let outcome = cluster.sent(&mut abort);
        match (is_late, abort.answered(outcome)) {
            (false, Decided::GivenUp(given_up)) => {
                assert_eq!(given_up.session().record.hold(), Hold::Active);
            }
            (true, Decided::LookAnew) => {
                let row = cluster.transfer(&frozen).unwrap();
                handed_off(inherited.decided(&row));
            }
            (_, other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_was_handed_to_an_earlier_epoch_is_not_resumed_in_a_later_one() {
    let (mut cluster, session) = Cluster::new();
    let mut hand_off = cluster.hand_off::<SessionWrite>(&session);
    assert_eq!(cluster.sent(&mut hand_off), Outcome::Won);
    let later = register(&mut cluster.tables, 2);
    let lost = Arrived::new(cluster.inbox().unwrap(), later).unwrap();
    assert!(!lost.is_owned());
    let context = cluster.context(later);
    let refused = lost.resume(lost.session(), &context).unwrap_err();
    assert_eq!(refused, NoChange::Refused(Reason::OwnershipConflict));
    assert_eq!(Arrived::new(cluster.inbox().unwrap(), cluster.origin), None, "not its inbox");
}

#[test]
fn a_redirect_lives_as_long_as_its_session() {
    let (mut cluster, session) = Cluster::new();
    let mut hand_off = cluster.hand_off::<SessionWrite>(&session);
    let outcome = cluster.sent(&mut hand_off);
    let redirect = handed_off(hand_off.answered(outcome)).redirect();
    let (me, there) = (cluster.origin.owner, cluster.destination);
    assert_eq!(redirect.seen(&session, me), Some(redirect), "what is older changes nothing");
    let resumed = cluster.change(&cluster.session(), Input::Resume, there);
    let newer = redirect.seen(&resumed, me).unwrap();
    assert_eq!((newer, newer.version()), (Redirect::to_owner(&resumed), resumed.record.version()));
    let ended = Input::Terminate { cause: Cause::Request };
    let ended = cluster.change(&cluster.session(), ended, there);
    assert_eq!(newer.seen(&ended, me), None);
    assert_eq!(newer.seen(&resumed, there.owner), None, "it is at home there");
}

#[test]
fn contexts_are_bounded_and_wire_ids_come_on_top() {
    let longest = vec![WireId::new(&[0xff; WireId::MAX]).unwrap(); Baggage::MAX_WIRE_IDS];
    for (limit, most) in [(ContextLimit::LOCAL, 65_536), (ContextLimit::ETCD, 4_096)] {
        let with = |length| Baggage::new(longest.clone(), vec![0; length].into()).unwrap();
        let packed = with(most).packed(limit).unwrap();
        assert_eq!(packed.bytes().len(), most + Baggage::MAX_BESIDES);
        let length = most + 1;
        assert_eq!(with(length).packed(limit), Err(ContextTooLong { length, most }));
    }
}

#[test]
fn a_session_that_carries_nothing_takes_nothing_along() {
    let packed = Baggage::default().packed(ContextLimit::ETCD).unwrap();
    assert_eq!(packed, AppContext::default());
    let (mut cluster, session) = Cluster::new();
    let (frozen, context) = (cluster.frozen(&session), cluster.context(cluster.origin));
    let to = cluster.destination;
    let mut hand_off =
        frozen.quiesced(packed).hand_off::<SessionWrite>(to, &cluster.routes(), &context).unwrap();
    assert_eq!(cluster.sent(&mut hand_off), Outcome::Won);
    let inbox = cluster.inbox().unwrap();
    assert!(inbox.context.is_empty());
    assert_eq!(Arrived::new(inbox, to).unwrap().baggage(), Ok(Baggage::default()));
}

#[test]
fn a_write_that_is_superseded_after_a_doubt_is_known_not_to_be_done() {
    let (mut cluster, session) = Cluster::new();
    let context = cluster.context(cluster.origin);
    let pending = change(&session, &Input::RotateKey, cluster.origin, &context).unwrap();
    let write = pending.write().clone();
    let Progress::Pending(pending) = pending.answered(Outcome::Unknown) else { panic!("doubt") };
    let transport = session.record.transport().unwrap();
    cluster.change(&session, Input::LoseTransport { transport }, cluster.origin);
    assert_eq!(cluster.send(write.transaction()), ROW);
    let found = pending.clone().found(Some(&cluster.session()));
    assert_eq!(found, Progress::NotDone(NotDone::Superseded));
    let later = cluster.change(&cluster.session(), Input::RotateKey, cluster.origin);
    assert_eq!(pending.found(Some(&later)), Progress::NotDone(NotDone::Past));
}
