use crate::model::{Cause, FenceProof, Input, Owner, Policy, SessionRecord, Time};
use thiserror::Error;

/// Where sessions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// In a store of their owner's own; only the directory is shared (ownership-model §2.1).
    Sticky,
    /// In one atomic store, with the directory (ownership-model §2.2).
    Shared,
}

/// What becomes of the sessions of a node that is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnLoss {
    /// They wait for their node, and nobody else touches them as long as they live.
    #[default]
    Deny,
    /// They end.
    Terminate,
    /// Their slots' owners take them over.
    TakeOver,
}

/// The policy of a service for the loss of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LossPolicy {
    strategy: Strategy,
    on_loss: OnLoss,
}

/// Sessions that are kept by their owner alone cannot be taken over from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("sessions can be taken over only if they are kept in a shared store; deny or terminate")]
pub struct NeedsShared;

impl LossPolicy {
    /// The policy.
    ///
    /// # Errors
    ///
    /// If it is to take over sessions that are not shared.
    pub fn new(strategy: Strategy, on_loss: OnLoss) -> Result<Self, NeedsShared> {
        match (strategy, on_loss) {
            (Strategy::Sticky, OnLoss::TakeOver) => Err(NeedsShared),
            _ => Ok(Self { strategy, on_loss }),
        }
    }

    /// What `me` does with a session whose owner is proven to be lost; nothing if it is not that owner's, is
    /// over, or has to wait. Only the owner of the session's slot asks for the sessions of other nodes.
    pub fn answer(
        self,
        record: &SessionRecord,
        proof: FenceProof,
        me: Owner,
        policy: &Policy,
        now: Time,
    ) -> Option<Input> {
        let owner = record.owner();
        if record.is_terminated() || !proof.covers(owner) || proof.covers(me) {
            return None;
        }
        let is_own = owner.node == me.node;
        let is_reachable = is_own || self.strategy == Strategy::Shared;
        let is_over = record.is_over(policy, now);
        match self.on_loss {
            _ if !is_reachable => None,
            OnLoss::Terminate => Some(Input::TerminateLost { proof }),
            _ if is_over => Some(Input::TerminateLost { proof }),
            OnLoss::Deny if !is_own => None,
            OnLoss::Deny | OnLoss::TakeOver => Some(Input::TakeOver { proof }),
        }
    }

    /// What `me` does with a session of its own when its lease has run out since the store could not be
    /// reached, and nobody has taken it: nothing, or it ends. The session is stopped then, and stays so; that is
    /// committed once the store is back.
    pub fn lapsed(self, record: &SessionRecord, me: Owner) -> Option<Input> {
        let is_mine = record.owner() == me && !record.is_terminated();
        (self.on_loss == OnLoss::Terminate && is_mine)
            .then_some(Input::Terminate { cause: Cause::OwnerLost })
    }
}
