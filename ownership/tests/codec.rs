//! What is stored, as bytes: one form for each thing, and no thing for other bytes.

mod common;

use common::{life, node, owner, steps};
use ownership::{
    Placement, Revision, SessionId, StateVersion,
    audit::{Entry, Event, Head, NodeChange, NodeEvent, PlacementEvent, Refusal},
    baggage::{Baggage, TooManyWireIds},
    model::{OperationId, Reason, Time},
    store::{
        Admission, AuditKey, AuditRow, BaggageRow, Condition, FenceRow, Generation, HeartbeatRow,
        InboxRow, Incarnation, Key, OffHomeKey, OffHomeRow, PlacementRow, Row, StoredSession,
        TransferRow, WireId,
    },
    transfer::ContextLimit,
};
use proptest::{collection::vec, prelude::*, sample::Index};

fn event() -> impl Strategy<Value = Event> {
    let change = (steps(), any::<Index>()).prop_map(|(steps, at)| {
        let writes = life(1, &steps);
        at.get(&writes).transaction().entries()[0].event.clone()
    });
    let attempt = || (1..5_u16, 1..9_u32, any::<u64>(), any::<u128>());
    let told = prop_oneof![
        "[a-zé]{0,12}".prop_map(|name| NodeChange::Registered { name }),
        Just(NodeChange::Accepting),
        Just(NodeChange::Draining),
        Just(NodeChange::Fenced),
    ];
    let node_event = (told, attempt(), any::<u128>()).prop_map(
        |(change, (number, epoch, now, operation), incarnation)| {
            Event::Node(NodeEvent {
                node: owner(number, epoch),
                incarnation: Incarnation(incarnation),
                number: now,
                change,
                actor: owner(number + 1, epoch),
                now: Time::from_millis(now),
                operation: OperationId(operation),
            })
        },
    );
    let placement =
        (any::<[u8; 32]>(), attempt()).prop_map(|(digest, (number, epoch, now, operation))| {
            Event::Placement(PlacementEvent {
                revision: Revision::new(epoch).unwrap(),
                digest,
                actor: owner(number, epoch),
                now: Time::from_millis(now),
                operation: OperationId(operation),
            })
        });
    let refusal = (any::<Index>(), any::<Option<[u8; 16]>>(), any::<Option<u64>>(), any::<u32>())
        .prop_map(|(reason, session, stood, count)| {
            Event::Refusal(Refusal {
                reason: *reason.get(Reason::ALL),
                session: session.map(SessionId::new),
                stood: stood.map(StateVersion::new),
                count,
                actor: node(3),
                now: Time::from_millis(u64::from(count)),
            })
        });
    prop_oneof![3 => change, 1 => node_event, 1 => placement, 1 => refusal]
}

fn head() -> impl Strategy<Value = Head> {
    any::<[u8; 32]>().prop_map(Head::new)
}

fn session() -> impl Strategy<Value = StoredSession> {
    (steps(), any::<Index>()).prop_map(|(steps, at)| *at.get(&life(1, &steps)).after())
}

fn wire_id() -> impl Strategy<Value = WireId> {
    vec(any::<u8>(), 0..=40).prop_map(|bytes| WireId::new(&bytes).unwrap())
}

fn off_home_key() -> impl Strategy<Value = OffHomeKey> {
    (any::<u16>(), wire_id()).prop_map(|(slot, id)| OffHomeKey { slot, id })
}

fn baggage() -> impl Strategy<Value = Baggage> {
    (vec(wire_id(), 0..=Baggage::MAX_WIRE_IDS), vec(any::<u8>(), 0..50))
        .prop_map(|(wire_ids, context)| Baggage::new(wire_ids, context.into()).unwrap())
}

fn fence() -> impl Strategy<Value = FenceRow> {
    // Few values, so that conditions meet rows that are alike.
    let admission =
        prop_oneof![Just(Admission::Accepting), Just(Admission::Draining), Just(Admission::Fenced)];
    (1..3_u16, 1..5_u32, 0..3_u128, admission, head(), "[a-z]{0,4}").prop_map(
        |(number, epoch, incarnation, admission, head, name)| FenceRow {
            node: node(number),
            name,
            epoch: owner(number, epoch).epoch,
            incarnation: Incarnation(u128::MAX - incarnation),
            admission,
            changes: epoch.into(),
            head,
            operation: OperationId(incarnation),
        },
    )
}

fn placement() -> impl Strategy<Value = PlacementRow> {
    (1..4_u32, head()).prop_map(|(revision, head)| PlacementRow {
        revision: Revision::new(revision).unwrap(),
        bytes: Placement::all_to(node(1)).to_bytes().into(),
        head,
        operation: OperationId(9),
    })
}

fn row() -> impl Strategy<Value = Row> {
    let heartbeat = (1..5_u32, any::<u64>(), 0..3_u32).prop_map(|(epoch, count, applied)| {
        let epoch = owner(1, epoch).epoch;
        let (applied, operation) = (Revision::new(applied), OperationId(3));
        Row::Heartbeat(HeartbeatRow { node: node(4), epoch, count, applied, operation })
    });
    let off_home =
        (off_home_key(), any::<[u8; 16]>(), any::<u64>()).prop_map(|(key, id, version)| {
            let (session, version) = (SessionId::new(id), StateVersion::new(version));
            Row::OffHome(OffHomeRow { key, session, owner: owner(2, 7), version })
        });
    let inbox = (session(), vec(any::<u8>(), 0..50)).prop_map(|(session, context)| {
        Row::Inbox(InboxRow { session, from: owner(2, 7), context: context.into() })
    });
    let transfer = (session(), any::<u64>()).prop_map(|(session, frozen)| {
        Row::Transfer(TransferRow { frozen: StateVersion::new(frozen), session })
    });
    let entry = (event(), prop::option::of(head())).prop_map(|(event, head)| Entry { event, head });
    let audit = (any::<(u64, u64)>(), vec(entry, 0..4)).prop_map(|((stream, number), entries)| {
        Row::Audit(AuditRow { key: AuditKey { stream, number }, entries })
    });
    let carried =
        (any::<[u8; 16]>(), any::<u64>(), baggage()).prop_map(|(id, changes, baggage)| {
            Row::Baggage(BaggageRow { session: SessionId::new(id), changes, baggage })
        });
    prop_oneof![
        any::<u64>().prop_map(|number| Row::Generation(Generation(number))),
        (1..9_u32).prop_map(|number| Row::Epochs(owner(1, number).epoch)),
        fence().prop_map(Row::Fence),
        heartbeat,
        placement().prop_map(Row::Placement),
        session().prop_map(Row::Session),
        off_home,
        inbox,
        transfer,
        audit,
        carried,
    ]
}

/// A condition that asks about rows like those above.
fn condition() -> impl Strategy<Value = Condition> {
    let fence_is = fence().prop_flat_map(|row| {
        prop_oneof![
            Just(Condition::Acting(row.identity())),
            Just(Condition::Accepting(row.identity())),
            Just(Condition::Revoked(row.owner())),
        ]
    });
    prop_oneof![
        6 => fence_is,
        1 => row().prop_map(Condition::Is),
        1 => row().prop_map(|row| Condition::Absent(row.key())),
        1 => (1..4_u32).prop_map(|number| Condition::PlacementAt(Revision::new(number).unwrap())),
    ]
}

proptest! {
    #[test]
    fn events_and_back(event in event(), at in any::<Index>(), bits in 1..=u8::MAX) {
        let mut bytes = event.to_bytes();
        prop_assert_eq!(Event::from_bytes(&bytes), Ok(event.clone()));
        // A changed byte makes no event, or another one.
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
        if let Ok(other) = Event::from_bytes(&bytes) {
            prop_assert_ne!(&other, &event);
            prop_assert_eq!(other.to_bytes(), bytes);
        }
    }

    #[test]
    fn baggage_and_back(baggage in baggage(), at in any::<Index>(), bits in 1..=u8::MAX) {
        let mut bytes = baggage.to_bytes();
        prop_assert_eq!(Baggage::from_bytes(&bytes), Ok(baggage.clone()));
        let packed = baggage.packed(ContextLimit::ETCD).unwrap();
        prop_assert_eq!(Baggage::unpacked(packed.bytes()), Ok(baggage.clone()));
        let at = at.index(bytes.len());
        prop_assert_ne!(Baggage::from_bytes(&bytes[..at]), Ok(baggage.clone()));
        bytes[at] ^= bits;
        if let Ok(other) = Baggage::from_bytes(&bytes) {
            prop_assert_ne!(&other, &baggage);
            prop_assert_eq!(other.to_bytes(), bytes);
        }
    }

    #[test]
    fn arbitrary_bytes_are_no_baggage_or_its_own(bytes in vec(any::<u8>(), 0..300), ids in 0..40_u8) {
        // Nearly nothing else begins as baggage does.
        for bytes in [bytes.clone(), [&[1, ids], bytes.as_slice()].concat()] {
            if let Ok(baggage) = Baggage::from_bytes(&bytes) {
                prop_assert!(baggage.wire_ids().len() <= Baggage::MAX_WIRE_IDS);
                prop_assert_eq!(baggage.to_bytes(), bytes);
            }
        }
    }

    #[test]
    fn rows_and_back(row in row(), at in any::<Index>(), bits in 1..=u8::MAX) {
        let (key, mut bytes) = (row.key(), row.to_bytes());
        prop_assert_eq!(Row::from_bytes(&key, &bytes), Ok(row.clone()));
        prop_assert_eq!(Key::from_bytes(&key.to_bytes()), Ok(key.clone()));
        if bytes.is_empty() {
            return Ok(());
        }
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
        if let Ok(other) = Row::from_bytes(&key, &bytes) {
            prop_assert_ne!(&other, &row);
            prop_assert_eq!(other.to_bytes(), bytes);
        }
    }

    #[test]
    fn what_is_cut_short_is_something_else_or_nothing(row in row(), at in any::<Index>()) {
        let (key, bytes) = (row.key(), row.to_bytes());
        if let Some(end) = bytes.len().checked_sub(1) {
            let cut = &bytes[..at.index(end + 1)];
            prop_assert_ne!(Row::from_bytes(&key, cut), Ok(row));
        }
    }

    #[test]
    fn arbitrary_bytes_panic_nobody(bytes in vec(any::<u8>(), 0..300), row in row()) {
        let _ = Event::from_bytes(&bytes);
        let _ = Row::from_bytes(&row.key(), &bytes);
        if let Ok(key) = Key::from_bytes(&bytes) {
            prop_assert_eq!(key.to_bytes(), bytes);
        }
    }

    #[test]
    fn bytes_of_keys_are_in_the_order_of_the_keys(one in row(), other in row()) {
        let (one, other) = (one.key(), other.key());
        prop_assert_eq!(one.cmp(&other), one.to_bytes().cmp(&other.to_bytes()));
    }

    #[test]
    fn a_condition_asks_the_same_of_a_row_and_of_its_bytes(
        condition in condition(),
        rows in vec(prop_oneof![fence().prop_map(Row::Fence), row()], 1..8),
    ) {
        let compared = condition.compared();
        let key = condition.key();
        let stands = rows.iter().find(|row| row.key() == key);
        let bytes = stands.map(Row::to_bytes);
        prop_assert_eq!(condition.check(stands).is_ok(), compared.holds(bytes.as_deref()));
        if let Condition::Is(row) = &condition {
            prop_assert!(compared.holds(Some(&row.to_bytes())));
        }
    }

    #[test]
    fn a_life_is_a_chain_of_writes(steps in steps()) {
        let mut tables = ownership::store::Tables::default();
        for write in life(1, &steps) {
            let all: Vec<_> = write.transaction().conditions().to_vec();
            // Nobody is registered here, so only the row itself is compared.
            let own: Vec<_> = all.iter().filter(|is| matches!(is.key(), Key::Session(_))).cloned().collect();
            prop_assert_eq!(own.len(), 1);
            let (writes, entries) = (write.transaction().writes(), write.transaction().entries());
            prop_assert!(tables.apply_parts(&own, writes, entries).is_won());
            prop_assert!(!tables.apply_parts(&own, writes, entries).is_won());
        }
    }
}

#[test]
fn baggage_has_one_format_and_not_too_many_wire_ids() {
    let id = WireId::new(&[]).unwrap();
    let most = Baggage::new(vec![id.clone(); Baggage::MAX_WIRE_IDS], [].into()).unwrap();
    let mut bytes = most.to_bytes();
    assert_eq!(Baggage::from_bytes(&bytes), Ok(most));
    bytes[1] += 1;
    bytes.push(0);
    assert!(Baggage::from_bytes(&bytes).is_err(), "one more");
    let more = Baggage::MAX_WIRE_IDS + 1;
    assert_eq!(Baggage::new(vec![id; more], [].into()), Err(TooManyWireIds(more)));
    assert_eq!(Baggage::from_bytes(&[1, 0]), Ok(Baggage::default()));
    for bad in [&[][..], &[0, 0], &[2, 0], &[1], &[1, 1], &[1, 1, 2, 9], &[1, 0xff]] {
        assert!(Baggage::from_bytes(bad).is_err(), "{bad:?}");
    }
}
