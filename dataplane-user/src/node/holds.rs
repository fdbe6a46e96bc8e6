//! Sessions that this node holds, on request or because an earlier daemon did.
//!
//! Whoever waits here has not locked the node: only for moments in between.

use super::{Entering, Node, Refusal, ids::parse_session, ids::unhex, lock};
use crate::{
    api::{HOLD_AT_ONCE, HeldSessions},
    dataplane::Dataplane,
    hold::{
        self, Coming, Counts, Hold, HoldError, Keeper, Lend, Options, ReleaseError, Released,
        StartError,
    },
};
use dataplane_ebpf::{
    marker::Token,
    table::{Entry, Place},
    wire_id::Key,
};
use ownership::{NodeIndex, SessionId, StateVersion};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

/// How many sessions are held at a time.
const MOST: usize = 65_536;

/// How long a request may wait for quiet, in milliseconds.
const LONGEST_MS: u64 = 60_000;

/// How long a release waits for a moment in which nothing waits.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a daemon that ends waits for releases that others have begun.
const OTHERS: Duration = Duration::from_secs(10);

/// How often it looks.
const TICK: Duration = Duration::from_millis(5);

/// What is held, and who keeps it.
pub struct Holds {
    /// Why nothing can be held, if so.
    keeper: Result<Keeper, String>,
    /// Sessions that are held; `None` while they are being released.
    held: BTreeMap<SessionId, Option<Hold>>,
    /// Sessions that stand still though nothing can keep their packets, which are lost.
    stopped: BTreeSet<SessionId>,
    /// The daemon ends: nothing more is to be held, or captured.
    is_ending: bool,
}

impl Default for Holds {
    fn default() -> Self {
        let keeper = Err("no keeper was started".to_owned());
        Self { keeper, held: BTreeMap::new(), stopped: BTreeSet::new(), is_ending: false }
    }
}

impl Holds {
    fn keeper(&self) -> Result<&Keeper, Refusal> {
        self.keeper.as_ref().map_err(|reason| Refusal::NoKeeper(reason.clone()))
    }

    /// What is held, and what became of what was.
    pub(super) fn totals(&self) -> Option<hold::Totals> {
        Some(self.keeper.as_ref().ok()?.totals())
    }

    /// Bounds what is held anew, if anything can be.
    pub(super) fn set_bounds(&self, bounds: hold::Bounds, pace: u32) {
        if let Ok(keeper) = &self.keeper {
            keeper.set_bounds(bounds, pace);
        }
    }

    /// Refuses to begin what would outlive the daemon.
    pub(super) fn check_goes_on(&self) -> Result<(), Refusal> {
        if self.is_ending { Err(Refusal::Ending) } else { Ok(()) }
    }

    /// Refuses what must not happen to a session that is held.
    pub(super) fn refuse(&self, id: SessionId) -> Result<(), Refusal> {
        match self.held.contains_key(&id) {
            true => Err(Refusal::IsHeld(id.to_string())),
            false => Ok(()),
        }
    }

    /// Whether somebody is releasing it.
    pub(super) fn is_being_released(&self, id: SessionId) -> bool {
        matches!(self.held.get(&id), Some(None))
    }

    /// Discards what waits of a session that has ended.
    pub(super) fn end(&mut self, id: SessionId) {
        self.stopped.remove(&id);
        // One that is being released is in its releaser's hands: what is left of it is refused at
        // the selector.
        if let Some(Some(_)) = self.held.get(&id)
            && let Some(Some(hold)) = self.held.remove(&id)
        {
            hold.discard();
        }
    }
}

/// Whoever has the node has its data plane, for moments.
struct Lender<'a>(&'a Mutex<Node>);

impl Lend for Lender<'_> {
    fn lend<R>(&mut self, work: impl FnOnce(&mut Dataplane) -> R) -> R {
        work(&mut lock(self.0).dataplane)
    }
}

impl Node {
    /// Starts the keeper, on a thread in the node's network namespace. Sessions that an earlier
    /// daemon held are kept from now on, until somebody who knows whose they are releases them.
    ///
    /// # Errors
    /// When nothing can be held. Sessions that an earlier daemon held stand still then, and what waited of them
    /// is lost.
    pub fn start_keeper(
        &mut self,
        options: &Options,
        held: &BTreeSet<SessionId>,
    ) -> Result<(), StartError> {
        let held: Vec<_> =
            held.iter().copied().filter(|id| self.sessions.contains_key(id)).collect();
        let sessions: Vec<_> = held.iter().map(|&id| self.held_session(id)).collect();
        match Keeper::adopt(&mut self.dataplane, options, &sessions) {
            Ok((keeper, hold)) => {
                self.holds.keeper = Ok(keeper);
                self.holds.held = held.into_iter().zip(hold.split().map(Some)).collect();
                Ok(())
            }
            Err(error) => {
                self.holds.keeper = Err(super::refusal::chain(&error));
                self.holds.stopped.extend(held);
                Err(error)
            }
        }
    }

    /// Notes that an application has read a marker.
    pub(super) fn acknowledge(&self, marker: &str) -> Result<(), Refusal> {
        let token = unhex(marker).and_then(|bytes| bytes.try_into().ok());
        let token = token.ok_or_else(|| Refusal::NoMarker(marker.to_owned()))?;
        self.holds.keeper()?.acknowledge(token);
        Ok(())
    }

    /// Notes that a marker was read at a control port, if it is one.
    pub fn acknowledge_token(&self, token: Token) {
        if let Ok(keeper) = &self.holds.keeper {
            keeper.acknowledge(token);
        }
    }

    /// Holds those of the sessions that are not held yet; all of them in one.
    fn hold(&mut self, ids: &BTreeSet<SessionId>) -> Result<Hold, Refusal> {
        self.check_fence()?;
        self.holds.check_goes_on()?;
        if let Some(id) = ids.iter().find(|id| !self.sessions.contains_key(id)) {
            return Err(Refusal::NoSession(id.to_string()));
        }
        let fresh: Vec<_> =
            ids.iter().copied().filter(|id| !self.holds.held.contains_key(id)).collect();
        if self.holds.held.len() + fresh.len() > MOST {
            return Err(Refusal::TooManyHeld(MOST));
        }
        if let Some(id) = ids.iter().find(|id| matches!(self.holds.held.get(id), Some(None))) {
            return Err(Refusal::IsReleased(id.to_string()));
        }
        let parts: Vec<_> = fresh.iter().map(|&id| self.held_session(id)).collect();
        let hold = self.holds.keeper()?.hold(&mut self.dataplane, &parts)?;
        self.holds.held.extend(fresh.into_iter().zip(hold.split().map(Some)));
        let all = ids.iter().map(|id| self.holds.held[id].clone().expect("just looked"));
        Ok(Hold::join(all).expect("at least one session"))
    }

    /// Whether a session stands still.
    pub fn is_held(&self, id: SessionId) -> bool {
        self.holds.held.contains_key(&id) || self.holds.stopped.contains(&id)
    }

    /// The sessions that stand still.
    pub fn held_ids(&self) -> Vec<SessionId> {
        self.holds.held.keys().chain(&self.holds.stopped).copied().collect()
    }

    /// Makes a session stand still at once: its packets are held, or are lost where nothing can hold them.
    pub fn stop(&mut self, id: SessionId) {
        if !self.sessions.contains_key(&id) || self.is_held(id) {
            return;
        }
        let parts = [self.held_session(id)];
        let room = self.holds.held.len() < MOST;
        let kept = self.holds.keeper().ok().filter(|_| room).map(|keeper| {
            // The fields are apart, which the borrow checker sees here only.
            keeper.hold(&mut self.dataplane, &parts)
        });
        match kept {
            Some(Ok(hold)) => {
                self.holds.held.insert(id, Some(hold));
            }
            Some(Err(_)) | None => {
                self.replace_places(id, |place| match place {
                    Place::Local { cpu } => Some(Place::Hold { cpu, ours: true }),
                    Place::Hold { .. } | Place::Remote { .. } => None,
                });
                self.holds.stopped.insert(id);
            }
        }
    }

    /// From here on nobody knows whether a session that is held is this node's: the application here speaks
    /// for it no longer, and a daemon that ends leaves it held.
    pub fn doubt(&mut self, id: SessionId) {
        if !self.sessions.contains_key(&id) {
            return;
        }
        self.replace_places(id, |place| match place {
            Place::Hold { cpu, .. } => Some(Place::Hold { cpu, ours: false }),
            Place::Local { .. } | Place::Remote { .. } => None,
        });
    }

    /// A session that was only stopped goes on, here or elsewhere.
    fn go_on(&mut self, id: SessionId, to: Option<(NodeIndex, u64)>) {
        self.holds.stopped.remove(&id);
        if !self.sessions.contains_key(&id) {
            return;
        }
        if let Some((to, version)) = to {
            return self.redirect_session(id, to, version);
        }
        self.replace_places(id, |place| match place {
            Place::Hold { cpu, .. } => Some(Place::Local { cpu }),
            Place::Local { .. } | Place::Remote { .. } => None,
        });
    }

    /// Changes what becomes of the packets of a session's wire ids, where there is something to change.
    fn replace_places(&mut self, id: SessionId, new: impl Fn(Place) -> Option<Place>) {
        for key in self.held_session(id).keys {
            if let Some((Entry { place, epoch }, version)) = self.dataplane.get(key)
                && let Some(place) = new(place)
            {
                self.dataplane.update(key, Entry { place, epoch }, version);
            }
        }
    }

    /// Holds sessions that come here from another node, before they are this node's: see
    /// [`Keeper::expect`]. Those that cannot be held are entered as they are, and stand still.
    pub fn expect(&mut self, coming: &[Entering]) -> Vec<Result<(), Refusal>> {
        coming.iter().map(|entering| self.expect_one(entering)).collect()
    }

    fn expect_one(&mut self, entering: &Entering) -> Result<(), Refusal> {
        let id = entering.session;
        if self.sessions.contains_key(&id) {
            return Ok(());
        }
        let cpu = self.cpu_for(entering);
        self.note(entering, cpu);
        let coming = Coming { session: self.held_session(id), wire_ids: self.registered_of(id) };
        let (epoch, version) = (self.fence.epoch().get(), entering.owned_since.get());
        let kept = match &self.holds.keeper {
            Ok(keeper) if self.holds.held.len() < MOST => {
                keeper.expect(&mut self.dataplane, &[coming], epoch, version)
            }
            Ok(_) | Err(_) => Err(HoldError::AfXdp(0)),
        };
        match kept {
            Ok(hold) => {
                self.holds.held.insert(id, Some(hold));
                if let Some(client) = entering.client
                    && let Err(error) = self.set_client(id, Some(client))
                {
                    self.leave(id);
                    return Err(error);
                }
                Ok(())
            }
            Err(HoldError::AfXdp(_)) => {
                self.sessions.remove(&id);
                self.enter(entering)?;
                self.stop(id);
                Ok(())
            }
            Err(error) => {
                self.sessions.remove(&id);
                Err(error.into())
            }
        }
    }

    /// All of these are held, and nobody is releasing them; so they are there.
    fn check_held(&self, ids: &BTreeSet<SessionId>) -> Result<(), Refusal> {
        for id in ids {
            match self.holds.held.get(id) {
                None => return Err(Refusal::NotHeld(id.to_string())),
                Some(None) => return Err(Refusal::IsReleased(id.to_string())),
                Some(Some(_)) => {}
            }
        }
        Ok(())
    }

    /// Takes sessions that are held for a release.
    fn take_held(&mut self, ids: &BTreeSet<SessionId>) -> Hold {
        let take = |id| self.holds.held.get_mut(id).and_then(Option::take).expect("it is held");
        Hold::join(ids.iter().map(take)).expect("at least one session")
    }

    /// The end of a release: on an error the sessions are held still.
    fn put_back(
        &mut self,
        ids: BTreeSet<SessionId>,
        hold: Hold,
        to: Option<u64>,
        result: &Result<Released, ReleaseError>,
    ) {
        for (id, hold) in ids.into_iter().zip(hold.split()) {
            if !self.sessions.contains_key(&id) {
                // It has ended meanwhile.
                hold.discard();
                self.holds.held.remove(&id);
            } else if result.is_err() && !(to.is_some() && self.leads_away(id)) {
                self.holds.held.insert(id, Some(hold));
            } else {
                // What waits of one whose release has failed at its end is nobody's here.
                hold.discard();
                self.holds.held.remove(&id);
                if to.is_some() {
                    // Its entries lead to the other node now.
                    self.leave_client(id);
                    self.sessions.remove(&id);
                }
            }
        }
    }

    /// Whether a session that is held is this node's: all its wire ids say so.
    fn is_ours(&self, id: SessionId) -> bool {
        let keys = self.held_session(id).keys;
        let place = |&key: &Key| self.dataplane.get(key).map(|(entry, _)| entry.place);
        !keys.iter().filter_map(place).any(|place| matches!(place, Place::Hold { ours: false, .. }))
    }

    /// Whether a session's wire ids lead to another node.
    fn leads_away(&self, id: SessionId) -> bool {
        let keys = self.held_session(id).keys;
        let place = |&key: &Key| self.dataplane.get(key).map(|(entry, _)| entry.place);
        keys.iter().filter_map(place).any(|place| matches!(place, Place::Remote { .. }))
    }

    /// Sessions that are held, that nobody is releasing, and that are this node's.
    fn own_held(&self) -> BTreeSet<SessionId> {
        let held = self.holds.held.iter().filter(|(_, hold)| hold.is_some());
        held.map(|(&id, _)| id).filter(|&id| self.is_ours(id)).collect()
    }

    /// The session as its keeper sees it.
    fn held_session(&self, id: SessionId) -> hold::Session {
        let session = &self.sessions[&id];
        let key = |bytes: &Vec<u8>| self.key(session.service, bytes).expect("it was registered");
        let keys: Vec<Key> = session.wire_ids.iter().map(key).collect();
        let service = self.services[session.service].index;
        hold::Session { service, cpu: session.cpu as u16, keys }
    }

    /// The node that sessions are to go to, and their version there.
    fn find_target(
        &self,
        ids: &BTreeSet<SessionId>,
        node: Option<&str>,
        version: Option<u64>,
    ) -> Result<Option<(NodeIndex, u64)>, Refusal> {
        let (name, version) = match (node, version) {
            (None, None) => return Ok(None),
            (Some(name), Some(version)) => (name, version),
            _ => return Err(Refusal::HalfATarget),
        };
        let peer = self.peers.iter().find(|peer| peer.name == name);
        let peer = peer.ok_or_else(|| Refusal::NoNode(name.to_owned()))?;
        if peer.index == self.index {
            return Err(Refusal::OwnRow(name.to_owned()));
        }
        for id in ids {
            let known = self.sessions[id].version;
            if StateVersion::new(version) <= known {
                let (session, known) = (id.to_string(), known.get());
                return Err(Refusal::OldVersion { session, version, known });
            }
        }
        Ok(Some((peer.index, version)))
    }
}

/// Holds sessions and waits for quiet.
pub(super) fn hold_sessions(
    node: &Mutex<Node>,
    sessions: &[String],
    deadline_ms: u64,
) -> Result<HeldSessions, Refusal> {
    if !(1..=LONGEST_MS).contains(&deadline_ms) {
        return Err(Refusal::Deadline { got: deadline_ms, most: LONGEST_MS });
    }
    let hold = lock(node).hold(&parse_all(sessions)?)?;
    let quiet = hold.quiet(Duration::from_millis(deadline_ms))?;
    if !hold.is_held() {
        return Err(Refusal::ReleasedMeanwhile);
    }
    Ok(HeldSessions {
        markers: quiet.queues,
        grace_us: quiet.grace.as_micros() as u64,
        took_us: quiet.took.as_micros() as u64,
    })
}

/// Releases sessions, here or to another node.
pub(super) fn release_sessions(
    node: &Mutex<Node>,
    sessions: &[String],
    to: Option<&str>,
    version: Option<u64>,
) -> Result<Counts, Refusal> {
    let (ids, hold, target) = {
        let mut node = lock(node);
        let ids = parse_all(sessions)?;
        node.check_held(&ids)?;
        let target = node.find_target(&ids, to, version)?;
        let hold = node.take_held(&ids);
        (ids, hold, target)
    };
    Ok(release(node, ids, hold, target)?.total())
}

/// Holds sessions of this node and waits until nothing of them is in flight.
///
/// # Errors
///
/// If they cannot be held, and then none of them is; or if it is not quiet by then: they are held.
pub fn hold_until_quiet(
    node: &Mutex<Node>,
    sessions: &BTreeSet<SessionId>,
    within: Duration,
) -> Result<(), Refusal> {
    let hold = lock(node).hold(sessions)?;
    hold.quiet(within)?;
    Ok(())
}

/// Releases those of the sessions that are held and that nobody is releasing, here or to another node at
/// their version there; those that have only been stopped go on, too.
pub fn release_held(
    node: &Mutex<Node>,
    sessions: &BTreeSet<SessionId>,
    to: Option<(NodeIndex, u64)>,
) -> Result<Counts, ReleaseError> {
    let taken = {
        let mut node = lock(node);
        let ids = sessions.iter().copied();
        let (stopped, held): (BTreeSet<_>, BTreeSet<_>) =
            ids.partition(|id| node.holds.stopped.contains(id));
        for id in stopped {
            node.go_on(id, to);
        }
        let is_held = |id: &SessionId| matches!(node.holds.held.get(id), Some(Some(_)));
        let held: BTreeSet<_> = held.into_iter().filter(is_held).collect();
        (!held.is_empty()).then(|| {
            let hold = node.take_held(&held);
            (held, hold)
        })
    };
    match taken {
        Some((ids, hold)) => Ok(release(node, ids, hold, to)?.total()),
        None => Ok(Counts::default()),
    }
}

/// The sessions of a request, each once.
fn parse_all(sessions: &[String]) -> Result<BTreeSet<SessionId>, Refusal> {
    if sessions.is_empty() || sessions.len() > HOLD_AT_ONCE {
        return Err(Refusal::SessionCount(sessions.len()));
    }
    sessions.iter().map(|text| parse_session(text)).collect()
}

fn release(
    node: &Mutex<Node>,
    ids: BTreeSet<SessionId>,
    hold: Hold,
    target: Option<(NodeIndex, u64)>,
) -> Result<Released, ReleaseError> {
    let mut lender = Lender(node);
    let result = match target {
        None => hold.release_here(&mut lender, PATIENCE),
        Some((to, version)) => hold.release_to(&mut lender, to, version, PATIENCE),
    };
    lock(node).put_back(ids, hold, target.map(|(_, version)| version), &result);
    result
}

/// Releases here whatever is held and this node's. Says in the log what became of it; `why` is the
/// reason.
fn release_all(node: &Mutex<Node>, why: &str) {
    let taken = {
        let mut node = lock(node);
        let ids = node.own_held();
        (!ids.is_empty()).then(|| {
            let hold = node.take_held(&ids);
            (ids, hold)
        })
    };
    if let Some((ids, hold)) = taken {
        let sessions = ids.len();
        match release(node, ids, hold, None) {
            Ok(released) => {
                let counts = released.total();
                let (packets, delivered, lost) = (counts.held, counts.here, counts.lost());
                tracing::info!(why, sessions, packets, delivered, lost, "held sessions released");
                if lost > 0 {
                    tracing::warn!(lost, ?counts, "packets that were held are lost");
                }
            }
            Err(error) => {
                tracing::error!(why, sessions, %error, "held sessions could not be released");
            }
        }
    }
}

/// Lets nothing more be held, releases here whatever is and is this node's, waits for releases that
/// others have begun, and ends the keeper.
pub fn end_holds(node: &Mutex<Node>) {
    lock(node).holds.is_ending = true;
    let end = Instant::now() + OTHERS;
    loop {
        release_all(node, "the daemon ends");
        let others = {
            let node = lock(node);
            let is_busy = |hold: &Option<Hold>| hold.is_none();
            let busy = node.holds.held.values().any(is_busy) || !node.own_held().is_empty();
            (!busy).then(|| node.holds.held.len())
        };
        if let Some(sessions) = others {
            if sessions > 0 {
                tracing::warn!(sessions, "sessions that are not this node's stay held");
            }
            break;
        }
        if Instant::now() >= end {
            let sessions = lock(node).holds.held.len();
            tracing::error!(sessions, "sessions are held still: what waits of them is lost");
            break;
        }
        thread::sleep(TICK);
    }
    let keeper = std::mem::replace(&mut lock(node).holds.keeper, Err("the daemon ends".to_owned()));
    drop(keeper);
}
