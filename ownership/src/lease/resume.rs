use super::{Holder, LeaseTimes};
use crate::{
    SessionId,
    model::{Hold, Owner, SessionRecord},
    store::{FenceRow, HeartbeatRow, Identity},
};
use std::collections::BTreeSet;
use thiserror::Error;

/// What tells one boot of a machine from all others: on Linux `/proc/sys/kernel/random/boot_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootId(pub u128);

/// A node's own record of its incarnation, written once it was registered. Of no use after the next
/// boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IncarnationRecord {
    /// What it claims to be.
    pub identity: Identity,
    /// The boot in which it was written.
    pub boot: BootId,
}

/// What a process finds that would go on in the epoch of an earlier one. It must hold the lock on the
/// node's files, so that the earlier one is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Found {
    /// The boot of this machine.
    pub boot: BootId,
    /// For whom the pinned maps were made that are still there: the fence in this kernel is that
    /// one's.
    pub pinned: Option<Identity>,
}

/// Why an epoch cannot be resumed: the node must register anew. Its sessions of that epoch are
/// lost to it like another node's, until it has waited for the fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotResumable {
    /// The machine has been started anew, or is another one with a copy of the record.
    #[error("the record of the incarnation was written in another boot")]
    OtherBoot,
    /// The maps are gone, or are those of another incarnation: what shut the fence is not known.
    #[error("the pinned maps are not those of the recorded incarnation")]
    OtherPins,
    /// The epoch is over, or the directory knows of another incarnation.
    #[error("the directory does not admit the recorded incarnation")]
    NotAdmitted,
}

/// An epoch that is about to be resumed: what its sessions' moves were at is put in order first.
///
/// So is the kernel, which may still hold a session that the earlier process had handed over: what comes for it
/// is sent on ([`Redirect::to_owner`](crate::transfer::Redirect::to_owner)).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resuming {
    holder: Holder,
    unsettled: BTreeSet<SessionId>,
}

impl Resuming {
    /// Checks that this is the same boot, the same incarnation and the same pins, and that the
    /// directory still admits them. `unsettled` are the sessions that stood still when the earlier
    /// process ended: those that are [frozen here, or were handed to this node](is_unsettled) and not
    /// resumed yet.
    ///
    /// # Errors
    ///
    /// If the node must register anew.
    pub fn new(
        recorded: IncarnationRecord,
        found: Found,
        fence: Option<&FenceRow>,
        heartbeat: Option<&HeartbeatRow>,
        times: LeaseTimes,
        unsettled: impl IntoIterator<Item = SessionId>,
    ) -> Result<Self, NotResumable> {
        let IncarnationRecord { identity, boot } = recorded;
        if boot != found.boot {
            return Err(NotResumable::OtherBoot);
        }
        if found.pinned != Some(identity) {
            return Err(NotResumable::OtherPins);
        }
        let heartbeat = heartbeat.filter(|heartbeat| heartbeat.epoch == identity.owner.epoch);
        match (fence, heartbeat) {
            (Some(fence), Some(heartbeat)) if fence.admits(identity) => {
                let holder = Holder::resumed(identity, heartbeat.clone(), times);
                Ok(Self { holder, unsettled: unsettled.into_iter().collect() })
            }
            _ => Err(NotResumable::NotAdmitted),
        }
    }

    /// What the node claims to be while it puts its sessions in order.
    pub fn identity(&self) -> Identity {
        self.holder.identity()
    }

    /// The sessions that still have to be put in order: one that is frozen by an ABORT that Won (or by
    /// finding out that it was handed off), one that was handed to this node by its RESUME.
    pub fn unsettled(&self) -> impl Iterator<Item = SessionId> {
        self.unsettled.iter().copied()
    }

    /// A commit has put this session in order.
    pub fn settled(&mut self, session: SessionId) {
        self.unsettled.remove(&session);
    }

    /// The holder, once every session is in order. It may act after its first heartbeat.
    ///
    /// # Errors
    ///
    /// With what it was before, if there are sessions left.
    #[expect(clippy::result_large_err, reason = "done once or twice in the life of a process")]
    pub fn resume(self) -> Result<Holder, Self> {
        if self.unsettled.is_empty() { Ok(self.holder) } else { Err(self) }
    }
}

/// Whether a session of `owner` has to be put in order before its epoch is resumed.
pub fn is_unsettled(record: &SessionRecord, owner: Owner) -> bool {
    let moves = match record.hold() {
        Hold::Active => false,
        Hold::Frozen { .. } | Hold::HandedOff { .. } => true,
    };
    moves && record.owner() == owner
}
