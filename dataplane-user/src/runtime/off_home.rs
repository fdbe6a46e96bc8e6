//! Ids whose owner is not their slot's: the rows of the directory, and what follows from them in the kernel.

use super::{
    Runtime,
    books::Left,
    pages::{PAGE, pages},
};
use ownership::{
    SessionId,
    store::{Directory, DirectoryWrite, Fault, OffHomeKey, OffHomeRow, Store},
};
use std::collections::HashMap;

impl Runtime {
    /// Reads all off-home rows, and publishes what has changed.
    pub(super) async fn follow_off_home(&self) -> Result<(), Fault> {
        let mut rows = HashMap::new();
        let read = |after| self.stores.directory.off_home(0, u16::MAX, after, PAGE);
        let each = |page: Vec<OffHomeRow>| {
            rows.extend(page.into_iter().map(|row| (row.key.clone(), row)));
        };
        pages(read, |row| row.key.clone(), each).await?;
        let me = self.me().node;
        // What is known stays known until all that follows is done.
        let (new, gone): (Vec<_>, Vec<_>) = {
            let books = self.books();
            let before = &books.placing.off_home;
            let is_new =
                |row: &&OffHomeRow| row.owner.node != me && before.get(&row.key) != Some(row);
            let is_gone = |row: &&OffHomeRow| !rows.contains_key(&row.key);
            let new = rows.values().filter(is_new).cloned().collect();
            (new, before.values().filter(is_gone).cloned().collect())
        };
        for row in new {
            if let Some((service, bytes)) = self.off_home_id(&row.key) {
                self.node().redirect(service, bytes, row.owner.node, row.version.get());
            }
        }
        for row in gone {
            let Some((service, bytes)) = self.off_home_id(&row.key) else { continue };
            // It may be on its way home: then its packets go on to where it was until it is here.
            if self.stores.directory.inbox_of(me, row.session).await?.is_none() {
                self.node().forget_redirect(service, bytes);
            }
        }
        self.books().placing.off_home = rows;
        Ok(())
    }

    /// Forgets the rows that lead to where the placement leads anyway.
    pub(super) fn forget_left(&self) {
        let left: Vec<_> = {
            let books = self.books();
            if books.left.is_empty() {
                return;
            }
            books.left.iter().map(|(session, left)| (*session, left.clone())).collect()
        };
        let mut node = self.node();
        let mut gone = Vec::new();
        for (session, Left { service, ids, to }) in left {
            let leads_there = |id: &Vec<u8>| {
                node.slot_of(service, id).and_then(|slot| self.owner_of_slot(slot)) == Some(to)
            };
            if node.is_held(session) || !ids.iter().all(leads_there) {
                continue;
            }
            for id in &ids {
                node.forget_redirect(service, id);
            }
            gone.push(session);
        }
        drop(node);
        let mut books = self.books();
        for session in gone {
            books.left.remove(&session);
        }
    }

    /// The service's place in the configuration, and the id in packets.
    fn off_home_id<'k>(&self, key: &'k OffHomeKey) -> Option<(usize, &'k [u8])> {
        let (service, bytes) = key.id.bytes().split_first_chunk::<8>()?;
        Some((self.settings.place(u64::from_be_bytes(*service))?, bytes))
    }

    /// Sends packets with an id of this node's session, which lies in another node's slot, here.
    ///
    /// # Errors
    ///
    /// With the session that has it, if it is another one.
    pub(super) async fn put_off_home(&self, row: OffHomeRow) -> Result<(), Option<SessionId>> {
        let session = row.session;
        let key = row.key.clone();
        loop {
            let outcome =
                self.stores.directory.write(DirectoryWrite::off_home(row.clone(), self.by)).await;
            if outcome.is_won() {
                return Ok(());
            }
            let stands = self.read(|| self.off_home_row(&key)).await;
            match stands {
                Some(stands) if stands.session == session => return Ok(()),
                Some(stands) => return Err(Some(stands.session)),
                None => tokio::time::sleep(super::AGAIN).await,
            }
        }
    }

    async fn off_home_row(&self, key: &OffHomeKey) -> Result<Option<OffHomeRow>, Fault> {
        let rows = self.stores.directory.off_home(key.slot, key.slot, None, PAGE).await?;
        Ok(rows.into_iter().find(|row| row.key == *key))
    }

    /// Forgets the off-home rows of these ids of a session that is over.
    pub(super) async fn forget_off_home(&self, session: SessionId, keys: Vec<OffHomeKey>) {
        for key in keys {
            let is_home = self.owner_of_slot(key.slot) == Some(self.me().node);
            let is_known = self.books().placing.off_home.contains_key(&key);
            if is_home && !is_known {
                continue;
            }
            let row = self.read(|| self.off_home_row(&key)).await;
            if let Some(row) = row.filter(|row| row.session == session) {
                self.tidy(DirectoryWrite::at_home(&row, self.by)).await;
            }
        }
    }
}
