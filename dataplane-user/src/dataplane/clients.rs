//! The one writer of the table that leads from clients to their sessions.

use super::{grace::grace_period, memory::Memory, sessions::InsertError};
use dataplane_ebpf::{
    binding::Seat,
    table::{Found, Location, WAYS, buckets},
    tables::{Lookup, Tables, lookup_in},
};
use std::collections::{HashMap, HashSet};

/// Inserts, changes and removes clients.
pub(super) struct ClientTable {
    bits: u8,
    entries: usize,
    /// For each bucket that overflows: how many of its keys lie elsewhere, in their second bucket
    /// and in the stash.
    overflows: HashMap<(u32, Level), u32>,
    /// Ways whose generations are used up and that could not be waited for.
    retired: HashSet<(u32, u8)>,
}

/// Which of a key's buckets other than the first.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Level {
    Second,
    Stash,
}

impl ClientTable {
    /// The writer of an empty table with `2^bits` primary buckets.
    pub(super) fn new(bits: u8) -> Self {
        Self { bits, entries: 0, overflows: HashMap::new(), retired: HashSet::new() }
    }

    /// Says where the session of a client is, be it new or known.
    pub(super) fn set(
        &mut self,
        memory: &Memory,
        hash: u64,
        seat: Seat,
    ) -> Result<(), InsertError> {
        if let Some((bucket, way)) = self.find(memory, hash) {
            memory.clients(bucket).expect("within the table").update(way, seat.pack());
            return Ok(());
        }
        let at = Location::of(hash, self.bits);
        if places(&at).any(|(_, bucket)| {
            let bucket = memory.clients(bucket).expect("within the table");
            !matches!(bucket.find(at.tag), Found::Miss { .. })
        }) {
            return Err(InsertError::Taken);
        }
        let Some((level, index, way)) = self.free_way(memory, &at) else {
            let capacity = (WAYS / 2) << self.bits;
            return Err(InsertError::Full { entries: self.entries, capacity });
        };
        self.count(memory, at.first, level, 1);
        let bucket = memory.clients(index).expect("within the table");
        if bucket.insert(way, at.tag, seat.pack()).wrapped
            && let Err(error) = grace_period()
        {
            tracing::error!(%error, "no grace period: a way of the table of clients is given up");
            self.retired.insert((index, way));
        }
        self.entries += 1;
        Ok(())
    }

    /// Forgets a client; nothing happens if it is not known.
    pub(super) fn remove(&mut self, memory: &Memory, hash: u64) {
        let Some((index, way)) = self.find(memory, hash) else {
            return;
        };
        memory.clients(index).expect("within the table").remove(way);
        let at = Location::of(hash, self.bits);
        let level = places(&at).find(|(_, bucket)| *bucket == index).and_then(|(level, _)| level);
        self.count(memory, at.first, level, -1);
        self.entries -= 1;
    }

    /// The writer of a table that another daemon wrote; no other writer may be left. It leads from
    /// the wanted keys to their seats then, and from no others.
    pub(super) fn recover(&mut self, memory: &Memory, wanted: &[(u64, Seat)]) {
        *self = Self::new(self.bits);
        let mut kept = HashSet::new();
        for &(hash, seat) in wanted {
            let found = lookup_in(|bucket| memory.clients(bucket), hash, self.bits);
            let Lookup::Hit { bits, detail, .. } = found else { continue };
            let place = (detail / WAYS as u32, (detail % WAYS as u32) as u8);
            if Seat::unpack(bits) == seat && kept.insert(place) {
                let at = Location::of(hash, self.bits);
                let level = places(&at).find(|(_, bucket)| *bucket == place.0);
                if let Some((Some(level), _)) = level {
                    *self.overflows.entry((at.first, level)).or_insert(0) += 1;
                }
                self.entries += 1;
            }
        }
        let mut used_up = HashSet::new();
        for index in 0..buckets(self.bits) {
            let bucket = memory.clients(index).expect("within the table");
            for way in 0..WAYS as u8 {
                if bucket.next_generation(way) == 0 {
                    used_up.insert((index, way));
                }
                if !bucket.is_free(way) && !kept.contains(&(index, way)) {
                    bucket.remove(way);
                }
            }
            let elsewhere = |level| self.overflows.contains_key(&(index, level));
            let flags = [elsewhere(Level::Second), elsewhere(Level::Stash)];
            let found = bucket.overflows();
            if found[0] != flags[0] {
                bucket.set_second(flags[0]);
            }
            if found[1] != flags[1] {
                bucket.set_stash(flags[1]);
            }
        }
        // Whoever filled such a way may not have come to wait for its readers.
        if !used_up.is_empty()
            && let Err(error) = grace_period()
        {
            tracing::error!(%error, "no grace period: ways of the table of clients are given up");
            self.retired = used_up;
        }
        for &(hash, seat) in wanted {
            // One of several sessions of a client is there already.
            if self.find(memory, hash).is_none()
                && let Err(error) = self.set(memory, hash, seat)
            {
                tracing::error!(%error, "replies to a client are dropped until it is bound anew");
            }
        }
    }

    fn find(&self, memory: &Memory, hash: u64) -> Option<(u32, u8)> {
        match lookup_in(|bucket| memory.clients(bucket), hash, self.bits) {
            Lookup::Hit { detail, .. } => {
                Some((detail / WAYS as u32, (detail % WAYS as u32) as u8))
            }
            Lookup::Torn | Lookup::Miss => None,
        }
    }

    fn free_way(&self, memory: &Memory, at: &Location) -> Option<(Option<Level>, u32, u8)> {
        places(at).find_map(|(level, index)| {
            let bucket = memory.clients(index).expect("within the table");
            let way = bucket.free_ways().find(|way| !self.retired.contains(&(index, *way)))?;
            Some((level, index, way))
        })
    }

    /// Counts a key of a first bucket in or out elsewhere, and keeps the bucket's flags right.
    fn count(&mut self, memory: &Memory, first: u32, level: Option<Level>, change: i32) {
        let Some(level) = level else {
            return;
        };
        let count = self.overflows.entry((first, level)).or_insert(0);
        *count = count.checked_add_signed(change).expect("counted when it was inserted");
        let elsewhere = *count > 0;
        if !elsewhere {
            self.overflows.remove(&(first, level));
        }
        let bucket = memory.clients(first).expect("within the table");
        match level {
            Level::Second => bucket.set_second(elsewhere),
            Level::Stash => bucket.set_stash(elsewhere),
        }
    }
}

/// A key's buckets in the order in which they are filled.
fn places(at: &Location) -> impl Iterator<Item = (Option<Level>, u32)> {
    let [stash, other] = at.stash_pair();
    [
        (None, at.first),
        (Some(Level::Second), at.second),
        (Some(Level::Stash), stash),
        (Some(Level::Stash), other),
    ]
    .into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// The smallest table: 16 buckets and 4 of stash.
    const BITS: u8 = 4;

    /// Hashes of which many share their first bucket.
    fn crowded(number: u64) -> u64 {
        let tag = (number + 1).wrapping_mul(0x2545_f491_4f6c_dd1d) & ((1 << 47) - 1);
        [3, 4, 11][number as usize % 3] << (64 - BITS) | tag
    }

    fn seat(number: u64) -> Seat {
        Seat { detail: number as u32 * 7, generation: number as u16 }
    }

    fn found(memory: &Memory, hash: u64) -> Option<Seat> {
        match lookup_in(|bucket| memory.clients(bucket), hash, BITS) {
            Lookup::Hit { bits, .. } => Some(Seat::unpack(bits)),
            Lookup::Torn | Lookup::Miss => None,
        }
    }

    fn check(memory: &Memory, expected: &BTreeMap<u64, Seat>) {
        for number in 0..40 {
            let hash = crowded(number);
            assert_eq!(found(memory, hash), expected.get(&hash).copied(), "{number}");
        }
    }

    #[test]
    fn what_is_set_is_found_until_it_is_removed_and_leaves_no_flag_behind() {
        let memory = Memory::anonymous(BITS).unwrap();
        let mut table = ClientTable::new(BITS);
        let mut expected = BTreeMap::new();
        for round in 0..4 {
            for number in 0..24 {
                let (hash, seat) = (crowded(number), seat(number + round));
                table.set(&memory, hash, seat).unwrap();
                expected.insert(hash, seat);
                check(&memory, &expected);
            }
            assert_eq!(table.entries, 24);
            assert!(!table.overflows.is_empty(), "three buckets do not hold 24");
            for number in (0..24).rev() {
                table.remove(&memory, crowded(number));
                expected.remove(&crowded(number));
                check(&memory, &expected);
            }
            table.remove(&memory, crowded(0));
            let flags = (0..buckets(BITS)).map(|index| memory.clients(index).unwrap().overflows());
            assert!(table.entries == 0 && flags.into_iter().all(|flags| flags == [false; 2]));
        }
    }

    #[test]
    fn a_table_that_another_daemon_has_left_is_put_right() {
        let memory = Memory::anonymous(BITS).unwrap();
        let mut table = ClientTable::new(BITS);
        for number in 0..24 {
            table.set(&memory, crowded(number), seat(number)).unwrap();
        }
        // Killed in the middle: flags are wrong, some clients are others' by now, some are missing.
        for index in 0..1 << BITS {
            memory.clients(index).unwrap().set_second(index % 2 == 0);
        }
        let wanted: Vec<_> = (6..30)
            .map(|number| (crowded(number), seat(if number < 12 { number + 100 } else { number })))
            .collect();
        let mut next = ClientTable::new(BITS);
        next.recover(&memory, &wanted);
        let mut expected: BTreeMap<u64, Seat> = wanted.into_iter().collect();
        check(&memory, &expected);
        assert_eq!(next.entries, 24);
        for number in 6..30 {
            next.remove(&memory, crowded(number));
            expected.remove(&crowded(number));
            check(&memory, &expected);
        }
        assert!(next.entries == 0 && next.overflows.is_empty());
    }

    #[test]
    fn a_client_with_two_sessions_keeps_the_one_that_the_table_leads_to() {
        let memory = Memory::anonymous(BITS).unwrap();
        let mut table = ClientTable::new(BITS);
        table.set(&memory, crowded(1), seat(2)).unwrap();
        let wanted = [seat(1), seat(2), seat(3)].map(|seat| (crowded(1), seat));
        table.recover(&memory, &wanted);
        assert_eq!((found(&memory, crowded(1)), table.entries), (Some(seat(2)), 1));
        table.remove(&memory, crowded(1));
        table.recover(&memory, &wanted);
        assert_eq!((found(&memory, crowded(1)), table.entries), (Some(seat(1)), 1));
    }
}
