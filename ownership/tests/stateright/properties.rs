//! What must hold in every state.

use crate::{
    node::{Entry, Work},
    way::Way,
    world::{World, id},
};
use ownership::{
    NodeIndex,
    client::Status,
    model::{Cause, SessionRecord, State},
    store::Admission,
};

/// Something that must happen somewhere, or the model shows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// A session was handed over, and is served by the node that it was handed to.
    HandedOver,
    /// The move of a session was given up.
    Aborted,
    /// A session of a lost node is served by another one.
    TakenOver,
    /// A session is served by its node again, in a later epoch.
    Returned,
    /// A session of a lost node was ended.
    Ended,
    /// A second process goes on in the epoch of the first.
    ResumedEpoch,
    /// Slots have moved, and that is complete.
    Cleared,
    /// A session was made on the way.
    Born,
    /// A client has another address, and is attached from there.
    Reattached,
    /// An older store is refused, until nobody delivers any more.
    Refused,
}

/// How often a packet is sent on at most.
const HOPS: usize = 6;

impl<W: Way> World<W> {
    /// Whether every session is delivered by its owner alone, if at all.
    pub fn has_one_owner(&self) -> bool {
        self.numbers().all(|session| {
            let owner = self.history.last(session).map(|record| record.owner());
            let local =
                self.nodes.iter().filter(|node| node.kernel.entries[session] == Entry::Local);
            let mut delivering = local.filter_map(|node| node.delivers_as());
            match (delivering.next(), delivering.next()) {
                (None, _) => true,
                (Some(one), None) => Some(one) == owner,
                (Some(_), Some(_)) => false,
            }
        })
    }

    /// Whether no packet of a session that some node serves ends where it is said that there is no such
    /// session.
    pub fn is_never_denied(&self) -> bool {
        self.numbers().all(|session| {
            !self.is_served(session)
                || (0..self.nodes.len()).all(|from| !self.ends_in_denial(session, from))
        })
    }

    fn is_served(&self, session: usize) -> bool {
        let owner = self.history.last(session).filter(|record| !record.is_terminated());
        let owner = owner.map(|record| record.owner());
        self.nodes.iter().any(|node| {
            let serves = matches!(node.kernel.entries[session], Entry::Local | Entry::Hold);
            serves && node.kernel.pinned.map(|pinned| pinned.owner) == owner
        })
    }

    /// Follows a packet of a session that comes to this machine.
    fn ends_in_denial(&self, session: usize, from: usize) -> bool {
        let (mut at, mut is_second_chance) = (from, false);
        for _ in 0..HOPS {
            let node = &self.nodes[at];
            let to = match node.kernel.entries[session] {
                Entry::Local | Entry::Hold | Entry::Wait => return false,
                Entry::Redirect(to) => to,
                Entry::None => {
                    let Some(placed) = &node.kernel.placed else { return false };
                    let slot = placed.applied.placement().slots()[0];
                    match (slot.owner, slot.previous) {
                        (Some(owner), _) if owner != node.index => {
                            // Sent here by one who may know more.
                            if is_second_chance {
                                return false;
                            }
                            owner
                        }
                        (_, Some(previous)) if !is_second_chance => {
                            is_second_chance = true;
                            previous
                        }
                        _ => {
                            return placed.applied.may_deny(0) && node.delivers_as().is_some();
                        }
                    }
                }
            };
            let Some(next) = self.machine_of(to) else { return false };
            at = next;
        }
        false
    }

    /// The machine that the other nodes know as this node.
    fn machine_of(&self, node: NodeIndex) -> Option<usize> {
        let fence = self.directory.fence(node)?;
        self.nodes.iter().position(|machine| {
            machine.kernel.pinned.is_some_and(|pinned| pinned == fence.identity())
        })
    }

    /// Whether a session was ended because two nodes wrote it.
    pub fn has_contradiction(&self) -> bool {
        self.numbers().any(|session| {
            let state = self.history.last(session).map(SessionRecord::state);
            state == Some(State::Terminated(Cause::Contradiction))
        })
    }

    /// Whether this has been reached.
    pub fn has_reached(&self, what: Reached) -> bool {
        let first = self.nodes[0].index;
        match what {
            Reached::HandedOver => self.is_served_after("RESUME", |node| node != first),
            Reached::Aborted => self.is_served_after("ABORT", |_| true),
            Reached::TakenOver => self.is_served_after("TAKE_OVER", |node| node != first),
            Reached::Returned => self.is_served_after("TAKE_OVER", |node| node == first),
            Reached::Ended => self.numbers().any(|session| {
                let state = self.history.last(session).map(SessionRecord::state);
                state == Some(State::Terminated(Cause::OwnerLost))
            }),
            Reached::ResumedEpoch => self.nodes.iter().any(|node| {
                let epoch = node.identity().map(|me| me.owner.epoch.get() as usize);
                let is_first = epoch.is_some_and(|epoch| epoch <= self.nodes.len());
                node.starts > 1 && node.is_running() && is_first
            }),
            Reached::Cleared => self.placement().is_some_and(|placement| {
                let slot = placement.slots()[0];
                slot.owner != Some(first) && slot.previous.is_none()
            }),
            Reached::Born => {
                self.numbers().last().is_some_and(|last| self.history.last(last).is_some())
            }
            Reached::Reattached => self
                .clients
                .iter()
                .any(|client| client.status() == Status::Attached && client.address() > 0),
            Reached::Refused => {
                self.is_restored() && self.nodes.iter().all(|node| node.delivers_as().is_none())
            }
        }
    }

    /// Whether a session that this was done with is served by such a node.
    fn is_served_after(&self, input: &str, is_such: impl Fn(NodeIndex) -> bool) -> bool {
        self.numbers().filter(|session| self.history.has_done(*session, input)).any(|session| {
            let owner = self.history.last(session).map(SessionRecord::owner);
            self.nodes.iter().any(|node| {
                is_such(node.index)
                    && matches!(node.work(session), Some(Work::Serves(..)))
                    && node.delivers_as() == owner
            })
        })
    }

    /// Whether every session is where it should be: over, or served by its owner, who may act.
    pub fn is_settled(&self) -> bool {
        if self.is_restored() {
            // Nobody takes anything from the store, and nobody delivers by what it said.
            return self.nodes.iter().all(|node| node.delivers_as().is_none());
        }
        self.numbers().all(|session| {
            let Some(last) = self.history.last(session) else { return true };
            if last.is_terminated() {
                return true;
            }
            let fence = self.directory.fence(last.owner().node);
            let is_live = fence.is_some_and(|fence| {
                fence.owner() == last.owner() && fence.admission != Admission::Fenced
            });
            let is_served = self.nodes.iter().enumerate().any(|(at, node)| {
                let serves = matches!(node.work(session), Some(Work::Serves(..)));
                let stored = self.session(at, session).map(|row| row.record);
                serves
                    && stored.as_ref() == Some(last)
                    && node.kernel.entries[session] == Entry::Local
                    && node.delivers_as() == Some(last.owner())
            });
            is_live && is_served && self.directory.inbox(last.owner().node, id(session)).is_none()
        })
    }
}
