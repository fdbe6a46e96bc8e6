use super::BadRow;
use crate::{
    bytes::{In, Out},
    store::{AuditKey, Key, OffHomeKey, WireId},
};

const GENERATION: u8 = b'0';
const EPOCHS: u8 = b'1';
const FENCE: u8 = b'2';
const HEARTBEAT: u8 = b'3';
const PLACEMENT: u8 = b'4';
const SESSION: u8 = b'5';
const OFF_HOME: u8 = b'6';
const INBOX: u8 = b'7';
const TRANSFER: u8 = b'8';
const AUDIT: u8 = b'9';
const BAGGAGE: u8 = b'a';

impl Key {
    /// The key as bytes, which are in the order of the keys.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Out::with_capacity(28);
        match self {
            Self::Generation => out.u8(GENERATION),
            Self::Epochs => out.u8(EPOCHS),
            Self::Fence(node) => out.u8(FENCE).node(*node),
            Self::Heartbeat(node) => out.u8(HEARTBEAT).node(*node),
            Self::Placement => out.u8(PLACEMENT),
            Self::Session(session) => out.u8(SESSION).session(*session),
            Self::OffHome(OffHomeKey { slot, id }) => out.u8(OFF_HOME).u16(*slot).bytes(id.bytes()),
            Self::Inbox(node, session) => out.u8(INBOX).node(*node).session(*session),
            Self::Transfer(session, frozen) => out.u8(TRANSFER).session(*session).version(*frozen),
            Self::Audit(AuditKey { stream, number }) => out.u8(AUDIT).u64(*stream).u64(*number),
            Self::Baggage(session) => out.u8(BAGGAGE).session(*session),
        };
        out.0
    }

    /// The key that has these bytes.
    ///
    /// # Errors
    ///
    /// If none has.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadRow> {
        let mut input = In(bytes);
        let key = match input.u8("key")? {
            GENERATION => Self::Generation,
            EPOCHS => Self::Epochs,
            FENCE => Self::Fence(input.node("key")?),
            HEARTBEAT => Self::Heartbeat(input.node("key")?),
            PLACEMENT => Self::Placement,
            SESSION => Self::Session(input.session("key")?),
            OFF_HOME => {
                let slot = input.u16("key")?;
                let id = WireId::new(input.rest()).ok_or(BadRow("key"))?;
                Self::OffHome(OffHomeKey { slot, id })
            }
            INBOX => Self::Inbox(input.node("key")?, input.session("key")?),
            TRANSFER => Self::Transfer(input.session("key")?, input.version("key")?),
            AUDIT => Self::Audit(AuditKey { stream: input.u64("key")?, number: input.u64("key")? }),
            BAGGAGE => Self::Baggage(input.session("key")?),
            _ => return Err(BadRow("key")),
        };
        input.end()?;
        Ok(key)
    }
}
