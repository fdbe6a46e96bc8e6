use super::BootTime;
use crate::{
    Epoch, NodeIndex,
    model::{OperationId, Time},
    store::{BadWrite, DirectoryWrite, FenceRow, HeartbeatRow, Identity, Incarnation, Outcome},
};

/// A node on its way to a new epoch.
///
/// Each registration has an incarnation of its own, freshly drawn: by that it recognises itself in the
/// directory after an outcome that was unknown.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Registration {
    node: NodeIndex,
    name: String,
    incarnation: Incarnation,
    attempt: Option<Attempt>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Attempt {
    fence: FenceRow,
    /// When the first and when the last attempt was sent.
    sent: (BootTime, BootTime),
}

/// A node in its new epoch. Its registration was its first heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Registered {
    pub(super) by: Identity,
    pub(super) heartbeat: HeartbeatRow,
    pub(super) sent: BootTime,
}

impl Registered {
    /// What the node claims to be from here on. To be recorded, for a resumption.
    pub fn identity(&self) -> Identity {
        self.by
    }
}

impl Registration {
    /// Begins one. `incarnation` is drawn for it and for nothing else.
    pub fn new(node: NodeIndex, name: &str, incarnation: Incarnation) -> Self {
        Self { node, name: name.to_owned(), incarnation, attempt: None }
    }

    /// An attempt, to be sent at once: `sent` is read before that. `before` and `drawn` are what
    /// stands in the directory: the node's fence row, and the last epoch.
    ///
    /// # Errors
    ///
    /// If the node's index belongs to another name, or no epoch is left.
    pub fn attempt(
        &mut self,
        before: Option<&FenceRow>,
        drawn: Option<Epoch>,
        sent: BootTime,
        now: Time,
        operation: OperationId,
    ) -> Result<DirectoryWrite, BadWrite> {
        let Self { node, ref name, incarnation, .. } = *self;
        let (write, fence) =
            DirectoryWrite::register(node, name, before, drawn, incarnation, now, operation)?;
        let first = self.attempt.as_ref().map_or(sent, |attempt| attempt.sent.0);
        self.attempt = Some(Attempt { fence, sent: (first, sent) });
        Ok(write)
    }

    /// What came of the attempt. If it was not done, or nobody knows, the caller reads what stands
    /// ([`Registration::found`]) and tries again.
    pub fn answered(&self, outcome: Outcome) -> Option<Registered> {
        let Attempt { fence, sent } = self.attempt.as_ref().filter(|_| outcome.is_won())?;
        let (by, heartbeat) = (fence.identity(), fence.first_beat());
        Some(Registered { by, heartbeat, sent: sent.1 })
    }

    /// What was read in the directory: the node's fence row and heartbeat. Nothing if the node is not
    /// registered by any of the attempts; one that is still under way then loses to the next.
    pub fn found(
        &self,
        fence: Option<&FenceRow>,
        heartbeat: Option<&HeartbeatRow>,
    ) -> Option<Registered> {
        let Attempt { sent, .. } = self.attempt.as_ref()?;
        let fence = fence.filter(|fence| fence.incarnation == self.incarnation)?;
        let heartbeat = heartbeat.filter(|heartbeat| heartbeat.epoch == fence.epoch)?;
        // Which attempt it was, nobody knows.
        Some(Registered { by: fence.identity(), heartbeat: heartbeat.clone(), sent: sent.0 })
    }
}
