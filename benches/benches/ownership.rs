//! Who owns a session, on the host: what a decision and a client's request cost without a store.

#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use criterion::{Criterion, criterion_group, criterion_main};
use ownership::{
    Epoch, NodeIndex, SessionId,
    audit::{Event, Head},
    client::{Memory, Next, Tracker},
    control::Message,
    model::{
        Context, Input, Nonce, OperationId, Owner, Policy, Reattach, SessionRecord, Time, birth,
        decide,
    },
    reattach::{Decided, Examined, Secret, Secrets, examine},
    store::Outcome,
};
use std::{hint::black_box, net::SocketAddr};

const SESSION: SessionId = SessionId::new([7; 16]);
const NOW: Time = Time::from_millis(1_700_000_000_000);

fn context() -> Context {
    let actor = Owner { node: NodeIndex::new(1).expect("in range"), epoch: Epoch::FIRST };
    Context { now: NOW, actor, policy: Policy::default(), operation: OperationId(1) }
}

fn client() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 7_000))
}

/// A session that is bound to another address than the client's.
fn attached() -> SessionRecord {
    let born = *birth(SESSION, 1, &context()).record();
    let transport = SocketAddr::from(([192, 0, 2, 2], 7_000)).into();
    let commit = decide(&born, &Input::Attach { transport }, &context()).commit();
    *commit.expect("a first transport").record()
}

fn decisions(criterion: &mut Criterion) {
    let (record, context) = (attached(), context());
    let reattach = Input::Reattach(Reattach {
        version: record.version(),
        nonce: Nonce::new(1),
        transport: client().into(),
        key_generation: 0,
    });
    assert!(decide(&record, &reattach, &context).commit().is_some());
    criterion.bench_function("decide/reattach", |bencher| {
        bencher.iter(|| decide(black_box(&record), black_box(&reattach), black_box(&context)));
    });
    // With the event's bytes and the link of its chain, as every commit needs them.
    criterion.bench_function("decide/reattach_and_chain", |bencher| {
        bencher.iter(|| {
            let decision = decide(black_box(&record), black_box(&reattach), black_box(&context));
            let commit = decision.commit().expect("asserted above");
            (black_box(Head::START).then(&Event::StateChange(*commit.event()).to_bytes()), commit)
        });
    });
    assert!(decide(&record, &Input::Resume, &context).commit().is_none());
    criterion.bench_function("decide/refused", |bencher| {
        bencher.iter(|| decide(black_box(&record), black_box(&Input::Resume), &context));
    });
}

/// A client's first request, which has no cookie, and its second, which has.
fn requests(secrets: &Secrets, record: &SessionRecord) -> (Message, Message) {
    let memory = Memory::opened(record.version(), record.owner().epoch, 0);
    let credentials = secrets.current().credentials(SESSION, 0);
    let mut tracker = Tracker::opened(SESSION, memory, credentials);
    let first = tracker.moved().expect("there is something to ask");
    let Examined::Reply(challenge) = examine(secrets, &first, client(), NOW) else {
        panic!("a challenge");
    };
    match tracker.receive(challenge.message()) {
        Ok(Next::Send(second)) => (first, second),
        other => panic!("{other:?}"),
    }
}

/// Nothing is kept between two requests: each derives its keys anew.
fn reattach(criterion: &mut Criterion) {
    let (record, context) = (attached(), context());
    let secrets = Secrets::new(Secret::new(1, &[1; 32]));
    let (first, second) = requests(&secrets, &record);
    criterion.bench_function("reattach/challenge", |bencher| {
        bencher.iter(|| examine(&secrets, black_box(&first), client(), NOW));
    });
    assert!(matches!(examine(&secrets, &second, client(), NOW), Examined::Proven(_)));
    criterion.bench_function("reattach/check", |bencher| {
        bencher.iter(|| examine(&secrets, black_box(&second), client(), NOW));
    });
    criterion.bench_function("reattach/check_decide_and_acknowledge", |bencher| {
        bencher.iter(|| {
            let Examined::Proven(proven) = examine(&secrets, black_box(&second), client(), NOW)
            else {
                panic!("proven");
            };
            match proven.decide(black_box(&record), &context) {
                Decided::Commit(commit, uncommitted) => (commit, uncommitted.settle(Outcome::Won)),
                Decided::Reply(_) => panic!("decided"),
            }
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_secs(2));
    targets = decisions, reattach
}
criterion_main!(benches);
