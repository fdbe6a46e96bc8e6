//! Placements take a while to be planned and read, and there are few of them: each is made once.

use crate::shelf::index;
use ownership::{
    Placement,
    model::FenceProof,
    placement::{Emptied, Member, PlanError},
    store::PlacementRow,
};
use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

type Bytes = Arc<[u8]>;

#[derive(Clone, PartialEq, Eq, Hash)]
enum Step {
    Read,
    Move(u16),
    Clear(Emptied),
    FailOver(FenceProof, u16),
}

type Made = HashMap<(Bytes, Step), Result<Arc<Placement>, PlanError>>;

static MADE: LazyLock<Mutex<Made>> = LazyLock::new(Mutex::default);

fn made(
    row: &PlacementRow,
    step: Step,
    make: impl FnOnce() -> Result<Placement, PlanError>,
) -> Result<Arc<Placement>, PlanError> {
    let mut all = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    all.entry((Arc::clone(&row.bytes), step)).or_insert_with(|| make().map(Arc::new)).clone()
}

/// The placement of a row.
pub fn of(row: &PlacementRow) -> Arc<Placement> {
    made(row, Step::Read, || Ok(row.placement().expect("as it was written"))).expect("is there")
}

fn member(number: u16) -> Member {
    Member { index: index(number), name: format!("node {number}"), weight: 1 }
}

/// All slots to this node.
pub fn moved(row: &PlacementRow, to: u16) -> Result<Arc<Placement>, PlanError> {
    let before = of(row);
    made(row, Step::Move(to), || before.next(&[member(to)]))
}

/// All slots of a lost node to this one.
pub fn failed_over(
    row: &PlacementRow,
    lost: FenceProof,
    to: u16,
) -> Result<Arc<Placement>, PlanError> {
    let before = of(row);
    made(row, Step::FailOver(lost, to), || before.failed_over(&[member(to)], lost))
}

/// The moves away from a node are complete.
pub fn cleared(row: &PlacementRow, emptied: Emptied) -> Result<Arc<Placement>, PlanError> {
    let before = of(row);
    made(row, Step::Clear(emptied), || before.cleared(emptied))
}
