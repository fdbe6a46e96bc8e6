//! What a model has in it: machines, sessions, how much may go wrong, and what is wrong on purpose.

use crate::properties::Reached;
use ownership::takeover::{OnLoss, Strategy};

/// A machine that runs a node.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// The node's index. Two machines with the same one are clones of each other.
    pub node: u16,
    /// How fast its clock runs, in nanoseconds for a tick of the world: 9 to 11.
    pub rate: u64,
    /// Whether its heartbeats always come through at once.
    pub is_steady: bool,
}

/// A model.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its name, for whoever reads a failure.
    pub name: &'static str,
    /// The machines. The first one owns all sessions and slots at the start.
    pub machines: Vec<Machine>,
    /// Where sessions are kept.
    pub strategy: Strategy,
    /// How many sessions there are at the start.
    pub sessions: usize,
    /// How many ticks of a slow clock a lease lasts.
    pub lease: u64,
    /// Whether the sessions have clients.
    pub has_clients: bool,
    /// What becomes of the sessions of a lost node.
    pub on_loss: OnLoss,
    /// How often things happen that nobody has to wait for.
    pub budget: Budget,
    /// One state in so many is run to its end, with no more trouble on the way.
    pub sample: u64,
    /// What happens in it, or it shows nothing.
    pub reaches: &'static [Reached],
    /// How many states it has, at least.
    pub least: usize,
    /// What is wrong on purpose.
    pub mistake: Option<Mistake>,
}

macro_rules! budget {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// How often each thing may still happen.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub struct Budget {
            $($(#[doc = $doc])+ pub $name: u8,)+
        }
    };
}

budget! {
    /// Ticks of time.
    ticks,
    /// Outcomes that nobody learns: the answer is lost, or the request is late.
    doubts,
    /// Processes that end without a word; the kernel goes on.
    crashes,
    /// Machines that start anew.
    reboots,
    /// Epochs that an operator ends.
    ends,
    /// Changes of a session that have nothing to do with its owner.
    changes,
    /// Moves of a session.
    moves,
    /// Moves that are given up for no reason.
    aborts,
    /// Sessions that are made.
    births,
    /// Moves of all slots to another node.
    plans,
    /// Requests of a client that moves, or grows impatient.
    requests,
    /// Messages between a client and the nodes that arrive once more.
    repeats,
    /// Backups of the store that are restored.
    restores,
}

/// A protocol with one rule left out. All of them are in what stands in this directory, around the code
/// that is checked; that code knows nothing of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// The lease runs from when a heartbeat was answered.
    DeadlineFromAnswer,
    /// A commit does not compare the epoch of whoever writes.
    NoEpochCompare,
    /// A commit does not compare the incarnation of whoever writes, and nobody looks at it either.
    NoIncarnationCompare,
    /// The event is written after the commit.
    AuditOutsideCommit,
    /// A hand-off of unknown outcome is sent once more, and its Lost is believed.
    RetryOfUnknown,
    /// A hand-off of unknown outcome counts as not done when a read does not show it.
    ReadResolvesUnknown,
    /// The session is delivered here again as soon as the abort is sent.
    LocalBeforeAbort,
    /// The destination goes on as soon as the session is frozen.
    ResumeBeforeHandOff,
    /// The hand-off does not compare the destination's fence row.
    NoDestinationFence,
    /// What a client has used and what was accepted of it is kept beside the record.
    NonceOutsideRecord,
    /// The previous owner of a slot is cleared before every node knows of the move.
    ClearedBeforeBarrier,
    /// The redirect goes when the destination has gone on.
    RedirectDropped,
    /// A session is denied without a look at what was handed to the node.
    InboxUnread,
    /// A store that is older than what was seen of it is used all the same.
    OlderStoreUsed,
}
