//! Whether a session's history is that of one register of versions: whether each call and each sight can
//! have happened at one moment between its start and its end (linearizability, Herlihy and Wing 1990).
//!
//! In general that takes a search. Here the order of the writes is known, since each makes the next version, so
//! it is enough to let every write happen as early as it can:
//!
//! - no earlier than it was sent, nor than the write before it;
//! - no earlier than the last request that was answered with the version before it was sent;
//!
//! and to see that it is early enough: before its answer, before the answers that tell of its version, and
//! before the answers that say of other writes of the same version that they came too late.

use super::{
    Violation,
    history::{Call, Sight},
};
use crate::time::Nanos;
use ownership::{
    SessionId,
    store::{Mismatch, Outcome, StoredSession},
};

/// Checks the history of a session whose versions are `line`.
pub fn check<'a>(
    session: SessionId,
    line: &[StoredSession],
    calls: impl Iterator<Item = &'a Call>,
    sights: &[Sight],
) -> Result<(), Violation> {
    let mut made: Vec<Vec<&Call>> = vec![Vec::new(); line.len()];
    let mut others: Vec<Vec<&Call>> = vec![Vec::new(); line.len()];
    let wrong = |version, what| Err(Violation::NotLinearizable { session, version, what });
    for call in calls {
        let at = call.version.get() as usize;
        match line.get(at) {
            Some(stored) if stored.operation == call.operation => made[at].push(call),
            _ if call.outcome.is_won() => {
                return wrong(call.version, "a commit was acknowledged and is not there");
            }
            Some(_) => others[at].push(call),
            // Of a version that nobody has made, a write may be unknown, or turned away.
            None if call.outcome == Outcome::Lost(Mismatch::Row) => {
                return wrong(call.version, "a commit was lost to a version that is not there");
            }
            None => {}
        }
    }
    let mut told: Vec<Vec<&Sight>> = vec![Vec::new(); line.len()];
    for sight in sights {
        let snapshot = &sight.snapshot;
        let Some(stored) = line.get(snapshot.version.get() as usize) else {
            return wrong(snapshot.version, "a client was told of a version that is not there");
        };
        let record = &stored.record;
        let is = (record.owner().epoch, record.key_generation(), record.accepted());
        if is != (snapshot.epoch, snapshot.key_generation, snapshot.accepted) {
            return wrong(snapshot.version, "a client was told another state of the version");
        }
        told[snapshot.version.get() as usize].push(sight);
    }
    let mut earliest = 0;
    for (at, stored) in line.iter().enumerate() {
        let version = stored.record.version();
        let Some((start, end)) = span(&made[at]) else {
            return wrong(version, "nobody has made it, or it was said not to be made");
        };
        earliest = earliest.max(start);
        if at > 0 {
            let read = told[at - 1].iter().map(|sight| sight.start).max().unwrap_or(0);
            earliest = earliest.max(read);
        }
        if earliest > end {
            return wrong(version, "a client was told the version before, after it was made");
        }
        if told[at].iter().any(|sight| earliest > sight.end) {
            return wrong(version, "a client was told of it before it can have been made");
        }
        let lost = |call: &&Call| call.outcome == Outcome::Lost(Mismatch::Row);
        if others[at].iter().filter(|call| lost(call)).any(|call| call.end < Some(earliest)) {
            return wrong(version, "another write lost to it before it can have been made");
        }
    }
    Ok(())
}

/// When a version was made, by the attempts at it: within the one that Won, or at any time after the first of
/// which nobody knows.
fn span(attempts: &[&Call]) -> Option<(Nanos, Nanos)> {
    let won = attempts.iter().find(|call| call.outcome.is_won());
    if let Some(call) = won {
        return Some((call.start, call.end?));
    }
    let unknown = attempts.iter().filter(|call| call.outcome == Outcome::Unknown);
    unknown.map(|call| call.start).min().map(|start| (start, Nanos::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ownership::{
        Epoch, NodeIndex, StateVersion,
        audit::Head,
        control::Snapshot,
        model::{Context, Input, OperationId, Owner, Policy, Time, birth, decide},
    };

    const ID: SessionId = SessionId::new([7; 16]);
    const LOST: Outcome = Outcome::Lost(Mismatch::Row);

    /// Three versions, each made by the operation of its number.
    fn line() -> Vec<StoredSession> {
        let actor = Owner { node: NodeIndex::FIRST, epoch: Epoch::FIRST };
        let context = |number| {
            let operation = OperationId(number);
            Context { now: Time::from_millis(1), actor, policy: Policy::default(), operation }
        };
        let mut records = vec![*birth(ID, 1, &context(0)).record()];
        for number in 1..3 {
            let last = records.last().expect("the birth");
            let commit = decide(last, &Input::RotateKey, &context(number)).commit();
            records.push(*commit.expect("legal").record());
        }
        let stored = |(number, record)| StoredSession {
            record,
            head: Head::START,
            operation: OperationId(number as u128),
        };
        records.into_iter().enumerate().map(stored).collect()
    }

    fn call(version: u64, operation: u128, span: (Nanos, Nanos), outcome: Outcome) -> Call {
        let (version, operation) = (StateVersion::new(version), OperationId(operation));
        let (start, end) = (span.0, Some(span.1));
        Call { session: ID, start, end, version, operation, outcome }
    }

    fn won() -> Vec<Call> {
        let won = |version: u64| {
            let start = 100 * version;
            call(version, version.into(), (start, start + 50), Outcome::Won)
        };
        (0..3).map(won).collect()
    }

    fn sight(version: u64, start: Nanos, end: Nanos) -> Sight {
        let record = line()[version as usize].record;
        let snapshot = Snapshot {
            version: record.version(),
            epoch: record.owner().epoch,
            key_generation: record.key_generation(),
            accepted: record.accepted(),
            is_bound: false,
        };
        Sight { start, end, snapshot }
    }

    fn checked(calls: &[Call], sights: &[Sight]) -> Result<(), &'static str> {
        match check(ID, &line(), calls.iter(), sights) {
            Err(Violation::NotLinearizable { what, .. }) => Err(what),
            Err(other) => panic!("{other}"),
            Ok(()) => Ok(()),
        }
    }

    #[test]
    fn what_can_have_happened_at_one_moment_each_passes() {
        assert_eq!(checked(&won(), &[sight(0, 60, 90), sight(1, 120, 260)]), Ok(()));
        // A write that nobody knows of is done when the first is told of it.
        let mut calls = won();
        calls[2] = call(2, 2, (200, 210), Outcome::Unknown);
        assert_eq!(checked(&calls, &[sight(1, 5000, 5001), sight(2, 6000, 6001)]), Ok(()));
        // It was sent again, and lost to itself.
        calls.push(call(2, 2, (7000, 7001), LOST));
        assert_eq!(checked(&calls, &[]), Ok(()));
        // Another one has lost to it, one is unknown.
        calls.push(call(2, 9, (205, 240), LOST));
        calls.push(call(3, 10, (300, 310), Outcome::Unknown));
        assert_eq!(checked(&calls, &[]), Ok(()));
    }

    #[test]
    fn what_cannot_have_happened_does_not() {
        let told = |sights: &[Sight]| checked(&won(), sights);
        assert!(told(&[sight(1, 260, 270)]).unwrap_err().contains("the version before"));
        assert!(told(&[sight(2, 60, 190)]).unwrap_err().contains("before it can have been"));
        assert!(told(&[sight(1, 160, 190), sight(0, 170, 180)]).is_err(), "back in time");
        let with = |other: Call| checked(&[won(), vec![other]].concat(), &[]);
        let absent = with(call(1, 9, (100, 150), Outcome::Won));
        assert!(absent.unwrap_err().contains("acknowledged and is not there"));
        let ahead = with(call(3, 9, (300, 310), LOST));
        assert!(ahead.unwrap_err().contains("a version that is not there"));
        let early = with(call(2, 9, (160, 190), LOST));
        assert!(early.unwrap_err().contains("lost to it before"));
        let mut unmade = won();
        unmade[1].outcome = LOST;
        assert!(checked(&unmade, &[]).unwrap_err().contains("nobody has made it"));
        let mut other = sight(1, 110, 190);
        other.snapshot.key_generation = 7;
        assert!(told(&[other]).unwrap_err().contains("another state"));
    }
}
