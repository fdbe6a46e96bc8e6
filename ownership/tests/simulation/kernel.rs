//! A machine's kernel, as far as ownership goes: which sessions it delivers, until when, and where the rest
//! is sent. It outlives the daemon.

use ownership::{
    NodeIndex, Placement, SessionId, StateVersion,
    lease::BootTime,
    model::{Owner, Transport},
    store::Identity,
    transfer::Redirect,
};
use std::{collections::BTreeMap, sync::Arc};

#[derive(Clone, Debug, Default)]
pub struct Kernel {
    /// For whom its maps were made.
    pub pinned: Option<Identity>,
    /// Until when it delivers as owner.
    deadline: Option<BootTime>,
    table: BTreeMap<SessionId, Entry>,
    placement: Option<Arc<Placement>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    Local(Local),
    Hold,
    Redirect(Redirect),
}

/// A session that is delivered here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Local {
    pub owner: Owner,
    pub version: u64,
    pub bound: Option<Transport>,
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    Here,
    To(NodeIndex),
}

/// How often a packet is sent on.
const HOPS: u8 = 4;

impl Kernel {
    /// Maps for a new epoch: what was there is void.
    pub fn pin(&mut self, identity: Identity) {
        *self = Self { pinned: Some(identity), ..Self::default() };
    }

    pub fn arm(&mut self, deadline: Option<BootTime>) {
        self.deadline = deadline;
    }

    pub fn is_open(&self, now: BootTime) -> bool {
        self.deadline.is_some_and(|deadline| now < deadline)
    }

    pub fn put(&mut self, session: SessionId, entry: Entry) {
        self.table.insert(session, entry);
    }

    pub fn remove(&mut self, session: SessionId) {
        self.table.remove(&session);
    }

    /// Sends packets elsewhere, unless that is known better.
    pub fn redirect(&mut self, redirect: Redirect) {
        let known = match self.table.get(&redirect.session()) {
            Some(Entry::Redirect(known)) => known.version() >= redirect.version(),
            Some(Entry::Local(_) | Entry::Hold) => true,
            None => false,
        };
        if !known {
            self.put(redirect.session(), Entry::Redirect(redirect));
        }
    }

    pub fn apply(&mut self, placement: Arc<Placement>) {
        self.placement = Some(placement);
    }

    /// Whether anything is known of a session.
    pub fn knows(&self, session: SessionId) -> bool {
        self.table.contains_key(&session)
    }

    /// Whether it is known that a session has gone on elsewhere, past this version.
    pub fn has_left(&self, session: SessionId, version: StateVersion) -> bool {
        match self.table.get(&session) {
            Some(Entry::Redirect(redirect)) => redirect.version() > version,
            Some(Entry::Local(_) | Entry::Hold) | None => false,
        }
    }

    /// What is delivered here now.
    pub fn delivered(&self, now: BootTime) -> impl Iterator<Item = (SessionId, Local)> {
        let acts = self.pinned.filter(|_| self.is_open(now)).map(|pinned| pinned.owner);
        self.table.iter().filter_map(move |(session, entry)| match entry {
            Entry::Local(local) if acts == Some(local.owner) => Some((*session, *local)),
            _ => None,
        })
    }

    pub fn delivers(&self, session: SessionId, now: BootTime) -> Option<Local> {
        match self.table.get(&session) {
            Some(Entry::Local(local)) => {
                let acts = self.pinned.is_some_and(|pinned| pinned.owner == local.owner);
                (acts && self.is_open(now)).then_some(*local)
            }
            _ => None,
        }
    }

    /// Where a packet goes that has been sent on so often already.
    pub fn route(&self, session: SessionId, me: NodeIndex, hops: u8) -> Route {
        if hops >= HOPS {
            return Route::Here;
        }
        match self.table.get(&session) {
            Some(Entry::Local(_) | Entry::Hold) => return Route::Here,
            Some(Entry::Redirect(redirect)) => return Route::To(redirect.to().node),
            None => {}
        }
        let Some(placement) = &self.placement else { return Route::Here };
        let slot = placement.slots()[usize::from(slot(session))];
        match (slot.owner, slot.previous) {
            (Some(owner), _) if owner != me => Route::To(owner),
            // The second chance, once.
            (Some(_), Some(previous)) if hops < 2 && previous != me => Route::To(previous),
            _ => Route::Here,
        }
    }
}

/// The slot of a session. In a data plane it is the first 16 bits mixed with a hash.
pub fn slot(session: SessionId) -> u16 {
    let [high, low, ..] = session.bytes();
    u16::from_be_bytes([high, low])
}
