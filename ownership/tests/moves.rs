//! Slots that move: every node knows before anybody relies on it.

use ownership::{
    Epoch, NodeIndex, Placement,
    lease::{BootTime, LeaseTimes, Taker},
    model::{FenceProof, OperationId, Owner, Time},
    placement::{Applied, Barrier, Census, Member, PlanError, SLOTS, SlotOwner},
    store::{
        Attempt, BadWrite, DirectoryWrite, FenceRow, HeartbeatRow, Identity, Incarnation, Key,
        Mismatch, Outcome, PlacementRow, Row, Span, Tables,
    },
};
use std::{sync::Arc, time::Duration};

const NOW: Time = Time::from_millis(1_000_000);

fn node(number: u16) -> NodeIndex {
    NodeIndex::new(number).unwrap()
}

fn member(number: u16) -> Member {
    Member { index: node(number), name: format!("node {number}"), weight: 100 }
}

fn slot(owner: u16, previous: Option<u16>) -> SlotOwner {
    SlotOwner { owner: Some(node(owner)), previous: previous.map(node) }
}

/// A directory with so many nodes.
#[derive(Default)]
struct Directory {
    tables: Tables,
}

impl Directory {
    fn of(nodes: u16) -> Self {
        let mut directory = Self::default();
        for number in 1..=nodes {
            directory.register(number);
        }
        directory
    }

    fn apply(&mut self, write: &DirectoryWrite) -> Outcome {
        self.tables.apply(write.transaction())
    }

    fn register(&mut self, number: u16) {
        let drawn = match self.tables.get(&Key::Epochs) {
            Some(Row::Epochs(epoch)) => Some(*epoch),
            _ => None,
        };
        let before = self.fences().into_iter().find(|row| row.node == node(number));
        let name = format!("node {number}");
        let incarnation = Incarnation(drawn.map_or(0, Epoch::get).into());
        let operation = OperationId(1);
        let (write, _) = DirectoryWrite::register(
            node(number),
            &name,
            before.as_ref(),
            drawn,
            incarnation,
            NOW,
            operation,
        )
        .unwrap();
        assert_eq!(self.apply(&write), Outcome::Won);
    }

    /// The node has applied a placement, and says so.
    fn applied(&mut self, number: u16, placement: &Placement) {
        let (fence, heartbeat) = (self.fence(number), self.heartbeat(number));
        let operation = OperationId(u128::from(heartbeat.count) + 2);
        let applied = Some(placement.revision());
        let (write, _) = DirectoryWrite::beat(&heartbeat, fence.identity(), applied, operation);
        assert_eq!(self.apply(&write), Outcome::Won);
    }

    fn end(&mut self, number: u16) -> FenceRow {
        let (write, fence) = DirectoryWrite::fence(&self.fence(number), self.attempt(1));
        assert_eq!(self.apply(&write), Outcome::Won);
        fence
    }

    fn attempt(&self, number: u16) -> Attempt {
        Attempt { by: self.fence(number).identity(), now: NOW, operation: OperationId(9) }
    }

    fn fences(&self) -> Vec<FenceRow> {
        let row = |row: &Row| match row {
            Row::Fence(row) => row.clone(),
            other => panic!("{other:?}"),
        };
        self.tables.rows(Span::Fences).map(row).collect()
    }

    fn heartbeats(&self) -> Vec<HeartbeatRow> {
        let row = |row: &Row| match row {
            Row::Heartbeat(row) => row.clone(),
            other => panic!("{other:?}"),
        };
        self.tables.rows(Span::Heartbeats).map(row).collect()
    }

    fn fence(&self, number: u16) -> FenceRow {
        self.fences().into_iter().find(|row| row.node == node(number)).unwrap()
    }

    fn heartbeat(&self, number: u16) -> HeartbeatRow {
        self.heartbeats().into_iter().find(|row| row.node == node(number)).unwrap()
    }

    fn census(&self) -> Census {
        Census::new(&self.fences(), &self.heartbeats())
    }

    fn barrier(&self, placement: &Placement) -> Option<Barrier> {
        self.census().barrier(placement.revision())
    }

    fn placement(&self) -> Option<PlacementRow> {
        match self.tables.get(&Key::Placement) {
            Some(Row::Placement(row)) => Some(row.clone()),
            _ => None,
        }
    }

    fn place(&mut self, next: &Placement) {
        let before = self.placement();
        let (write, _) = DirectoryWrite::place(before.as_ref(), next, self.attempt(1)).unwrap();
        assert_eq!(self.apply(&write), Outcome::Won);
    }
}

#[test]
fn a_barrier_is_passed_when_every_live_node_has_applied_the_placement() {
    let mut directory = Directory::of(3);
    let placement = Placement::all_to(node(1));
    for number in 1..=3 {
        assert_eq!(directory.barrier(&placement), None, "node {number} has not");
        directory.applied(number, &placement);
    }
    assert!(directory.barrier(&placement).is_some());
    let next = placement.next(&[member(2)]).unwrap();
    assert_eq!(directory.barrier(&next), None);
    for number in 1..=2 {
        directory.applied(number, &next);
    }
    assert_eq!(directory.barrier(&next), None);
    assert!(directory.barrier(&placement).is_some(), "once passed, always passed");
    // A node that gives no sign of life counts until it is fenced.
    directory.end(3);
    assert!(directory.barrier(&next).is_some());
    // A new epoch has applied nothing yet, whatever the one before had.
    directory.register(2);
    assert_eq!(directory.barrier(&next), None);
    assert_eq!(directory.census().applied(), None);
}

#[test]
fn a_new_owner_mints_once_every_node_knows_that_it_owns_the_slot() {
    let mut directory = Directory::of(2);
    let first = Arc::new(Placement::all_to(node(1)));
    let mut old = Applied::new(node(1), Arc::clone(&first));
    assert!(!old.may_mint(7), "nobody knows yet");
    for number in 1..=2 {
        directory.applied(number, &first);
    }
    old.passed(directory.barrier(&first).unwrap());
    assert!(old.may_mint(7) && old.may_deny(7));

    let moved = Arc::new(first.next(&[member(2)]).unwrap());
    let mut new = Applied::new(node(2), Arc::clone(&first));
    new.passed(directory.barrier(&first).unwrap());
    new.apply(Arc::clone(&moved));
    old.apply(Arc::clone(&moved));
    assert!(!old.may_mint(7), "it owns the slot no more");
    directory.applied(2, &moved);
    assert_eq!(directory.barrier(&moved), None);
    assert!(!new.may_mint(7), "node 1 may not know");
    directory.applied(1, &moved);
    new.passed(directory.barrier(&moved).unwrap());
    assert!(new.may_mint(7));
    assert!(!new.may_deny(7), "sessions may still be at node 1");
    old.apply(first);
    assert_eq!(old.revision(), moved.revision(), "an older placement changes nothing");
}

#[test]
fn a_slot_that_moved_away_and_back_is_no_home_before_the_next_barrier() {
    for sees_it_gone in [true, false] {
        let mut directory = Directory::of(2);
        let first = Arc::new(Placement::all_to(node(1)));
        let mut applied = Applied::new(node(1), Arc::clone(&first));
        for number in 1..=2 {
            directory.applied(number, &first);
        }
        applied.passed(directory.barrier(&first).unwrap());
        // Node 2 may have been told that it owns the slot, and that nobody else has anything there.
        let gone = Arc::new(first.next(&[member(2)]).unwrap());
        let back = Arc::new(gone.next(&[member(1)]).unwrap());
        if sees_it_gone {
            applied.apply(gone);
        }
        applied.apply(Arc::clone(&back));
        assert!(!applied.may_mint(7), "{sees_it_gone}");
        for number in 1..=2 {
            directory.applied(number, &back);
        }
        applied.passed(directory.barrier(&back).unwrap());
        assert!(applied.may_mint(7) && !applied.may_deny(7));
    }
}

#[test]
fn a_slot_that_stays_is_a_home_throughout() {
    let mut directory = Directory::of(2);
    let first = Arc::new(Placement::all_to(node(1)));
    let mut applied = Applied::new(node(2), Arc::clone(&first));
    for number in 1..=2 {
        directory.applied(number, &first);
    }
    assert_eq!(applied.home(7), None);
    applied.passed(directory.barrier(&first).unwrap());
    assert_eq!(applied.home(7), Some(node(1)));
    let next = Arc::new(first.next(&[member(1)]).unwrap());
    applied.apply(next);
    assert_eq!(applied.home(7), Some(node(1)));
    assert!(!applied.may_mint(7), "another node's");
}

#[test]
fn a_move_is_cleared_behind_its_barrier_once_no_session_is_left() {
    let mut directory = Directory::of(2);
    let first = Placement::all_to(node(1));
    let moved = first.next(&[member(2)]).unwrap();
    directory.applied(1, &first);
    directory.applied(2, &moved);
    assert_eq!(directory.barrier(&moved), None, "node 1 may still make sessions");
    directory.applied(1, &moved);
    let barrier = directory.barrier(&moved).unwrap();
    assert_eq!(barrier.emptied(node(1), 1), None, "one is left");
    let emptied = barrier.emptied(node(1), 0).unwrap();
    let cleared = moved.cleared(emptied).unwrap();
    assert_eq!((moved.slots()[7], cleared.slots()[7]), (slot(2, Some(1)), slot(2, None)));
    assert_eq!(cleared.next(&[member(3)]).unwrap().slots()[7], slot(3, Some(2)), "it may move on");
    // What moved by another placement was not counted.
    let back = moved.next(&[member(1)]).unwrap();
    assert!(matches!(back.cleared(emptied), Err(PlanError::OtherRevision { .. })));
    // It is the node itself that was emptied, and no other.
    let other = barrier.emptied(node(2), 0).unwrap();
    assert_eq!(moved.cleared(other).unwrap().slots()[7], slot(2, Some(1)));
}

#[test]
fn a_drained_node_is_safe_to_stop_behind_the_next_barrier() {
    let mut directory = Directory::of(2);
    let moved = Placement::all_to(node(1)).next(&[member(2)]).unwrap();
    for number in 1..=2 {
        directory.applied(number, &moved);
    }
    let barrier = directory.barrier(&moved).unwrap();
    assert!(!moved.is_safe_to_stop(node(1), barrier, 0), "packets may still come to it");
    let cleared = moved.cleared(barrier.emptied(node(1), 0).unwrap()).unwrap();
    assert!(!cleared.is_safe_to_stop(node(1), barrier, 0), "not every node knows");
    for number in 1..=2 {
        directory.applied(number, &cleared);
    }
    let barrier = directory.barrier(&cleared).unwrap();
    assert!(!cleared.is_safe_to_stop(node(1), barrier, 1), "an off-home session is left");
    assert!(cleared.is_safe_to_stop(node(1), barrier, 0));
    assert!(!cleared.is_safe_to_stop(node(2), barrier, 0), "it owns slots");
}

/// The proof that a node's first epoch is over.
fn proof(directory: &Directory, number: u16) -> FenceProof {
    let times = LeaseTimes::default();
    let mut taker = Taker::new(node(number), times);
    let row = directory.fence(number);
    taker.saw(Some(&row), None, BootTime::default());
    let owner = Owner { node: node(number), epoch: row.epoch };
    taker.proof(owner, BootTime::default().after(Duration::from_secs(15))).expect("fenced")
}

#[test]
fn a_lost_owner_is_replaced_and_remembered() {
    let mut directory = Directory::of(3);
    let moving = Placement::all_to(node(1)).next(&[member(2)]).unwrap();
    assert!(matches!(moving.next(&[member(3)]), Err(PlanError::StillMoving(_))));
    directory.end(2);
    let proof = proof(&directory, 2);
    let members = [1, 2, 3].map(member);
    let drained = Member { weight: 0, ..member(1) };
    for previous in [member(1), drained] {
        let back = moving.failed_over(&[previous, member(3)], proof).unwrap();
        assert_eq!(back.slots()[7], slot(1, Some(2)), "sessions may be at node 1 and at node 2");
    }
    let stays = moving.failed_over(&members[1..], proof).unwrap();
    assert_eq!(stays.slots()[7], slot(2, Some(1)), "a third owner would forget one of them");
    let settled = Placement::all_to(node(2)).failed_over(&members[2..], proof).unwrap();
    assert_eq!(settled.slots()[7], slot(3, Some(2)), "where its sessions wait for it");
    let others = Placement::all_to(node(1)).failed_over(&members[2..], proof).unwrap();
    assert_eq!(others.slots()[7], slot(1, None), "only what must move does");
    assert_eq!(moving.failed_over(&[member(2)], proof), Err(PlanError::NoMembers));
}

#[test]
fn slots_whose_owners_both_before_and_after_are_lost_are_counted_and_wait() {
    let mut directory = Directory::of(3);
    let moving = Placement::all_to(node(1)).next(&[member(2)]).unwrap();
    let stranded = |placement: &Placement, lost: &[u16]| {
        placement.stranded(|it| lost.iter().any(|number| node(*number) == it))
    };
    assert_eq!([&[1][..], &[2], &[1, 3]].map(|lost| stranded(&moving, lost)), [0, 0, 0]);
    assert_eq!(stranded(&moving, &[1, 2]), SLOTS);
    directory.end(2);
    directory.end(1);
    let lost = proof(&directory, 2);
    let waiting = moving.failed_over(&[member(3)], lost).unwrap();
    assert_eq!(waiting.slots(), moving.slots());
    // Node 1 is back.
    let back = waiting.failed_over(&[member(1), member(3)], lost).unwrap();
    assert_eq!((back.slots()[7], stranded(&back, &[2])), (slot(1, Some(2)), 0));
    // Or nothing is left there.
    directory.applied(3, &waiting);
    let emptied = directory.barrier(&waiting).unwrap().emptied(node(1), 0).unwrap();
    let over = waiting.cleared(emptied).unwrap().failed_over(&[member(3)], lost).unwrap();
    assert_eq!((over.slots()[7], stranded(&over, &[1, 2])), (slot(3, Some(2)), 0));
}

#[test]
fn a_lost_owner_that_is_back_keeps_its_slots() {
    let mut directory = Directory::of(3);
    let first = Placement::all_to(node(1));
    let moving = first.next(&[member(2)]).unwrap();
    directory.place(&first);
    directory.place(&moving);
    let attempt = directory.attempt(1);
    let before = directory.placement().unwrap();
    let live = directory.fence(2);
    let fenced = directory.end(2);
    let over = moving.failed_over(&[member(1)], proof(&directory, 2)).unwrap();
    let write = |lost| {
        let (write, _) = DirectoryWrite::place(Some(&before), &over, attempt).unwrap();
        write.while_fenced(lost)
    };
    assert_eq!(write(&live).unwrap_err(), BadWrite::NotFenced);
    let write = write(&fenced).unwrap();
    directory.register(2);
    assert_eq!(directory.apply(&write), Outcome::Lost(Mismatch::Row));
}

#[test]
fn the_identity_of_who_places_is_compared() {
    let mut directory = Directory::of(1);
    let first = Placement::all_to(node(1));
    let stranger = Identity { incarnation: Incarnation(77), ..directory.fence(1).identity() };
    let attempt = Attempt { by: stranger, ..directory.attempt(1) };
    let (write, _) = DirectoryWrite::place(None, &first, attempt).unwrap();
    assert_eq!(directory.apply(&write), Outcome::Fenced);
}
