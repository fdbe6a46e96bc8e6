//! Sessions with arbitrary lives, for tests of what is stored and told of them.

use ownership::{
    Epoch, NodeIndex, Revision, SessionId, StateVersion,
    model::{
        Cause, Commit, Context, FenceProof, Input, Nonce, OperationId, Owner, Policy, Reattach,
        SessionRecord, Time, Transport, birth, decide,
    },
    store::{Identity, Incarnation, SessionWrite, StoredSession},
};
use proptest::prelude::*;
use std::{net::SocketAddr, time::Duration};

pub fn node(number: u16) -> NodeIndex {
    NodeIndex::new(number).unwrap()
}

pub fn owner(number: u16, epoch: u32) -> Owner {
    Owner { node: node(number), epoch: Epoch::new(epoch).unwrap() }
}

pub fn identity(owner: Owner) -> Identity {
    Identity { owner, incarnation: Incarnation(owner.epoch.get().into()) }
}

pub fn transport(port: u16) -> Transport {
    SocketAddr::from(([192, 0, 2, 1], port)).into()
}

pub fn context(actor: Owner, milliseconds: u64, operation: u128) -> Context {
    let now = Time::from_millis(milliseconds);
    let policy =
        Policy { switch_interval: Duration::from_nanos(1_000_000_007), ..Policy::default() };
    Context { now, actor, policy, operation: OperationId(operation) }
}

/// One step of a life: what kind of input, how much later, and bits for the rest.
pub type Step = (u8, u32, u32);

/// Steps, most of which come to something.
pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0..14_u8, 0..60_000_u32, any::<u32>()), 1..24)
}

/// What a step asks of a record, and who asks.
fn asked(record: &SessionRecord, (kind, _, bits): Step) -> (Input, Owner) {
    let owns = record.owner();
    let here = owns.node.get();
    let other = if here == 1 { 2 } else { 1 };
    let bound = record.transport().unwrap_or(transport(0));
    let port = bits as u16;
    let proof = FenceProof::new(owns);
    let input = match kind {
        0 | 1 => Input::Attach { transport: transport(port) },
        2 => Input::LoseTransport { transport: bound },
        3..6 => Input::Reattach(Reattach {
            version: StateVersion::new(
                record.version().get().saturating_sub(u64::from(bits % 8 == 7)),
            ),
            nonce: Nonce::new(record.replay().parts().0 + u64::from(bits % 9)),
            transport: transport(port),
            key_generation: record.key_generation(),
        }),
        6 => Input::Freeze { to: node(other) },
        7 => Input::Abort,
        8 => Input::HandOff { to: owner(other, owns.epoch.get() + 1) },
        9 => Input::Resume,
        10 => return (Input::TakeOver { proof }, owner(other, owns.epoch.get() + 2)),
        11 => Input::RotateKey,
        12 => Input::Expire,
        _ if bits % 5 == 0 => {
            return (Input::TerminateLost { proof }, owner(other, owns.epoch.get() + 2));
        }
        _ => Input::Terminate { cause: Cause::ALL[bits as usize % Cause::ALL.len()] },
    };
    (input, owns)
}

/// The write that a commit is, whatever its kind.
pub fn write(before: Option<&StoredSession>, commit: &Commit) -> SessionWrite {
    let by = identity(commit.event().context().actor);
    let Some(before) = before else {
        return SessionWrite::birth(commit, by, Revision::FIRST).unwrap();
    };
    SessionWrite::change(before, commit, by).unwrap_or_else(|_| {
        let to = identity(commit.record().owner());
        SessionWrite::hand_off(before, commit, by, to, [1, 2, 3].into()).unwrap()
    })
}

/// The writes of a session's life: its birth, and what was committed of the steps.
pub fn life(id: u8, steps: &[Step]) -> Vec<SessionWrite> {
    let mut now = 1_000_000;
    let mut operation = u128::from(id) << 64;
    let first = birth(SessionId::new([id; 16]), 5, &context(owner(1, 3), now, operation));
    let mut writes = vec![write(None, &first)];
    for step in steps {
        let before = *writes.last().expect("the birth").after();
        let (input, actor) = asked(&before.record, *step);
        now += u64::from(step.1);
        operation += 1;
        if let Some(commit) =
            decide(&before.record, &input, &context(actor, now, operation)).commit()
        {
            writes.push(write(Some(&before), &commit));
        }
    }
    writes
}
