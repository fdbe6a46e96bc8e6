//! Releasing held sessions: what waited goes first, then newer packets have their way.

use super::{
    Hold,
    books::{Id, Way},
    core::Core,
    counts::Counts,
    emit::Away,
};
use crate::dataplane::{
    Dataplane,
    grace::{Method, grace_period},
};
use dataplane_ebpf::{
    table::{Entry, Place},
    tables::Tables,
};
use ownership::NodeIndex;
use std::{
    io,
    net::{IpAddr, Ipv6Addr},
    sync::{MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use thiserror::Error;

/// How long nothing of what waits can be sent before it is given up: discarded and counted.
const STALLED: Duration = Duration::from_secs(5);

/// Whoever has the data plane lends it for a moment. Nothing waits while it is lent.
pub trait Lend {
    /// Calls `work` with the data plane.
    fn lend<R>(&mut self, work: impl FnOnce(&mut Dataplane) -> R) -> R;
}

impl Lend for Dataplane {
    fn lend<R>(&mut self, work: impl FnOnce(&mut Dataplane) -> R) -> R {
        work(self)
    }
}

/// What became of sessions that were released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Released {
    /// Each session's account, in the order in which they were given.
    pub sessions: Vec<Counts>,
    /// How programs that ran were waited for.
    pub method: Method,
    /// How long it took.
    pub took: Duration,
}

impl Released {
    /// All accounts in one.
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        for &counts in &self.sessions {
            total += counts;
        }
        total
    }
}

/// Why sessions could not be released. What had not been sent waits on, unless stated otherwise.
#[derive(Debug, Error)]
pub enum ReleaseError {
    /// No such node.
    #[error("node {0} is not in the table of nodes")]
    NoNode(NodeIndex),
    /// They were released or discarded before.
    #[error("the sessions are held no longer")]
    NotHeld,
    /// Newer packets have their way, but not all programs could be waited for: some packets may
    /// still come out of the ring, and belong to nobody then.
    #[error("programs that may run with older entries could not be waited for")]
    Grace(#[source] io::Error),
}

impl Hold {
    /// Releases the sessions to this node: delivers what waited, in order, then newer packets.
    ///
    /// A session's newer packets have their way at a moment when none of its older ones waits. If
    /// there is no such moment within `patience`, they have it then all the same, and may overtake
    /// ([`Counts::late`] says how many).
    pub fn release_here(
        &self,
        lender: &mut impl Lend,
        patience: Duration,
    ) -> Result<Released, ReleaseError> {
        self.release(lender, None, patience)
    }

    /// Releases the sessions to another node, at their new version: sends what waited there, in
    /// order, then newer packets. The sessions' entries here become rows that lead to the node; from
    /// the first moment on they are this node's no longer.
    /// `patience` is as for [`Hold::release_here`].
    pub fn release_to(
        &self,
        lender: &mut impl Lend,
        node: NodeIndex,
        version: u64,
        patience: Duration,
    ) -> Result<Released, ReleaseError> {
        let core = self.shared.core();
        let row = core.tables.node(node.get()).filter(|row| row.is_present());
        let address = row.ok_or(ReleaseError::NoNode(node))?.address;
        drop(core);
        let address = IpAddr::from(Ipv6Addr::from(address.bytes())).to_canonical();
        self.release(lender, Some(Away { node: node.get(), address, version }), patience)
    }

    fn release(
        &self,
        lender: &mut impl Lend,
        away: Option<Away>,
        patience: Duration,
    ) -> Result<Released, ReleaseError> {
        let start = Instant::now();
        let end = start + patience;
        lender.lend(|dataplane| self.begin(dataplane, away))?;
        self.thread.unpark();
        let mut closed: Vec<usize> = (0..self.sessions.len()).collect();
        while !closed.is_empty() {
            let late = Instant::now() >= end;
            lender.lend(|dataplane| self.open_gates(dataplane, away, &mut closed, late));
            if !closed.is_empty() {
                // Until queues have got shorter.
                drop(self.wait(self.shared.core(), end));
            }
        }
        // A program that saw the old entry may still put a packet into the ring.
        let method = grace_period().map_err(ReleaseError::Grace)?;
        let mut core = self.shared.core();
        core.drain_all();
        // What waits is sent at its pace, unless nothing of it can be sent at all.
        let mut last = (0, Instant::now());
        loop {
            let waiting = |&(id, _): &(Id, _)| core.books.waiting(id);
            let left: usize = self.sessions.iter().map(waiting).sum();
            if left != last.0 {
                last = (left, Instant::now());
            }
            if left == 0 || last.1.elapsed() > STALLED {
                break;
            }
            core = self.wait(core, Instant::now() + STALLED);
        }
        let sessions = self.sessions.iter().map(|&(id, _)| core.books.close(id));
        let sessions = sessions.map(Option::unwrap_or_default).collect();
        Ok(Released { sessions, method, took: start.elapsed() })
    }

    /// Lets what waits go. First it is settled whose the sessions are: the application here must
    /// speak for them no longer when another one begins to, and may when it gets their packets.
    fn begin(&self, dataplane: &mut Dataplane, away: Option<Away>) -> Result<(), ReleaseError> {
        let mut core = self.shared.core();
        if self.sessions.iter().any(|&(id, _)| !core.books.is_held(id)) {
            return Err(ReleaseError::NotHeld);
        }
        let ours = away.is_none();
        for key in self.sessions.iter().flat_map(|(_, session)| &session.keys) {
            if let Some((Entry { place: Place::Hold { cpu, .. }, epoch }, version)) =
                dataplane.get(*key)
            {
                let place = Place::Hold { cpu, ours };
                dataplane.update(*key, Entry { place, epoch }, version);
            }
        }
        for (id, session) in &self.sessions {
            let here = Way::Here(session.cpu.into());
            core.books.send(*id, away.map_or(here, Way::Away));
        }
        Ok(())
    }

    /// Lets newer packets of those sessions have their way of which nothing waits, or of all.
    fn open_gates(
        &self,
        dataplane: &mut Dataplane,
        away: Option<Away>,
        closed: &mut Vec<usize>,
        all: bool,
    ) {
        /// Sessions that are let go between two looks at the ring.
        const SOME: usize = 16;
        let mut core = self.shared.core();
        let mut since = SOME;
        closed.retain(|&index| {
            let (id, session) = &self.sessions[index];
            if since >= SOME {
                core.drain_all();
                since = 0;
            }
            if core.books.waiting(*id) > 0 && !all {
                return true;
            }
            since += 1;
            for &key in &session.keys {
                let Some((Entry { place: Place::Hold { cpu, .. }, epoch }, version)) =
                    dataplane.get(key)
                else {
                    // Somebody else has removed or changed it.
                    continue;
                };
                let (place, version) = match away {
                    None => (Place::Local { cpu }, version),
                    Some(Away { node, version, .. }) => (Place::Remote { node }, version),
                };
                dataplane.update(key, Entry { place, epoch }, version);
            }
            core.books.pass_by(*id);
            false
        });
    }

    /// Waits until the keeper has taken a turn, or until `end`.
    fn wait<'a>(&'a self, core: MutexGuard<'a, Core>, end: Instant) -> MutexGuard<'a, Core> {
        let left = end.saturating_duration_since(Instant::now()).max(super::keeper::TICK);
        self.shared.changed.wait_timeout(core, left).unwrap_or_else(PoisonError::into_inner).0
    }
}
