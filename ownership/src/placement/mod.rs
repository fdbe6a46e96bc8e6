//! The placement: which node owns each slot, planned once and published to all.
//!
//! A slot moves from A to B in three placements, each of which follows when every live node has applied the
//! one before (the [`Barrier`], which heartbeats tell of):
//!
//! ```text
//! {A}  ->  {B, previous A}  ->  {B}
//!          | every node knows: B mints ids there
//!          | no session is left at A --^  | every node knows: A is safe to stop
//! ```
//!
//! One move at a time: while `previous` is set, a slot can only go back, be it because its owner is lost.
//! Sessions may be at both, and there is no room for a third. If both are lost, the slot waits for one of
//! them ([`Placement::stranded`]).

mod applied;
mod census;
mod codec;
mod rendezvous;

pub use applied::Applied;
pub use census::{Barrier, Census, Emptied};
pub use codec::BadPlacement;

use crate::{NodeIndex, model::FenceProof};
use std::{collections::BTreeSet, fmt};
use thiserror::Error;

/// How many slots the id space has.
pub const SLOTS: usize = 1 << 16;

/// A version of the placement: 1 to 2^31 - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u32);

impl Revision {
    /// The first revision.
    pub const FIRST: Self = Self(1);

    const MAX: u32 = (1 << 31) - 1;

    /// The revision with this number, if it is one.
    pub const fn new(number: u32) -> Option<Self> {
        if number == 0 || number > Self::MAX { None } else { Some(Self(number)) }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The revision after this one.
    pub const fn next(self) -> Result<Self, PlanError> {
        if self.0 == Self::MAX { Err(PlanError::RevisionsExhausted) } else { Ok(Self(self.0 + 1)) }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A node that takes slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number in the data plane.
    pub index: NodeIndex,
    /// Its name: what its slots follow from, whatever its index or place in a list.
    pub name: String,
    /// Its share of the slots, relative to the others' weights: 1 to 1,000,000, or 0 for none.
    pub weight: u32,
}

/// The highest weight of a member.
pub const WEIGHT_MAX: u32 = 1_000_000;

/// Who owns a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotOwner {
    /// The owner.
    pub owner: Option<NodeIndex>,
    /// The owner before, while the slot is moving: sessions may still be there.
    pub previous: Option<NodeIndex>,
}

impl SlotOwner {
    /// Whether a node owns the slot, or may still have sessions in it.
    pub fn involves(self, node: NodeIndex) -> bool {
        [self.owner, self.previous].contains(&Some(node))
    }
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PlanError {
    /// Nobody to own the slots.
    #[error("no node with a weight above 0 is left to own the slots")]
    NoMembers,
    /// Two members have one name or index.
    #[error("two nodes share the name {name:?} or the index {index}")]
    Duplicate {
        /// The second one's name.
        name: String,
        /// The second one's index.
        index: NodeIndex,
    },
    /// A weight is too high.
    #[error("the weight of node {name:?} is {weight}: at most {WEIGHT_MAX}")]
    Weight {
        /// The node.
        name: String,
        /// Its weight.
        weight: u32,
    },
    /// Slots that would move are still moving.
    #[error("{0} slots that would move have not finished their last move; wait until it has")]
    StillMoving(usize),
    /// A node was emptied of the slots of another placement.
    #[error(
        "the node was emptied of what had moved by revision {emptied}, but revision {stands} stands; \
         count again"
    )]
    OtherRevision {
        /// By which it was emptied.
        emptied: Revision,
        /// Which stands.
        stands: Revision,
    },
    /// The counter of revisions has come to its end.
    #[error("no placement revision is left after {}", Revision::MAX)]
    RevisionsExhausted,
}

/// One version of the placement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    revision: Revision,
    slots: Box<[SlotOwner]>,
}

impl Placement {
    /// Every slot to the member that wins it by weighted rendezvous hashing.
    ///
    /// The outcome depends on names and weights alone, and is the same on every machine. Each
    /// member gets its share within chance: for `n` slots about `sqrt(n)` more or less.
    pub fn plan(members: &[Member], revision: Revision) -> Result<Self, PlanError> {
        check(members)?;
        let slots = rendezvous::winners(members)
            .into_iter()
            .map(|owner| SlotOwner { owner: Some(owner), previous: None })
            .collect();
        Ok(Self { revision, slots })
    }

    /// Every slot to one node, at the first revision.
    pub fn all_to(owner: NodeIndex) -> Self {
        let slots = vec![SlotOwner { owner: Some(owner), previous: None }; SLOTS];
        Self { revision: Revision::FIRST, slots: slots.into() }
    }

    /// The same under the next revision.
    ///
    /// # Errors
    ///
    /// If no revision is left.
    pub fn renewed(&self) -> Result<Self, PlanError> {
        Ok(Self { revision: self.revision.next()?, slots: self.slots.clone() })
    }

    /// The placement after a change of members: slots that move keep their owner as `previous`.
    ///
    /// Only what must move does: a member that leaves gives its slots away and no other slot
    /// moves; to one that joins, slots only come. One move per slot at a time: a slot that is still
    /// moving can only go back to where it came from.
    pub fn next(&self, members: &[Member]) -> Result<Self, PlanError> {
        let mut next = Self::plan(members, self.revision.next()?)?;
        let mut still_moving = 0;
        for (new, old) in next.slots.iter_mut().zip(&self.slots) {
            if new.owner == old.owner {
                new.previous = old.previous;
            } else {
                still_moving += (old.previous.is_some() && new.owner != old.previous) as usize;
                new.previous = old.owner;
            }
        }
        if still_moving > 0 { Err(PlanError::StillMoving(still_moving)) } else { Ok(next) }
    }

    /// The placement after the loss of a node that is proven to be fenced: its slots go to the other
    /// members, and have it as their previous owner, since sessions may wait there for its return. Slots that
    /// were moving to it go back to where they came from, where sessions may be too; if that node is no
    /// member, not even one of weight 0 as a drained one is, they stay as they are and are
    /// [stranded](Placement::stranded).
    ///
    /// To be [committed only while it is lost](crate::store::DirectoryWrite::while_fenced): sessions that
    /// it makes after its return would not be found.
    pub fn failed_over(&self, members: &[Member], lost: FenceProof) -> Result<Self, PlanError> {
        let lost = lost.fenced().node;
        let others: Vec<_> =
            members.iter().filter(|member| member.index != lost).cloned().collect();
        let mut next = Self::plan(&others, self.revision.next()?)?;
        for (new, old) in next.slots.iter_mut().zip(&self.slots) {
            let is_member = |node: &NodeIndex| others.iter().any(|member| member.index == *node);
            *new = match *old {
                SlotOwner { owner, previous: None } if owner == Some(lost) => {
                    SlotOwner { owner: new.owner, previous: Some(lost) }
                }
                SlotOwner { owner, previous: Some(back) }
                    if owner == Some(lost) && is_member(&back) =>
                {
                    SlotOwner { owner: Some(back), previous: Some(lost) }
                }
                SlotOwner { .. } => *old,
            };
        }
        Ok(next)
    }

    /// How many slots nobody serves, since they were moving between two nodes and both are lost: to be told to
    /// the operator.
    ///
    /// They wait for either to return. If no session is left at the previous owner, because others have ended
    /// them or have taken them over, the move is complete ([`Placement::cleared`]), and the slots can fail over
    /// like any.
    pub fn stranded(&self, is_lost: impl Fn(NodeIndex) -> bool) -> usize {
        let is_lost = |node: Option<NodeIndex>| node.is_some_and(&is_lost);
        let is_stranded = |slot: &&SlotOwner| is_lost(slot.owner) && is_lost(slot.previous);
        self.slots.iter().filter(is_stranded).count()
    }

    /// The placement once the moves away from a node are complete.
    ///
    /// # Errors
    ///
    /// If it was emptied of what had moved by another placement than this one, or if no revision is left.
    pub fn cleared(&self, emptied: Emptied) -> Result<Self, PlanError> {
        let Emptied { node, revision } = emptied;
        if revision != self.revision {
            return Err(PlanError::OtherRevision { emptied: revision, stands: self.revision });
        }
        let clear = |slot: &SlotOwner| {
            let previous = slot.previous.filter(|previous| *previous != node);
            SlotOwner { previous, ..*slot }
        };
        let slots = self.slots.iter().map(clear).collect();
        Ok(Self { revision: self.revision.next()?, slots })
    }

    /// Whether a drained node is safe to stop: it has no part in this placement, every live node has applied
    /// that, and not one of its sessions is `left`.
    pub fn is_safe_to_stop(&self, node: NodeIndex, barrier: Barrier, left: usize) -> bool {
        let has_part = self.slots.iter().any(|slot| slot.involves(node));
        barrier.revision() == self.revision && left == 0 && !has_part
    }

    /// Its version.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The owner of each of the [`SLOTS`] slots.
    pub fn slots(&self) -> &[SlotOwner] {
        &self.slots
    }

    /// Whether slots are moving away from a node.
    pub fn leaves(&self, node: NodeIndex) -> bool {
        self.slots.iter().any(|slot| slot.previous == Some(node))
    }

    /// The slots that a node owns.
    pub fn slots_of(&self, node: NodeIndex) -> impl Iterator<Item = u16> {
        let owned = move |(_, slot): &(usize, &SlotOwner)| slot.owner == Some(node);
        self.slots.iter().enumerate().filter(owned).map(|(slot, _)| slot as u16)
    }
}

fn check(members: &[Member]) -> Result<(), PlanError> {
    let (mut names, mut indices) = (BTreeSet::new(), BTreeSet::new());
    for Member { index, name, weight } in members {
        if !names.insert(name) || !indices.insert(*index) {
            return Err(PlanError::Duplicate { name: name.clone(), index: *index });
        }
        if *weight > WEIGHT_MAX {
            return Err(PlanError::Weight { name: name.clone(), weight: *weight });
        }
    }
    if members.iter().all(|member| member.weight == 0) {
        return Err(PlanError::NoMembers);
    }
    Ok(())
}
