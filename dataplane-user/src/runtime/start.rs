//! How a node begins: what an earlier daemon of the same epoch has left is put in order, and the kernel with it.

use super::{
    AGAIN, Carried, Runtime, Turn,
    inbox::is_handed_off,
    pages::{PAGE, pages},
};
use ownership::{
    SessionId,
    baggage::Baggage,
    lease::is_unsettled,
    model::Hold,
    store::{Directory, Fault, InboxRow, PlacementRow, Sessions, StoredSession},
    takeover::Knowledge,
    transfer::{Arrived, Decided, GiveUp, Inherited},
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

/// How long a node that begins waits for the others to know of the placement.
const PATIENCE: Duration = Duration::from_secs(2);

impl Runtime {
    /// Applies the placement that stands when the node begins, and what follows from it.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn begin(&self, placement: &PlacementRow) -> Result<(), Fault> {
        self.follow_off_home().await?;
        self.copy_placement(placement).await?;
        self.apply(placement);
        Ok(())
    }

    /// Takes over the sessions of an earlier daemon of this epoch. When this is done, each of them goes on here,
    /// has gone on elsewhere, or is over.
    ///
    /// # Errors
    ///
    /// If the store does not answer.
    pub async fn resume(self: &Arc<Self>) -> Result<(), Fault> {
        self.read_all_baggage().await?;
        let mut waiting: HashMap<SessionId, InboxRow> = HashMap::new();
        let id = |row: &InboxRow| row.session.record.id();
        let is_mine = |row: &InboxRow| row.session.record.owner() == self.me();
        let read = |after| self.stores.directory.inbox(self.me().node, after, PAGE);
        let each = |page: Vec<InboxRow>| {
            waiting.extend(page.into_iter().filter(is_mine).map(|row| (id(&row), row)));
        };
        pages(read, id, each).await?;
        let mut unsettled: Vec<StoredSession> = Vec::new();
        let mut here: HashSet<SessionId> = self.node().session_ids().into_iter().collect();
        // *Sticky*: what waits in the inbox is in nobody's own store yet.
        here.retain(|session| !waiting.contains_key(session));
        let held = self.node().held_ids();
        self.books().stopped.extend(held);
        self.all_sessions(|page| {
            for stored in page {
                let record = &stored.record;
                here.remove(&record.id());
                if is_unsettled(record, self.me()) {
                    unsettled.push(*stored);
                } else if record.owner() == self.me() && !record.is_terminated() {
                    self.enter(stored);
                    self.own(stored, Knowledge::Read);
                } else {
                    // It was handed over or has ended, and that daemon did not come to telling its kernel.
                    self.publish(stored);
                }
            }
        })
        .await?;
        for session in here {
            tracing::warn!(%session, "the tables have a session that the store does not have");
            self.node().leave(session);
        }
        for stored in unsettled {
            let session = stored.record.id();
            if !waiting.contains_key(&session) {
                self.settle(stored).await;
            }
        }
        for row in waiting.into_values() {
            if let Some(arrived) = Arrived::new(row, self.by) {
                self.arrive(arrived).await;
            }
        }
        Ok(())
    }

    /// A session of this node that the tables may not have, or not as it is.
    fn enter(&self, stored: &StoredSession) {
        let record = &stored.record;
        let session = record.id();
        let baggage = self.books().baggage(session);
        let baggage = baggage.map(|row| row.baggage.clone()).unwrap_or_default();
        let mut node = self.node();
        let known = node.session_of(session).map(|known| known.wire_ids.clone());
        match known {
            Ok(known) => {
                let wanted: Vec<&[u8]> = baggage.wire_ids().iter().map(|id| id.bytes()).collect();
                for gone in known.iter().skip(1).filter(|id| !wanted.contains(&id.as_slice())) {
                    node.leave_wire_id(session, gone);
                }
                for new in wanted.iter().filter(|id| !known.iter().any(|known| known == *id)) {
                    if let Err(error) = node.enter_wire_id(session, new) {
                        tracing::error!(%session, %error, "a wire id of a session has no place");
                    }
                }
            }
            Err(_) => {
                drop(node);
                let Some(entering) = self.entering(record, &baggage, false) else { return };
                if let Err(error) = self.node().enter(&entering) {
                    tracing::error!(%session, %error, "a session has no place here");
                }
            }
        }
    }

    async fn read_all_baggage(&self) -> Result<(), Fault> {
        let read = |after| self.stores.sessions.all_baggage(after, PAGE);
        let each = |page| {
            let mut books = self.books();
            for row in page {
                books.carry(row);
            }
        };
        pages(read, |row| row.session, each).await
    }

    /// Puts in order a session that an earlier daemon left frozen, or handed here.
    async fn settle(self: &Arc<Self>, stored: StoredSession) {
        let session = stored.record.id();
        self.enter(&stored);
        self.hold(session);
        self.own(&stored, Knowledge::Read);
        if is_handed_off(&stored.record) {
            let baggage = self.books().baggage(session);
            let baggage = baggage.map_or_else(Baggage::default, |row| row.baggage.clone());
            self.grant(&stored, &baggage).await;
        }
        self.put_in_order(session).await;
    }

    /// A session that was found frozen: its move is given up, or turns out to be done.
    pub(super) async fn inherit<W: Carried>(
        self: &Arc<Self>,
        turn: &Turn,
        mut stored: StoredSession,
    ) {
        let session = stored.record.id();
        loop {
            let Some(inherited) = Inherited::new(&stored, self.by) else {
                // It turned out not to be frozen.
                if stored.record.owner() == self.me() {
                    self.own(&stored, Knowledge::Read);
                } else {
                    self.disown(&stored);
                }
                return;
            };
            let row = self.read(|| W::look(self, stored)).await;
            let decided = match W::earlier(&inherited, row) {
                Some(decided) => decided,
                None => {
                    let context = self.context(stored.record.service());
                    match inherited.give_up::<W>(GiveUp::Abort, &context) {
                        Ok(undecided) => self.decide(undecided).await,
                        Err(why) => {
                            return tracing::error!(%session, %why, "a move cannot be given up");
                        }
                    }
                }
            };
            match decided {
                Decided::LookAnew | Decided::NotYet(..) => {
                    tokio::time::sleep(AGAIN).await;
                    let stands = self.read(|| self.stores.sessions.get(session)).await;
                    if let Some(stands) = stands {
                        debug_assert!(
                            !matches!(stands.record.hold(), Hold::HandedOff { .. })
                                || stands.record.owner() != self.me()
                        );
                        stored = stands;
                    }
                }
                decided => {
                    self.decided(turn, decided, false).await;
                    return;
                }
            }
        }
    }

    /// Waits until this node may mint ids in its slots, or for long enough: the others may take their time.
    pub async fn settle_placement(self: &Arc<Self>) {
        let end = tokio::time::Instant::now() + PATIENCE;
        while tokio::time::Instant::now() < end {
            if self.look().await.is_ok() && self.is_settled() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tracing::warn!(
            "other nodes have not applied the placement yet: ids are minted once they have"
        );
    }

    /// Whether this node may mint ids in all of its slots.
    fn is_settled(&self) -> bool {
        let books = self.books();
        let Some(applied) = &books.placing.applied else { return false };
        let me = self.me().node;
        applied.placement().slots_of(me).all(|slot| applied.may_mint(slot))
    }
}
