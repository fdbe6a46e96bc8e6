//! `decide`, asked everything: every state and hold, every input, every guard that an input has, from
//! every side. What must hold for all of them is checked for each.

use ownership::{
    Epoch, NodeIndex, SessionId, StateVersion,
    model::{
        Accepted, Cause, ChangeCause, Context, Decision, FenceProof, Hold, Input, Nonce,
        OperationId, Owner, Policy, Reason, Reattach, SessionRecord, State, Time, Transport, birth,
        decide,
    },
};
use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

const BORN: u64 = 1_000_000;
const MINUTE: u64 = 60_000;

fn node(number: u16) -> NodeIndex {
    NodeIndex::new(number).unwrap()
}

fn owner(number: u16, epoch: u32) -> Owner {
    Owner { node: node(number), epoch: Epoch::new(epoch).unwrap() }
}

fn transport(port: u16) -> Transport {
    SocketAddr::from(([192, 0, 2, 1], port)).into()
}

fn policy() -> Policy {
    Policy {
        revision: 3,
        session_ttl: Duration::from_secs(3600),
        transport_loss_ttl: Duration::from_secs(600),
        recovery_window: Duration::from_secs(300),
        switch_burst: 2,
        switch_interval: Duration::from_secs(60),
        switch_cooldown: Duration::from_secs(1),
    }
}

fn context(actor: Owner, milliseconds: u64) -> Context {
    let now = Time::from_millis(milliseconds);
    Context { now, actor, policy: policy(), operation: OperationId(7) }
}

const OWNER: (u16, u32) = (1, 5);

fn own(milliseconds: u64) -> Context {
    context(owner(OWNER.0, OWNER.1), milliseconds)
}

fn id() -> SessionId {
    SessionId::new([9; 16])
}

/// Applies inputs that must all be committed, a minute apart.
fn after(inputs: &[Input]) -> SessionRecord {
    let mut record = *birth(id(), 1, &own(BORN)).record();
    for (at, input) in (1..).zip(inputs) {
        let decided = decide(&record, input, &context(record.owner(), BORN + at * MINUTE));
        record = *decided.commit().expect("legal").record();
    }
    record
}

fn reattach(version: StateVersion, nonce: u64, port: u16) -> Input {
    let transport = transport(port);
    Input::Reattach(Reattach { version, nonce: Nonce::new(nonce), transport, key_generation: 0 })
}

/// The same record with another number in its version: ends are too far away to walk to.
fn at_version(record: &SessionRecord, version: u64) -> SessionRecord {
    let mut bytes = record.to_bytes();
    bytes[40..48].copy_from_slice(&version.to_be_bytes());
    SessionRecord::from_bytes(&bytes).unwrap()
}

/// A record in every state and hold that there is, at versions in the middle and at the end.
fn records() -> Vec<SessionRecord> {
    let attach = Input::Attach { transport: transport(1) };
    let lose = Input::LoseTransport { transport: transport(1) };
    let accepted = reattach(StateVersion::new(2), 100, 2);
    let freeze = Input::Freeze { to: node(2) };
    let hand_off = Input::HandOff { to: owner(2, 8) };
    let lives: [&[Input]; 4] = [&[], &[attach], &[attach, lose], &[attach, lose, accepted]];
    let holds: [&[Input]; 3] = [&[], &[freeze], &[freeze, hand_off]];
    let mut records = Vec::new();
    for life in lives {
        for hold in holds {
            records.push(after(&[life, hold].concat()));
        }
    }
    for cause in Cause::ALL {
        records.push(after(&[attach, Input::Terminate { cause }]));
    }
    // One whose window of nonces has moved on, and one that has used up its changes of transport.
    records.push(after(&[attach, reattach(StateVersion::new(1), 200, 2)]));
    let mut hurried = after(&[attach]);
    for nonce in [1, 2] {
        let request = reattach(hurried.version(), nonce, nonce as u16);
        let soon = hurried.changed().millis() + nonce * policy().switch_cooldown.as_millis() as u64;
        hurried = *decide(&hurried, &request, &own(soon)).commit().expect("legal").record();
    }
    records.push(hurried);
    let near_the_end: Vec<_> = (records.iter())
        .filter(|record| !record.is_terminated())
        .flat_map(|record| [u64::MAX - 2, u64::MAX - 1].map(|end| at_version(record, end)))
        .collect();
    records.extend(near_the_end);
    records
}

/// Every input, and every guard of it on both sides.
fn inputs(record: &SessionRecord) -> Vec<Input> {
    let mut inputs = vec![
        Input::Abort,
        Input::Resume,
        Input::RotateKey,
        Input::Expire,
        Input::Freeze { to: node(1) },
        Input::Freeze { to: node(2) },
        Input::HandOff { to: owner(2, 8) },
        Input::HandOff { to: owner(3, 8) },
    ];
    inputs.extend(Cause::ALL.map(|cause| Input::Terminate { cause }));
    for port in [1, 2, 3] {
        inputs.push(Input::Attach { transport: transport(port) });
        inputs.push(Input::LoseTransport { transport: transport(port) });
    }
    for fenced in [owner(1, 4), owner(1, 5), owner(1, 6), owner(2, 8), owner(3, 9)] {
        inputs.push(Input::TakeOver { proof: FenceProof::new(fenced) });
        inputs.push(Input::TerminateLost { proof: FenceProof::new(fenced) });
    }
    let version = record.version().get();
    for version in [version.saturating_sub(1), version, version.saturating_add(1)] {
        for nonce in [0, 100, 101] {
            for key_generation in [0, 1] {
                inputs.push(Input::Reattach(Reattach {
                    version: StateVersion::new(version),
                    nonce: Nonce::new(nonce),
                    transport: transport(4),
                    key_generation,
                }));
            }
        }
    }
    inputs
}

/// Every actor that could matter, and times on both sides of every limit.
fn contexts(record: &SessionRecord) -> Vec<Context> {
    let actors = [owner(1, 4), owner(1, 5), owner(1, 6), owner(2, 8), owner(3, 9)];
    let changed = record.changed().millis();
    let policy = policy();
    let limits = [policy.switch_cooldown, policy.recovery_window, policy.transport_loss_ttl];
    let mut times = vec![0, changed, changed + 1];
    for limit in limits.map(|limit| changed + limit.as_millis() as u64) {
        times.extend([limit - 1, limit]);
    }
    let end = BORN + policy.session_ttl.as_millis() as u64;
    times.extend([end - 1, end, u64::MAX]);
    actors
        .into_iter()
        .flat_map(|actor| times.iter().map(move |&time| context(actor, time)))
        .collect()
}

fn each(mut check: impl FnMut(&SessionRecord, &Input, &Context, &Decision)) -> usize {
    let mut count = 0;
    for record in records() {
        for input in inputs(&record) {
            for context in contexts(&record) {
                check(&record, &input, &context, &decide(&record, &input, &context));
                count += 1;
            }
        }
    }
    count
}

#[test]
fn every_decision_is_one_version_more_or_no_change_and_always_the_same() {
    let count = each(|record, input, context, decision| {
        assert_eq!(decide(record, input, context), *decision, "deterministic");
        let Decision::Commit(commit) = decision else { return };
        let next = commit.record();
        assert_eq!(next.version().get(), record.version().get() + 1, "{input:?}");
        assert_eq!((next.id(), next.service(), next.born()), (record.id(), 1, record.born()));
        assert!(next.changed() >= record.changed(), "time never decreases");
        assert!(next.key_generation() >= record.key_generation());
        // One event, of this version, that says all it takes to decide again.
        let event = commit.event();
        assert_eq!((event.session(), event.version()), (next.id(), next.version()));
        assert_eq!(event.cause(), ChangeCause::Input(*input));
        assert_eq!(event.context(), context);
        assert_eq!(SessionRecord::from_bytes(&next.to_bytes()), Ok(*next));
    });
    assert!(count > 100_000, "{count} combinations");
    println!("{count} combinations");
}

#[test]
fn nothing_follows_a_termination() {
    each(|record, input, _, decision| {
        if record.is_terminated() {
            assert!(matches!(decision, Decision::Reject(_)), "{input:?} after the end");
        }
    });
}

#[test]
fn only_the_owner_changes_a_session_and_others_only_when_it_is_fenced() {
    each(|record, input, context, decision| {
        let Decision::Commit(commit) = decision else { return };
        match input {
            Input::TakeOver { proof } | Input::TerminateLost { proof } => {
                assert!(proof.covers(record.owner()) && !proof.covers(context.actor));
            }
            _ => assert_eq!(context.actor, record.owner(), "{input:?}"),
        }
        if commit.record().owner() != record.owner() {
            let moved = match input {
                Input::HandOff { to } => *to,
                Input::TakeOver { .. } => context.actor,
                other => panic!("{other:?} moved the session"),
            };
            assert_eq!(commit.record().owner(), moved);
        }
    });
}

#[test]
fn a_stranger_is_told_of_the_conflict_and_learns_nothing_else() {
    each(|record, input, context, decision| {
        let for_another = matches!(input, Input::TakeOver { .. } | Input::TerminateLost { .. });
        if !record.is_terminated() && !for_another && context.actor != record.owner() {
            assert_eq!(*decision, Decision::Reject(Reason::OwnershipConflict), "{input:?}");
        }
    });
}

#[test]
fn no_new_transport_is_bound_while_a_session_moves() {
    each(|record, input, _, decision| {
        let Decision::Commit(commit) = decision else { return };
        if record.hold() != Hold::Active {
            let (before, after) = (record.transport(), commit.record().transport());
            assert!(after.is_none() || after == before, "{input:?}: {before:?} to {after:?}");
        }
    });
}

#[test]
fn only_the_exact_version_and_a_fresh_nonce_reattach() {
    let mut accepted = 0;
    each(|record, input, _, decision| {
        let (Input::Reattach(request), Decision::Commit(commit)) = (input, decision) else {
            return;
        };
        if commit.answer().is_err() {
            assert!(commit.record().is_terminated());
            return;
        }
        accepted += 1;
        let next = commit.record();
        assert_eq!(request.version, record.version());
        assert_ne!(record.replay(), next.replay(), "the nonce is in the record");
        assert_eq!(next.transport(), Some(request.transport));
        let last = Accepted { version: next.version(), nonce: request.nonce };
        assert_eq!(next.accepted(), Some(last));
        let again = decide(next, input, &own(next.changed().millis()));
        let used = Decision::Reject(Reason::NonceReplayed);
        assert!(next.owner() != owner(1, 5) || again == used, "{again:?}");
    });
    assert!(accepted > 20, "{accepted}");
}

#[test]
fn time_limits_come_before_whatever_is_asked() {
    each(|record, input, context, decision| {
        let over = context.now >= record.born().after(policy().session_ttl);
        if over
            && !record.is_terminated()
            && *decision != Decision::Reject(Reason::OwnershipConflict)
            && *decision != Decision::Reject(Reason::NotFenced)
        {
            let commit = decision.commit().expect("the session ends");
            assert_eq!(commit.record().state(), State::Terminated(Cause::SessionTtl), "{input:?}");
            let expected = match input {
                Input::Expire => Ok(()),
                _ => Err(Reason::SessionExpired),
            };
            assert_eq!(commit.answer(), expected, "{input:?}");
        }
    });
}

#[test]
fn the_last_version_is_the_terminations() {
    each(|record, input, _, decision| {
        let Decision::Commit(commit) = decision else { return };
        if record.version().get() == u64::MAX - 1 {
            assert!(commit.record().is_terminated(), "{input:?}");
            assert_eq!(commit.record().version().get(), u64::MAX);
        }
    });
    let attached = at_version(&after(&[Input::Attach { transport: transport(1) }]), u64::MAX - 1);
    let lose = Input::LoseTransport { transport: transport(1) };
    let commit = decide(&attached, &lose, &own(BORN + MINUTE)).commit().unwrap();
    assert_eq!(commit.record().state(), State::Terminated(Cause::VersionsExhausted));
    assert_eq!(commit.answer(), Err(Reason::VersionsExhausted));
}

#[test]
fn an_abort_is_possible_until_the_session_is_handed_off() {
    each(|record, input, _, decision| {
        let Decision::Commit(commit) = decision else { return };
        let is_open = commit.answer().is_ok();
        match input {
            Input::Abort if is_open => assert!(matches!(record.hold(), Hold::Frozen { .. })),
            Input::HandOff { .. } if is_open => {
                assert!(matches!(record.hold(), Hold::Frozen { .. }));
                assert!(matches!(commit.record().hold(), Hold::HandedOff { .. }));
            }
            Input::Resume if is_open => {
                assert!(matches!(record.hold(), Hold::HandedOff { .. }), "resume before handoff");
            }
            _ => {}
        }
    });
}

#[test]
fn every_input_that_there_is_is_enumerated() {
    let number = |input: &Input| match input {
        Input::Attach { .. } => 0,
        Input::LoseTransport { .. } => 1,
        Input::Reattach(_) => 2,
        Input::Freeze { .. } => 3,
        Input::Abort => 4,
        Input::HandOff { .. } => 5,
        Input::Resume => 6,
        Input::TakeOver { .. } => 7,
        Input::RotateKey => 8,
        Input::Expire => 9,
        Input::Terminate { .. } => 10,
        Input::TerminateLost { .. } => 11,
    };
    let met: BTreeSet<_> = inputs(&after(&[])).iter().map(number).collect();
    assert_eq!(met, (0..12).collect());
}

#[test]
fn every_reason_that_the_model_gives_is_met() {
    let mut met = BTreeSet::new();
    each(|_, _, _, decision| {
        met.extend(match decision {
            Decision::Reject(reason) => Some(*reason),
            Decision::Commit(commit) => commit.answer().err(),
        });
    });
    let elsewhere = [
        Reason::ConcurrentMutation,
        Reason::UnknownSession,
        Reason::StoreUnavailable,
        Reason::BadProof,
        Reason::PartialWrite,
    ];
    let missing: Vec<_> =
        Reason::ALL.iter().filter(|r| !met.contains(r) && !elsewhere.contains(r)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn too_many_changes_of_transport_are_refused_until_time_has_passed() {
    let mut record = after(&[Input::Attach { transport: transport(1) }]);
    let mut now = record.changed().millis() + MINUTE;
    let mut change = |nonce: u64, now: u64| {
        let decided = decide(&record, &reattach(record.version(), nonce, nonce as u16), &own(now));
        match decided {
            Decision::Commit(commit) => record = *commit.record(),
            Decision::Reject(reason) => return Err(reason),
        }
        Ok(())
    };
    assert_eq!(change(1, now), Ok(()));
    assert_eq!(change(2, now + 999), Err(Reason::SwitchCooldown));
    now += 1_000;
    assert_eq!(change(2, now), Ok(()));
    assert_eq!(change(3, now + 1_000), Err(Reason::SwitchRate));
    assert_eq!(change(60, now + MINUTE), Ok(()));
    assert_eq!(change(3, now + 2 * MINUTE), Ok(()), "refused ones used up no nonce: 3 is fresh");
    assert_eq!(change(200, now + 3 * MINUTE), Ok(()));
    assert_eq!(change(4, now + 4 * MINUTE), Err(Reason::NonceTooOld));
}

/// The example of versioning-model §2.
#[test]
fn the_documents_example() {
    let mut record = *birth(id(), 1, &own(BORN)).record();
    assert_eq!((record.state(), record.version().get()), (State::Birth, 0));
    let steps = [
        Input::Attach { transport: transport(1) },
        Input::LoseTransport { transport: transport(1) },
        reattach(StateVersion::new(2), 1, 2),
        Input::Terminate { cause: Cause::Request },
    ];
    let mut versions = Vec::new();
    for (at, input) in (1..).zip(steps) {
        record = *decide(&record, &input, &own(BORN + at * MINUTE)).commit().unwrap().record();
        versions.push((record.version().get(), record.transport().is_some()));
    }
    assert_eq!(versions, [(1, true), (2, false), (3, true), (4, false)]);
    assert!(record.is_terminated());
}

/// ownership-model §3: freeze, commit, transfer, resume; each a version of its own.
#[test]
fn a_transfer_is_four_versions_of_one_line() {
    let attached = after(&[Input::Attach { transport: transport(1) }]);
    let mut record = attached;
    let new = owner(2, 8);
    let steps = [
        (owner(1, 5), Input::Freeze { to: node(2) }),
        (owner(1, 5), Input::HandOff { to: new }),
        (new, Input::Resume),
    ];
    for (actor, input) in steps {
        let now = record.changed().millis() + 5;
        record = *decide(&record, &input, &context(actor, now)).commit().unwrap().record();
    }
    assert_eq!(record.version().get(), attached.version().get() + 3);
    assert_eq!((record.owner(), record.hold()), (new, Hold::Active));
    assert_eq!(record.state(), attached.state(), "the client notices nothing");
}

#[test]
fn whoever_takes_over_asks_the_client_for_a_new_proof() {
    let attached = after(&[Input::Attach { transport: transport(1) }]);
    let proof = FenceProof::new(owner(1, 5));
    let now = BORN + 2 * MINUTE;
    let taken = decide(&attached, &Input::TakeOver { proof }, &context(owner(3, 9), now));
    let record = *taken.commit().unwrap().record();
    assert_eq!(record.owner(), owner(3, 9));
    assert_eq!(record.state(), State::Recovering { since: Time::from_millis(now) });
    // The old owner, should it come back, is nobody.
    let late = decide(&record, &Input::RotateKey, &own(now + 1));
    assert_eq!(late, Decision::Reject(Reason::OwnershipConflict));
}
