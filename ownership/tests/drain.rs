//! Draining a node: a few sessions at a time, at a pace, until a deadline.

use ownership::{
    SessionId,
    drain::{BadLimits, Drain, Ending, How, LeftOver, Limits, Start},
    lease::BootTime,
};
use std::{collections::BTreeMap, time::Duration};

fn session(number: u8) -> SessionId {
    SessionId::new([number; 16])
}

/// Milliseconds after the boot.
fn at(milliseconds: u64) -> BootTime {
    BootTime::default().after(Duration::from_millis(milliseconds))
}

const BEGIN: u64 = 100_000;
const DEADLINE: u64 = 160_000;

fn drain(sessions: u8, at_once: usize, per_second: u32, left_over: LeftOver) -> Drain {
    let limits = Limits::new(at_once, per_second, left_over).unwrap();
    Drain::new((0..sessions).map(session), limits, at(BEGIN), at(DEADLINE))
}

fn started(drain: &mut Drain, milliseconds: u64) -> Vec<(u8, How)> {
    let start = |Start { session, how }: Start| (session.bytes()[0], how);
    drain.start(at(milliseconds)).into_iter().map(start).collect()
}

#[test]
fn no_more_than_so_many_are_under_way() {
    let mut drain = drain(5, 2, 1_000, LeftOver::Terminate);
    let all = How::HandOver;
    assert_eq!(started(&mut drain, BEGIN), [(0, all), (1, all)]);
    assert_eq!(started(&mut drain, BEGIN + 10_000), []);
    assert_eq!(drain.next_start(), Some(at(DEADLINE)), "nothing before one has left");
    drain.ended(session(1), Ending::HandedOver);
    assert_eq!(started(&mut drain, BEGIN + 10_000), [(2, all)]);
    drain.ended(session(0), Ending::HandedOver);
    drain.ended(session(2), Ending::Over);
    assert_eq!(started(&mut drain, BEGIN + 20_000), [(3, all), (4, all)]);
    for last in [3, 4] {
        assert!(!drain.is_done());
        drain.ended(session(last), Ending::HandedOver);
    }
    assert!(drain.is_done());
    assert_eq!((drain.next_start(), started(&mut drain, DEADLINE)), (None, vec![]));
    let done = BTreeMap::from([(Ending::HandedOver, 4), (Ending::Over, 1)]);
    assert_eq!(drain.progress().done, done);
}

#[test]
fn they_are_started_at_a_pace() {
    // Two at once, and one every 100 ms.
    let mut drain = drain(9, 2, 10, LeftOver::Terminate);
    assert_eq!(started(&mut drain, BEGIN).len(), 2);
    for number in [0, 1] {
        drain.ended(session(number), Ending::HandedOver);
    }
    assert_eq!(started(&mut drain, BEGIN), [], "the pace is used up");
    let next = drain.next_start().unwrap();
    assert!(next <= at(BEGIN + 100), "{next}");
    assert_eq!(started(&mut drain, BEGIN + 100).len(), 1);
    drain.ended(session(2), Ending::HandedOver);
    // After a pause as many as may be under way, and no more.
    assert_eq!(started(&mut drain, BEGIN + 30_000).len(), 2);
    for number in [3, 4] {
        drain.ended(session(number), Ending::HandedOver);
    }
    assert_eq!(started(&mut drain, BEGIN + 30_000), []);
}

#[test]
fn one_whose_move_was_given_up_is_tried_again_after_the_others() {
    let mut drain = drain(3, 1, 1_000, LeftOver::Terminate);
    assert_eq!(started(&mut drain, BEGIN), [(0, How::HandOver)]);
    drain.failed(session(0));
    for (later, expected) in [(1_000, 1), (2_000, 2), (3_000, 0)] {
        assert_eq!(started(&mut drain, BEGIN + later), [(expected, How::HandOver)]);
        drain.ended(session(expected), Ending::HandedOver);
        drain.ended(session(expected), Ending::HandedOver);
    }
    assert_eq!(drain.progress().done, BTreeMap::from([(Ending::HandedOver, 3)]), "each once");
}

#[test]
fn what_the_deadline_leaves_over_is_cut_short_by_policy() {
    for (left_over, how) in
        [(LeftOver::Terminate, How::Terminate), (LeftOver::Move, How::HandOverInHaste)]
    {
        let mut drain = drain(4, 2, 1, left_over);
        assert_eq!(started(&mut drain, BEGIN).len(), 2);
        assert_eq!(started(&mut drain, DEADLINE - 1), []);
        assert_eq!(started(&mut drain, DEADLINE), [(0, how), (1, how)], "once more");
        assert_eq!(started(&mut drain, DEADLINE), [], "and that is all");
        drain.ended(session(0), Ending::Terminated);
        drain.ended(session(1), Ending::Terminated);
        // The pace does not matter any more; what may be under way does.
        assert_eq!(started(&mut drain, DEADLINE), [(2, how), (3, how)]);
    }
}

#[test]
fn what_fails_is_tried_again_at_the_pace_until_it_is_gone() {
    // One every 100 ms.
    let mut drain = drain(1, 1, 10, LeftOver::Terminate);
    for late in [0, 100, 200] {
        let now = DEADLINE + late;
        assert_eq!(started(&mut drain, now), [(0, How::Terminate)]);
        drain.failed(session(0));
        if late > 0 {
            assert_eq!(started(&mut drain, now), [], "not at once");
            assert_eq!(drain.next_start(), Some(at(now + 100)));
        }
    }
}

#[test]
fn at_the_time_that_is_named_there_is_something_to_start_with() {
    for left_over in [LeftOver::Move, LeftOver::Terminate] {
        let mut drain = drain(30, 2, 3, left_over);
        let mut now = at(BEGIN);
        let mut steps = 0;
        while let Some(next) = drain.next_start() {
            now = now.max(next);
            let starts = drain.start(now);
            assert!(!starts.is_empty(), "at {now}");
            for Start { session, .. } in starts {
                // Every third is in the way until the deadline, and some fail.
                match session.bytes()[0] % 3 {
                    0 if now < at(DEADLINE) => {}
                    1 if steps % 2 == 0 => drain.failed(session),
                    _ => drain.ended(session, Ending::HandedOver),
                }
                steps += 1;
            }
            assert!(steps < 1_000);
        }
        assert!(drain.is_done());
    }
}

#[test]
fn limits_that_drain_nothing_are_refused() {
    assert_eq!(Limits::new(0, 1, LeftOver::Move), Err(BadLimits::NothingAtOnce));
    assert_eq!(Limits::new(1, 0, LeftOver::Move), Err(BadLimits::NoRate));
}
