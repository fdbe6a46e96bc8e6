//! A crash at every write and every sync: what was acknowledged is there, whole and with its events,
//! and nothing else.

use crate::{
    conformance::world::{
        World, attempt, baggage, changed, context, handed_off, id, next, node, won,
    },
    disk::{Disk, Op, after_crash},
    everything, on_disk,
};
use ownership::{
    audit::Refusal,
    model::{Cause, Input, Reason, birth},
    store::{
        AuditKey, BaggageRow, DirectoryWrite, Engine, FenceRow, Identity, OffHomeKey, Position,
        Row, Seen, SessionWrite, Store, StoredSession, Transaction,
    },
};

/// A disk on which a store was used and closed, and what was in it.
struct Base {
    content: Vec<u8>,
    one: Identity,
    two: FenceRow,
    born: StoredSession,
    frozen: StoredSession,
    /// What the one that is born carries.
    packed: BaggageRow,
    /// One more that carries something.
    laden: StoredSession,
    log: Vec<AuditKey>,
}

/// What one commit is.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// One session is born.
    Birth,
    /// A change, a hand-off with its rows, a birth, and one that is Lost.
    Mixed,
    /// So many births that the file grows.
    Many,
    /// A session carries something else, and another one that carries something ends.
    Pack,
    /// A node's fence row.
    Node,
    /// A refusal is told, and rows are trimmed.
    Trim,
}

impl Base {
    async fn new() -> Self {
        let disk = Disk::default();
        let world = World::new(on_disk(&disk, Seen::new(Position::START))).await;
        let (born, frozen) = (world.born(1).await, world.frozen(2).await);
        let laden = world.born(3).await;
        let pack = |number| DirectoryWrite::pack(None, id(number), baggage(&[1]), world.one);
        let (write, packed) = pack(1);
        won(&world.store, write).await;
        won(&world.store, pack(3).0).await;
        let log = world.log().await.into_iter().map(|row| row.key).collect();
        let two = world.store.fence(node(2)).await.unwrap().unwrap();
        let one = world.one;
        drop(world);
        Self { content: disk.content(), one, two, born, frozen, packed, laden, log }
    }

    fn birth(&self, number: u32) -> Transaction {
        let commit = birth(id(number), 1, &context(self.one.owner));
        SessionWrite::birth(&commit, self.one, ownership::Revision::FIRST).unwrap().into()
    }

    fn commit(&self, kind: Kind, number: u32) -> Vec<Transaction> {
        match kind {
            Kind::Birth => vec![self.birth(number)],
            Kind::Mixed => vec![
                next(&self.born, self.one).into(),
                handed_off(&self.frozen, self.one, self.two.identity())
                    .off_home(OffHomeKey { slot: 7, id: id(2).into() })
                    .into(),
                self.birth(1),
                self.birth(number),
            ],
            Kind::Many => (0..60).map(|more| self.birth(number + more)).collect(),
            Kind::Pack => {
                let (before, carries) = (Some(&self.packed), baggage(&[7; 5000]));
                let end = Input::Terminate { cause: Cause::Request };
                vec![
                    DirectoryWrite::pack(before, id(1), carries, self.one).0.into(),
                    changed(&self.laden, end, self.one).into(),
                ]
            }
            Kind::Node => {
                let admit = DirectoryWrite::admit(&self.two, false, attempt(self.two.identity()));
                vec![admit.unwrap().0.into()]
            }
            Kind::Trim => {
                let refusal = Refusal {
                    reason: Reason::NonceReplayed,
                    session: Some(id(1)),
                    stood: None,
                    count: 1,
                    actor: node(1),
                    now: crate::conformance::world::NOW,
                };
                let trim = DirectoryWrite::trim(self.log[..2].iter().copied());
                vec![DirectoryWrite::tell([refusal]).into(), trim.into()]
            }
        }
    }
}

/// A workload as it went: what was done to the disk, and what was kept after each commit.
struct Run {
    ops: Vec<Op>,
    /// How many ops were done when each commit was acknowledged.
    acknowledged: Vec<usize>,
    /// Before the first commit, and after each.
    kept: Vec<(Position, Vec<Row>)>,
}

impl Run {
    async fn new(base: &Base, workload: &[Kind]) -> Self {
        let disk = Disk::of(base.content.clone());
        let store = on_disk(&disk, Seen::new(Position::START));
        let mut kept = vec![everything(&store).await];
        let mut acknowledged = Vec::new();
        for (at, kind) in (1..).zip(workload) {
            let outcomes = Engine::commit(&store, base.commit(*kind, at * 1000)).await;
            assert!(outcomes.iter().any(|outcome| outcome.is_won()), "{kind:?}: {outcomes:?}");
            acknowledged.push(disk.count());
            kept.push(everything(&store).await);
        }
        drop(store);
        Self { ops: disk.ops(), acknowledged, kept }
    }

    /// What may be found after a crash behind the first `done` ops: what was acknowledged, and
    /// perhaps the next commit, all of it.
    fn may_be_found(&self, done: usize) -> &[(Position, Vec<Row>)] {
        let acknowledged = self.acknowledged.iter().filter(|at| **at <= done).count();
        &self.kept[acknowledged..(acknowledged + 2).min(self.kept.len())]
    }

    /// Opens what a crash has left, and looks. Gives what the opening did to the disk.
    async fn check(&self, done: usize, name: &str, image: Vec<u8>) -> Vec<Op> {
        let allowed = self.may_be_found(done);
        let disk = Disk::of(image);
        let store = on_disk(&disk, Seen::new(allowed[0].0));
        let opening = disk.ops();
        let found = everything(&store).await;
        assert!(allowed.contains(&found), "{name}: {} rows at {}", found.1.len(), found.0);
        // And it goes on.
        let outcome = store.write(DirectoryWrite::tell([])).await;
        assert!(outcome.is_won(), "{name}: {outcome:?}");
        opening
    }
}

fn is_full() -> bool {
    std::env::var_os("JUMPGATE_FULL").is_some()
}

/// Crashes at every point of a workload; and again at every point of the opening that follows.
async fn crash_everywhere(base: &Base, workload: &[Kind], twice: bool) -> usize {
    let run = Run::new(base, workload).await;
    let mut images = 0;
    for done in 0..=run.ops.len() {
        for (name, image) in after_crash(&base.content, &run.ops, done) {
            let name = format!("{workload:?}, {name}");
            let opening = run.check(done, &name, image.clone()).await;
            images += 1;
            if !twice {
                continue;
            }
            for again in 0..=opening.len() {
                for (second, image) in after_crash(&image, &opening, again) {
                    run.check(done, &format!("{name}, then {second}"), image).await;
                    images += 1;
                }
            }
        }
    }
    images
}

const QUICK: &[&[Kind]] = &[
    &[Kind::Birth],
    &[Kind::Mixed],
    &[Kind::Many],
    &[Kind::Node],
    &[Kind::Pack],
    &[Kind::Birth, Kind::Mixed],
    &[Kind::Many, Kind::Trim],
];

const FULL: &[&[Kind]] = &[
    &[Kind::Birth, Kind::Mixed, Kind::Node],
    &[Kind::Mixed, Kind::Many, Kind::Trim],
    &[Kind::Trim, Kind::Birth, Kind::Many],
    &[Kind::Many, Kind::Node, Kind::Mixed],
    &[Kind::Pack, Kind::Mixed, Kind::Many],
    &[Kind::Birth, Kind::Birth, Kind::Birth],
];

#[tokio::test]
async fn after_a_crash_what_was_acknowledged_is_there_and_nothing_else() {
    let base = Base::new().await;
    for workload in QUICK {
        println!("{workload:?}: {} images", crash_everywhere(&base, workload, false).await);
    }
    if is_full() {
        for workload in FULL {
            println!("{workload:?}: {} images", crash_everywhere(&base, workload, false).await);
        }
    }
}

#[tokio::test]
async fn a_second_crash_while_the_first_is_repaired_loses_nothing_either() {
    let base = Base::new().await;
    let workloads = if is_full() { [QUICK, FULL].concat() } else { QUICK[..1].to_vec() };
    for workload in workloads {
        println!("{workload:?}: {} images", crash_everywhere(&base, workload, true).await);
    }
}
