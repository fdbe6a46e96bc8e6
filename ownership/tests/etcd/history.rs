//! What callers saw of sessions, and whether all of it can be true at once.
//!
//! A session's versions are one line, so a history is linearizable if it can be laid along that line:
//! every write that is done has its place there, and what ended before something else began does not
//! come after it.

use ownership::{
    SessionId,
    audit::Event,
    model::OperationId,
    store::{AuditRow, Mismatch, Outcome, SessionWrite},
};
use std::{collections::BTreeMap, time::Instant};

/// From when a caller asked to when it was answered.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub from: Instant,
    pub to: Instant,
}

/// Something that a caller did.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// It saw this version.
    Read(u64),
    /// It wrote this version, and that is what came of it.
    Write(u64, OperationId, Outcome),
}

/// What happened to some sessions.
#[derive(Default)]
pub struct History(BTreeMap<SessionId, Vec<(Span, Act)>>);

/// How many writes came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub won: usize,
    pub lost: usize,
    pub unknown_and_done: usize,
    pub unknown_and_not_done: usize,
    pub unavailable: usize,
}

impl History {
    pub fn read(&mut self, session: SessionId, span: Span, version: u64) {
        self.0.entry(session).or_default().push((span, Act::Read(version)));
    }

    pub fn wrote(&mut self, write: &SessionWrite, span: Span, outcome: Outcome) {
        let after = write.after();
        let act = Act::Write(after.record.version().get(), after.operation, outcome);
        self.0.entry(after.record.id()).or_default().push((span, act));
    }

    pub fn join(&mut self, other: Self) {
        for (session, acts) in other.0 {
            self.0.entry(session).or_default().extend(acts);
        }
    }

    /// Checks all sessions against the log, which has every version that was made.
    ///
    /// # Panics
    ///
    /// If something that was acknowledged is not there, something that was refused is, or no order
    /// of what happened explains what was seen.
    pub fn check(&self, log: &[AuditRow]) -> Count {
        let mut made: BTreeMap<SessionId, BTreeMap<u64, OperationId>> = BTreeMap::new();
        for entry in log.iter().flat_map(|row| &row.entries) {
            if let Event::StateChange(change) = &entry.event {
                let (id, version) = (change.session(), change.version().get());
                let twice = made.entry(id).or_default().insert(version, change.context().operation);
                assert_eq!(twice, None, "version {version} of {id:?} was made twice");
            }
        }
        let mut count = Count::default();
        for (session, acts) in &self.0 {
            check(&made[session], acts, &mut count);
        }
        count
    }
}

fn check(made: &BTreeMap<u64, OperationId>, acts: &[(Span, Act)], count: &mut Count) {
    // When each version can have been made, as its writer saw it.
    let mut writes: BTreeMap<u64, (Instant, Option<Instant>)> = BTreeMap::new();
    for (span, act) in acts {
        let Act::Write(version, operation, outcome) = *act else { continue };
        let is_done = made.get(&version) == Some(&operation);
        match outcome {
            Outcome::Won => {
                assert!(is_done, "{act:?} was acknowledged, and is gone");
                writes.insert(version, (span.from, Some(span.to)));
                count.won += 1;
            }
            Outcome::Unknown if is_done => {
                writes.insert(version, (span.from, None));
                count.unknown_and_done += 1;
            }
            Outcome::Unknown => count.unknown_and_not_done += 1,
            Outcome::Lost(Mismatch::Row) => {
                assert!(!is_done, "{act:?} was refused, and is done");
                count.lost += 1;
            }
            Outcome::Unavailable(_) => {
                assert!(!is_done, "{act:?} was turned away, and is done");
                count.unavailable += 1;
            }
            Outcome::Lost(_) | Outcome::Fenced => panic!("{act:?}: nothing of that was changed"),
        }
    }
    // What must have been at this version at some moment between the two.
    let mut seen: Vec<(Instant, Option<Instant>, u64, bool)> = Vec::new();
    for (span, act) in acts {
        match *act {
            Act::Read(version) => {
                if let Some((from, _)) = writes.get(&version) {
                    assert!(*from <= span.to, "version {version} was seen before it was written");
                }
                seen.push((span.from, Some(span.to), version, false));
            }
            Act::Write(version, _, Outcome::Lost(_)) => {
                // For all of that time the version that it was to replace stood there.
                let expected = version - 1;
                let stood = writes.get(&expected).and_then(|(_, to)| *to);
                let stood = expected == 0 || stood.is_some_and(|to| to < span.from);
                let left = writes.get(&version).is_none_or(|(from, _)| *from > span.to);
                let is_last = !made.contains_key(&version);
                assert!(
                    !(stood && left && (is_last || writes.contains_key(&version))),
                    "version {version} was refused, and nothing else was there"
                );
            }
            Act::Write(..) => {}
        }
    }
    seen.extend(writes.iter().map(|(version, (from, to))| (*from, *to, *version, true)));
    // Nothing that began after something ended may be of a lower version, and no write of the same.
    seen.sort_by_key(|(from, ..)| *from);
    let mut ended: Vec<(Instant, u64)> =
        seen.iter().filter_map(|(_, to, version, _)| Some(((*to)?, *version))).collect();
    ended.sort_by_key(|(to, _)| *to);
    let (mut highest, mut next) = (0, 0);
    for (from, _, version, writes) in seen {
        while next < ended.len() && ended[next].0 < from {
            highest = highest.max(ended[next].1);
            next += 1;
        }
        assert!(version >= highest, "version {version} was seen after {highest}");
        assert!(!writes || version > highest, "version {version} was seen before it was made");
    }
}
