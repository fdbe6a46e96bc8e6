use super::{
    ABORT, ACCEPTING, ATTACH, BIRTH, DRAINING, EXPIRE, FENCED, FORMAT, FREEZE, HAND_OFF,
    HAS_SESSION, HAS_VERSION, LOSE_TRANSPORT, NODE, PLACEMENT, REATTACH, REFUSAL, REGISTERED,
    RESUME, ROTATE_KEY, STATE_CHANGE, TAKE_OVER, TERMINATE, TERMINATE_LOST,
};
use crate::{
    audit::{Event, NodeChange, NodeEvent, PlacementEvent, Refusal},
    bytes::Out,
    model::{ChangeCause, Context, Input, OperationId, Owner, Policy, Reattach, StateChange, Time},
};

impl Event {
    /// The event as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Out::with_capacity(224);
        out.u8(FORMAT);
        match self {
            Self::StateChange(change) => out.u8(STATE_CHANGE).state_change(change),
            Self::Node(event) => out.u8(NODE).node_event(event),
            Self::Placement(event) => out.u8(PLACEMENT).placement(event),
            Self::Refusal(refusal) => out.u8(REFUSAL).refusal(refusal),
        };
        out.0
    }
}

impl Out {
    fn attempt(&mut self, actor: Owner, now: Time, operation: OperationId) -> &mut Self {
        self.owner(actor).time(now).operation(operation)
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
        self.session(change.session())
            .version(change.version())
            .attempt(actor, now, operation)
            .u32(revision)
            .span(session_ttl)
            .span(transport_loss_ttl)
            .span(recovery_window)
            .u16(switch_burst)
            .span(switch_interval)
            .span(switch_cooldown);
        match change.cause() {
            ChangeCause::Birth { service } => self.u8(BIRTH).u64(service),
            ChangeCause::Input(input) => self.input(&input),
        }
    }

    fn input(&mut self, input: &Input) -> &mut Self {
        match *input {
            Input::Attach { transport } => self.u8(ATTACH).transport(transport),
            Input::LoseTransport { transport } => self.u8(LOSE_TRANSPORT).transport(transport),
            Input::Reattach(Reattach { version, nonce, transport, key_generation }) => self
                .u8(REATTACH)
                .version(version)
                .u64(nonce.get())
                .transport(transport)
                .u32(key_generation),
            Input::Freeze { to } => self.u8(FREEZE).node(to),
            Input::Abort => self.u8(ABORT),
            Input::HandOff { to } => self.u8(HAND_OFF).owner(to),
            Input::Resume => self.u8(RESUME),
            Input::TakeOver { proof } => self.u8(TAKE_OVER).owner(proof.fenced()),
            Input::RotateKey => self.u8(ROTATE_KEY),
            Input::Expire => self.u8(EXPIRE),
            Input::Terminate { cause } => self.u8(TERMINATE).u8(cause as u8),
            Input::TerminateLost { proof } => self.u8(TERMINATE_LOST).owner(proof.fenced()),
        }
    }

    fn node_event(&mut self, event: &NodeEvent) -> &mut Self {
        let NodeEvent { node, incarnation, number, change, actor, now, operation } = event;
        self.owner(*node).u128(incarnation.0).u64(*number).attempt(*actor, *now, *operation);
        match change {
            NodeChange::Registered { name } => self.u8(REGISTERED).bytes(name.as_bytes()),
            NodeChange::Accepting => self.u8(ACCEPTING),
            NodeChange::Draining => self.u8(DRAINING),
            NodeChange::Fenced => self.u8(FENCED),
        }
    }

    fn placement(&mut self, event: &PlacementEvent) -> &mut Self {
        let PlacementEvent { revision, digest, actor, now, operation } = event;
        self.u32(revision.get()).bytes(digest).attempt(*actor, *now, *operation)
    }

    fn refusal(&mut self, refusal: &Refusal) -> &mut Self {
        let Refusal { reason, session, stood, count, actor, now } = *refusal;
        self.u16(reason.code()).node(actor).time(now).u32(count);
        let has_session = if session.is_some() { HAS_SESSION } else { 0 };
        let has_version = if stood.is_some() { HAS_VERSION } else { 0 };
        self.u8(has_session | has_version);
        if let Some(session) = session {
            self.session(session);
        }
        if let Some(stood) = stood {
            self.version(stood);
        }
        self
    }
}
