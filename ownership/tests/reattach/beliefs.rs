//! The client's side: what it believes, and what it does not.

use crate::{
    client::{asked, moved},
    cluster::{Cluster, address, owner, session},
};
use ownership::{
    SessionId, StateVersion,
    client::{Contradiction, Dropped, End, Hint, Memory, Next, Status, Tracker},
    control::{Answer, Ask, InReplyTo, Request, Snapshot},
    model::{Accepted, Nonce, Reason},
};

#[test]
fn a_reattach_with_its_keys_that_it_did_not_ask_for_is_a_contradiction() {
    let mut cluster = Cluster::new();
    let (mut client, message) = moved(&mut cluster);
    // Somebody has a copy of the client, or of its keys.
    let memory = Memory { next: Nonce::new(1_000), ..client.memory() };
    let credentials = cluster.secrets.current().credentials(session(), 0);
    let mut copy = Tracker::resumed(session(), memory, credentials);
    let theirs = copy.retry().unwrap();
    cluster.exchange(&mut copy, theirs, address(66));
    assert_eq!(copy.status(), Status::Attached);
    let stale = cluster.serve(&message, address(1)).unwrap();
    let end = End::Contradiction(Contradiction::ForeignReattach);
    assert_eq!(client.receive(stale.message()), Ok(Next::Done(Status::Closed(end))));
}

#[test]
fn a_store_that_went_back_in_time_is_not_believed() {
    let mut cluster = Cluster::new();
    let old = cluster.record;
    let (mut client, message) = moved(&mut cluster);
    cluster.exchange(&mut client, message, address(1));
    let (known, query) = (client.memory(), client.ask().unwrap());
    cluster.record = old;
    let lower = cluster.serve(&query, address(1)).unwrap();
    assert_eq!(client.receive(lower.message()), Err(Dropped::Lower));
    assert_eq!((client.memory().version, client.status()), (known.version, Status::Attached));
    let message = client.moved().unwrap();
    let mut from = cluster.serve(&message, address(2)).unwrap();
    let Ok(Next::Send(message)) = client.receive(from.message()) else { panic!() };
    from = cluster.serve(&message, address(2)).unwrap();
    assert_eq!(from.refused().unwrap().reason, Reason::VersionAhead);
    assert_eq!(client.receive(from.message()), Err(Dropped::Lower));
    assert_eq!(client.status(), Status::Unsettled, "and nothing goes on");
}

#[test]
fn one_version_in_two_forms_is_a_contradiction() {
    let mut cluster = Cluster::new();
    let (mut client, message) = moved(&mut cluster);
    cluster.exchange(&mut client, message, address(1));
    // Another line of the session's history, which has come as far.
    let mut other = Cluster::new();
    other.pass(1_000);
    other.take_over(1);
    let query = client.ask().unwrap();
    let reply = other.serve(&query, address(1)).unwrap();
    let end = End::Contradiction(Contradiction::TwoStates);
    assert_eq!(client.receive(reply.message()), Ok(Next::Done(Status::Closed(end))));
}

#[test]
fn an_acknowledgement_that_does_not_follow_from_its_request_is_a_contradiction() {
    let snapshot = |version, accepted: Option<(u64, u64)>| Snapshot {
        version: StateVersion::new(version),
        epoch: owner(0).epoch,
        key_generation: 0,
        accepted: accepted.map(|(version, nonce)| Accepted {
            version: StateVersion::new(version),
            nonce: Nonce::new(nonce),
        }),
        is_bound: true,
    };
    let wrong = [
        snapshot(3, Some((3, 2))),
        snapshot(2, Some((2, 1))),
        snapshot(2, None),
        snapshot(1, None),
    ];
    for snapshot in wrong {
        let mut cluster = Cluster::new();
        let (mut client, message) = moved(&mut cluster);
        let unproven = Request::parse(&message).unwrap();
        let Request { session, nonce, .. } = *unproven.claim();
        assert_eq!(nonce, Nonce::new(2));
        let credentials = cluster.secrets.current().credentials(session, 0);
        let to = InReplyTo { session, nonce, tag: unproven.tag() };
        let ack = Answer::Ack(snapshot).seal(&to, &credentials.answer_key());
        let end = End::Contradiction(Contradiction::Acknowledgement);
        assert_eq!(client.receive(&ack), Ok(Next::Done(Status::Closed(end))), "{snapshot:?}");
    }
}

#[test]
fn what_is_not_for_it_is_dropped() {
    let mut cluster = Cluster::new();
    let (mut client, message) = moved(&mut cluster);
    let ack = *cluster.serve(&message, address(1)).unwrap().message();
    let before = client.memory();
    assert!(matches!(client.receive(&ack[..87]), Err(Dropped::Unreadable(_))));
    assert!(matches!(client.receive(&message), Err(Dropped::Unreadable(_))), "its own request");
    let with = |at: usize| {
        let mut changed = ack;
        changed[at] ^= 1;
        changed
    };
    assert_eq!(client.receive(&with(5)), Err(Dropped::OtherSession));
    assert_eq!(client.receive(&with(40)), Err(Dropped::Unasked), "another nonce");
    assert_eq!(client.receive(&with(31)), Err(Dropped::Forged), "another version");
    assert_eq!(client.receive(&with(87)), Err(Dropped::Forged));
    assert_eq!((client.memory(), client.status()), (before, Status::Unsettled));
    let mut other = Tracker::resumed(
        SessionId::new([3; 16]),
        client.memory(),
        cluster.secrets.current().credentials(session(), 0),
    );
    assert_eq!(other.receive(&ack), Err(Dropped::OtherSession));
    assert_eq!(client.receive(&ack), Ok(Next::Done(Status::Attached)));
}

#[test]
fn hints_make_it_ask_once_and_change_nothing() {
    let mut cluster = Cluster::new();
    let (mut client, message) = moved(&mut cluster);
    cluster.exchange(&mut client, message, address(1));
    let known = client.memory();
    let (epoch, version) = (known.epoch.get(), known.version.get());
    assert_eq!(client.hint(epoch, version), Hint::Current);
    assert_eq!(client.hint(epoch, version - 1), Hint::Current, "overtaken, of the same owner");
    assert_eq!(client.hint(epoch + 1, version), Hint::Old);
    assert_eq!(client.hint(epoch - 1, version - 1), Hint::Old);
    for _ in 0..3 {
        cluster.step_move(1);
    }
    let (epoch, version) = (cluster.record.owner().epoch.get(), cluster.version().get());
    let Hint::Ask(query) = client.hint(epoch, version) else { panic!("a question") };
    assert_eq!(asked(&query).ask, Ask::Query);
    assert_eq!(client.hint(epoch, version), Hint::Asked);
    assert_eq!(client.hint(9, u64::MAX), Hint::Asked);
    assert_eq!((client.memory().version, client.status()), (known.version, Status::Attached));
    cluster.exchange(&mut client, query, address(1));
    assert_eq!(client.memory().version, cluster.version());
    assert_eq!(client.hint(epoch, version), Hint::Current);
    assert_eq!(client.hint(known.epoch.get(), known.version.get()), Hint::Old, "its last owner");
}

#[test]
fn a_client_goes_on_after_a_restart() {
    let mut cluster = Cluster::new();
    let (mut client, message) = moved(&mut cluster);
    let kept = client.memory();
    let _lost = client.retry();
    let accepted = client.retry().unwrap();
    let _lost = cluster.serve(&message, address(1));
    let _late = cluster.serve(&accepted, address(1));
    // It had kept its memory two requests earlier.
    let credentials = cluster.secrets.current().credentials(session(), 0);
    let mut client = Tracker::resumed(session(), kept.after_restart(100), credentials);
    assert_eq!(client.status(), Status::Unsettled);
    let message = client.retry().unwrap();
    cluster.exchange(&mut client, message, address(1));
    assert_eq!(client.status(), Status::Attached);
}

#[test]
fn a_client_without_nonces_ends() {
    let cluster = Cluster::new();
    let credentials = cluster.secrets.current().credentials(session(), 0);
    let memory = Memory { next: Nonce::new(u64::MAX - 1), ..cluster.client().memory() };
    let mut client = Tracker::resumed(session(), memory, credentials);
    assert!(client.retry().is_some());
    assert_eq!(client.retry(), None);
    assert_eq!(client.status(), Status::Closed(End::NoncesExhausted));
}
