//! The redb store does what every store must; survives a crash at any point; and is shut after an I/O
//! error.

#[path = "../conformance/mod.rs"]
mod conformance;
mod crash;
mod disk;
mod faults;

use conformance::world::{World, context, id, next, node, register};
use disk::Disk;
use ownership::store::{
    Engine, Key, OlderStore, Outcome, Position, Row, Seen, Sessions, Span, recover,
    redb::{OpenError, Options, Redb},
};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::fd::AsRawFd,
    path::Path,
    sync::LazyLock,
};

conformance! { async { on_disk(&Disk::default(), Seen::new(Position::START)) } }

/// With a journal that nobody looks at, in a file without a name.
fn on_disk(disk: &Disk, seen: Seen) -> Redb {
    static JOURNAL: LazyLock<File> = LazyLock::new(|| tempfile::tempfile().unwrap());
    let journal = format!("/proc/self/fd/{}", JOURNAL.as_raw_fd());
    open(disk, Path::new(&journal), seen).unwrap()
}

fn open(disk: &Disk, journal: &Path, seen: Seen) -> Result<Redb, OpenError> {
    let options =
        Options { cache: 1 << 20, journal: journal.to_owned(), ..Options::new(journal, node(1)) };
    Redb::on_backend(disk.clone(), &options, seen)
}

/// Everything that a store keeps.
async fn everything(store: &Redb) -> (Position, Vec<Row>) {
    let spans = [
        Span::Fences,
        Span::Heartbeats,
        Span::Sessions,
        Span::OffHome(0, u16::MAX),
        Span::Inbox(node(1)),
        Span::Inbox(node(2)),
        Span::Transfers,
        Span::Audit,
        Span::Baggage,
    ];
    let mut rows = Vec::new();
    for key in [Key::Generation, Key::Epochs, Key::Placement] {
        rows.extend(Engine::get(store, key).await.unwrap());
    }
    for span in spans {
        let page = store.page(span, None, 100_000).await.unwrap();
        assert_eq!(page.next, None);
        rows.extend(page.rows);
    }
    (Engine::seen(store), rows)
}

fn options(folder: &Path) -> Options {
    Options::new(&folder.join("store"), node(1))
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (file, options) = (folder.path().join("store"), options(folder.path()));
    let world = World::new(Redb::open(&file, &options, Seen::new(Position::START)).unwrap()).await;
    let born = world.born(1).await;
    let attached = world.won(&next(&born, world.one)).await;
    let before = everything(&world.store).await;
    let in_use = Redb::open(&file, &options, Seen::new(before.0));
    assert!(matches!(in_use, Err(OpenError::Engine(_))), "{in_use:?}");
    drop(world.store);
    let store = Redb::open(&file, &options, Seen::new(before.0)).unwrap();
    assert_eq!(everything(&store).await, before);
    let world = World { store, ..world };
    world.won(&next(&attached, world.one)).await;
    world.verify().await;
}

#[tokio::test]
async fn a_store_that_was_half_made_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (file, options) = (folder.path().join("store"), options(folder.path()));
    fs::write(folder.path().join("store.new"), [7; 5000]).unwrap();
    fs::write(&file, []).unwrap();
    let world = World::new(Redb::open(&file, &options, Seen::new(Position::START)).unwrap()).await;
    world.born(1).await;
    drop(world);
    let mut names: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|it| it.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["store", "store.journal"]);
    // But no file of somebody else's.
    fs::write(&file, [7; 5000]).unwrap();
    let refused = Redb::open(&file, &options, Seen::new(Position::START));
    assert!(matches!(refused, Err(OpenError::Engine(_))), "{refused:?}");
    assert_eq!(fs::read(&file).unwrap(), [7; 5000]);
}

#[tokio::test]
async fn a_store_that_is_older_than_what_was_seen_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (file, options) = (folder.path().join("store"), options(folder.path()));
    let world = World::new(Redb::open(&file, &options, Seen::new(Position::START)).unwrap()).await;
    let backup = folder.path().join("backup");
    let World { store, one, two, placement } = world;
    drop(store);
    fs::copy(&file, &backup).unwrap();
    let store = Redb::open(&file, &options, Seen::new(Position::START)).unwrap();
    let world = World { store, one, two, placement };
    world.born(1).await;
    let seen = Seen::new(Engine::seen(&world.store));
    drop(world.store);
    fs::copy(&backup, &file).unwrap();
    let refused = Redb::open(&file, &options, seen);
    assert!(matches!(refused, Err(OpenError::Older(OlderStore { .. }))), "{refused:?}");
    // Nor is a new one made in the place of one that is gone.
    fs::remove_file(&file).unwrap();
    let refused = Redb::open(&file, &options, seen);
    assert!(matches!(refused, Err(OpenError::Older(OlderStore { .. }))), "{refused:?}");
    assert!(!file.exists());
}

#[tokio::test]
async fn a_restored_store_goes_on_in_a_new_generation() {
    let folder = tempfile::tempdir().unwrap();
    let (file, options) = (folder.path().join("store"), options(folder.path()));
    let backup = folder.path().join("backup");
    let open = |seen| Redb::open(&file, &options, seen).unwrap();
    let world = World::new(open(Seen::new(Position::START))).await;
    let born = world.born(1).await;
    drop(world.store);
    fs::copy(&file, &backup).unwrap();

    let world = World { store: open(Seen::new(Position::START)), ..world };
    let attached = world.won(&next(&born, world.one)).await;
    let lost = register(&world.store, 1).await;
    let (seen, log) = (Seen::new(Engine::seen(&world.store)), world.log().await);
    drop(world.store);
    fs::copy(&backup, &file).unwrap();

    let store = open(Seen::new(Position::START));
    recover::begin(&store, seen.position()).await.unwrap();
    let by = register(&store, 1).await.identity();
    assert!(by.owner.epoch > lost.epoch, "no epoch is drawn twice");
    recover::end_older(&store, by, || context(by.owner)).await.unwrap();
    let world = World { store, ..world };
    assert!(world.stands(1).await.unwrap().record.is_terminated());
    world.verify().await;
    // What stands in both logs was exported before; nothing else has the key of something else.
    let known: BTreeMap<_, _> = log.into_iter().map(|row| (row.key, row)).collect();
    for row in world.log().await {
        assert!(known.get(&row.key).is_none_or(|before| *before == row), "{}", row.key);
    }
    drop(world.store);
    let world = World { store: open(seen), ..world };
    assert_eq!(world.commit(&next(&attached, world.one)).await, Outcome::Fenced);
}

#[tokio::test]
async fn more_than_may_wait_is_turned_away() {
    use ownership::store::Fault;
    let folder = tempfile::tempdir().unwrap();
    let options = Options { queue: 1, ..options(folder.path()) };
    let store = Redb::open(&folder.path().join("store"), &options, Seen::new(Position::START));
    let world = World::new(store.unwrap()).await;
    // Three requests at least, of which one waits and one may be on its way to the disk.
    let births: Vec<_> = (0..5_000).map(|number| world.birth(id(number))).collect();
    let outcomes = Sessions::commit(&world.store, births.clone()).await;
    assert_eq!(outcomes.len(), births.len());
    let refused =
        outcomes.iter().filter(|outcome| **outcome == Outcome::Unavailable(Fault::Overloaded));
    let refused = refused.count();
    let won = outcomes.iter().filter(|outcome| outcome.is_won()).count();
    assert_eq!(won + refused, births.len());
    assert!(won > 0 && refused > 0);
    for (write, outcome) in births.iter().zip(outcomes) {
        let stands = Sessions::get(&world.store, write.after().record.id()).await.unwrap();
        assert_eq!(stands.is_some(), outcome.is_won());
    }
    world.verify().await;
}
