//! A successor's writer goes on where the last one was killed: with the same entries, the same flags
//! and the same books.

use dataplane_ebpf::{
    slot::SlotWord,
    table::{Entry, Place, WAYS, buckets},
    tables::Tables,
    wire_id::{Key, WireId},
    wire_id_row::Registered,
    word::Word,
};
use dataplane_user::{
    dataplane::{
        memory::Memory,
        services::{Delivery, Limits, Protocol, Service},
        sessions::SessionTable,
    },
    node::recover as recover_node,
};
use ownership::Epoch;
use proptest::{collection::vec, prelude::*, test_runner::RngSeed};
use std::collections::HashMap;

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
fn key(number: u8) -> Key {
    let tag = (number as u64 + 1).wrapping_mul(0x2545_f491_4f6c_dd1d) & ((1 << 47) - 1);
    let first = [3, 4, 11][number as usize % 3];
    Key { hash: first << (64 - BITS) | tag, slot: number as u16 % 4 }
}

/// An id that leads to that key.
fn registered(number: u8) -> Registered {
    Registered::new(&[number, 1, 2, 3], 1, key(number).hash).expect("four bytes are an id")
}

fn key_of(registered: &Registered) -> Option<Key> {
    Some(key(registered.bytes()[0]))
}

fn entry(number: u8) -> Entry {
    Entry { place: Place::Local { cpu: number.into() }, epoch: 7 }
}

/// Everything of a table that a program reads.
#[derive(Debug, PartialEq, Eq)]
struct Image {
    ways: Vec<Option<(u64, u64, u16)>>,
    flags: Vec<[bool; 2]>,
    slots: Vec<u64>,
}

fn image(memory: &Memory) -> Image {
    let slot = |slot| memory.slots.get(slot).expect("a word for each slot").load();
    let mut image =
        Image { ways: Vec::new(), flags: Vec::new(), slots: (0..4).map(slot).collect() };
    for index in 0..buckets(BITS) {
        let bucket = memory.bucket(index).expect("within the table");
        image.ways.extend((0..WAYS as u8).map(|way| bucket.occupied(way)));
        image.flags.push(bucket.overflows());
    }
    image
}

#[derive(Clone, Debug)]
enum Operation {
    Register(u8, u64),
    Update(u8, u64),
    Remove(u8),
    /// The daemon is killed, and the next one takes over.
    Recover,
}

fn operation() -> impl Strategy<Value = Operation> {
    // Versions that differ in their upper 16 bits move the entry.
    let version = prop_oneof![0..9_u64, any::<u64>()];
    let number = 0..48_u8;
    prop_oneof![
        6 => (number.clone(), version.clone()).prop_map(|(n, v)| Operation::Register(n, v)),
        2 => (number.clone(), version).prop_map(|(n, v)| Operation::Update(n, v)),
        4 => number.prop_map(Operation::Remove),
        1 => Just(Operation::Recover),
    ]
}

/// Takes over, and demands that nothing was changed and all is known.
fn recover(memory: &Memory, expected: &HashMap<u8, u64>) -> SessionTable {
    let before = image(memory);
    let mut found = HashMap::new();
    let (table, removed) = SessionTable::recover(memory, BITS, key_of, |known| {
        let number = known.registered.bytes()[0];
        assert_eq!((known.key, known.entry), (key(number), entry(number)));
        assert_eq!(known.registered, registered(number));
        assert_eq!(found.insert(number, known.version), None);
        true
    });
    assert_eq!((removed, table.len()), (0, expected.len()));
    assert_eq!(found, *expected);
    assert_eq!(image(memory), before, "what was right has changed");
    table
}

proptest! {
    #![proptest_config(config(60))]

    #[test]
    fn a_successor_finds_all_and_leaves_nothing(operations in vec(operation(), 0..200)) {
        let memory = Memory::anonymous(BITS).expect("a little memory");
        let slots = SlotWord::new(3, 2, 77);
        for slot in 0..4 {
            memory.slots.get(slot).expect("there are 65,536").store(slots.bits());
        }
        let empty = image(&memory);
        let mut table = SessionTable::new(BITS);
        let mut expected: HashMap<u8, u64> = HashMap::new();
        for operation in operations {
            match operation {
                Operation::Register(n, version) => {
                    let row = registered(n);
                    if table.register(&memory, key(n), entry(n), version, &row).is_ok() {
                        prop_assert_eq!(expected.insert(n, version), None);
                    }
                }
                Operation::Update(n, version) => {
                    let updated = table.update(&memory, key(n), entry(n), version);
                    prop_assert_eq!(updated, expected.contains_key(&n));
                    expected.entry(n).and_modify(|old| *old = version);
                }
                Operation::Remove(n) => {
                    let removed = table.remove(&memory, key(n));
                    prop_assert_eq!(removed, expected.remove(&n).is_some());
                }
                Operation::Recover => table = recover(&memory, &expected),
            }
        }
        table = recover(&memory, &expected);
        for n in expected.keys() {
            prop_assert!(table.remove(&memory, key(*n)));
        }
        prop_assert!(table.is_empty());
        prop_assert_eq!(image(&memory), empty, "something is left");
    }
}

#[test]
fn what_is_not_wanted_or_not_known_is_removed_with_its_flags() {
    let memory = Memory::anonymous(BITS).expect("a little memory");
    let empty = image(&memory);
    let mut table = SessionTable::new(BITS);
    for number in 0..24 {
        let row = registered(number);
        // Some keys without a row, as if the daemon had been killed before it wrote it.
        let result = match number % 3 {
            0 => table.insert(&memory, key(number), entry(number), 1),
            _ => table.register(&memory, key(number), entry(number), 1, &row),
        };
        result.expect("room for half of it");
    }
    let (table, removed) =
        SessionTable::recover(&memory, BITS, key_of, |known| known.key.slot != 1);
    let wanted = |number: &u8| !number.is_multiple_of(3) && number % 4 != 1;
    assert_eq!(table.len(), (0..24).filter(wanted).count());
    assert_eq!(removed, 24 - table.len());
    for number in 0..24 {
        let found = table.get(&memory, key(number));
        assert_eq!(found, wanted(&number).then_some((entry(number), 1)), "{number}");
    }
    // Flags that a killed daemon had set for keys that never came are taken back.
    memory.bucket(5).expect("within the table").set_stash(true);
    let (table, removed) = SessionTable::recover(&memory, BITS, key_of, |_| false);
    assert_eq!((table.len(), removed), (0, (0..24).filter(wanted).count()));
    assert_eq!(image(&memory), empty);
}

#[test]
fn a_session_that_was_held_is_to_be_released() {
    let memory = Memory::anonymous(BITS).expect("a little memory");
    let services = [Service {
        index: 1,
        name: "held".to_owned(),
        address: "192.0.2.1:1".parse().expect("an address"),
        control_port: None,
        protocol: Protocol::Native,
        cluster_seed: 7,
        delivery: Delivery::default(),
        enforces_binding: false,
        limits: Limits::default(),
    }];
    let bytes = [9; 16];
    let key = WireId::from_bytes(&bytes).expect("16 bytes").key(services[0].seed());
    let row = Registered::new(&bytes, 1, key.hash).expect("16 bytes");
    let held = Entry { place: Place::Hold { cpu: 3, ours: true }, epoch: 1 };
    SessionTable::new(BITS).register(&memory, key, held, 5, &row).expect("room");

    let recovered = recover_node(&memory, BITS, &services, Epoch::FIRST);
    // What waits in the ring comes first: see tests/tests/hold_daemon.rs for how it goes on.
    assert_eq!(recovered.table.get(&memory, key), Some((held, 5)));
    assert_eq!((recovered.sessions.len(), recovered.removed), (1, 0));
    assert!(recovered.held.iter().eq([&ownership::SessionId::new(bytes)]), "{:?}", recovered.held);
}
