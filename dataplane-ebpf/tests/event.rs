//! What becomes of refusals on their way to userspace: told or counted, each once.

mod property;

use dataplane_ebpf::{
    event::{Budget, Event, PER_WINDOW, REASON_SLOTS, Reason, origin},
    verdict::{Admission, Egress, Verdict},
};
use proptest::{collection::vec, prelude::*};
use std::collections::{BTreeMap, HashSet};

/// A window's length in jiffies.
const WINDOW: u64 = 256;

fn all() -> impl Iterator<Item = Reason> {
    let verdicts = Verdict::ALL.iter().map(|&verdict| Reason::Verdict(verdict));
    let admissions = Admission::ALL.iter().map(|&admission| Reason::Admission(admission));
    verdicts.chain(admissions).chain(Egress::ALL.iter().map(|&egress| Reason::Egress(egress)))
}

#[test]
fn every_reason_has_a_place_of_its_own_and_is_known_by_origin_and_code() {
    let mut places = HashSet::new();
    for reason in all() {
        assert!(places.insert(reason.slot()) && reason.slot() < REASON_SLOTS, "{reason:?}");
        assert_eq!(Reason::of(reason.origin(), reason.code()), Some(reason));
        assert_ne!(
            Budget::index(1, reason),
            Budget::index(2, Reason::Verdict(Verdict::Pass)),
            "another service's"
        );
    }
    assert_eq!(Reason::of(origin::XDP, Verdict::ALL.len() as u8), None);
    assert_eq!(Reason::of(9, 0), None);
}

#[test]
fn what_is_passed_delivered_or_forwarded_is_no_refusal() {
    let refusals: HashSet<_> = Reason::refusals().collect();
    for fine in [Verdict::Pass, Verdict::Local, Verdict::ForwardSlot, Verdict::SecondChance] {
        assert!(!refusals.contains(&Reason::Verdict(fine)), "{fine:?}");
    }
    assert!(!refusals.contains(&Reason::Admission(Admission::WrongCpu)));
    assert!(refusals.contains(&Reason::Verdict(Verdict::NoSession)));
    assert!(refusals.contains(&Reason::Admission(Admission::Late)));
    assert!(!refusals.contains(&Reason::Egress(Egress::Passed)));
    assert!(refusals.contains(&Reason::Egress(Egress::Shut)));
}

#[test]
fn an_entry_of_another_size_is_no_event() {
    assert_eq!(Event::from_bytes(&[0; 55]), None);
    assert_eq!(Event::from_bytes(&[0; 57]), None);
    assert!(Event::from_bytes(&[0; 56]).is_some());
}

proptest! {
    #![proptest_config(property::config())]

    #[test]
    fn each_refusal_is_told_or_suppressed_and_a_window_tells_only_a_few(
        steps in vec((0..WINDOW * 2, any::<bool>()), 1..500),
        start in 0..u64::MAX / 2,
    ) {
        let mut budget = Budget::default();
        let mut now = start;
        let mut windows: BTreeMap<u64, u64> = BTreeMap::new();
        for (refused, (step, full)) in (1..).zip(steps) {
            // Mostly bursts.
            now += step.saturating_sub(WINDOW);
            if budget.may_tell(now) {
                if full {
                    budget.suppressed += 1;
                } else {
                    budget.told += 1;
                    *windows.entry(now / WINDOW).or_default() += 1;
                }
            }
            prop_assert_eq!(budget.told + budget.suppressed, refused);
        }
        prop_assert!(windows.values().all(|&told| told <= PER_WINDOW), "{:?}", windows);
    }
}
