//! Writes that compare the placement: a doubt about one ends even if the placement goes on meanwhile.

use ownership::{
    Epoch, NodeIndex, Revision, SessionId,
    model::{Context, Input, OperationId, Owner, Policy, Time, birth},
    pending::{Due, NotDone, Pending, Progress, change},
    store::{Identity, Incarnation, Mismatch, Outcome, SessionWrite, StoredSession},
};

const ID: SessionId = SessionId::new([7; 16]);
const LOST: Outcome = Outcome::Lost(Mismatch::Placement);

fn node() -> Identity {
    let owner = Owner { node: NodeIndex::FIRST, epoch: Epoch::FIRST };
    Identity { owner, incarnation: Incarnation(1) }
}

fn context(operation: u128) -> Context {
    let operation = OperationId(operation);
    Context { now: Time::from_millis(1), actor: node().owner, policy: Policy::default(), operation }
}

fn birth_of_it() -> SessionWrite {
    SessionWrite::birth(&birth(ID, 1, &context(1)), node(), Revision::FIRST).unwrap()
}

fn pending(progress: Progress<SessionWrite>, due: Due) -> Pending<SessionWrite> {
    match progress {
        Progress::Pending(pending) if pending.due() == due => pending,
        other => panic!("{other:?} instead of {due:?}"),
    }
}

/// What is known after an answer of unknown outcome, and a read that shows what was there before.
fn doubtful(write: Pending<SessionWrite>, before: Option<&StoredSession>) -> Pending<SessionWrite> {
    let look = pending(write.answered(Outcome::Unknown), Due::Look);
    pending(look.found(before), Due::Rival)
}

#[test]
fn a_birth_in_doubt_is_over_once_the_placement_is_past_it() {
    let birth = birth_of_it();
    let mut again = doubtful(Pending::new(birth.clone()), None);
    assert_eq!(again.rival(|| birth.clone()), &birth, "it has no other rival");
    let look = pending(again.answered(LOST), Due::Look);
    let is_done = |progress| matches!(progress, Progress::Done(_));
    assert!(is_done(look.clone().found(Some(birth.after()))), "its first sending was done before");
    assert_eq!(look.found(None), Progress::NotDone(NotDone::Lost(Mismatch::Placement)));
}

#[test]
fn a_rival_that_the_placement_is_past_makes_room_for_another() {
    let born = *birth_of_it().after();
    let rotate = |operation| change(&born, &Input::RotateKey, node(), &context(operation)).unwrap();
    let [first, second] = [3, 4].map(|operation| rotate(operation).write().clone());
    let mut rival = doubtful(rotate(2), Some(&born));
    assert_eq!(rival.rival(|| first.clone()), &first);
    let mut rival = doubtful(rival, Some(&born));
    assert_eq!(rival.rival(|| second.clone()), &first, "it may still arrive");
    let look = pending(rival.answered(LOST), Due::Look);
    let mut rival = pending(look.found(Some(&born)), Due::Rival);
    assert_eq!(rival.rival(|| second.clone()), &second, "no sending of the first will be done");
}
