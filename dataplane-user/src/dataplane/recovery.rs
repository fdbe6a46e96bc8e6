//! The session table as another daemon left it, which may have been killed at any moment.

use super::{
    grace::grace_period,
    memory::Memory,
    sessions::{Level, SessionTable, set_rows},
};
use dataplane_ebpf::{
    table::{Entry, Location, WAYS, buckets},
    tables::Tables,
    wire_id::Key,
    wire_id_row::Registered,
};

/// An entry of the table, and the wire id behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its key.
    pub key: Key,
    /// What the programs read.
    pub entry: Entry,
    /// The session's state_version.
    pub version: u64,
    /// What was registered for it.
    pub registered: Registered,
}

impl SessionTable {
    /// The writer of a table of `2^bits` primary buckets that another daemon wrote; no other writer
    /// may be left. Packets may be looking things up meanwhile.
    ///
    /// `key` tells a wire id's key, `keep` whether an entry is right. What `keep` does not want, and
    /// entries whose wire id is not known, are removed. The second result is their number.
    pub fn recover(
        memory: &Memory,
        bits: u8,
        key: impl Fn(&Registered) -> Option<Key>,
        mut keep: impl FnMut(&Known) -> bool,
    ) -> (Self, usize) {
        let mut table = Self::new(bits);
        let mut removed = 0;
        let mut used_up = Vec::new();
        for index in 0..buckets(bits) {
            let bucket = memory.bucket(index).expect("within the table");
            for way in 0..WAYS as u8 {
                let detail = index * WAYS as u32 + way as u32;
                let row = memory.wire_ids.get(detail as usize).expect("within the table");
                if bucket.next_generation(way) == 0 {
                    used_up.push(detail);
                }
                let found = table.known(memory, index, way, &key);
                match found.filter(|(known, _, _)| keep(known)) {
                    Some((known, first, level)) => table.count(&known, first, level),
                    None if bucket.is_free(way) => row.clear(),
                    None => {
                        bucket.remove(way);
                        row.clear();
                        removed += 1;
                    }
                }
            }
        }
        table.mend_flags(memory);
        // Whoever filled such a way may not have come to wait for its readers.
        if !used_up.is_empty()
            && let Err(error) = grace_period()
        {
            tracing::error!(%error, "no grace period: ways of the session table are given up");
            table.retired.extend(used_up);
        }
        (table, removed)
    }

    /// What lies in a way, the first bucket of its key, and which of the key's buckets it is in.
    fn known(
        &self,
        memory: &Memory,
        index: u32,
        way: u8,
        key: impl Fn(&Registered) -> Option<Key>,
    ) -> Option<(Known, u32, Level)> {
        let (tag, bits, generation) = memory.bucket(index)?.occupied(way)?;
        let detail = index * WAYS as u32 + way as u32;
        let registered = memory.wire_ids.get(detail as usize)?.get()?;
        let key = key(&registered)?;
        let at = Location::of(key.hash, self.bits);
        let level = Level::of(&at, index).filter(|_| at.tag == tag)?;
        let entry = Entry::unpack(bits)?;
        let version = memory.detail(detail)?.version(generation)?;
        Some((Known { key, entry, version, registered }, at.first, level))
    }

    fn count(&mut self, known: &Known, first: u32, level: Level) {
        self.entries += 1;
        self.rows[known.key.slot as usize] += 1;
        if let Some(counts) = self.overflow(level) {
            *counts.entry(first).or_insert(0) += 1;
        }
    }

    /// Makes all flags say what is counted.
    fn mend_flags(&self, memory: &Memory) {
        for first in 0..1 << self.bits {
            let bucket = memory.bucket(first).expect("within the table");
            let wanted = [self.second.contains_key(&first), self.stash.contains_key(&first)];
            let found = bucket.overflows();
            if found[0] != wanted[0] {
                bucket.set_second(wanted[0]);
            }
            if found[1] != wanted[1] {
                bucket.set_stash(wanted[1]);
            }
        }
        for (slot, &rows) in self.rows.iter().enumerate() {
            let (slot, wanted) = (slot as u16, rows > 0);
            if memory.slot(slot).is_some_and(|word| word.has_rows() != wanted) {
                set_rows(memory, slot, wanted);
            }
        }
    }
}
