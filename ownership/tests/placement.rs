//! The placement: fair shares, and no slot moves that need not.

use ownership::{
    NodeIndex, Placement, Revision,
    placement::{Member, PlanError, SLOTS},
};
use proptest::prelude::*;
use std::collections::HashMap;

fn member(index: u16, weight: u32) -> Member {
    Member { index: NodeIndex::new(index).unwrap(), name: format!("node-{index}"), weight }
}

fn plan(members: &[Member]) -> Placement {
    Placement::plan(members, Revision::FIRST).unwrap()
}

/// One to twelve members with distinct indices and weights of 1 to 400.
fn members() -> impl Strategy<Value = Vec<Member>> {
    prop::collection::hash_map(1..200_u16, 1..400_u32, 1..12)
        .prop_map(|map| map.into_iter().map(|(index, weight)| member(index, weight)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_the_list_and_the_indices_do_not_matter(mut members in members()) {
        let placement = plan(&members);
        members.reverse();
        prop_assert_eq!(&plan(&members), &placement);
        for member in &mut members {
            member.index = NodeIndex::new(member.index.get() + 1_000).unwrap();
        }
        for (a, b) in placement.slots().iter().zip(plan(&members).slots()) {
            prop_assert_eq!(a.owner.unwrap().get() + 1_000, b.owner.unwrap().get());
        }
    }

    #[test]
    fn bytes_and_back(members in members()) {
        let placement = plan(&members);
        let bytes = placement.to_bytes();
        prop_assert_eq!(Placement::from_bytes(&bytes), Ok(placement));
        prop_assert!(Placement::from_bytes(&bytes[..bytes.len() - 1]).is_err());
        prop_assert!(Placement::from_bytes(&bytes[..bytes.len() - 6]).is_err());
    }

    #[test]
    fn each_member_gets_its_share(members in members()) {
        let placement = plan(&members);
        let total: u32 = members.iter().map(|member| member.weight).sum();
        for member in &members {
            let share = SLOTS as f64 * member.weight as f64 / total as f64;
            let got = placement.slots_of(member.index).count() as f64;
            // Six standard deviations of a binomial draw, and one slot.
            prop_assert!((got - share).abs() < 6.0 * share.sqrt() + 1.0, "{got} of {share}");
        }
    }

    #[test]
    fn only_the_slots_of_a_member_that_leaves_move(members in members(), pick: prop::sample::Index) {
        prop_assume!(members.len() > 1);
        let mut rest = members.clone();
        let gone = rest.remove(pick.index(members.len()));
        let (before, after) = (plan(&members), plan(&members).next(&rest).unwrap());
        for (old, new) in before.slots().iter().zip(after.slots()) {
            if old.owner == Some(gone.index) {
                prop_assert_ne!(new.owner, old.owner);
                prop_assert_eq!(new.previous, old.owner);
            } else {
                prop_assert_eq!(new, old);
            }
        }
        // And if it comes back, everything is as it was.
        let back = after.next(&members).unwrap();
        for (new, old) in back.slots().iter().zip(before.slots()) {
            prop_assert_eq!(new.owner, old.owner);
        }
    }

    #[test]
    fn more_weight_only_brings_slots_and_less_only_takes_them(
        members in members(), pick: prop::sample::Index, weight in 0..400_u32,
    ) {
        prop_assume!(members.len() > 1);
        let mut changed = members.clone();
        let pick = pick.index(members.len());
        let was = changed[pick].weight;
        changed[pick].weight = weight;
        let index = Some(changed[pick].index);
        for (old, new) in plan(&members).slots().iter().zip(plan(&changed).slots()) {
            if weight >= was {
                prop_assert!(new.owner == old.owner || new.owner == index);
            }
            if weight <= was {
                prop_assert!(new.owner == old.owner || old.owner == index);
            }
        }
    }
}

#[test]
fn a_thousand_members_all_get_slots() {
    let members: Vec<_> = (1..=1_000).map(|index| member(index, 100)).collect();
    let placement = plan(&members);
    let mut shares: HashMap<_, usize> = HashMap::new();
    for slot in placement.slots() {
        *shares.entry(slot.owner.unwrap()).or_default() += 1;
    }
    assert_eq!(shares.len(), 1_000);
    assert!(shares.values().all(|&share| (20..120).contains(&share)), "{shares:?}");
}

#[test]
fn a_slot_moves_once_at_a_time() {
    let members = [member(1, 100), member(2, 100), member(3, 100)];
    let first = plan(&members);
    let drained = first.next(&members[1..]).unwrap();
    assert_eq!(drained.revision().get(), 2);
    assert!(drained.slots_of(members[0].index).next().is_none());
    // Taking node 2 away as well would move slots whose sessions may still be at node 1.
    let moving = drained.next(&members[2..]);
    assert!(matches!(moving, Err(PlanError::StillMoving(_))), "{moving:?}");
    // Node 1 may have them back, though.
    let back = drained.next(&members).unwrap();
    assert!(back.slots().iter().zip(first.slots()).all(|(new, old)| new.owner == old.owner));
}

#[test]
fn bad_members_are_refused_with_the_reason() {
    let plan = |members: &[Member]| Placement::plan(members, Revision::FIRST).unwrap_err();
    assert_eq!(plan(&[]), PlanError::NoMembers);
    assert_eq!(plan(&[member(1, 0)]), PlanError::NoMembers);
    let twice = plan(&[member(1, 1), member(1, 1)]).to_string();
    assert_eq!(twice, "two nodes share the name \"node-1\" or the index 1");
    let heavy = plan(&[member(1, 1_000_001)]).to_string();
    assert_eq!(heavy, "the weight of node \"node-1\" is 1000001: at most 1000000");
}
