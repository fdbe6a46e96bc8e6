use super::{LeftOver, Limits};
use crate::{SessionId, lease::BootTime};
use std::collections::{BTreeMap, VecDeque};

/// A node on its way to having no session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    limits: Limits,
    deadline: BootTime,
    waiting: VecDeque<Waiting>,
    under_way: BTreeMap<SessionId, How>,
    /// The starts up to this time are used up; the next one is due an interval later.
    used: BootTime,
    done: BTreeMap<Ending, usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiting {
    session: SessionId,
    has_failed: bool,
}

/// A session to be started with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Start {
    /// The session.
    pub session: SessionId,
    /// What to do with it.
    pub how: How,
}

/// How a session leaves the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum How {
    /// It is handed over, with its application's context.
    HandOver,
    /// It is handed over at once, whatever its application is doing.
    HandOverInHaste,
    /// It is ended, with [`Cause::Operator`](crate::model::Cause::Operator).
    Terminate,
}

/// What came of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ending {
    /// It has gone on elsewhere, with its application's context.
    HandedOver,
    /// It has gone on elsewhere, without.
    HandedOverInHaste,
    /// The deadline ended it.
    Terminated,
    /// It came to its end by itself.
    Over,
}

/// How far a drain is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Sessions that wait.
    pub waiting: usize,
    /// Sessions that are under way.
    pub under_way: usize,
    /// Sessions that have left, by how.
    pub done: BTreeMap<Ending, usize>,
}

impl Drain {
    /// A drain of these sessions that begins now.
    pub fn new(
        sessions: impl IntoIterator<Item = SessionId>,
        limits: Limits,
        now: BootTime,
        deadline: BootTime,
    ) -> Self {
        let waiting = |session| Waiting { session, has_failed: false };
        Self {
            limits,
            deadline,
            waiting: sessions.into_iter().map(waiting).collect(),
            under_way: BTreeMap::new(),
            used: floor(limits, now),
            done: BTreeMap::new(),
        }
    }

    /// The sessions to start with now. At the deadline those that are under way are named once more, to be cut
    /// short; what is started after it keeps no pace, but what failed and is tried again does: it would be
    /// tried without end where a store answers at once that it can't.
    pub fn start(&mut self, now: BootTime) -> Vec<Start> {
        let is_late = now >= self.deadline;
        let how = match (is_late, self.limits.left_over()) {
            (false, _) => How::HandOver,
            (true, LeftOver::Move) => How::HandOverInHaste,
            (true, LeftOver::Terminate) => How::Terminate,
        };
        let mut starts = Vec::new();
        for (session, before) in &mut self.under_way {
            if is_late && *before == How::HandOver {
                *before = how;
                starts.push(Start { session: *session, how });
            }
        }
        self.used = self.used.max(floor(self.limits, now));
        while self.under_way.len() < self.limits.at_once()
            && let Some(first) = self.waiting.front()
            && self.due(*first) <= now
        {
            let Waiting { session, has_failed } = *first;
            if !is_late || has_failed {
                self.used = self.used.after(self.limits.interval());
            }
            self.waiting.pop_front();
            self.under_way.insert(session, how);
            starts.push(Start { session, how });
        }
        starts
    }

    /// When there will be something to start with again, if nothing comes to its end before.
    pub fn next_start(&self) -> Option<BootTime> {
        let has_room = self.under_way.len() < self.limits.at_once();
        let next = self.waiting.front().filter(|_| has_room).map(|first| self.due(*first));
        let has_uncut = self.under_way.values().any(|how| *how == How::HandOver);
        let cut = has_uncut.then_some(self.deadline);
        [next, cut].into_iter().flatten().min()
    }

    /// A session has left the node.
    pub fn ended(&mut self, session: SessionId, ending: Ending) {
        if self.under_way.remove(&session).is_some() {
            *self.done.entry(ending).or_default() += 1;
        }
    }

    /// A session is where it was: its move was given up. It is tried again after the others.
    pub fn failed(&mut self, session: SessionId) {
        if self.under_way.remove(&session).is_some() {
            self.waiting.push_back(Waiting { session, has_failed: true });
        }
    }

    /// Whether every session has left.
    pub fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_empty()
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        Progress {
            waiting: self.waiting.len(),
            under_way: self.under_way.len(),
            done: self.done.clone(),
        }
    }

    /// When it may be started.
    fn due(&self, waiting: Waiting) -> BootTime {
        let pace = self.used.after(self.limits.interval());
        if waiting.has_failed { pace } else { pace.min(self.deadline) }
    }
}

/// No more starts are saved up than may be under way.
fn floor(limits: Limits, now: BootTime) -> BootTime {
    let most = u32::try_from(limits.at_once()).unwrap_or(u32::MAX);
    let span = limits.interval().saturating_mul(most);
    let span = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    BootTime::from_nanos(now.nanos().saturating_sub(span))
}
