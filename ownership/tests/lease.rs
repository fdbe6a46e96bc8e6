//! Leases: the holder has stopped before anybody can prove that it has.

use ownership::{
    Epoch, NodeIndex, SessionId,
    lease::{
        BootId, BootTime, Found, Holder, IncarnationRecord, LeaseTimes, Next, NotResumable, Over,
        Registered, Registration, Resuming, Taker,
    },
    model::{OperationId, Owner, Time},
    store::{
        Attempt, DirectoryWrite, Fault, FenceRow, HeartbeatRow, Identity, Incarnation, Key,
        Mismatch, Outcome, Row, Tables,
    },
};
use std::time::Duration;

const UTC: Time = Time::from_millis(1_000_000);
const LOST: Outcome = Outcome::Lost(Mismatch::Row);

fn node(number: u16) -> NodeIndex {
    NodeIndex::new(number).unwrap()
}

/// Seconds after the boot.
fn at(seconds: u64) -> BootTime {
    BootTime::default().after(Duration::from_secs(seconds))
}

fn times() -> LeaseTimes {
    LeaseTimes::default()
}

/// A directory, and numbers for attempts.
#[derive(Default)]
struct Directory {
    tables: Tables,
    drawn: u128,
}

impl Directory {
    fn draw(&mut self) -> OperationId {
        self.drawn += 1;
        OperationId(self.drawn)
    }

    fn fence(&self, number: u16) -> Option<FenceRow> {
        match self.tables.get(&Key::Fence(node(number))) {
            Some(Row::Fence(row)) => Some(row.clone()),
            _ => None,
        }
    }

    fn heartbeat(&self, number: u16) -> Option<HeartbeatRow> {
        match self.tables.get(&Key::Heartbeat(node(number))) {
            Some(Row::Heartbeat(row)) => Some(row.clone()),
            _ => None,
        }
    }

    fn epochs(&self) -> Option<Epoch> {
        match self.tables.get(&Key::Epochs) {
            Some(Row::Epochs(epoch)) => Some(*epoch),
            _ => None,
        }
    }

    fn write(&mut self, write: &DirectoryWrite) -> Outcome {
        self.tables.apply(write.transaction())
    }

    fn attempt(
        &mut self,
        registration: &mut Registration,
        number: u16,
        now: BootTime,
    ) -> DirectoryWrite {
        let operation = self.draw();
        let (before, drawn) = (self.fence(number), self.epochs());
        registration.attempt(before.as_ref(), drawn, now, UTC, operation).unwrap()
    }

    fn register(&mut self, number: u16, now: BootTime) -> Registered {
        let mut registration = registration(number, self.drawn);
        let write = self.attempt(&mut registration, number, now);
        let outcome = self.write(&write);
        registration.answered(outcome).expect("nobody else registers")
    }

    fn holder(&mut self, number: u16, now: BootTime) -> Holder {
        Holder::new(self.register(number, now), times())
    }

    fn beat(&mut self, holder: &mut Holder, now: BootTime) -> DirectoryWrite {
        let operation = self.draw();
        holder.beat(now, None, operation).expect("nothing is under way")
    }

    /// A heartbeat with nothing in its way.
    fn renew(&mut self, holder: &mut Holder, now: BootTime) -> Result<(), Over> {
        let write = self.beat(holder, now);
        let outcome = self.write(&write);
        holder.answered(outcome)
    }

    fn look(&self, taker: &mut Taker, now: BootTime) {
        let number = taker.node().get();
        taker.saw(self.fence(number).as_ref(), self.heartbeat(number).as_ref(), now);
    }

    fn by(&mut self, by: Identity) -> Attempt {
        Attempt { by, now: UTC, operation: self.draw() }
    }
}

fn registration(number: u16, incarnation: u128) -> Registration {
    Registration::new(node(number), &format!("node {number}"), Incarnation(incarnation))
}

#[test]
fn a_lease_runs_from_when_its_heartbeat_was_sent() {
    let mut directory = Directory::default();
    let mut holder = directory.holder(1, at(100));
    assert_eq!(holder.deadline(), Some(at(110)), "the registration is the first heartbeat");
    assert_eq!(holder.next(at(101)), Next::Wait(at(102)));
    assert_eq!(holder.next(at(102)), Next::Beat);
    let write = directory.beat(&mut holder, at(102));
    assert_eq!(holder.next(at(109)), Next::Answer);
    let outcome = directory.write(&write);
    // However late the answer comes.
    holder.answered(outcome).unwrap();
    assert_eq!(holder.deadline(), Some(at(112)));
    assert!(holder.is_open(at(111)) && !holder.is_open(at(112)));
}

#[test]
fn a_lost_heartbeat_is_somebody_else_and_ends_the_epoch_for_good() {
    let mut directory = Directory::default();
    let mut original = directory.holder(1, at(100));
    let mut clone = original.clone();
    directory.renew(&mut clone, at(102)).unwrap();
    assert_eq!(directory.renew(&mut original, at(102)), Err(Over::SomebodyElse));
    assert_eq!((original.deadline(), original.is_open(at(103))), (None, false), "at once");
    assert_eq!(original.next(at(900)), Next::Over(Over::SomebodyElse));
    assert_eq!(original.beat(at(900), None, OperationId(0)), None);
}

#[test]
fn a_fenced_holder_stops_at_once() {
    let mut directory = Directory::default();
    let (mut holder, other) = (directory.holder(1, at(100)), directory.holder(2, at(100)));
    let fence = directory.fence(1).unwrap();
    let attempt = directory.by(other.identity());
    let (write, _) = DirectoryWrite::fence(&fence, attempt);
    assert_eq!(directory.write(&write), Outcome::Won);
    assert_eq!(directory.renew(&mut holder, at(101)), Err(Over::Fenced));
    assert_eq!(holder.deadline(), None);
}

#[test]
fn a_heartbeat_of_unknown_outcome_is_looked_for_and_sent_again() {
    let mut directory = Directory::default();
    let mut holder = directory.holder(1, at(100));
    let stood = directory.heartbeat(1);
    let late = directory.beat(&mut holder, at(102));
    holder.answered(Outcome::Unknown).unwrap();
    assert_eq!((holder.next(at(103)), holder.deadline()), (Next::Look, Some(at(110))));
    // That it is not there proves nothing.
    holder.found(stood.as_ref()).unwrap();
    assert_eq!(holder.next(at(103)), Next::Beat);
    let again = directory.beat(&mut holder, at(104));
    assert_eq!(again, late, "the same one");
    // The first sending arrives, then the second, which is Lost to it: no clone.
    assert_eq!((directory.write(&late), directory.write(&again)), (Outcome::Won, LOST));
    holder.answered(LOST).unwrap();
    assert_eq!((holder.next(at(105)), holder.deadline()), (Next::Look, Some(at(110))));
    holder.found(directory.heartbeat(1).as_ref()).unwrap();
    assert_eq!(holder.deadline(), Some(at(112)), "by the first sending");

    // A second sending that Won was written after it was sent.
    let _lost = directory.beat(&mut holder, at(106));
    holder.answered(Outcome::Unknown).unwrap();
    holder.found(directory.heartbeat(1).as_ref()).unwrap();
    directory.renew(&mut holder, at(107)).unwrap();
    assert_eq!(holder.deadline(), Some(at(117)));
}

#[test]
fn a_clone_is_told_from_a_heartbeat_of_unknown_outcome() {
    let mut directory = Directory::default();
    let mut original = directory.holder(1, at(100));
    let mut clone = original.clone();
    let _lost = directory.beat(&mut original, at(102));
    original.answered(Outcome::Unknown).unwrap();
    directory.renew(&mut clone, at(102)).unwrap();
    let found = original.found(directory.heartbeat(1).as_ref());
    assert_eq!((found, original.deadline()), (Err(Over::SomebodyElse), None));
}

#[test]
fn a_store_that_does_not_answer_lets_the_lease_run_out_and_no_more() {
    let mut directory = Directory::default();
    let mut holder = directory.holder(1, at(100));
    for seconds in [102, 104, 120] {
        let _turned_away = directory.beat(&mut holder, at(seconds));
        holder.answered(Outcome::Unavailable(Fault::Unreachable)).unwrap();
        assert_eq!(holder.deadline(), Some(at(110)));
    }
    // Nobody has fenced it: it may go on.
    directory.renew(&mut holder, at(130)).unwrap();
    assert_eq!(holder.deadline(), Some(at(140)));
}

/// Node 1, and node 2 with a watch over it that has seen it at 200 s of its own clock.
fn watched() -> (Directory, Holder, Holder, Taker) {
    let mut directory = Directory::default();
    let (holder, other) = (directory.holder(1, at(100)), directory.holder(2, at(150)));
    let mut taker = Taker::new(node(1), times());
    directory.look(&mut taker, at(200));
    (directory, holder, other, taker)
}

#[test]
fn a_silent_node_is_fenced_after_the_whole_wait_and_that_proves_it() {
    let (mut directory, mut holder, other, mut taker) = watched();
    directory.renew(&mut holder, at(102)).unwrap();
    directory.look(&mut taker, at(202));
    let attempt = directory.by(other.identity());
    directory.look(&mut taker, at(216));
    assert_eq!(taker.fence(at(216), attempt), None, "14 s");
    let write = taker.fence(at(217), attempt).expect("15 s");
    assert_eq!(taker.proof(holder.owner(), at(217)), None, "not yet");
    let outcome = directory.write(&write);
    taker.answered(outcome);
    let proof = taker.proof(holder.owner(), at(217)).expect("fenced");
    assert!(proof.covers(holder.owner()) && !proof.covers(other.owner()));
    assert_eq!(directory.renew(&mut holder, at(113)), Err(Over::Fenced));
}

#[test]
fn a_node_that_stirs_at_the_last_moment_is_not_fenced() {
    let (mut directory, mut holder, other, mut taker) = watched();
    let attempt = directory.by(other.identity());
    let write = taker.fence(at(215), attempt).expect("15 s");
    directory.renew(&mut holder, at(109)).unwrap();
    let outcome = directory.write(&write);
    assert_eq!(outcome, LOST, "it compares the heartbeat that was waited on");
    taker.answered(outcome);
    assert_eq!(taker.proof(holder.owner(), at(215)), None);
    directory.look(&mut taker, at(216));
    assert_eq!(taker.fence(at(230), attempt), None, "the wait begins anew");
    directory.renew(&mut holder, at(111)).unwrap();
}

#[test]
fn an_unknown_fence_is_recognised_by_its_row() {
    let (mut directory, holder, other, mut taker) = watched();
    let attempt = directory.by(other.identity());
    let write = taker.fence(at(215), attempt).expect("15 s");
    taker.answered(Outcome::Unknown);
    directory.look(&mut taker, at(216));
    assert_eq!(taker.proof(holder.owner(), at(216)), None);
    assert_eq!(directory.write(&write), Outcome::Won, "late");
    directory.look(&mut taker, at(217));
    assert!(taker.proof(holder.owner(), at(217)).is_some());
}

#[test]
fn an_epoch_that_somebody_else_ended_is_over_a_whole_wait_later() {
    let (mut directory, holder, other, mut taker) = watched();
    let fence = directory.fence(1).unwrap();
    let attempt = directory.by(other.identity());
    let (write, _) = DirectoryWrite::fence(&fence, attempt);
    assert_eq!(directory.write(&write), Outcome::Won);
    directory.look(&mut taker, at(205));
    assert_eq!(taker.fence(at(300), attempt), None, "it is fenced already");
    assert_eq!(taker.proof(holder.owner(), at(219)), None, "14 s");
    assert!(taker.proof(holder.owner(), at(220)).is_some());
}

#[test]
fn a_later_epoch_of_a_node_ends_the_earlier_ones() {
    let (mut directory, first, _, mut taker) = watched();
    let second = directory.holder(1, at(120));
    assert!(second.owner().epoch > first.owner().epoch);
    directory.look(&mut taker, at(210));
    assert_eq!(taker.proof(first.owner(), at(224)), None, "14 s");
    let third = directory.holder(1, at(135));
    directory.look(&mut taker, at(224));
    let proof = taker.proof(first.owner(), at(225)).expect("15 s");
    // It names an epoch before the second, whose end was seen later.
    assert!(!proof.covers(second.owner()) && !proof.covers(third.owner()));
    directory.look(&mut taker, at(226));
    assert_eq!(taker.proof(second.owner(), at(240)), None);
    assert!(taker.proof(second.owner(), at(241)).is_some());
}

#[test]
fn a_registration_recognises_itself_after_an_unknown_outcome() {
    let mut directory = Directory::default();
    let mut registering = registration(1, 77);
    let found = |directory: &Directory, registering: &Registration| {
        registering.found(directory.fence(1).as_ref(), directory.heartbeat(1).as_ref())
    };
    let late = directory.attempt(&mut registering, 1, at(100));
    assert_eq!(registering.answered(Outcome::Unknown), None);
    assert_eq!(found(&directory, &registering), None);
    let rival = directory.attempt(&mut registering, 1, at(103));
    assert_eq!((directory.write(&late), directory.write(&rival)), (Outcome::Won, LOST));
    assert_eq!(registering.answered(LOST), None);
    let registered = found(&directory, &registering).expect("the first attempt");
    let mut holder = Holder::new(registered, times());
    assert_eq!(holder.deadline(), Some(at(110)), "by the first attempt");
    directory.renew(&mut holder, at(104)).unwrap();

    // Another registration of the node is not this one.
    let stranger = registration(1, 78);
    assert_eq!(found(&directory, &stranger), None);
}

#[test]
fn epochs_come_from_one_counter_and_an_index_keeps_its_name() {
    let mut directory = Directory::default();
    let epochs: Vec<_> = [1, 2, 1, 3]
        .map(|number| directory.register(number, at(100)).identity().owner.epoch.get())
        .to_vec();
    assert_eq!(epochs, [1, 2, 3, 4]);
    let (before, drawn) = (directory.fence(1), directory.epochs());
    let mut renamed = Registration::new(node(1), "another", Incarnation(9));
    assert!(renamed.attempt(before.as_ref(), drawn, at(100), UTC, OperationId(9)).is_err());
}

#[test]
fn an_epoch_is_resumed_with_the_same_boot_incarnation_and_pins_only() {
    let mut directory = Directory::default();
    let identity = directory.register(1, at(100)).identity();
    let recorded = IncarnationRecord { identity, boot: BootId(5) };
    let same = Found { boot: BootId(5), pinned: Some(identity) };
    let resume = |directory: &Directory, found| {
        let (fence, heartbeat) = (directory.fence(1), directory.heartbeat(1));
        Resuming::new(recorded, found, fence.as_ref(), heartbeat.as_ref(), times(), [])
    };
    let other = Identity { incarnation: Incarnation(99), ..identity };
    let refused = [
        (Found { boot: BootId(6), ..same }, NotResumable::OtherBoot),
        (Found { pinned: None, ..same }, NotResumable::OtherPins),
        (Found { pinned: Some(other), ..same }, NotResumable::OtherPins),
    ];
    for (found, why) in refused {
        assert_eq!(resume(&directory, found), Err(why));
    }
    let mut holder = resume(&directory, same).unwrap().resume().unwrap();
    assert_eq!((holder.deadline(), holder.next(at(105))), (None, Next::Beat), "no lease yet");
    directory.renew(&mut holder, at(105)).unwrap();
    assert_eq!((holder.owner(), holder.deadline()), (identity.owner, Some(at(115))));

    directory.register(1, at(106));
    assert_eq!(resume(&directory, same), Err(NotResumable::NotAdmitted));
}

#[test]
fn an_epoch_is_resumed_once_its_moving_sessions_are_in_order() {
    let mut directory = Directory::default();
    let identity = directory.register(1, at(100)).identity();
    let recorded = IncarnationRecord { identity, boot: BootId(5) };
    let found = Found { boot: BootId(5), pinned: Some(identity) };
    let (fence, heartbeat) = (directory.fence(1), directory.heartbeat(1));
    let sessions = [1, 2].map(|byte| SessionId::new([byte; 16]));
    let mut resuming =
        Resuming::new(recorded, found, fence.as_ref(), heartbeat.as_ref(), times(), sessions)
            .unwrap();
    resuming.settled(sessions[0]);
    let mut resuming = resuming.resume().unwrap_err();
    assert_eq!(resuming.unsettled().collect::<Vec<_>>(), [sessions[1]]);
    resuming.settled(sessions[1]);
    assert!(resuming.resume().is_ok());
}

#[test]
fn proofs_are_of_the_watched_node_only() {
    let (mut directory, holder, other, mut taker) = watched();
    // Rows of another node are none of its business.
    taker.saw(directory.fence(2).as_ref(), directory.heartbeat(2).as_ref(), at(900));
    assert_eq!(taker.silent_since(), Some(at(200)));
    let attempt = directory.by(other.identity());
    let write = taker.fence(at(215), attempt).expect("15 s");
    let outcome = directory.write(&write);
    taker.answered(outcome);
    let stranger = Owner { node: node(2), ..holder.owner() };
    assert_eq!(taker.proof(stranger, at(900)), None);
}
