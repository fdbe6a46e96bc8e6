//! The node's side: what it checks, in which order, and what it answers.

use crate::cluster::{Cluster, address, owner, session};
use ownership::{
    SessionId, StateVersion,
    control::{Answer, Ask, BadMessage, Cookie, Credentials, KeyName, Message, Request, Snapshot},
    model::{Accepted, Cause, Class, Context, Input, Nonce, Reason, State},
    reattach::{Decided, Examined, NoRecord, Refused, Reply, Secret, Secrets},
    store::{Fault, Mismatch, Outcome},
};
use std::net::SocketAddr;

/// A client without a mind of its own: it says what the test wants, and reads what it is told.
struct Asker {
    credentials: Credentials,
    request: Request,
}

impl Asker {
    /// With a cookie for `from`, and at the session's version.
    fn new(cluster: &Cluster, from: SocketAddr) -> Self {
        let credentials = cluster.secrets.current().credentials(session(), cluster.generation());
        let request = Request {
            ask: Ask::Reattach,
            session: session(),
            key: credentials.name(),
            version: cluster.version(),
            nonce: Nonce::new(1),
            cookie: Cookie::NONE,
        };
        let mut asker = Self { credentials, request };
        let Examined::Reply(reply) = cluster.examine(&asker.message(), from) else {
            panic!("a challenge");
        };
        match asker.read(&reply) {
            Answer::Challenge(cookie) => asker.request.cookie = cookie,
            other => panic!("{other:?}"),
        }
        asker
    }

    fn message(&self) -> Message {
        self.request.seal(&self.credentials.request_key())
    }

    fn read(&self, reply: &Reply) -> Answer {
        let message = self.message();
        assert_eq!(reply.message().len(), message.len(), "never larger");
        let unverified = Answer::parse(reply.message()).unwrap();
        assert_eq!(unverified.session(), self.request.session);
        assert_eq!(unverified.nonce(), self.request.nonce);
        let tag = Request::parse(&message).unwrap().tag();
        unverified.verify(&self.credentials.answer_key(), &tag).expect("authenticated")
    }

    /// What the owner answers.
    fn ask(&self, cluster: &mut Cluster, from: SocketAddr) -> Answer {
        let reply = cluster.serve(&self.message(), from).expect("an answer");
        self.read(&reply)
    }

    /// What the owner refuses, and in which class the event is.
    fn refused(&self, cluster: &mut Cluster, from: SocketAddr) -> (Reason, Option<Snapshot>) {
        let before = cluster.record;
        let reply = cluster.serve(&self.message(), from).expect("an answer");
        assert_eq!(cluster.record, before, "nothing changes");
        let (code, snapshot) = match self.read(&reply) {
            Answer::Reject { code, snapshot } => (code, snapshot),
            other => panic!("{other:?}"),
        };
        let reason = Reason::from_code(code).unwrap();
        let stood = snapshot.map(|snapshot| snapshot.version);
        assert_eq!(reply.refused(), Some(Refused { session: session(), reason, stood }));
        assert_eq!(reply.refused().unwrap().class(), reason.class());
        (reason, snapshot)
    }
}

fn here() -> SocketAddr {
    address(0)
}

fn there() -> SocketAddr {
    address(1)
}

#[test]
fn a_reattach_is_acknowledged_with_the_next_version() {
    let mut cluster = Cluster::new();
    let asker = Asker::new(&cluster, there());
    let before = cluster.version();
    let answer = asker.ask(&mut cluster, there());
    let version = before.next().unwrap();
    let snapshot = Snapshot {
        version,
        epoch: owner(0).epoch,
        key_generation: 0,
        accepted: Some(Accepted { version, nonce: Nonce::new(1) }),
        is_bound: true,
    };
    assert_eq!(answer, Answer::Ack(snapshot));
    assert_eq!(cluster.transport(), Some(there().into()));
}

#[test]
fn a_cookie_is_asked_for_before_anything_else() {
    let mut cluster = Cluster::new();
    let good = Asker::new(&cluster, there());
    let mut without = Asker::new(&cluster, there());
    without.request.cookie = Cookie::NONE;
    // Whatever else is wrong.
    without.request.version = StateVersion::new(99);
    without.request.session = SessionId::new([0xee; 16]);
    without.credentials = cluster.secrets.current().credentials(without.request.session, 0);
    let Examined::Reply(reply) = cluster.examine(&without.message(), there()) else {
        panic!("a challenge");
    };
    assert!(matches!(without.read(&reply), Answer::Challenge(_)));
    assert_eq!(reply.refused(), None, "a challenge refuses nothing");
    // A cookie is for its address, and for a while.
    assert!(matches!(good.ask(&mut cluster, address(2)), Answer::Challenge(_)));
    cluster.pass(Cookie::LIFETIME.as_millis() as u64);
    assert!(matches!(good.ask(&mut cluster, there()), Answer::Challenge(_)));
    assert_eq!(cluster.transport(), Some(here().into()));
}

#[test]
fn any_node_checks_a_cookie() {
    let cluster = Cluster::new();
    let asker = Asker::new(&cluster, there());
    let elsewhere = Cluster::new();
    assert_eq!(elsewhere.proven(&asker.message(), there()).session(), session());
}

#[test]
fn a_wrong_proof_is_refused_before_the_session_is_looked_up() {
    let mut cluster = Cluster::new();
    let mut asker = Asker::new(&cluster, there());
    let KeyName { secret, generation } = asker.credentials.name();
    let right = asker.credentials.clone();
    let wrong: [u8; 32] = [9; 32];
    let answer_key: [u8; 32] = *right.bytes().last_chunk().unwrap();
    asker.credentials = Credentials::new(KeyName { secret, generation }, &wrong, &answer_key);
    let (reason, snapshot) = asker.refused(&mut cluster, there());
    assert_eq!((reason, snapshot), (Reason::BadProof, None));
    assert_eq!(reason.class(), Class::Security);
    // The answer is worth nothing to anybody but whoever sent these very bytes.
    let reply = cluster.serve(&asker.message(), there()).unwrap();
    let tag = Request::parse(&asker.request.seal(&right.request_key())).unwrap().tag();
    let unverified = Answer::parse(reply.message()).unwrap();
    assert_eq!(unverified.verify(&right.answer_key(), &tag), None);
}

#[test]
fn another_sessions_key_proves_nothing() {
    let mut cluster = Cluster::new();
    let mut asker = Asker::new(&cluster, there());
    let other = cluster.secrets.current().credentials(SessionId::new([7; 16]), 0);
    asker.credentials = Credentials::new(
        other.name(),
        other.bytes()[6..38].try_into().unwrap(),
        asker.credentials.bytes().last_chunk().unwrap(),
    );
    assert_eq!(asker.refused(&mut cluster, there()).0, Reason::BadProof);
}

#[test]
fn keys_of_a_secret_that_is_gone_are_nobodys() {
    let mut cluster = Cluster::new();
    let asker = Asker::new(&cluster, there());
    cluster.secrets.rotate(Secret::new(2, &[2; 32])).unwrap();
    assert!(matches!(cluster.examine(&asker.message(), there()), Examined::Proven(_)));
    cluster.secrets.retire();
    let refused = Refused { session: session(), reason: Reason::BadProof, stood: None };
    match cluster.examine(&asker.message(), there()) {
        Examined::Unanswerable(told) => assert_eq!(told, refused),
        other => panic!("{other:?}"),
    }
    // Nor does it help to say that they are the new one's.
    let mut asker = asker;
    asker.credentials = Credentials::new(
        KeyName { secret: 2, generation: 0 },
        asker.credentials.bytes()[6..38].try_into().unwrap(),
        asker.credentials.bytes().last_chunk().unwrap(),
    );
    asker.request.key = asker.credentials.name();
    assert!(matches!(cluster.examine(&asker.message(), there()), Examined::Reply(_)));
}

#[test]
fn what_is_no_request_is_counted_and_not_answered() {
    let cluster = Cluster::new();
    let request = Asker::new(&cluster, there()).message();
    let longer = [&request[..], &[0]].concat();
    let all: [(&[u8], BadMessage); 4] = [
        (&[], BadMessage::Length(0)),
        (&request[..87], BadMessage::Length(87)),
        (&longer, BadMessage::Length(89)),
        (&[0; 88], BadMessage::Header),
    ];
    for (bytes, expected) in all {
        match cluster.examine(bytes, there()) {
            Examined::Unreadable(bad) => assert_eq!(bad, expected),
            other => panic!("{other:?}"),
        }
    }
    // An answer is no request: nothing that a node sends can be sent back to it.
    let Examined::Reply(challenge) =
        cluster.examine(&Asker::new(&cluster, there()).message(), address(3))
    else {
        panic!("a challenge");
    };
    let examined = cluster.examine(challenge.message(), there());
    assert!(matches!(examined, Examined::Unreadable(_)), "{examined:?}");
}

#[test]
fn an_old_version_a_used_nonce_and_an_old_transport_are_refused_by_name() {
    let mut cluster = Cluster::new();
    let mut asker = Asker::new(&cluster, there());
    assert!(matches!(asker.ask(&mut cluster, there()), Answer::Ack(_)));
    cluster.pass(1_000);
    let (reason, snapshot) = asker.refused(&mut cluster, there());
    assert_eq!(reason, Reason::NonceReplayed);
    let snapshot = snapshot.expect("the owner knows");
    assert_eq!(snapshot.version, cluster.version());
    let own = Accepted { version: cluster.version(), nonce: Nonce::new(1) };
    assert_eq!(snapshot.accepted, Some(own), "by which its sender knows that it was accepted");
    asker.request.nonce = Nonce::new(2);
    assert_eq!(asker.refused(&mut cluster, there()).0, Reason::StaleVersion);
    asker.request.version = StateVersion::new(99);
    assert_eq!(asker.refused(&mut cluster, there()).0, Reason::VersionAhead);
    // The client has moved on, and a message from where it was arrives late.
    let mut old = Asker::new(&cluster, here());
    old.request.ask = Ask::Detach;
    old.request.nonce = Nonce::new(3);
    let (reason, snapshot) = old.refused(&mut cluster, here());
    assert_eq!(reason, Reason::OldTransport);
    assert!(!snapshot.unwrap().is_bound);
}

#[test]
fn a_key_of_another_generation_is_told_the_one_in_force() {
    let mut cluster = Cluster::new();
    let mut asker = Asker::new(&cluster, there());
    cluster.apply(Input::RotateKey).unwrap();
    for ask in Ask::ALL {
        asker.request.ask = ask;
        let from = if ask == Ask::Detach { here() } else { there() };
        asker.request.cookie = Asker::new(&cluster, from).request.cookie;
        let (reason, snapshot) = asker.refused(&mut cluster, from);
        assert_eq!(reason, Reason::KeyGeneration, "{ask:?}");
        assert_eq!(snapshot.unwrap().key_generation, 1);
    }
}

#[test]
fn what_holds_for_a_reattach_holds_for_a_detach_and_a_close() {
    for ask in [Ask::Detach, Ask::Close] {
        let mut cluster = Cluster::new();
        let mut asker = Asker::new(&cluster, here());
        assert!(matches!(asker.ask(&mut cluster, here()), Answer::Ack(_)));
        asker.request.ask = ask;
        assert_eq!(asker.refused(&mut cluster, here()).0, Reason::NonceReplayed, "{ask:?}");
        asker.request.nonce = Nonce::new(2);
        assert_eq!(asker.refused(&mut cluster, here()).0, Reason::StaleVersion, "{ask:?}");
        asker.request.version = StateVersion::new(99);
        assert_eq!(asker.refused(&mut cluster, here()).0, Reason::VersionAhead, "{ask:?}");
        asker.request.version = cluster.version();
        let before = cluster.version();
        let Answer::Ack(snapshot) = asker.ask(&mut cluster, here()) else { panic!("{ask:?}") };
        assert_eq!(Ok(snapshot.version), before.next());
        assert!(!snapshot.is_bound);
        // Used up with its version.
        let (reason, _) = asker.refused(&mut cluster, here());
        let expected = match ask {
            Ask::Close => Reason::SessionTerminated,
            _ => Reason::OldTransport,
        };
        assert_eq!(reason, expected);
    }
}

#[test]
fn a_query_changes_nothing_and_says_how_the_session_stands() {
    let mut cluster = Cluster::new();
    let mut asker = Asker::new(&cluster, here());
    asker.request.ask = Ask::Query;
    // A client that knows nothing recent may ask.
    asker.request.version = StateVersion::BIRTH;
    let before = cluster.record;
    for (from, is_bound) in [(here(), true), (there(), false)] {
        asker.request.cookie = Asker::new(&cluster, from).request.cookie;
        let snapshot = Snapshot {
            version: before.version(),
            epoch: owner(0).epoch,
            key_generation: 0,
            accepted: None,
            is_bound,
        };
        assert_eq!(asker.ask(&mut cluster, from), Answer::State(snapshot));
        assert_eq!(cluster.record, before);
    }
}

#[test]
fn a_session_whose_time_is_over_ends_whatever_is_asked() {
    for ask in Ask::ALL {
        let mut cluster = Cluster::new();
        cluster.pass(cluster.policy.session_ttl.as_millis() as u64);
        let mut asker = Asker::new(&cluster, here());
        asker.request.ask = ask;
        let reply = cluster.serve(&asker.message(), here()).unwrap();
        assert_eq!(cluster.record.state(), State::Terminated(Cause::SessionTtl), "{ask:?}");
        assert_eq!(reply.refused().unwrap().reason, Reason::SessionExpired, "{ask:?}");
        let Answer::Reject { snapshot: Some(snapshot), .. } = asker.read(&reply) else {
            panic!("{ask:?}");
        };
        assert_eq!(snapshot.version, cluster.version(), "the version of its end");
    }
}

#[test]
fn the_outcome_of_the_commit_makes_the_answer() {
    let conflict = Answer::reject(Reason::OwnershipConflict, None);
    let cases = [
        (Outcome::Lost(Mismatch::Row), conflict, Some(Class::Security)),
        (Outcome::Fenced, conflict, Some(Class::Security)),
        (
            Outcome::Unavailable(Fault::Unreachable),
            Answer::reject(Reason::StoreUnavailable, None),
            Some(Class::Policy),
        ),
        // Nothing that could turn out to be false.
        (Outcome::Unknown, Answer::Pending, None),
    ];
    for (outcome, answer, class) in cases {
        let mut cluster = Cluster::new();
        let asker = Asker::new(&cluster, there());
        let reply = cluster.serve_with(&asker.message(), there(), outcome, false).unwrap();
        assert_eq!(asker.read(&reply), answer, "{outcome:?}");
        assert_eq!(reply.refused().map(|refused| refused.class()), class, "{outcome:?}");
        assert_eq!(cluster.transport(), Some(here().into()));
    }
}

#[test]
fn without_a_record_the_answer_says_why() {
    let cases = [
        (NoRecord::Unknown, Answer::reject(Reason::UnknownSession, None)),
        (NoRecord::Elsewhere, Answer::reject(Reason::OwnershipConflict, None)),
        (NoRecord::Unavailable, Answer::reject(Reason::StoreUnavailable, None)),
        (NoRecord::InDoubt, Answer::Pending),
    ];
    let cluster = Cluster::new();
    let asker = Asker::new(&cluster, there());
    for (why, answer) in cases {
        let reply = cluster.proven(&asker.message(), there()).without(why);
        assert_eq!(asker.read(&reply), answer);
    }
}

fn reply_of(decided: Decided) -> Reply {
    match decided {
        Decided::Reply(reply) => reply,
        Decided::Commit(..) => panic!("it was decided"),
    }
}

/// ownership-model §4: of two nodes one's compare-and-swap succeeds, the other answers
/// OWNERSHIP_CONFLICT.
#[test]
fn of_two_nodes_that_take_one_reattach_one_wins() {
    let mut cluster = Cluster::new();
    let asker = Asker::new(&cluster, there());
    let stored = cluster.record;
    let decide = |cluster: &mut Cluster| {
        let context = cluster.context(stored.owner());
        match cluster.proven(&asker.message(), there()).decide(&stored, &context) {
            Decided::Commit(commit, uncommitted) => (commit, uncommitted),
            Decided::Reply(_) => panic!("both read the same record"),
        }
    };
    let (first, second) = (decide(&mut cluster), decide(&mut cluster));
    assert_eq!(first.0.record(), second.0.record(), "one version, one record");
    let won = asker.read(&first.1.settle(Outcome::Won));
    let lost = asker.read(&second.1.settle(Outcome::Lost(Mismatch::Row)));
    assert!(matches!(won, Answer::Ack(_)));
    assert_eq!(lost, Answer::reject(Reason::OwnershipConflict, None));
}

#[test]
fn only_the_owner_vouches_for_a_session_until_it_is_over() {
    let mut cluster = Cluster::new();
    let asker = Asker::new(&cluster, there());
    let stranger = |cluster: &mut Cluster, asker: &Asker| {
        let context: Context = cluster.context(owner(2));
        let proven = cluster.proven(&asker.message(), there());
        asker.read(&reply_of(proven.decide(&cluster.record, &context)))
    };
    let conflict = Answer::reject(Reason::OwnershipConflict, None);
    assert_eq!(stranger(&mut cluster, &asker), conflict);
    cluster.apply(Input::Terminate { cause: Cause::Operator }).unwrap();
    let answer = stranger(&mut cluster, &asker);
    let Answer::Reject { code, snapshot: Some(snapshot) } = answer else { panic!("{answer:?}") };
    assert_eq!(code, Reason::SessionTerminated.code());
    assert_eq!(snapshot.version, cluster.version());
}

#[test]
#[should_panic(expected = "a proof is for one session")]
fn a_proof_is_never_used_for_another_sessions_record() {
    let mut cluster = Cluster::new();
    let asker = Asker::new(&cluster, there());
    let context = cluster.context(owner(0));
    let other = ownership::model::birth(SessionId::new([1; 16]), 1, &context);
    let _never = cluster.proven(&asker.message(), there()).decide(other.record(), &context);
}

#[test]
fn secrets_are_the_only_thing_that_examining_needs() {
    // No record, no store, no node: the same secret anywhere.
    let cluster = Cluster::new();
    let asker = Asker::new(&cluster, there());
    let secrets = Secrets::new(Secret::new(1, &[1; 32]));
    let examined = ownership::reattach::examine(&secrets, &asker.message(), there(), cluster.now);
    assert!(matches!(examined, Examined::Proven(_)));
}
