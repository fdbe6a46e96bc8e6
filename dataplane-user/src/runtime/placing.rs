//! The placement: applied as others commit it, and planned anew when a node comes, goes or is lost.

use super::Runtime;
use crate::{
    cluster::{operation, utc},
    config::Config,
};
use ownership::{
    NodeIndex, Placement, Revision, SessionId,
    placement::{Applied, BadPlacement, Barrier, Census, Member, PlanError},
    store::{
        Admission, Attempt, Directory, DirectoryWrite, Fault, FenceRow, Identity, OffHomeKey,
        OffHomeRow, Outcome, PlacementRow, Store, WireId,
    },
    takeover::Strategy,
    transfer::Routes,
};
use std::{collections::HashMap, sync::Arc};

/// What the node knows of the placement.
#[derive(Default)]
pub(super) struct Placing {
    pub row: Option<PlacementRow>,
    pub applied: Option<Applied>,
    /// The last barrier.
    pub barrier: Option<Barrier>,
    /// The off-home rows whose packets the kernel sends on.
    pub off_home: HashMap<OffHomeKey, OffHomeRow>,
}

impl Placing {
    pub fn placement(&self) -> Option<&Placement> {
        self.applied.as_ref().map(Applied::placement)
    }
}

/// The placement that stands when a node begins; the first one is planned over all nodes of the configuration.
///
/// # Errors
///
/// If the store does not answer, or no node has a weight.
pub async fn first_placement(
    directory: &impl Directory,
    config: &Config,
    by: Identity,
) -> Result<PlacementRow, PlaceError> {
    loop {
        if let Some(row) = directory.placement().await? {
            return Ok(row);
        }
        let placement = Placement::plan(&config.members(), Revision::FIRST)?;
        let attempt = Attempt { by, now: utc(), operation: operation() };
        let (write, _) = DirectoryWrite::place(None, &placement, attempt).expect("the first one");
        if let Outcome::Unavailable(fault) = directory.write(write).await {
            return Err(fault.into());
        }
    }
}

/// Why there is no placement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// The store does not answer.
    #[error("reading the placement")]
    Store(#[from] Fault),
    /// There is no plan.
    #[error("planning the placement")]
    Plan(#[from] PlanError),
    /// It makes no sense.
    #[error("the placement in the store is corrupt")]
    Corrupt(#[source] BadPlacement),
}

impl Runtime {
    /// Applies a placement to the kernel and the books, unless it is an older one.
    pub(super) fn apply(&self, row: &PlacementRow) {
        let is_old = |before: &PlacementRow| before.revision >= row.revision;
        if self.books().placing.row.as_ref().is_some_and(is_old) {
            return;
        }
        let placement = match row.placement() {
            Ok(placement) => Arc::new(placement),
            Err(error) => return tracing::error!(%error, "the placement in the store is corrupt"),
        };
        self.node().apply_placement(&placement);
        {
            let mut books = self.books();
            let placing = &mut books.placing;
            match &mut placing.applied {
                Some(applied) => applied.apply(placement),
                None => placing.applied = Some(Applied::new(self.me().node, placement)),
            }
            placing.row = Some(row.clone());
        }
        self.set_mintable();
        let revision = row.revision;
        tracing::info!(%revision, "placement applied");
        self.beacon.applied(revision);
    }

    fn set_mintable(&self) {
        let mintable = {
            let books = self.books();
            let Some(applied) = &books.placing.applied else { return };
            let slots = applied.placement().slots_of(self.me().node);
            slots.filter(|slot| applied.may_mint(*slot)).collect()
        };
        self.node().set_mintable(mintable);
    }

    /// Reads the placement that stands, and applies it once its slots' off-home rows are in the kernel.
    pub(super) async fn follow_placement(&self) -> Result<(), Fault> {
        let Some(row) = self.stores.directory.placement().await? else { return Ok(()) };
        self.follow_off_home().await?;
        let before = self.books().placing.row.as_ref().map(|row| row.revision);
        if before.is_some_and(|before| before >= row.revision) {
            return Ok(());
        }
        self.copy_placement(&row).await?;
        self.apply(&row);
        Ok(())
    }

    /// *Sticky*: births in the node's own store compare the placement that the node has applied.
    pub(super) async fn copy_placement(&self, row: &PlacementRow) -> Result<(), Fault> {
        if self.settings.strategy() == Strategy::Shared {
            return Ok(());
        }
        let before = self.stores.sessions.placement().await?;
        match DirectoryWrite::copy_placement(before.as_ref(), row) {
            Ok(write) => match self.stores.sessions.write(write).await {
                Outcome::Unavailable(fault) => Err(fault),
                // Seen at the next look, if it is not done.
                Outcome::Won | Outcome::Lost(_) | Outcome::Fenced | Outcome::Unknown => Ok(()),
            },
            // It has been kept by an earlier process.
            Err(_) => Ok(()),
        }
    }

    /// Whether a node owns slots, or may still have sessions in some.
    pub fn has_part(&self, node: NodeIndex) -> bool {
        let has_part =
            |placement: &Placement| placement.slots().iter().any(|slot| slot.involves(node));
        self.with_placement(has_part) == Some(true)
    }

    /// From here on these are the nodes of the configuration.
    pub fn set_members(&self, members: Vec<Member>) {
        self.settings.set_members(members);
    }

    /// Commits a placement in the place of the one that was applied last.
    pub(super) async fn place(&self, next: &Placement, lost: Option<&FenceRow>) -> bool {
        let before = self.books().placing.row.clone();
        let placed = DirectoryWrite::place(before.as_ref(), next, self.attempt());
        let Ok((mut write, row)) = placed else { return false };
        if let Some(lost) = lost {
            match write.while_fenced(lost) {
                Ok(compared) => write = compared,
                Err(_) => return false,
            }
        }
        let outcome = self.stores.directory.write(write).await;
        let revision = next.revision();
        tracing::info!(%revision, ?outcome, "placement planned");
        if outcome.is_won() && self.copy_placement(&row).await.is_ok() {
            self.apply(&row);
        }
        outcome.is_won()
    }

    pub(super) fn with_placement<T>(&self, with: impl FnOnce(&Placement) -> T) -> Option<T> {
        self.books().placing.placement().map(with)
    }

    /// The slot of a session; nothing if its service is not configured here.
    pub(super) fn slot(&self, session: SessionId, service: u64) -> Option<u16> {
        self.node().slot_of(self.settings.place(service)?, &session.bytes())
    }

    pub(super) fn owner_of_slot(&self, slot: u16) -> Option<NodeIndex> {
        self.with_placement(|placement| placement.slots()[usize::from(slot)].owner).flatten()
    }

    /// The key of an off-home row: ids of different services may be alike.
    pub(super) fn off_home_key(&self, service: u64, bytes: &[u8]) -> Option<OffHomeKey> {
        let slot = self.node().slot_of(self.settings.place(service)?, bytes)?;
        let id = WireId::new(&[&service.to_be_bytes(), bytes].concat())?;
        Some(OffHomeKey { slot, id })
    }

    /// Where the packets of a session are sent whose new owner is on `to`.
    pub(super) fn routes(&self, session: SessionId, to: NodeIndex) -> Option<Routes> {
        let owned = self.owned(session)?;
        self.routes_of(session, owned.stored.record.service(), to)
    }

    pub(super) fn routes_of(
        &self,
        session: SessionId,
        service: u64,
        to: NodeIndex,
    ) -> Option<Routes> {
        let baggage = self.books().baggage(session);
        let others = baggage.iter().flat_map(|row| row.baggage.wire_ids());
        let mut keys = vec![self.off_home_key(service, &session.bytes())?];
        keys.extend(others.filter_map(|id| self.off_home_key(service, id.bytes())));
        let books = self.books();
        Some(Routes::new(to, books.placing.applied.as_ref()?, keys))
    }

    /// Whether this node may say of an id in a slot that there is no such session.
    pub(super) fn may_deny(&self, slot: u16) -> bool {
        let books = self.books();
        books.placing.applied.as_ref().is_some_and(|applied| applied.may_deny(slot))
    }

    /// What follows when every live node has applied the placement.
    pub(super) async fn pass_barrier(self: &Arc<Self>, census: Census) {
        let (barrier, is_new) = {
            let mut books = self.books();
            let placing = &mut books.placing;
            let Some(applied) = &mut placing.applied else { return };
            let Some(barrier) = census.barrier(applied.revision()) else { return };
            let is_new = placing.barrier.replace(barrier) != Some(barrier);
            if is_new {
                applied.passed(barrier);
            }
            (barrier, is_new)
        };
        if is_new {
            self.set_mintable();
        }
        self.clear(barrier).await;
    }

    /// Ends the moves away from this node, once no session is left here.
    async fn clear(self: &Arc<Self>, barrier: Barrier) {
        let me = self.me().node;
        if self.with_placement(|placement| placement.leaves(me)) != Some(true) {
            return;
        }
        if self.books().placing.row.as_ref().map(|row| row.revision) != Some(barrier.revision()) {
            return;
        }
        match self.left_behind().await {
            Ok(left) => {
                let Some(emptied) = barrier.emptied(me, left) else { return };
                let next = self.with_placement(|placement| placement.cleared(emptied));
                if let Some(Ok(next)) = next {
                    self.place(&next, None).await;
                }
            }
            Err(fault) => self.faulted(fault),
        }
    }

    /// How many sessions of this node, in whatever epoch, are still in slots that have moved away from it.
    async fn left_behind(&self) -> Result<usize, Fault> {
        if !self.leaving().is_empty() {
            // Those in the books are reason enough.
            return Ok(1);
        }
        let is_left = |record: &ownership::model::SessionRecord| {
            let me = self.me().node;
            !record.is_terminated()
                && record.owner().node == me
                && self.slot(record.id(), record.service()).is_some_and(|slot| self.has_left(slot))
        };
        let mut left = 0;
        self.all_sessions(|page| {
            left += page.iter().filter(|stored| is_left(&stored.record)).count();
        })
        .await?;
        let waiting = self.stores.directory.inbox(self.me().node, None, 1000).await?;
        Ok(left + waiting.iter().filter(|row| is_left(&row.session.record)).count())
    }

    /// Whether a slot has moved away from this node and may have sessions here.
    fn has_left(&self, slot: u16) -> bool {
        let slot = self.with_placement(|placement| placement.slots()[usize::from(slot)]);
        slot.is_some_and(|slot| slot.previous == Some(self.me().node))
    }

    /// The sessions here whose slot has moved away from this node.
    pub(super) fn leaving(&self) -> Vec<SessionId> {
        let all: Vec<(SessionId, u64)> = {
            let books = self.books();
            if !books.placing.placement().is_some_and(|placement| placement.leaves(self.me().node))
            {
                return Vec::new();
            }
            let live = books.sessions().filter(|(_, it)| !it.stored.record.is_terminated());
            live.map(|(session, it)| (*session, it.stored.record.service())).collect()
        };
        let slots: Vec<Option<u16>> = {
            let node = self.node();
            let slot = |(session, service): &(SessionId, u64)| {
                node.slot_of(self.settings.place(*service)?, &session.bytes())
            };
            all.iter().map(slot).collect()
        };
        let leaving =
            all.iter().zip(slots).filter(|(_, slot)| slot.is_some_and(|it| self.has_left(it)));
        leaving.map(|((session, _), _)| *session).collect()
    }

    /// Gives the slots of a node that is proven to be lost to the others.
    pub(super) async fn fail_over(&self, fences: &[FenceRow]) {
        for fence in fences.iter().filter(|fence| fence.admission == Admission::Fenced) {
            let owns = |placement: &Placement| {
                placement.slots().iter().any(|slot| slot.owner == Some(fence.node))
            };
            let Some(proof) = self.proof(fence.owner()) else { continue };
            if self.with_placement(owns) != Some(true) {
                continue;
            }
            let others = self.members(fences, |node| node != fence.node);
            let next = self.with_placement(|placement| {
                let next = placement.failed_over(&others, proof).ok()?;
                (next.slots() != placement.slots()).then_some(next)
            });
            if let Some(next) = next.flatten() {
                tracing::warn!(node = fence.name, "a lost node's slots go to the others");
                self.place(&next, Some(fence)).await;
            }
        }
    }

    /// Takes slots, if this node has none, accepts sessions and is to have some.
    pub(super) async fn join(&self, fences: &[FenceRow]) {
        let me = self.me().node;
        let mine = fences.iter().find(|fence| fence.node == me);
        let accepts = mine.is_some_and(|fence| fence.admission == Admission::Accepting);
        let has_weight = |member: &Member| member.index == me && member.weight > 0;
        let has_slots =
            |placement: &Placement| placement.slots().iter().any(|slot| slot.owner == Some(me));
        if !accepts
            || !self.settings.members().iter().any(has_weight)
            || self.with_placement(has_slots) != Some(false)
        {
            return;
        }
        let members = self.members(fences, |_| true);
        // Slots that are still moving stand in the way for a while.
        if let Some(Ok(next)) = self.with_placement(|placement| placement.next(&members)) {
            tracing::info!("this node takes its share of the slots");
            self.place(&next, None).await;
        }
    }

    /// Gives this node's slots away, if it is to take no more sessions.
    pub(super) async fn give_away(&self, fences: &[FenceRow]) {
        let me = self.me().node;
        let mine = fences.iter().find(|fence| fence.node == me);
        let is_draining = mine.is_some_and(|fence| fence.admission == Admission::Draining);
        let has_slots =
            |placement: &Placement| placement.slots().iter().any(|slot| slot.owner == Some(me));
        if !is_draining || self.with_placement(has_slots) != Some(true) {
            return;
        }
        let members = self.members(fences, |_| true);
        match self.with_placement(|placement| placement.next(&members)) {
            Some(Ok(next)) => {
                self.place(&next, None).await;
            }
            Some(Err(PlanError::NoMembers)) => {
                tracing::warn!("no other node accepts sessions: this one cannot be drained");
            }
            // Slots that are still moving stand in the way for a while.
            Some(Err(_)) | None => {}
        }
    }

    /// The nodes that take slots, and those that give theirs away: those of the configuration, but for those that
    /// are lost; and those that only the store knows.
    fn members(&self, fences: &[FenceRow], takes: impl Fn(NodeIndex) -> bool) -> Vec<Member> {
        let row = |node: NodeIndex| fences.iter().find(|fence| fence.node == node);
        let accepts =
            |node: NodeIndex| row(node).is_none_or(|fence| fence.admission == Admission::Accepting);
        let is_lost =
            |node: NodeIndex| row(node).is_some_and(|it| it.admission == Admission::Fenced);
        let members = self.settings.members();
        let configured = members.iter().map(|member| {
            let weight = if accepts(member.index) { member.weight } else { 0 };
            Member { weight, ..member.clone() }
        });
        let is_new = |fence: &&FenceRow| !members.iter().any(|member| member.index == fence.node);
        let others = fences.iter().filter(is_new).map(|fence| Member {
            index: fence.node,
            name: fence.name.clone(),
            weight: if fence.admission == Admission::Accepting { 100 } else { 0 },
        });
        configured
            .chain(others)
            .filter(|member| takes(member.index) && !is_lost(member.index))
            .collect()
    }
}
