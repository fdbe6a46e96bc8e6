//! The client's side: how it gets through, message by message.

use crate::cluster::{Cluster, address, owner, session};
use ownership::{
    client::{Dropped, End, Next, Status, Tracker},
    control::{Ask, Message, Request},
    model::{Cause, Input, Reason},
    reattach::Secret,
    store::{Mismatch, Outcome},
};

pub fn asked(message: &Message) -> Request {
    *Request::parse(message).expect("a request").claim()
}

/// A client that is at `address(1)` now and holds a cookie for it, and its request.
pub fn moved(cluster: &mut Cluster) -> (Tracker, Message) {
    let mut client = cluster.client();
    let first = client.moved().unwrap();
    let challenge = cluster.serve(&first, address(1)).unwrap();
    match client.receive(challenge.message()) {
        Ok(Next::Send(message)) => (client, message),
        other => panic!("{other:?}"),
    }
}

fn version(cluster: &Cluster) -> u64 {
    cluster.version().get()
}

#[test]
fn a_client_that_moves_is_attached_after_two_round_trips() {
    let mut cluster = Cluster::new();
    let (mut client, message) = moved(&mut cluster);
    assert_eq!(client.status(), Status::Unsettled);
    let ack = cluster.serve(&message, address(1)).unwrap();
    assert_eq!(client.receive(ack.message()), Ok(Next::Done(Status::Attached)));
    assert_eq!(client.memory().version, cluster.version());
    assert_eq!(client.retry(), None, "nothing is left to do");
    // With its cookie the next request from there needs one.
    cluster.pass(10_000);
    let query = client.ask().unwrap();
    assert_eq!(asked(&query).ask, Ask::Query);
    let state = cluster.serve(&query, address(1)).unwrap();
    assert_eq!(client.receive(state.message()), Ok(Next::Done(Status::Attached)));
}

#[test]
fn a_lost_acknowledgement_is_recognised_in_the_next_answer() {
    let mut cluster = Cluster::new();
    let (mut client, message) = moved(&mut cluster);
    let _lost = cluster.serve(&message, address(1));
    let again = client.retry().unwrap();
    assert!(asked(&again).nonce > asked(&message).nonce);
    let reply = cluster.serve(&again, address(1)).unwrap();
    assert_eq!(reply.refused().unwrap().reason, Reason::StaleVersion);
    assert_eq!(client.receive(reply.message()), Ok(Next::Done(Status::Attached)));
    assert_eq!(version(&cluster), 2, "it was accepted once");
}

#[test]
fn the_same_request_twice_is_told_that_it_was_accepted() {
    let mut cluster = Cluster::new();
    let (mut client, message) = moved(&mut cluster);
    let ack = cluster.serve(&message, address(1)).unwrap();
    let reject = cluster.serve(&message, address(1)).unwrap();
    assert_eq!(reject.refused().unwrap().reason, Reason::NonceReplayed);
    assert_eq!(client.receive(reject.message()), Ok(Next::Done(Status::Attached)));
    assert_eq!(client.receive(ack.message()), Ok(Next::Done(Status::Attached)), "late");
}

#[test]
fn a_session_that_was_moved_meanwhile_is_followed() {
    let mut cluster = Cluster::new();
    let (mut client, message) = moved(&mut cluster);
    for _ in 0..3 {
        cluster.step_move(1);
    }
    assert_eq!((version(&cluster), cluster.record.owner()), (4, owner(1)));
    let stale = cluster.serve(&message, address(1)).unwrap();
    let Ok(Next::Send(message)) = client.receive(stale.message()) else { panic!("at once") };
    assert_eq!(asked(&message).version, cluster.version());
    let ack = cluster.serve(&message, address(1)).unwrap();
    assert_eq!(client.receive(ack.message()), Ok(Next::Done(Status::Attached)));
    // The destination was up for longer than the source: its epoch is lower.
    assert!(owner(1).epoch < owner(0).epoch);
    assert_eq!(client.memory().epoch, owner(1).epoch);
}

#[test]
fn a_lost_acknowledgement_and_a_move_are_recognised_together() {
    let mut cluster = Cluster::new();
    let (mut client, message) = moved(&mut cluster);
    let _lost = cluster.serve(&message, address(1));
    for _ in 0..3 {
        cluster.step_move(1);
    }
    let again = client.retry().unwrap();
    let stale = cluster.serve(&again, address(1)).unwrap();
    assert_eq!(client.receive(stale.message()), Ok(Next::Done(Status::Attached)));
    assert_eq!(client.memory().version.get(), 5);
}

#[test]
fn an_acknowledgement_for_an_address_that_it_has_left_attaches_nobody() {
    let mut cluster = Cluster::new();
    let (mut client, message) = moved(&mut cluster);
    let ack = cluster.serve(&message, address(1)).unwrap();
    let _lost = client.moved();
    let Ok(Next::Send(message)) = client.receive(ack.message()) else { panic!("not yet there") };
    assert_eq!(client.status(), Status::Unsettled);
    assert_eq!(asked(&message).version, cluster.version(), "but the version is known");
    cluster.pass(1_000);
    cluster.exchange(&mut client, message, address(2));
    assert_eq!(client.status(), Status::Attached);
    assert_eq!(cluster.transport(), Some(address(2).into()));
}

#[test]
fn what_policy_refuses_waits_for_the_timer() {
    let mut cluster = Cluster::new();
    let (mut client, message) = moved(&mut cluster);
    cluster.exchange(&mut client, message, address(1));
    let message = client.moved().unwrap();
    let challenge = cluster.serve(&message, address(2)).unwrap();
    let Ok(Next::Send(message)) = client.receive(challenge.message()) else { panic!() };
    let cooldown = cluster.serve(&message, address(2)).unwrap();
    let wait = Next::Wait(Some(Reason::SwitchCooldown.code()));
    assert_eq!(client.receive(cooldown.message()), Ok(wait));
    cluster.pass(500);
    let message = client.retry().unwrap();
    cluster.exchange(&mut client, message, address(2));
    assert_eq!(client.status(), Status::Attached);
}

#[test]
fn an_unknown_outcome_is_waited_for_whatever_it_is() {
    for is_written in [false, true] {
        let mut cluster = Cluster::new();
        let (mut client, message) = moved(&mut cluster);
        let pending =
            cluster.serve_with(&message, address(1), Outcome::Unknown, is_written).unwrap();
        assert_eq!(client.receive(pending.message()), Ok(Next::Wait(None)));
        assert_eq!(client.status(), Status::Unsettled);
        let message = client.retry().unwrap();
        cluster.exchange(&mut client, message, address(1));
        assert_eq!(client.status(), Status::Attached);
        assert_eq!(version(&cluster), 2);
    }
}

#[test]
fn neither_a_conflict_nor_a_wrong_proof_ends_anything() {
    let mut cluster = Cluster::new();
    let (mut client, message) = moved(&mut cluster);
    let conflict =
        cluster.serve_with(&message, address(1), Outcome::Lost(Mismatch::Row), false).unwrap();
    let wait = Next::Wait(Some(Reason::OwnershipConflict.code()));
    assert_eq!(client.receive(conflict.message()), Ok(wait));
    // The acknowledgement of the node that won comes later.
    let ack = cluster.serve(&message, address(1)).unwrap();
    assert_eq!(client.receive(ack.message()), Ok(Next::Done(Status::Attached)));
    // Somebody has changed a request on its way: its answer is an answer to the client's tag.
    let query = client.ask().unwrap();
    let mut damaged = query;
    damaged[35] ^= 1;
    let refused = cluster.serve(&damaged, address(1)).unwrap();
    assert_eq!(refused.refused().unwrap().reason, Reason::BadProof);
    let wait = Next::Wait(Some(Reason::BadProof.code()));
    assert_eq!(client.receive(refused.message()), Ok(wait));
    let state = cluster.serve(&query, address(1)).unwrap();
    assert_eq!(client.receive(state.message()), Ok(Next::Done(Status::Attached)));
}

#[test]
fn a_challenge_for_somebody_elses_address_costs_a_round_trip() {
    let mut cluster = Cluster::new();
    let mut client = cluster.client();
    let first = client.moved().unwrap();
    // Somebody on the way sends the same bytes from his address and is faster.
    let relayed = cluster.serve(&first, address(66)).unwrap();
    let genuine = cluster.serve(&first, address(1)).unwrap();
    let Ok(Next::Send(misled)) = client.receive(relayed.message()) else { panic!() };
    let Ok(Next::Send(right)) = client.receive(genuine.message()) else { panic!() };
    cluster.exchange(&mut client, right, address(1));
    assert_eq!(client.status(), Status::Attached);
    let again = cluster.serve(&misled, address(1)).unwrap();
    assert!(client.receive(again.message()).is_ok());
    assert_eq!(client.status(), Status::Attached);
}

#[test]
fn a_challenge_for_an_address_that_it_has_left_is_not_followed() {
    let mut cluster = Cluster::new();
    let mut client = cluster.client();
    let first = client.moved().unwrap();
    let late = cluster.serve(&first, address(1)).unwrap();
    let second = client.moved().unwrap();
    assert_eq!(client.receive(late.message()), Ok(Next::Wait(None)));
    cluster.exchange(&mut client, second, address(2));
    assert_eq!(client.status(), Status::Attached);
}

#[test]
fn of_two_answers_about_its_address_the_one_to_its_later_request_counts() {
    let mut cluster = Cluster::new();
    let (mut client, message) = moved(&mut cluster);
    cluster.exchange(&mut client, message, address(1));
    let (first, second) = (client.ask().unwrap(), client.ask().unwrap());
    let bound = cluster.serve(&first, address(1)).unwrap();
    // Its NAT gives it another port in between.
    let challenge = cluster.serve(&second, address(2)).unwrap();
    let Ok(Next::Send(third)) = client.receive(challenge.message()) else { panic!() };
    let unbound = cluster.serve(&third, address(2)).unwrap();
    let Ok(Next::Send(reattach)) = client.receive(unbound.message()) else { panic!() };
    assert_eq!(asked(&reattach).ask, Ask::Reattach);
    assert!(client.receive(bound.message()).is_ok());
    assert_eq!(client.status(), Status::Unsettled, "what is older is not believed");
}

#[test]
fn it_is_not_attached_because_it_was_at_an_earlier_version() {
    let mut cluster = Cluster::new();
    let (mut client, message) = moved(&mut cluster);
    cluster.exchange(&mut client, message, address(1));
    let old = client.ask().unwrap();
    cluster.pass(1_000);
    let message = client.moved().unwrap();
    cluster.exchange(&mut client, message, address(2));
    assert_eq!(client.status(), Status::Attached);
    let transport = cluster.transport().unwrap();
    cluster.apply(Input::LoseTransport { transport }).unwrap();
    // An answer to where it was: it tells the version, and nothing of where it is.
    let state = cluster.serve(&old, address(1)).unwrap();
    let Ok(Next::Send(reattach)) = client.receive(state.message()) else { panic!() };
    assert_eq!(client.status(), Status::Unsettled);
    cluster.pass(1_000);
    cluster.exchange(&mut client, reattach, address(2));
    assert_eq!(client.status(), Status::Attached);
}

#[test]
fn challenges_without_end_are_no_flood() {
    let mut cluster = Cluster::new();
    let mut client = cluster.client();
    let first = client.moved().unwrap();
    let mut sent = 0;
    for number in 100..200 {
        let challenge = cluster.serve(&first, address(number)).unwrap();
        sent += usize::from(matches!(client.receive(challenge.message()), Ok(Next::Send(_))));
    }
    assert!((1..10).contains(&sent), "{sent} requests for 100 challenges");
    let message = client.retry().unwrap();
    cluster.exchange(&mut client, message, address(1));
    assert_eq!(client.status(), Status::Attached);
}

#[test]
fn keys_are_rotated_without_locking_the_client_out() {
    let mut cluster = Cluster::new();
    let (mut client, message) = moved(&mut cluster);
    client.give(cluster.secrets.current().credentials(session(), 1));
    // It has the next keys, and still uses those in force, as long as it is answered.
    for _ in 0..10 {
        let message = client.retry().unwrap();
        assert_eq!(asked(&message).key.generation, 0);
        let reply = cluster.serve_with(&message, address(1), Outcome::Unknown, false).unwrap();
        assert_eq!(client.receive(reply.message()), Ok(Next::Wait(None)));
    }
    cluster.exchange(&mut client, message, address(1));
    assert_eq!(client.status(), Status::Attached);
    cluster.apply(Input::RotateKey).unwrap();
    cluster.pass(1_000);
    let message = client.moved().unwrap();
    assert_eq!(asked(&message).key.generation, 0, "it cannot know yet");
    cluster.exchange(&mut client, message, address(2));
    assert_eq!(client.status(), Status::Attached);
    assert_eq!(client.memory().key_generation, 1);
}

#[test]
fn an_answer_by_keys_that_were_replaced_is_not_believed() {
    let mut cluster = Cluster::new();
    let (mut client, message) = moved(&mut cluster);
    client.give(cluster.secrets.current().credentials(session(), 1));
    cluster.apply(Input::RotateKey).unwrap();
    let refused = *cluster.serve(&message, address(1)).unwrap().message();
    assert!(matches!(client.receive(&refused), Ok(Next::Send(_))));
    assert_eq!(client.receive(&refused), Err(Dropped::Unasked));
}

#[test]
fn a_client_without_the_keys_in_force_says_so_and_goes_on_when_it_has_them() {
    let mut cluster = Cluster::new();
    let (mut client, message) = moved(&mut cluster);
    cluster.apply(Input::RotateKey).unwrap();
    let refused = cluster.serve(&message, address(1)).unwrap();
    assert_eq!(client.receive(refused.message()), Ok(Next::KeyNeeded(1)));
    assert_eq!((client.needs_key(), client.retry()), (Some(1), None));
    client.give(cluster.secrets.current().credentials(session(), 1));
    let message = client.retry().unwrap();
    cluster.exchange(&mut client, message, address(1));
    assert_eq!((client.status(), client.needs_key()), (Status::Attached, None));
}

#[test]
fn a_client_that_has_only_older_and_newer_keys_than_those_in_force_says_so() {
    let mut cluster = Cluster::new();
    let mut client = cluster.client();
    cluster.apply(Input::RotateKey).unwrap();
    // The keys that were rotated to have not come, and those of a rotation have that is still to be made.
    client.give(cluster.secrets.current().credentials(session(), 2));
    let message = client.moved().unwrap();
    cluster.exchange(&mut client, message, address(1));
    let message = client.retry().unwrap();
    assert_eq!(asked(&message).key.generation, 2, "there may have been another rotation");
    let refused = cluster.serve(&message, address(1)).unwrap();
    assert_eq!(client.receive(refused.message()), Ok(Next::KeyNeeded(1)));
    assert_eq!(client.needs_key(), Some(1));
    client.give(cluster.secrets.current().credentials(session(), 1));
    let message = client.retry().unwrap();
    assert_eq!((asked(&message).key.generation, client.needs_key()), (1, None));
    cluster.exchange(&mut client, message, address(1));
    assert_eq!(client.status(), Status::Attached);
    cluster.apply(Input::RotateKey).unwrap();
    cluster.pass(1_000);
    let message = client.moved().unwrap();
    cluster.exchange(&mut client, message, address(2));
    assert_eq!((client.status(), client.memory().key_generation), (Status::Attached, 2));
}

#[test]
fn keys_of_a_new_cluster_secret_are_tried_when_nobody_answers() {
    let mut cluster = Cluster::new();
    let mut client = cluster.client();
    cluster.secrets.rotate(Secret::new(2, &[2; 32])).unwrap();
    client.give(cluster.secrets.current().credentials(session(), 1));
    cluster.apply(Input::RotateKey).unwrap();
    cluster.secrets.retire();
    let mut message = client.moved().unwrap();
    let mut unanswered = 0;
    while cluster.serve(&message, address(1)).is_none() {
        unanswered += 1;
        message = client.retry().unwrap();
    }
    assert!((1..4).contains(&unanswered), "{unanswered}");
    cluster.exchange(&mut client, message, address(1));
    assert_eq!(client.status(), Status::Attached);
}

#[test]
fn a_session_that_lost_its_transport_is_found_to_need_a_reattach() {
    let mut cluster = Cluster::new();
    let (mut client, message) = moved(&mut cluster);
    cluster.exchange(&mut client, message, address(1));
    let transport = cluster.transport().unwrap();
    cluster.apply(Input::LoseTransport { transport }).unwrap();
    cluster.pass(1_000);
    let query = client.ask().unwrap();
    cluster.exchange(&mut client, query, address(1));
    assert_eq!(client.status(), Status::Attached);
    assert_eq!(cluster.transport(), Some(address(1).into()));
}

#[test]
fn a_client_whose_nat_gave_it_another_port_finds_out_by_asking() {
    let mut cluster = Cluster::new();
    let (mut client, message) = moved(&mut cluster);
    cluster.exchange(&mut client, message, address(1));
    cluster.pass(1_000);
    let query = client.ask().unwrap();
    cluster.exchange(&mut client, query, address(2));
    assert_eq!(client.status(), Status::Attached);
    assert_eq!(cluster.transport(), Some(address(2).into()));
}

#[test]
fn a_client_leaves_and_comes_back() {
    let mut cluster = Cluster::new();
    let mut client = cluster.client();
    let message = client.detach().unwrap();
    cluster.exchange(&mut client, message, address(0));
    assert_eq!((client.status(), cluster.transport()), (Status::Detached, None));
    assert_eq!(client.retry(), None);
    let message = client.moved().unwrap();
    cluster.exchange(&mut client, message, address(1));
    assert_eq!(client.status(), Status::Attached);
}

#[test]
fn a_lost_answer_to_a_detach_is_recognised() {
    let mut cluster = Cluster::new();
    let (mut client, message) = moved(&mut cluster);
    cluster.exchange(&mut client, message, address(1));
    let message = client.detach().unwrap();
    let _lost = cluster.serve(&message, address(1));
    let message = client.retry().unwrap();
    cluster.exchange(&mut client, message, address(1));
    assert_eq!((client.status(), version(&cluster)), (Status::Detached, 3));
}

#[test]
fn a_client_closes_its_session_once() {
    for is_lost in [false, true] {
        let mut cluster = Cluster::new();
        let (mut client, message) = moved(&mut cluster);
        cluster.exchange(&mut client, message, address(1));
        for _ in 0..3 {
            cluster.step_move(2);
        }
        let message = client.close().unwrap();
        let stale = cluster.serve(&message, address(1)).unwrap();
        let Ok(Next::Send(message)) = client.receive(stale.message()) else { panic!() };
        let ack = cluster.serve(&message, address(1)).unwrap();
        let end = if is_lost {
            let message = client.retry().unwrap();
            let reply = cluster.serve(&message, address(1)).unwrap();
            assert!(client.receive(reply.message()).is_ok());
            End::Terminated(Reason::SessionTerminated)
        } else {
            assert!(client.receive(ack.message()).is_ok());
            End::Requested
        };
        assert_eq!(client.status(), Status::Closed(end));
        assert!(cluster.record.is_terminated());
        assert_eq!(client.receive(ack.message()), Err(Dropped::Closed));
        assert_eq!((client.moved(), client.ask(), client.retry()), (None, None, None));
    }
}

#[test]
fn the_sessions_end_ends_it() {
    let mut cluster = Cluster::new();
    let (mut client, message) = moved(&mut cluster);
    cluster.apply(Input::Terminate { cause: Cause::Operator }).unwrap();
    let reply = cluster.serve(&message, address(1)).unwrap();
    let end = End::Terminated(Reason::SessionTerminated);
    assert_eq!(client.receive(reply.message()), Ok(Next::Done(Status::Closed(end))));
}
