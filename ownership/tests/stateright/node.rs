//! A machine: its kernel, its disk, and the process that runs the protocols.

use crate::way::Way;
use ownership::{
    NodeIndex,
    lease::{BootId, BootTime, Holder, IncarnationRecord, Registration, Resuming, Taker},
    model::{Accepted, Owner},
    pending::Pending,
    placement::Applied,
    store::{
        DirectoryWrite, Identity, Incarnation, Outcome, PlacementRow, Position, Seen, SessionWrite,
        StoredSession,
    },
    takeover::Knowledge,
    transfer::{Arrived, Frozen, Inherited, Quiesced, Redirect, Undecided},
};
use std::hash::{Hash, Hasher};

#[derive(Clone, Debug, Hash)]
pub struct Node<W: Way> {
    pub index: NodeIndex,
    pub clock: BootTime,
    pub boot: BootId,
    pub kernel: Kernel,
    pub disk: Disk,
    pub process: Option<Process<W>>,
    /// How many processes have been started.
    pub starts: u8,
}

/// What outlives the process, but not the boot.
#[derive(Clone, Debug, Hash)]
pub struct Kernel {
    /// For whom the maps were made.
    pub pinned: Option<Identity>,
    /// Until when the kernel delivers; 0 is shut.
    pub deadline: BootTime,
    pub entries: Vec<Entry>,
    /// The placement that was applied.
    pub placed: Option<Placed>,
}

/// What the kernel does with a session's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    None,
    Local,
    Hold,
    /// It is known, and served by nobody: its owner was an earlier epoch of this node, and may not be over.
    Wait,
    Redirect(NodeIndex),
}

/// What outlives the boot.
#[derive(Clone, Debug, Hash)]
pub struct Disk {
    pub record: Option<IncarnationRecord>,
    pub seen: Seen,
}

#[derive(Clone, Debug, Hash)]
pub struct Process<W: Way> {
    pub phase: Phase,
    pub takers: Vec<Taker>,
    pub incarnation: Incarnation,
    pub work: Vec<Work<W>>,
    /// The last reattach of each session that this process has accepted.
    pub accepted: Vec<Option<Accepted>>,
}

#[derive(Clone, Debug, Hash)]
pub enum Phase {
    Registering(Registration),
    Resuming(Resuming),
    Running(Holder, Option<Beat>),
}

/// A heartbeat that is on its way.
#[derive(Clone, Debug, Hash)]
pub enum Beat {
    Sent(DirectoryWrite),
    Answered(Outcome),
}

/// A placement, and what the node may do by it.
#[derive(Clone, Debug)]
pub struct Placed {
    pub row: PlacementRow,
    pub applied: Applied,
}

impl Hash for Placed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // All slots are alike.
        self.row.hash(state);
        self.applied.home(0).hash(state);
    }
}

/// What a process does with a session.
#[derive(Clone, Debug, Hash)]
pub enum Work<W: Way> {
    /// It knows of none.
    None,
    /// It serves it.
    Serves(StoredSession, Knowledge),
    /// It has sent a change of unknown outcome; before that it did something else.
    Changes(Box<(Pending<SessionWrite>, Work<W>)>),
    Frozen(Frozen),
    Quiesced(Quiesced),
    Undecided(Box<Undecided<W>>),
    /// A decision is to be copied into the node's own store, before what follows.
    Copies(Box<(SessionWrite, Option<DirectoryWrite>, Work<W>)>),
    /// An earlier process has frozen it.
    Inherited(Inherited),
    /// It was handed to this node.
    Arrived(StoredSession),
    /// It was handed to this node, and is still to be copied into the node's own store, and taken out of
    /// the inbox.
    Waits(Box<Arrived>),
    /// Another node owns it.
    Elsewhere(Redirect),
    /// Somebody else has written it.
    Stopped,
}

impl<W: Way> Node<W> {
    pub fn new(index: NodeIndex, boot: u128, sessions: usize) -> Self {
        let entries = vec![Entry::None; sessions];
        Self {
            index,
            // Late enough for a wait to have been.
            clock: BootTime::from_nanos(1_000),
            boot: BootId(boot),
            kernel: Kernel { pinned: None, deadline: BootTime::default(), entries, placed: None },
            disk: Disk { record: None, seen: Seen::new(Position::START) },
            process: None,
            starts: 0,
        }
    }

    /// The owner whose sessions this machine's kernel delivers now, if it delivers any.
    pub fn delivers_as(&self) -> Option<Owner> {
        let is_open = self.clock < self.kernel.deadline;
        self.kernel.pinned.filter(|_| is_open).map(|pinned| pinned.owner)
    }

    /// What the process claims to be, once it has an epoch.
    pub fn identity(&self) -> Option<Identity> {
        match &self.process.as_ref()?.phase {
            Phase::Registering(_) => None,
            Phase::Resuming(resuming) => Some(resuming.identity()),
            Phase::Running(holder, _) => Some(holder.identity()),
        }
    }

    pub fn is_running(&self) -> bool {
        matches!(&self.process, Some(Process { phase: Phase::Running(..), .. }))
    }

    pub fn work(&self, session: usize) -> Option<&Work<W>> {
        self.process.as_ref().map(|process| &process.work[session])
    }

    /// The process ends. The kernel goes on.
    pub fn crash(&mut self) {
        self.process = None;
    }

    /// The machine starts anew: its maps are gone, and what it recorded of them is worth nothing.
    pub fn reboot(&mut self) {
        self.process = None;
        self.boot = BootId(self.boot.0 + 100);
        self.shut();
        self.kernel.pinned = None;
        self.kernel.placed = None;
        self.kernel.entries.fill(Entry::None);
    }

    /// The process stops acting as owner, for good: its epoch is over.
    pub fn stop(&mut self) {
        self.shut();
        for entry in &mut self.kernel.entries {
            if matches!(entry, Entry::Local | Entry::Hold) {
                *entry = Entry::None;
            }
        }
        self.disk.record = None;
        self.process = None;
    }

    fn shut(&mut self) {
        self.kernel.deadline = BootTime::default();
    }

    /// The maps are made anew, for a new epoch.
    pub fn pin(&mut self, identity: Identity) {
        self.kernel.pinned = Some(identity);
        self.kernel.entries.fill(Entry::None);
        let boot = self.boot;
        self.disk.record = Some(IncarnationRecord { identity, boot });
    }
}
