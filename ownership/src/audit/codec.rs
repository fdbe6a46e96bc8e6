//! An event as bytes: what hash chains cover. Numbers are big-endian.

use super::{Event, NodeChange, NodeEvent, PlacementEvent, Refusal};
use crate::model::{
    ChangeCause, Context, Input, OperationId, Owner, Policy, Reattach, StateChange, Time, Transport,
};
use std::time::Duration;

const FORMAT: u8 = 1;

impl Event {
    /// The event as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Out(Vec::with_capacity(224));
        out.u8(FORMAT);
        match self {
            Self::StateChange(change) => out.u8(1).state_change(change),
            Self::Node(event) => out.u8(2).node(event),
            Self::Placement(event) => out.u8(3).placement(event),
            Self::Refusal(refusal) => out.u8(4).refusal(refusal),
        };
        out.0
    }
}

struct Out(Vec<u8>);

impl Out {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u8(&mut self, number: u8) -> &mut Self {
        self.bytes(&[number])
    }

    fn u16(&mut self, number: u16) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }

    fn u32(&mut self, number: u32) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }

    fn u64(&mut self, number: u64) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }

    fn u128(&mut self, number: u128) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }

    fn time(&mut self, time: Time) -> &mut Self {
        self.u64(time.millis())
    }

    fn span(&mut self, span: Duration) -> &mut Self {
        self.u64(span.as_secs()).u32(span.subsec_nanos())
    }

    fn owner(&mut self, owner: Owner) -> &mut Self {
        self.u16(owner.node.get()).u32(owner.epoch.get())
    }

    fn transport(&mut self, transport: Transport) -> &mut Self {
        self.bytes(&transport.bytes())
    }

    fn attempt(&mut self, actor: Owner, now: Time, operation: OperationId) -> &mut Self {
        self.owner(actor).time(now).u128(operation.0)
    }

    fn state_change(&mut self, change: &StateChange) -> &mut Self {
        let Context { now, actor, policy, operation } = *change.context();
        let Policy {
            revision,
            session_ttl,
            transport_loss_ttl,
            recovery_window,
            switch_burst,
            switch_interval,
            switch_cooldown,
        } = policy;
        self.bytes(&change.session().bytes())
            .u64(change.version().get())
            .attempt(actor, now, operation)
            .u32(revision)
            .span(session_ttl)
            .span(transport_loss_ttl)
            .span(recovery_window)
            .u16(switch_burst)
            .span(switch_interval)
            .span(switch_cooldown);
        match change.cause() {
            ChangeCause::Birth { service } => self.u8(0).u64(service),
            ChangeCause::Input(input) => self.input(&input),
        }
    }

    fn input(&mut self, input: &Input) -> &mut Self {
        match *input {
            Input::Attach { transport } => self.u8(1).transport(transport),
            Input::LoseTransport { transport } => self.u8(2).transport(transport),
            Input::Reattach(Reattach { version, nonce, transport, key_generation }) => self
                .u8(3)
                .u64(version.get())
                .u64(nonce.get())
                .transport(transport)
                .u32(key_generation),
            Input::Freeze { to } => self.u8(4).u16(to.get()),
            Input::Abort => self.u8(5),
            Input::HandOff { to } => self.u8(6).owner(to),
            Input::Resume => self.u8(7),
            Input::TakeOver { proof } => self.u8(8).owner(proof.fenced()),
            Input::RotateKey => self.u8(9),
            Input::Expire => self.u8(10),
            Input::Terminate { cause } => self.u8(11).u8(cause as u8),
            Input::TerminateLost { proof } => self.u8(12).owner(proof.fenced()),
        }
    }

    fn node(&mut self, event: &NodeEvent) -> &mut Self {
        let NodeEvent { node, incarnation, change, actor, now, operation } = event;
        self.owner(*node).u128(incarnation.0).attempt(*actor, *now, *operation);
        match change {
            NodeChange::Registered { name } => self.u8(1).bytes(name.as_bytes()),
            NodeChange::Accepting => self.u8(2),
            NodeChange::Draining => self.u8(3),
            NodeChange::Fenced => self.u8(4),
        }
    }

    fn placement(&mut self, event: &PlacementEvent) -> &mut Self {
        let PlacementEvent { revision, digest, actor, now, operation } = event;
        self.u32(revision.get()).bytes(digest).attempt(*actor, *now, *operation)
    }

    fn refusal(&mut self, refusal: &Refusal) -> &mut Self {
        let Refusal { reason, session, stood, count, actor, now } = *refusal;
        self.u16(reason.code()).u16(actor.get()).time(now).u32(count);
        self.u8(u8::from(session.is_some()) | u8::from(stood.is_some()) << 1);
        if let Some(session) = session {
            self.bytes(&session.bytes());
        }
        if let Some(stood) = stood {
            self.u64(stood.get());
        }
        self
    }
}
