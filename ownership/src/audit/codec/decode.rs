use super::{
    ABORT, ACCEPTING, ATTACH, BIRTH, BadEvent, DRAINING, EXPIRE, FENCED, FORMAT, FREEZE, HAND_OFF,
    HAS_SESSION, HAS_VERSION, LOSE_TRANSPORT, NODE, PLACEMENT, REATTACH, REFUSAL, REGISTERED,
    RESUME, ROTATE_KEY, STATE_CHANGE, TAKE_OVER, TERMINATE, TERMINATE_LOST,
};
use crate::{
    Revision,
    audit::{Event, NodeChange, NodeEvent, PlacementEvent, Refusal},
    bytes::{Bad, In},
    model::{
        Cause, ChangeCause, Context, FenceProof, Input, Nonce, Policy, Reason, Reattach,
        StateChange,
    },
    store::Incarnation,
};

impl Event {
    /// The event that has these bytes.
    ///
    /// # Errors
    ///
    /// If none has.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadEvent> {
        let mut input = In(bytes);
        if input.u8("format")? != FORMAT {
            return Err(BadEvent("format"));
        }
        let event = match input.u8("kind")? {
            STATE_CHANGE => Self::StateChange(input.state_change()?),
            NODE => Self::Node(input.node_event()?),
            PLACEMENT => Self::Placement(input.placement()?),
            REFUSAL => Self::Refusal(input.refusal()?),
            _ => return Err(BadEvent("kind")),
        };
        input.end()?;
        Ok(event)
    }
}

impl In<'_> {
    fn state_change(&mut self) -> Result<StateChange, Bad> {
        let (session, version) = (self.session("session")?, self.version("version")?);
        let (actor, now) = (self.owner("actor")?, self.time("time")?);
        let operation = self.operation("operation")?;
        let policy = Policy {
            revision: self.u32("policy")?,
            session_ttl: self.span("policy")?,
            transport_loss_ttl: self.span("policy")?,
            recovery_window: self.span("policy")?,
            switch_burst: self.u16("policy")?,
            switch_interval: self.span("policy")?,
            switch_cooldown: self.span("policy")?,
        };
        let cause = self.cause()?;
        let context = Context { now, actor, policy, operation };
        Ok(StateChange::from_parts(session, version, cause, context))
    }

    fn cause(&mut self) -> Result<ChangeCause, Bad> {
        let input = match self.u8("cause")? {
            BIRTH => return Ok(ChangeCause::Birth { service: self.u64("service")? }),
            ATTACH => Input::Attach { transport: self.transport("transport")? },
            LOSE_TRANSPORT => Input::LoseTransport { transport: self.transport("transport")? },
            REATTACH => Input::Reattach(Reattach {
                version: self.version("request")?,
                nonce: Nonce::new(self.u64("request")?),
                transport: self.transport("request")?,
                key_generation: self.u32("request")?,
            }),
            FREEZE => Input::Freeze { to: self.node("destination")? },
            ABORT => Input::Abort,
            HAND_OFF => Input::HandOff { to: self.owner("destination")? },
            RESUME => Input::Resume,
            TAKE_OVER => Input::TakeOver { proof: FenceProof::new(self.owner("proof")?) },
            ROTATE_KEY => Input::RotateKey,
            EXPIRE => Input::Expire,
            TERMINATE => {
                let code = self.u8("cause of the end")?;
                Input::Terminate { cause: Cause::from_code(code).ok_or(Bad("cause of the end"))? }
            }
            TERMINATE_LOST => Input::TerminateLost { proof: FenceProof::new(self.owner("proof")?) },
            _ => return Err(Bad("cause")),
        };
        Ok(ChangeCause::Input(input))
    }

    fn node_event(&mut self) -> Result<NodeEvent, Bad> {
        Ok(NodeEvent {
            node: self.owner("node")?,
            incarnation: Incarnation(self.u128("incarnation")?),
            number: self.u64("number")?,
            actor: self.owner("actor")?,
            now: self.time("time")?,
            operation: self.operation("operation")?,
            change: match self.u8("change")? {
                REGISTERED => {
                    let name = std::str::from_utf8(self.rest()).map_err(|_| Bad("name"))?;
                    NodeChange::Registered { name: name.to_owned() }
                }
                ACCEPTING => NodeChange::Accepting,
                DRAINING => NodeChange::Draining,
                FENCED => NodeChange::Fenced,
                _ => return Err(Bad("change")),
            },
        })
    }

    fn placement(&mut self) -> Result<PlacementEvent, Bad> {
        Ok(PlacementEvent {
            revision: Revision::new(self.u32("revision")?).ok_or(Bad("revision"))?,
            digest: self.array("digest")?,
            actor: self.owner("actor")?,
            now: self.time("time")?,
            operation: self.operation("operation")?,
        })
    }

    fn refusal(&mut self) -> Result<Refusal, Bad> {
        let reason = Reason::from_code(self.u16("reason")?).ok_or(Bad("reason"))?;
        let (actor, now) = (self.node("actor")?, self.time("time")?);
        let (count, has) = (self.u32("count")?, self.u8("flags")?);
        if has & !(HAS_SESSION | HAS_VERSION) != 0 {
            return Err(Bad("flags"));
        }
        let session = (has & HAS_SESSION != 0).then(|| self.session("session")).transpose()?;
        let stood = (has & HAS_VERSION != 0).then(|| self.version("version")).transpose()?;
        Ok(Refusal { reason, session, stood, count, actor, now })
    }
}
