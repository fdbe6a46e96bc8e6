//! The one writer of the session table.

use super::{grace::grace_period, memory::Memory};
use dataplane_ebpf::{
    binding::Binding,
    local::EPOCH_MAX,
    slot::SlotWord,
    table::{Entry, Found, Location, WAYS},
    tables::{Lookup, Tables, lookup},
    wire_id::Key,
    wire_id_row::Registered,
    word::Word,
};
use std::collections::{HashMap, HashSet};
use thiserror::Error;

/// Why a key was not put into the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InsertError {
    /// Another wire id has the same key.
    #[error("a wire id with the same key is registered already; draw another id")]
    Taken,
    /// No room.
    #[error(
        "the session table has no room for this id ({entries} of {capacity} in use); \
         raise sessions.capacity or close sessions"
    )]
    Full {
        /// Keys in the table.
        entries: usize,
        /// Keys it is made for.
        capacity: usize,
    },
}

/// Keys that are fetched ahead when many are published: enough to cover memory latency.
const AHEAD: usize = 16;

/// Inserts, changes and removes entries, and keeps the books that let it clear flags again.
pub struct SessionTable {
    pub(super) bits: u8,
    pub(super) entries: usize,
    /// How many entries each slot has.
    pub(super) rows: Box<[u32]>,
    /// For each bucket that overflows: how many of its keys lie in their second bucket.
    pub(super) second: HashMap<u32, u32>,
    /// The same for the stash.
    pub(super) stash: HashMap<u32, u32>,
    /// Ways whose generations are used up and that could not be waited for.
    pub(super) retired: HashSet<u32>,
}

/// Which of a key's buckets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    First,
    Second,
    Stash,
}

impl Level {
    /// Which of a key's buckets this one is, if any.
    pub(super) fn of(at: &Location, bucket: u32) -> Option<Self> {
        match bucket {
            bucket if bucket == at.first => Some(Self::First),
            bucket if bucket == at.second => Some(Self::Second),
            bucket if at.stash_pair().contains(&bucket) => Some(Self::Stash),
            _ => None,
        }
    }
}

impl SessionTable {
    /// The writer of an empty table with `2^bits` primary buckets.
    pub fn new(bits: u8) -> Self {
        let rows = vec![0; dataplane_ebpf::slot::SLOTS].into_boxed_slice();
        Self {
            bits,
            entries: 0,
            rows,
            second: HashMap::new(),
            stash: HashMap::new(),
            retired: HashSet::new(),
        }
    }

    /// How many keys the table holds.
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Whether the table is empty.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// How many keys the table is made for: a load of one half.
    pub fn capacity(&self) -> usize {
        (WAYS / 2) << self.bits
    }

    /// The entry of a key and the session's state_version.
    pub fn get(&self, memory: &Memory, key: Key) -> Option<(Entry, u64)> {
        match lookup(memory, key.hash, self.bits) {
            Lookup::Hit { bits, detail, generation } => {
                Some((Entry::unpack(bits)?, memory.detail(detail)?.version(generation)?))
            }
            Lookup::Torn | Lookup::Miss => None,
        }
    }

    /// Adds a key. `version` is the session's state_version; 0 if it has none yet.
    ///
    /// A daemon that takes over the table removes what was not [registered](Self::register).
    pub fn insert(
        &mut self,
        memory: &Memory,
        key: Key,
        entry: Entry,
        version: u64,
    ) -> Result<(), InsertError> {
        self.put(memory, key, entry, version, None)
    }

    /// Adds the key of a wire id, and keeps for a successor of this daemon what it must know of it.
    pub fn register(
        &mut self,
        memory: &Memory,
        key: Key,
        entry: Entry,
        version: u64,
        registered: &Registered,
    ) -> Result<(), InsertError> {
        self.put(memory, key, entry, version, Some(registered))
    }

    /// Whether a key could be added.
    ///
    /// # Errors
    ///
    /// If not.
    pub fn check_room(&self, memory: &Memory, key: Key) -> Result<(), InsertError> {
        if self.entries >= self.capacity() {
            return Err(self.full());
        }
        let at = Location::of(key.hash, self.bits);
        if is_taken(memory, &at) {
            return Err(InsertError::Taken);
        }
        self.free_way(memory, &at).map(drop).ok_or_else(|| self.full())
    }

    fn put(
        &mut self,
        memory: &Memory,
        key: Key,
        entry: Entry,
        version: u64,
        registered: Option<&Registered>,
    ) -> Result<(), InsertError> {
        debug_assert!((1..=EPOCH_MAX).contains(&entry.epoch), "epoch {}", entry.epoch);
        if self.entries >= self.capacity() {
            return Err(self.full());
        }
        let at = Location::of(key.hash, self.bits);
        if is_taken(memory, &at) {
            return Err(InsertError::Taken);
        }
        let Some((level, index, way)) = self.free_way(memory, &at) else {
            return Err(self.full());
        };
        self.count_row(memory, key.slot);
        self.count_overflow(memory, at.first, level);
        let bucket = memory.bucket(index).expect("within the table");
        let generation = bucket.next_generation(way);
        let detail = index * WAYS as u32 + way as u32;
        memory.detail(detail).expect("within the table").set_version(version, generation);
        if let Some(registered) = registered {
            memory.wire_ids.get(detail as usize).expect("within the table").set(registered);
        }
        if let Some(row) = memory.binding(detail) {
            // The first change of its generation: no number is used up.
            let _ = row.set(Binding::NONE, generation);
        }
        if bucket.insert(way, at.tag, entry.pack()).wrapped {
            // A reader might hold this way's words from 65,536 inserts ago.
            if let Err(error) = grace_period() {
                tracing::error!(%error, "no grace period: a way of the session table is given up");
                self.retired.insert(detail);
            }
        }
        self.entries += 1;
        Ok(())
    }

    /// Adds many keys; fetches memory ahead, which makes it several times as fast as one by one.
    ///
    /// Stops at the first that cannot be added; what came before it stays.
    pub fn publish(
        &mut self,
        memory: &Memory,
        sessions: &[(Key, Entry, u64)],
    ) -> Result<(), (usize, InsertError)> {
        for (index, &(key, entry, version)) in sessions.iter().enumerate() {
            if let Some((ahead, ..)) = sessions.get(index + AHEAD) {
                let at = Location::of(ahead.hash, self.bits);
                memory.sessions.prefetch(at.first as usize);
                memory.sessions.prefetch(at.second as usize);
                memory.sessions.prefetch(at.stash as usize);
                let ways = at.first as usize * WAYS;
                memory.details.prefetch(ways);
                // Two lines hold the bindings of a bucket.
                memory.bindings.prefetch(ways);
                memory.bindings.prefetch(ways + WAYS / 2);
            }
            self.insert(memory, key, entry, version).map_err(|error| (index, error))?;
        }
        Ok(())
    }

    /// Changes a key's entry and version; `false` if the key is not there.
    ///
    /// Each changes in one store. A reader sees either whole, though it may see one of them before
    /// the change and the other after it; whoever compares versions then refuses the packet.
    pub fn update(&mut self, memory: &Memory, key: Key, entry: Entry, version: u64) -> bool {
        let Some((_, index, way)) = self.find(memory, key) else {
            return false;
        };
        let bucket = memory.bucket(index).expect("within the table");
        let row = memory.detail(index * WAYS as u32 + way as u32).expect("within the table");
        if !row.can_replace(version) {
            // Once in 2^48 versions: a counted miss instead of a version made of two halves.
            let detail = (index * WAYS as u32 + way as u32) as usize;
            let registered = memory.wire_ids.get(detail).expect("within the table").get();
            return self.remove(memory, key)
                && self.put(memory, key, entry, version, registered.as_ref()).is_ok();
        }
        let (_, _, generation) = bucket.occupied(way).expect("just found");
        row.set_version(version, generation);
        bucket.update(way, entry.pack());
        true
    }

    /// What a successor of this daemon is told of a key; `None` if it is told nothing of it.
    pub fn registered(&self, memory: &Memory, key: Key) -> Option<Registered> {
        let (_, index, way) = self.find(memory, key)?;
        memory.wire_ids.get(index as usize * WAYS + way as usize)?.get()
    }

    /// Changes a key's entry and version as [`update`](Self::update) does, and what a successor is
    /// told of it.
    pub fn update_registered(
        &mut self,
        memory: &Memory,
        key: Key,
        entry: Entry,
        version: u64,
        registered: Option<&Registered>,
    ) -> bool {
        let Some((_, index, way)) = self.find(memory, key) else {
            return false;
        };
        let detail = index as usize * WAYS + way as usize;
        let row = memory.wire_ids.get(detail).expect("within the table");
        match registered {
            Some(registered) => row.set(registered),
            None => row.clear(),
        }
        self.update(memory, key, entry, version)
    }

    /// Removes a key; `false` if it is not there.
    pub fn remove(&mut self, memory: &Memory, key: Key) -> bool {
        let Some((level, index, way)) = self.find(memory, key) else {
            return false;
        };
        memory.bucket(index).expect("within the table").remove(way);
        let detail = (index * WAYS as u32 + way as u32) as usize;
        memory.wire_ids.get(detail).expect("within the table").clear();
        let first = Location::of(key.hash, self.bits).first;
        self.uncount_overflow(memory, first, level);
        self.uncount_row(memory, key.slot);
        self.entries -= 1;
        true
    }

    fn find(&self, memory: &Memory, key: Key) -> Option<(Level, u32, u8)> {
        let Lookup::Hit { detail, .. } = lookup(memory, key.hash, self.bits) else {
            return None;
        };
        let (index, way) = (detail / WAYS as u32, (detail % WAYS as u32) as u8);
        Some((Level::of(&Location::of(key.hash, self.bits), index)?, index, way))
    }

    fn free_way(&self, memory: &Memory, at: &Location) -> Option<(Level, u32, u8)> {
        let [stash, other] = at.stash_pair();
        let levels = [
            (Level::First, at.first),
            (Level::Second, at.second),
            (Level::Stash, stash),
            (Level::Stash, other),
        ];
        levels.into_iter().find_map(|(level, index)| {
            let bucket = memory.bucket(index).expect("within the table");
            let retired = |way: &u8| self.retired.contains(&(index * WAYS as u32 + *way as u32));
            let way = bucket.free_ways().find(|way| self.retired.is_empty() || !retired(way))?;
            Some((level, index, way))
        })
    }

    fn full(&self) -> InsertError {
        InsertError::Full { entries: self.entries, capacity: self.capacity() }
    }

    /// Tells readers of the slot to ask the table, before its first row is there.
    fn count_row(&mut self, memory: &Memory, slot: u16) {
        let rows = &mut self.rows[slot as usize];
        *rows += 1;
        if *rows == 1 {
            set_rows(memory, slot, true);
        }
    }

    fn uncount_row(&mut self, memory: &Memory, slot: u16) {
        let rows = &mut self.rows[slot as usize];
        *rows -= 1;
        if *rows == 0 {
            set_rows(memory, slot, false);
        }
    }

    fn count_overflow(&mut self, memory: &Memory, first: u32, level: Level) {
        let Some(counts) = self.overflow(level) else {
            return;
        };
        let count = counts.entry(first).or_insert(0);
        *count += 1;
        if *count == 1 {
            set_flag(memory, first, level, true);
        }
    }

    fn uncount_overflow(&mut self, memory: &Memory, first: u32, level: Level) {
        let Some(counts) = self.overflow(level) else {
            return;
        };
        let count = counts.get_mut(&first).expect("counted when it was inserted");
        *count -= 1;
        if *count == 0 {
            counts.remove(&first);
            set_flag(memory, first, level, false);
        }
    }

    pub(super) fn overflow(&mut self, level: Level) -> Option<&mut HashMap<u32, u32>> {
        match level {
            Level::First => None,
            Level::Second => Some(&mut self.second),
            Level::Stash => Some(&mut self.stash),
        }
    }
}

/// Whether a key lies in any bucket of this location, whatever the flags say: keys that share a
/// location must not both be in the table, as a reader could not tell them apart.
fn is_taken(memory: &Memory, at: &Location) -> bool {
    let [stash, other] = at.stash_pair();
    [at.first, at.second, stash, other].into_iter().any(|index| {
        let bucket = memory.bucket(index).expect("within the table");
        !matches!(bucket.find(at.tag), Found::Miss { .. })
    })
}

fn set_flag(memory: &Memory, first: u32, level: Level, on: bool) {
    let bucket = memory.bucket(first).expect("within the table");
    match level {
        Level::First => {}
        Level::Second => bucket.set_second(on),
        Level::Stash => bucket.set_stash(on),
    }
}

pub(super) fn set_rows(memory: &Memory, slot: u16, rows: bool) {
    let word = memory.slots.get(slot as usize).expect("every slot has a word");
    word.store(SlotWord::from_bits(word.load()).with_rows(rows).bits());
}
