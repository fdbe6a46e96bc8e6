//! What the runtime knows: the sessions that the node owns, and the placement.

use super::{drain::DrainOrder, lost::LookedThrough, placing::Placing};
use ownership::{
    NodeIndex, SessionId,
    drain::Progress,
    model::{Hold, Policy, SessionRecord, State, Time},
    store::{BaggageRow, StoredSession},
    takeover::Knowledge,
};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// A session that this node owns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owned {
    pub stored: StoredSession,
    pub knowledge: Knowledge,
    /// Whether somebody has the turn.
    pub is_busy: bool,
    /// Whether it is frozen and waits for nothing but the next step of its move, or the other way round for its
    /// arrival: what is asked meanwhile is answered by the record.
    pub is_moving: bool,
    /// When it is over, if nothing is asked of it until then.
    due: Time,
}

/// A session that has gone to another node.
#[derive(Clone, Debug)]
pub(super) struct Left {
    /// The service's place in the configuration.
    pub service: usize,
    /// All its ids.
    pub ids: Vec<Vec<u8>>,
    /// Where it has gone.
    pub to: NodeIndex,
}

/// All of them. Rows live as long as the node owns the session; the session table bounds how many there are.
#[derive(Default)]
pub(super) struct Books {
    owned: HashMap<SessionId, Owned>,
    /// In the order in which they will be over.
    due: BTreeSet<(Time, SessionId)>,
    /// What some of them carry besides.
    baggage: HashMap<SessionId, Arc<BaggageRow>>,
    /// Those of them that stand still because somebody here has stopped them, until they are let go.
    pub stopped: HashSet<SessionId>,
    /// Sessions that have left, while the tables have rows that lead to their new owners.
    pub left: HashMap<SessionId, Left>,
    /// Sessions that are over, and when their rows in the store have served.
    pub tombstones: BTreeSet<(Time, SessionId)>,
    /// Sessions that a task is about, whether this node owns them or not.
    at_work: HashSet<SessionId>,
    pub placing: Placing,
    pub looked_through: LookedThrough,
    /// Whether sessions are on their way after their slots.
    pub is_moving_home: bool,
    /// The daemon ends: no more sessions begin to move.
    pub is_ending: bool,
    /// How this node is drained, if somebody has said so.
    pub drain_order: Option<DrainOrder>,
    /// How far the last sessions that followed their slots are.
    pub progress: Progress,
}

impl Books {
    pub fn get(&self, session: SessionId) -> Option<Owned> {
        self.owned.get(&session).copied()
    }

    pub fn sessions(&self) -> impl Iterator<Item = (&SessionId, &Owned)> {
        self.owned.iter()
    }

    /// How many sessions somebody has the turn of.
    pub fn busy(&self) -> usize {
        self.owned.values().filter(|owned| owned.is_busy).count()
    }

    pub fn len(&self) -> usize {
        self.owned.len()
    }

    /// How many sessions there are in each state.
    pub fn by_state(&self) -> [(&'static str, usize); 4] {
        let mut counts = [("birth", 0), ("attached", 0), ("recovering", 0), ("moving", 0)];
        for owned in self.owned.values() {
            let at = match (owned.stored.record.hold(), owned.stored.record.state()) {
                (Hold::Frozen { .. } | Hold::HandedOff { .. }, _) => 3,
                (Hold::Active, State::Birth) => 0,
                (Hold::Active, State::Attached(_)) => 1,
                (Hold::Active, State::Recovering { .. } | State::Terminated(_)) => 2,
            };
            counts[at].1 += 1;
        }
        counts
    }

    pub fn own(&mut self, stored: &StoredSession, knowledge: Knowledge, policy: &Policy) {
        let session = stored.record.id();
        let (is_busy, is_moving) =
            self.owned.get(&session).map_or((false, false), |it| (it.is_busy, it.is_moving));
        self.forget_due(session);
        let due = due(&stored.record, policy);
        let owned = Owned { stored: *stored, knowledge, is_busy, is_moving, due };
        self.owned.insert(session, owned);
        if !stored.record.is_terminated() {
            self.due.insert((due, session));
        }
    }

    pub fn remove(&mut self, session: SessionId) {
        self.forget_due(session);
        self.owned.remove(&session);
        self.baggage.remove(&session);
    }

    fn forget_due(&mut self, session: SessionId) {
        if let Some(owned) = self.owned.get(&session) {
            self.due.remove(&(owned.due, session));
        }
    }

    /// Takes the turn of a session; whether nobody had it.
    pub fn take(&mut self, session: SessionId) -> bool {
        let Some(owned) = self.owned.get_mut(&session).filter(|owned| !owned.is_busy) else {
            return false;
        };
        owned.is_busy = true;
        true
    }

    pub fn give_back(&mut self, session: SessionId) {
        if let Some(owned) = self.owned.get_mut(&session) {
            (owned.is_busy, owned.is_moving) = (false, false);
        }
    }

    pub fn set_moving(&mut self, session: SessionId, is_moving: bool) {
        if let Some(owned) = self.owned.get_mut(&session) {
            owned.is_moving = is_moving;
        }
    }

    /// The sessions whose time is over by `now`.
    pub fn over(&self, now: Time) -> Vec<SessionId> {
        let over = self.due.iter().take_while(|(due, _)| *due <= now);
        over.map(|(_, session)| *session).collect()
    }

    /// Begins work about a session; whether nobody is at it.
    pub fn begin(&mut self, session: SessionId) -> bool {
        self.at_work.insert(session)
    }

    pub fn finish(&mut self, session: SessionId) {
        self.at_work.remove(&session);
    }

    pub fn baggage(&self, session: SessionId) -> Option<Arc<BaggageRow>> {
        self.baggage.get(&session).cloned()
    }

    pub fn carry(&mut self, row: BaggageRow) {
        self.baggage.insert(row.session, Arc::new(row));
    }
}

/// When a session is over, if nothing is asked of it until then.
fn due(record: &SessionRecord, policy: &Policy) -> Time {
    let end = record.born().after(policy.session_ttl);
    let lost = match record.state() {
        State::Birth => Some(record.born()),
        State::Recovering { since } => Some(since),
        State::Attached(_) | State::Terminated(_) => None,
    };
    lost.map_or(end, |since| end.min(since.after(policy.transport_loss_ttl)))
}
