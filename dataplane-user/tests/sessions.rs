//! The session table's writer against a plain map: what is in the table is what was put there,
//! whatever overflows, and nothing is left behind.

use dataplane_ebpf::{
    slot::SlotWord,
    table::{Bucket, Entry, Found, Location, Place, WAYS, buckets},
    tables::Tables,
    wire_id::{Key, WireId},
    word::{MapWord, Word},
};
use dataplane_user::dataplane::{
    memory::Memory,
    sessions::{InsertError, SessionTable},
};
use proptest::{collection::vec, prelude::*, test_runner::RngSeed};
use std::collections::{HashMap, HashSet};

/// The smallest table: 16 buckets and 4 of stash.
const BITS: u8 = 4;

/// The same cases in every run, or those that `PROPTEST_RNG_SEED` chooses.
fn config(cases: u32) -> ProptestConfig {
    let mut config = ProptestConfig { cases, failure_persistence: None, ..Default::default() };
    if matches!(config.rng_seed, RngSeed::Random) {
        config.rng_seed = RngSeed::Fixed(0x6a75_6d70);
    }
    config
}

/// Keys of which many share their buckets: their first buckets are three, their slots four.
fn crowded(number: u8) -> Key {
    let tag = (number as u64 + 1).wrapping_mul(0x2545_f491_4f6c_dd1d) & ((1 << 47) - 1);
    let first = [3, 4, 11][number as usize % 3];
    Key { hash: first << (64 - BITS) | tag, slot: number as u16 % 4 }
}

#[derive(Clone, Debug)]
enum Operation {
    Insert(u8, Entry, u64),
    Update(u8, Entry, u64),
    Remove(u8),
    Publish(Vec<(u8, Entry, u64)>),
}

fn operation() -> impl Strategy<Value = Operation> {
    let place = prop_oneof![
        any::<u16>().prop_map(|cpu| Place::Local { cpu }),
        any::<u16>().prop_map(|node| Place::Remote { node }),
        any::<(u16, bool)>().prop_map(|(cpu, ours)| Place::Hold { cpu, ours }),
    ];
    let entry = (place, 1..1_u32 << 24).prop_map(|(place, epoch)| Entry { place, epoch });
    // Versions that differ in their upper 16 bits cannot be replaced by one store.
    let version = prop_oneof![0..9_u64, any::<u64>()];
    let number = 0..48_u8;
    let row = (number.clone(), entry, version);
    prop_oneof![
        6 => row.clone().prop_map(|(number, entry, version)| Operation::Insert(number, entry, version)),
        2 => row.clone().prop_map(|(number, entry, version)| Operation::Update(number, entry, version)),
        4 => number.prop_map(Operation::Remove),
        1 => vec(row, 0..20).prop_map(Operation::Publish),
    ]
}

/// The table beside the map that says what must be in it.
struct Model {
    memory: Memory,
    table: SessionTable,
    expected: HashMap<Key, (Entry, u64)>,
    /// The slots' placement, which the writer must leave alone.
    slots: SlotWord,
}

impl Model {
    fn new() -> Self {
        let memory = Memory::anonymous(BITS).expect("a little memory");
        let slots = SlotWord::new(3, 2, 77);
        for slot in 0..4 {
            memory.slots.get(slot).expect("there are 65,536").store(slots.bits());
        }
        Self { memory, table: SessionTable::new(BITS), expected: HashMap::new(), slots }
    }

    fn bucket(&self, index: u32) -> &Bucket {
        self.memory.bucket(index).expect("within the table")
    }

    /// Whether any of a key's buckets has room.
    fn has_room(&self, key: Key) -> bool {
        let at = Location::of(key.hash, BITS);
        let [stash, other] = at.stash_pair();
        [at.first, at.second, stash, other]
            .into_iter()
            .any(|bucket| self.bucket(bucket).free_ways().next().is_some())
    }

    fn insert(&mut self, key: Key, entry: Entry, version: u64) -> Result<(), InsertError> {
        let room = self.table.len() < self.table.capacity() && self.has_room(key);
        let result = self.table.insert(&self.memory, key, entry, version);
        self.check_insert(key, room, result);
        if result.is_ok() {
            self.expected.insert(key, (entry, version));
        }
        result
    }

    fn check_insert(&self, key: Key, room: bool, result: Result<(), InsertError>) {
        let taken = self.expected.contains_key(&key);
        match result {
            Ok(()) => assert!(room && !taken),
            Err(InsertError::Taken) => assert!(taken),
            Err(InsertError::Full { entries, capacity }) => {
                assert!(!room);
                assert_eq!((entries, capacity), (self.expected.len(), 2 << BITS));
            }
        }
    }

    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Insert(number, entry, version) => {
                let _ = self.insert(crowded(*number), *entry, *version);
            }
            Operation::Update(number, entry, version) => {
                let key = crowded(*number);
                let updated = self.table.update(&self.memory, key, *entry, *version);
                assert_eq!(updated, self.expected.contains_key(&key));
                self.expected.entry(key).and_modify(|row| *row = (*entry, *version));
            }
            Operation::Remove(number) => {
                let key = crowded(*number);
                let removed = self.table.remove(&self.memory, key);
                assert_eq!(removed, self.expected.remove(&key).is_some());
            }
            Operation::Publish(rows) => {
                let rows: Vec<_> = rows
                    .iter()
                    .map(|&(number, entry, version)| (crowded(number), entry, version))
                    .collect();
                let result = self.table.publish(&self.memory, &rows);
                let done = result.map_or_else(|(index, _)| index, |()| rows.len());
                for &(key, entry, version) in &rows[..done] {
                    assert_eq!(self.expected.insert(key, (entry, version)), None);
                }
                if let Err((index, error)) = result {
                    let key = rows[index].0;
                    let room = self.expected.len() < self.table.capacity() && self.has_room(key);
                    self.check_insert(key, room, Err(error));
                }
            }
        }
    }

    /// The table holds what the map holds, and says so in every way that readers use.
    fn check(&self) {
        assert_eq!(self.table.len(), self.expected.len());
        assert_eq!(self.table.is_empty(), self.expected.is_empty());
        let mut overflows: HashMap<u32, (bool, bool)> = HashMap::new();
        for number in 0..48 {
            let key = crowded(number);
            let found = self.table.get(&self.memory, key);
            assert_eq!(found, self.expected.get(&key).copied(), "key {number}");
            if found.is_none() {
                continue;
            }
            let at = Location::of(key.hash, BITS);
            let flags = overflows.entry(at.first).or_default();
            let lies_in = |bucket| matches!(self.bucket(bucket).find(at.tag), Found::Hit { .. });
            flags.0 |= lies_in(at.second);
            flags.1 |= at.stash_pair().into_iter().any(lies_in);
        }
        for bucket in 0..1 << BITS {
            // No key has the tag 1.
            let Found::Miss { second, stash } = self.bucket(bucket).find(1) else {
                panic!("bucket {bucket} holds a tag that nobody inserted");
            };
            let expected = overflows.get(&bucket).copied().unwrap_or_default();
            assert_eq!((second, stash), expected, "flags of bucket {bucket}");
        }
        let entries = (0..buckets(BITS))
            .flat_map(|bucket| (0..WAYS as u8).map(move |way| (bucket, way)))
            .filter(|&(bucket, way)| self.bucket(bucket).occupied(way).is_some())
            .count();
        assert_eq!(entries, self.expected.len(), "each key lies in one place");
        let with_rows: HashSet<u16> = self.expected.keys().map(|key| key.slot).collect();
        for slot in 0..4 {
            let word = self.memory.slot(slot).expect("there are 65,536");
            assert_eq!(word, self.slots.with_rows(with_rows.contains(&slot)), "slot {slot}");
        }
    }
}

proptest! {
    #![proptest_config(config(512))]

    #[test]
    fn the_table_holds_what_a_map_would(operations in vec(operation(), 1..150)) {
        let mut model = Model::new();
        for operation in &operations {
            model.apply(operation);
            model.check();
        }
        for number in 0..48 {
            model.apply(&Operation::Remove(number));
        }
        model.check();
        prop_assert!(model.table.is_empty());
    }
}

fn entry(number: usize) -> Entry {
    Entry { place: Place::Remote { node: number as u16 }, epoch: 1 }
}

#[test]
fn keys_of_one_bucket_fill_its_second_one_and_the_stash_and_then_are_refused() {
    let mut model = Model::new();
    // All with one first bucket and one second one, and with one pair of stash buckets.
    let same = |tag: u64| {
        let at = Location::of(3 << (64 - BITS) | tag, BITS);
        (at.second, at.stash & !1)
    };
    let wanted = same(5);
    let keys: Vec<_> = (5..)
        .filter(|&tag| same(tag) == wanted)
        .map(|tag| Key { hash: 3 << (64 - BITS) | tag, slot: 1 })
        .take(4 * WAYS + 1)
        .collect();
    let (last, fitting) = keys.split_last().expect("17 keys");
    for (number, &key) in fitting.iter().enumerate() {
        assert_eq!(model.insert(key, entry(number), number as u64), Ok(()), "key {number}");
    }
    let full = InsertError::Full { entries: 16, capacity: 32 };
    assert_eq!(model.insert(*last, entry(16), 0), Err(full));
    for (number, &key) in fitting.iter().enumerate() {
        assert_eq!(model.table.get(&model.memory, key), Some((entry(number), number as u64)));
        assert_eq!(model.insert(key, entry(0), 0), Err(InsertError::Taken), "wherever it lies");
    }
    // Whichever goes, its place is the last one's.
    for &gone in fitting {
        assert!(model.table.remove(&model.memory, gone));
        model.expected.remove(&gone);
        assert_eq!(model.insert(*last, entry(16), 16), Ok(()));
        assert!(model.table.remove(&model.memory, *last));
        model.expected.remove(last);
        assert_eq!(model.insert(gone, entry(1), 1), Ok(()));
    }
    for &key in fitting {
        assert!(model.table.remove(&model.memory, key));
        model.expected.remove(&key);
    }
    model.check();
}

#[test]
fn a_table_at_its_capacity_says_so() {
    let memory = Memory::anonymous(BITS).unwrap();
    let mut table = SessionTable::new(BITS);
    let key = |number: u64| {
        let id = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_ne_bytes();
        WireId::from_bytes(&id).expect("8 bytes").key(7)
    };
    let numbers = (0..).filter(|&number| table.insert(&memory, key(number), entry(1), 1).is_ok());
    let last = numbers.take(table_capacity()).last().expect("some fit");
    assert_eq!(table.len(), table.capacity());
    let full = InsertError::Full { entries: table_capacity(), capacity: table_capacity() };
    assert_eq!(table.insert(&memory, key(last + 1), entry(1), 1), Err(full));
}

fn table_capacity() -> usize {
    SessionTable::new(BITS).capacity()
}

/// Ids as they are minted: random tails in slots of this node.
#[test]
fn a_load_of_one_half_always_fits() {
    let bits = 15;
    let count = SessionTable::new(bits).capacity();
    assert_eq!(count, 1 << 16);
    for seed in 1..=4_u64 {
        let memory = Memory::anonymous(bits).unwrap();
        let mut table = SessionTable::new(bits);
        let mut state = seed;
        let sessions: Vec<_> = (0..count)
            .map(|number| {
                let mut id = [0; 16];
                for half in id.chunks_mut(8) {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed | 1);
                    half.copy_from_slice(&(state ^ state >> 29).to_ne_bytes());
                }
                let key = WireId::from_bytes(&id).expect("16 bytes").key(seed);
                (key, entry(number), number as u64)
            })
            .collect();
        assert_eq!(table.publish(&memory, &sessions), Ok(()), "seed {seed}");
        for &(key, entry, version) in &sessions {
            assert_eq!(table.get(&memory, key), Some((entry, version)));
        }
        for &(key, ..) in &sessions {
            assert!(table.remove(&memory, key));
        }
        assert!(table.is_empty());
        for bucket in 0..buckets(bits) {
            let clean = Found::Miss { second: false, stash: false };
            assert_eq!(memory.bucket(bucket).unwrap().find(1), clean, "bucket {bucket}");
        }
    }
}

#[test]
fn a_publish_stops_at_the_key_that_cannot_be_added() {
    let memory = Memory::anonymous(BITS).unwrap();
    let mut table = SessionTable::new(BITS);
    let keys = [1, 2, 3, 2, 4].map(crowded);
    let rows = keys.map(|key| (key, entry(1), 1));
    assert_eq!(table.publish(&memory, &rows), Err((3, InsertError::Taken)));
    assert_eq!(table.len(), 3);
    assert_eq!(table.get(&memory, keys[4]), None);
}

/// Two stores cannot show a reader one version: then the old entry must go before the new one comes.
#[test]
fn a_version_that_takes_two_stores_to_change_gets_a_new_generation() {
    let memory = Memory::anonymous(BITS).unwrap();
    let mut table = SessionTable::new(BITS);
    let key = crowded(1);
    let generation = |memory: &Memory| {
        let at = Location::of(key.hash, BITS);
        match memory.bucket(at.first).unwrap().find(at.tag) {
            Found::Hit { generation, .. } => generation,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(table.insert(&memory, key, entry(1), 1), Ok(()));
    let first = generation(&memory);
    assert!(table.update(&memory, key, entry(2), (1 << 48) - 1));
    assert_eq!(generation(&memory), first, "the lower 48 bits are one store");
    assert!(table.update(&memory, key, entry(3), 1 << 48));
    assert_ne!(generation(&memory), first);
    assert_eq!(table.get(&memory, key), Some((entry(3), 1 << 48)));
}

#[test]
fn generations_wrap_without_a_trace() {
    let memory = Memory::anonymous(BITS).unwrap();
    let mut table = SessionTable::new(BITS);
    let key = crowded(1);
    let first = Location::of(key.hash, BITS).first;
    // Just before the wrap, as after 65,534 inserts.
    let words =
        |generation: u64| [(); WAYS].map(|()| [MapWord::new(generation), MapWord::new(generation)]);
    let mut memory = memory;
    memory.sessions.set(first as usize, Bucket::from_words(words(0xfffe)));
    for number in 0..4 {
        assert_eq!(table.insert(&memory, key, entry(number), number as u64), Ok(()));
        assert_eq!(table.get(&memory, key), Some((entry(number), number as u64)));
        assert!(table.remove(&memory, key));
        assert_eq!(table.get(&memory, key), None);
    }
}

#[test]
fn keys_that_share_their_buckets_and_tag_are_refused_from_either_side() {
    let bits = 10;
    let memory = Memory::anonymous(bits).unwrap();
    let mut table = SessionTable::new(bits);
    let entry = Entry { place: Place::Local { cpu: 0 }, epoch: 1 };
    let one = Key { hash: 0x1234_0000_0000_9a5f, slot: 1 };
    let at = Location::of(one.hash, bits);
    // The first bucket of the other is the second of this one, and the other way round.
    let other = Key { hash: u64::from(at.second) << (64 - bits) | at.tag, slot: 2 };
    assert_eq!(Location::of(other.hash, bits).second, at.first);
    assert_ne!(one.hash, other.hash);
    table.insert(&memory, one, entry, 1).unwrap();
    assert_eq!(table.insert(&memory, other, entry, 1), Err(InsertError::Taken));
    assert!(table.remove(&memory, one));
    table.insert(&memory, other, entry, 1).unwrap();
    assert_eq!(table.insert(&memory, one, entry, 1), Err(InsertError::Taken));
}
