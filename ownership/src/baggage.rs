//! What a session carries besides its record.

use crate::{
    bytes::{Bad, In, Out},
    store::WireId,
    transfer::{AppContext, ContextLimit, ContextTooLong},
};
use std::sync::Arc;
use thiserror::Error;

/// The number of this form.
const FORMAT: u8 = 1;

/// What a session carries besides its record: it changes without a new version, and nothing is decided by it.
/// It is [kept](crate::store::BaggageRow) where the session is kept for as long as that lives, and goes with
/// it when it moves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Baggage {
    wire_ids: Vec<WireId>,
    context: Arc<[u8]>,
}

/// More ids than a session may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the session has {0} wire ids besides its SessionID: at most 32; give up one that is not used any more"
)]
pub struct TooManyWireIds(pub usize);

/// Bytes that are no baggage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("what a session carries is corrupt: its {0} has no meaning")]
pub struct BadBaggage(&'static str);

impl Baggage {
    /// The most wire ids that a session has besides its SessionID.
    pub const MAX_WIRE_IDS: usize = 32;

    /// The most bytes that [`Baggage::to_bytes`] gives besides those of the context.
    pub const MAX_BESIDES: usize = 2 + Self::MAX_WIRE_IDS * (1 + WireId::MAX);

    /// These wire ids, besides the SessionID and in an order that has no meaning here, and the application's
    /// context, bytes that this crate gives no meaning.
    ///
    /// # Errors
    ///
    /// If there are more than [`Baggage::MAX_WIRE_IDS`].
    pub fn new(wire_ids: Vec<WireId>, context: Arc<[u8]>) -> Result<Self, TooManyWireIds> {
        match wire_ids.len() {
            0..=Self::MAX_WIRE_IDS => Ok(Self { wire_ids, context }),
            more => Err(TooManyWireIds(more)),
        }
    }

    /// The session's wire ids besides its SessionID.
    pub fn wire_ids(&self) -> &[WireId] {
        &self.wire_ids
    }

    /// The application's context.
    pub fn context(&self) -> &Arc<[u8]> {
        &self.context
    }

    /// The same with another context.
    #[must_use]
    pub fn with_context(self, context: Arc<[u8]>) -> Self {
        Self { context, ..self }
    }

    /// The same with one more wire id.
    ///
    /// # Errors
    ///
    /// If there are [`Baggage::MAX_WIRE_IDS`] already.
    pub fn with_wire_id(mut self, id: WireId) -> Result<Self, TooManyWireIds> {
        self.wire_ids.push(id);
        Self::new(self.wire_ids, self.context)
    }

    /// The same without a wire id.
    #[must_use]
    pub fn without_wire_id(mut self, id: &[u8]) -> Self {
        self.wire_ids.retain(|known| known.bytes() != id);
        self
    }

    /// Whether it is nothing at all.
    pub fn is_empty(&self) -> bool {
        self.wire_ids.is_empty() && self.context.is_empty()
    }

    /// The baggage as bytes: the format (1), the number of wire ids (1), for each its length (1) and itself,
    /// then the context.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self { wire_ids, context } = self;
        let mut out = Out::with_capacity(64 + context.len());
        // At most 32 ids, of at most 255 bytes.
        out.u8(FORMAT).u8(wire_ids.len() as u8);
        for id in wire_ids {
            out.u8(id.bytes().len() as u8).bytes(id.bytes());
        }
        out.bytes(context);
        out.0
    }

    /// The baggage that has these bytes.
    ///
    /// # Errors
    ///
    /// If none has.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadBaggage> {
        let mut input = In(bytes);
        if input.u8("format")? != FORMAT {
            return Err(BadBaggage("format"));
        }
        let count = usize::from(input.u8("number of wire ids")?);
        if count > Self::MAX_WIRE_IDS {
            return Err(BadBaggage("number of wire ids"));
        }
        let mut wire_ids = Vec::with_capacity(count);
        for _ in 0..count {
            let length = usize::from(input.u8("wire id")?);
            let id = WireId::new(input.bytes(length, "wire id")?);
            wire_ids.push(id.ok_or(BadBaggage("wire id"))?);
        }
        Ok(Self { wire_ids, context: input.rest().into() })
    }

    /// What goes with the session into the inbox of the node that it is handed to: nothing if it is nothing.
    /// The limit is on the application's context; the wire ids come on top.
    ///
    /// # Errors
    ///
    /// If the application's context is longer than that.
    pub fn packed(&self, limit: ContextLimit) -> Result<AppContext, ContextTooLong> {
        limit.check(self.context.len())?;
        let bytes = if self.is_empty() { Vec::new() } else { self.to_bytes() };
        Ok(AppContext::of(bytes.into()))
    }

    /// What came with a session.
    ///
    /// # Errors
    ///
    /// If the bytes are not what [`Baggage::packed`] gives.
    pub fn unpacked(bytes: &[u8]) -> Result<Self, BadBaggage> {
        if bytes.is_empty() { Ok(Self::default()) } else { Self::from_bytes(bytes) }
    }
}

impl From<Bad> for BadBaggage {
    fn from(Bad(what): Bad) -> Self {
        Self(what)
    }
}
