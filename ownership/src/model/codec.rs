//! A record as bytes: what stores keep and hash chains cover.
//!
//! One record has one form: fields that its state gives no meaning are zero, and bytes that no
//! record has are refused.

use super::{
    Accepted, Cause, Hold, Nonce, Owner, ReplayWindow, SessionRecord, State, SwitchAllowance, Time,
    Transport,
};
use crate::{Epoch, NodeIndex, SessionId, StateVersion};
use thiserror::Error;
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    byteorder::network_endian::{U16, U32, U64},
};

const FORMAT: u8 = 1;

const BIRTH: u8 = 0;
const ATTACHED: u8 = 1;
const RECOVERING: u8 = 2;
const TERMINATED: u8 = 3;

const ACTIVE: u8 = 0;
const FROZEN: u8 = 1;
const HANDED_OFF: u8 = 2;

const HAS_ACCEPTED: u8 = 1;
const HAS_SWITCHED: u8 = 2;

/// The record's form, version 1. Numbers are big-endian.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Layout {
    format: u8,
    state: u8,
    cause: u8,
    hold: u8,
    hold_node: U16,
    owner_node: U16,
    owner_epoch: U32,
    key_generation: U32,
    id: [u8; 16],
    service: U64,
    version: U64,
    born: U64,
    changed: U64,
    since: U64,
    transport: [u8; Transport::LENGTH],
    flags: u8,
    zero: [u8; 5],
    replay_highest: U64,
    replay_seen: U64,
    accepted_version: U64,
    accepted_nonce: U64,
    switches_full_at: U64,
    switches_last: U64,
}

/// Length of a record in bytes.
pub const RECORD_LENGTH: usize = size_of::<Layout>();

const _: () = assert!(RECORD_LENGTH == 144);

/// Bytes that are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadRecord {
    /// Of another length.
    #[error("a session record has {RECORD_LENGTH} bytes, not {0}")]
    Length(usize),
    /// Written by another version of the program.
    #[error("the session record has format {0}; this program reads format {FORMAT}")]
    Format(u8),
    /// Damaged, or written by something else.
    #[error("the session record is corrupt: its {0} has no meaning")]
    Corrupt(&'static str),
}

impl SessionRecord {
    /// The record as bytes.
    pub fn to_bytes(&self) -> [u8; RECORD_LENGTH] {
        zerocopy::transmute!(Layout::of(self))
    }

    /// The record that has these bytes.
    ///
    /// # Errors
    ///
    /// If none has.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadRecord> {
        let layout = Layout::read_from_bytes(bytes).map_err(|_| BadRecord::Length(bytes.len()))?;
        if layout.format != FORMAT {
            return Err(BadRecord::Format(layout.format));
        }
        let record = layout.record()?;
        // What the state gives no meaning to must be zero.
        let is_canonical = record.to_bytes() == bytes;
        is_canonical.then_some(record).ok_or(BadRecord::Corrupt("padding"))
    }
}

impl Layout {
    fn of(record: &SessionRecord) -> Self {
        let SessionRecord {
            id,
            service,
            version,
            owner,
            state,
            hold,
            born,
            changed,
            key_generation,
            replay,
            accepted,
            switches: SwitchAllowance { full_at, last },
        } = *record;
        let (replay_highest, replay_seen) = replay.parts();
        let mut layout = Self {
            format: FORMAT,
            owner_node: owner.node.get().into(),
            owner_epoch: owner.epoch.get().into(),
            key_generation: key_generation.into(),
            id: id.bytes(),
            service: service.into(),
            version: version.get().into(),
            born: born.millis().into(),
            changed: changed.millis().into(),
            replay_highest: replay_highest.into(),
            replay_seen: replay_seen.into(),
            switches_full_at: full_at.millis().into(),
            ..Self::default()
        };
        match state {
            State::Birth => layout.state = BIRTH,
            State::Attached(transport) => {
                layout.state = ATTACHED;
                layout.transport = transport.bytes();
            }
            State::Recovering { since } => {
                layout.state = RECOVERING;
                layout.since = since.millis().into();
            }
            State::Terminated(cause) => {
                layout.state = TERMINATED;
                layout.cause = cause as u8;
            }
        }
        match hold {
            Hold::Active => layout.hold = ACTIVE,
            Hold::Frozen { to } => (layout.hold, layout.hold_node) = (FROZEN, to.get().into()),
            Hold::HandedOff { from } => {
                (layout.hold, layout.hold_node) = (HANDED_OFF, from.get().into());
            }
        }
        if let Some(Accepted { version, nonce }) = accepted {
            layout.flags |= HAS_ACCEPTED;
            layout.accepted_version = version.get().into();
            layout.accepted_nonce = nonce.get().into();
        }
        if let Some(last) = last {
            layout.flags |= HAS_SWITCHED;
            layout.switches_last = last.millis().into();
        }
        layout
    }

    fn record(&self) -> Result<SessionRecord, BadRecord> {
        let time = |field: U64| Time::from_millis(field.get());
        let node =
            |field: U16, what| NodeIndex::new(field.get()).map_err(|_| BadRecord::Corrupt(what));
        let state = match self.state {
            BIRTH => State::Birth,
            ATTACHED => State::Attached(Transport::from_bytes(self.transport)),
            RECOVERING => State::Recovering { since: time(self.since) },
            TERMINATED => {
                State::Terminated(Cause::from_code(self.cause).ok_or(BadRecord::Corrupt("cause"))?)
            }
            _ => return Err(BadRecord::Corrupt("state")),
        };
        let hold = match self.hold {
            ACTIVE => Hold::Active,
            FROZEN => Hold::Frozen { to: node(self.hold_node, "destination")? },
            HANDED_OFF => Hold::HandedOff { from: node(self.hold_node, "origin")? },
            _ => return Err(BadRecord::Corrupt("hold")),
        };
        let epoch =
            Epoch::new(self.owner_epoch.get()).ok_or(BadRecord::Corrupt("owner's epoch"))?;
        let accepted = Accepted {
            version: StateVersion::new(self.accepted_version.get()),
            nonce: Nonce::new(self.accepted_nonce.get()),
        };
        let has = |flag| self.flags & flag != 0;
        let switches = SwitchAllowance {
            full_at: time(self.switches_full_at),
            last: has(HAS_SWITCHED).then(|| time(self.switches_last)),
        };
        Ok(SessionRecord {
            id: SessionId::new(self.id),
            service: self.service.get(),
            version: StateVersion::new(self.version.get()),
            owner: Owner { node: node(self.owner_node, "owner")?, epoch },
            state,
            hold,
            born: time(self.born),
            changed: time(self.changed),
            key_generation: self.key_generation.get(),
            replay: ReplayWindow::from_parts(self.replay_highest.get(), self.replay_seen.get()),
            accepted: has(HAS_ACCEPTED).then_some(accepted),
            switches,
        })
    }
}
