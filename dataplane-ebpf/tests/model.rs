//! The race between the session table's one writer and its readers, explored exhaustively.
//!
//! Every interleaving, and every value that a relaxed load may return under the C11 memory model,
//! which allows all that x86-64 and arm64 do. Run with `RUSTFLAGS="--cfg loom"`.

#![cfg(loom)]
use dataplane_ebpf::{
    binding::{Binding, BindingRow},
    node::Address,
    table::{Bucket, DetailRow, Found},
    word::Word,
};
use loom::{
    sync::{Arc, atomic::AtomicU64, atomic::Ordering},
    thread,
};

struct ModelWord(AtomicU64);

impl Word for ModelWord {
    fn load(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn store(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }
}

fn word() -> ModelWord {
    ModelWord(AtomicU64::new(0))
}

struct Table {
    bucket: Bucket<ModelWord>,
    /// The detail of way 0, the only one that the models write.
    detail: DetailRow<ModelWord>,
}

impl Table {
    fn new() -> Arc<Self> {
        let bucket = Bucket::from_words([(); 4].map(|()| [word(), word()]));
        Arc::new(Self { bucket, detail: DetailRow::from_words(word(), word()) })
    }

    /// What the writer in userspace does, with the same calls in the same order.
    fn insert(&self, tag: u64, bits: u64, version: u64) {
        let way = self.bucket.free_ways().next().expect("a free way");
        assert_eq!(way, 0, "the models keep to one way");
        self.detail.set_version(version, self.bucket.next_generation(way));
        let _ = self.bucket.insert(way, tag, bits);
    }

    /// What the reader in the kernel does: entry bits and version, if both are whole.
    fn find(&self, tag: u64) -> Option<(u64, Option<u64>)> {
        match self.bucket.find(tag) {
            Found::Hit { bits, way, generation } => {
                assert_eq!(way, 0, "a way that was never written");
                Some((bits, self.detail.version(generation)))
            }
            Found::Torn | Found::Miss { .. } => None,
        }
    }
}

const A: u64 = 0xa;
const B: u64 = 0xb;

#[test]
fn a_way_that_changes_hands_never_gives_one_session_the_others_entry() {
    loom::model(|| {
        let table = Table::new();
        table.insert(A, 1, 10);
        let readers = [A, B].map(|tag| {
            let table = Arc::clone(&table);
            thread::spawn(move || {
                if let Some((bits, version)) = table.find(tag) {
                    let expected = if tag == A { (1, 10) } else { (2, 20) };
                    assert_eq!(bits, expected.0, "mixture");
                    assert!(version.is_none_or(|version| version == expected.1), "mixture");
                }
            })
        });
        table.bucket.remove(0);
        table.insert(B, 2, 20);
        for reader in readers {
            reader.join().unwrap();
        }
        assert_eq!(table.find(B), Some((2, Some(20))));
        assert_eq!(table.find(A), None);
    });
}

#[test]
fn a_session_that_comes_back_to_its_way_is_seen_as_it_was_or_as_it_is() {
    loom::model(|| {
        let table = Table::new();
        table.insert(A, 1, 10);
        let reader = {
            let table = Arc::clone(&table);
            thread::spawn(move || match table.find(A) {
                None | Some((1, None | Some(10))) | Some((3, None | Some(30))) => {}
                mixture => panic!("mixture: {mixture:?}"),
            })
        };
        table.bucket.remove(0);
        table.insert(B, 2, 20);
        table.bucket.remove(0);
        table.insert(A, 3, 30);
        reader.join().unwrap();
    });
}

#[test]
fn an_update_shows_the_old_entry_or_the_new_one_and_a_whole_version() {
    loom::model(|| {
        let table = Table::new();
        table.insert(A, 1, 10);
        let reader = {
            let table = Arc::clone(&table);
            thread::spawn(move || match table.bucket.find(A) {
                Found::Hit { bits: 1 | 2, generation, .. } => {
                    let version = table.detail.version(generation);
                    assert!(matches!(version, Some(10 | 11)), "{version:?}");
                }
                other => panic!("an update must not hide the session: {other:?}"),
            })
        };
        table.detail.set_version(11, 1);
        table.bucket.update(0, 2);
        reader.join().unwrap();
    });
}

#[test]
fn a_flag_never_disturbs_the_entry_beside_it() {
    loom::model(|| {
        let table = Table::new();
        table.insert(A, 1, 10);
        let reader = {
            let table = Arc::clone(&table);
            thread::spawn(move || {
                let found = table.bucket.find(A);
                assert!(matches!(found, Found::Hit { bits: 1, .. }), "{found:?}");
            })
        };
        table.bucket.set_second(true);
        table.bucket.set_stash(true);
        table.bucket.set_second(false);
        reader.join().unwrap();
    });
}

/// The model can see what the generations are for: a writer that reuses one is caught.
#[test]
#[should_panic(expected = "mixture")]
fn without_a_new_generation_the_model_finds_the_mixture() {
    loom::model(|| {
        let key = Arc::new(AtomicU64::new(A << 17));
        let value = Arc::new(AtomicU64::new(1 << 16));
        let reader = {
            let (key, value) = (Arc::clone(&key), Arc::clone(&value));
            thread::spawn(move || {
                if key.load(Ordering::Relaxed) >> 17 == A {
                    assert_eq!(value.load(Ordering::Relaxed) >> 16, 1, "mixture");
                }
            })
        };
        key.store(0, Ordering::Release);
        value.store(2 << 16, Ordering::Release);
        key.store(B << 17, Ordering::Release);
        reader.join().unwrap();
    });
}

fn client(number: u64) -> Binding {
    // Every word of the row changes.
    Binding {
        address: Address([number | number << 40, number << 20 | number << 50]),
        port: number as u16,
    }
}

#[test]
fn a_binding_that_changes_is_seen_as_it_was_or_as_it_is_or_not_at_all() {
    loom::model(|| {
        let row = Arc::new(BindingRow::from_words([word(), word(), word(), word()]));
        assert!(!row.set(client(1), 7));
        let reader = {
            let row = Arc::clone(&row);
            thread::spawn(move || {
                let seen = row.get(7);
                let whole = [None, Some(client(1)), Some(client(2))];
                assert!(whole.contains(&seen), "mixture: {seen:?}");
            })
        };
        assert!(!row.set(client(2), 7));
        reader.join().unwrap();
        assert_eq!(row.get(7), Some(client(2)));
    });
}

#[test]
fn the_binding_of_a_way_that_changes_hands_is_never_the_next_sessions() {
    loom::model(|| {
        let row = Arc::new(BindingRow::from_words([word(), word(), word(), word()]));
        assert!(!row.set(client(1), 7));
        let reader = {
            let row = Arc::clone(&row);
            thread::spawn(move || {
                let (old, new) = (row.get(7), row.get(8));
                assert!(old.is_none_or(|old| old == client(1)), "mixture: {old:?}");
                assert!(new.is_none_or(|new| new == client(2)), "mixture: {new:?}");
            })
        };
        assert!(!row.set(client(2), 8));
        reader.join().unwrap();
    });
}

/// The model can see what the numbers of changes are for.
#[test]
#[should_panic(expected = "mixture")]
fn without_a_number_of_the_change_the_model_finds_the_mixture() {
    loom::model(|| {
        let words = Arc::new([word(), word()]);
        let reader = {
            let words = Arc::clone(&words);
            thread::spawn(move || {
                assert_eq!(words[0].load(), words[1].load(), "mixture");
            })
        };
        words[0].store(1);
        words[1].store(1);
        reader.join().unwrap();
    });
}
