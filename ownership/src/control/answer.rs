use super::{AnswerKey, BadMessage, Cookie, MESSAGE_LENGTH, Message, NATIVE, Tag, VERSION};
use crate::{
    Epoch, SessionId, StateVersion,
    model::{Accepted, Nonce, Reason},
};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    byteorder::network_endian::{U16, U32, U64},
};

/// What a node says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// CHALLENGE: ask again with this cookie.
    Challenge(Cookie),
    /// ACK: it was done, and the session has the version that it led to.
    Ack(Snapshot),
    /// REATTACH_REJECT: it was not done.
    Reject {
        /// Why. A client may meet a code that its program does not know.
        code: u16,
        /// How the session stands, if the node knows for sure.
        snapshot: Option<Snapshot>,
    },
    /// STATE: how the session stands.
    State(Snapshot),
    /// PENDING: nobody knows yet whether it was done, so nothing is said about it. Ask again.
    Pending,
}

impl Answer {
    /// The refusal for a reason.
    pub const fn reject(reason: Reason, snapshot: Option<Snapshot>) -> Self {
        Self::Reject { code: reason.code(), snapshot }
    }
}

/// How a session stands at one version, in the words of its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The version.
    pub version: StateVersion,
    /// The owner's epoch.
    pub epoch: Epoch,
    /// The generation of the key in force.
    pub key_generation: u32,
    /// The last reattach that was accepted: the client's own, if nobody else has its keys.
    pub accepted: Option<Accepted>,
    /// Whether the session is bound to the address that the request came from.
    pub is_bound: bool,
}

/// The request that an answer is for. An answer's tag covers the request's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InReplyTo {
    /// The session that it named.
    pub session: SessionId,
    /// Its nonce.
    pub nonce: Nonce,
    /// Its tag.
    pub tag: Tag,
}

const CHALLENGE: u8 = 0x81;
const ACK: u8 = 0x82;
const REATTACH_REJECT: u8 = 0x83;
const STATE: u8 = 0x84;
const PENDING: u8 = 0x85;

/// The native header's flag: owner epoch and state_version follow the SessionID.
const FLAG_OWNER: u8 = 1;

const BOUND: u8 = 1;
const HAS_ACCEPTED: u8 = 2;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Layout {
    native: u8,
    flags: u8,
    reserved: U16,
    session: [u8; 16],
    /// 0 if the answer holds no snapshot.
    epoch: U32,
    state_version: U64,
    version: u8,
    kind: u8,
    reason: U16,
    key_generation: U32,
    nonce: U64,
    /// A cookie, or the rest of a snapshot.
    content: [u8; Cookie::LENGTH],
    tag: Tag,
}

#[derive(Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Rest {
    accepted_version: U64,
    accepted_nonce: U64,
    flags: u8,
    padding: [u8; 7],
}

const _: () = assert!(size_of::<Layout>() == MESSAGE_LENGTH);
const _: () = assert!(size_of::<Rest>() == Cookie::LENGTH);

const TAGGED: usize = MESSAGE_LENGTH - size_of::<Tag>();

impl Answer {
    /// The message, authenticated and bound to the request that it is for.
    pub fn seal(&self, to: &InReplyTo, key: &AnswerKey) -> Message {
        let mut message: Message = zerocopy::transmute!(Layout::of(self, to.session, to.nonce));
        let (tagged, tag) = message.split_at_mut(TAGGED);
        tag.copy_from_slice(&key.mac().tag([tagged, &to.tag]));
        message
    }

    /// Reads a message.
    ///
    /// # Errors
    ///
    /// If it is no answer of this version.
    pub fn parse(bytes: &[u8]) -> Result<Unverified<'_>, BadMessage> {
        let layout = Layout::ref_from_bytes(bytes).map_err(|_| BadMessage::Length(bytes.len()))?;
        if (layout.native, layout.flags, layout.reserved.get()) != (NATIVE, FLAG_OWNER, 0) {
            return Err(BadMessage::Header);
        }
        if layout.version != VERSION {
            return Err(BadMessage::Version(layout.version));
        }
        let answer = layout.answer()?;
        let (session, nonce) = (SessionId::new(layout.session), Nonce::new(layout.nonce.get()));
        // What its kind gives no meaning to must be zero.
        let tagged = &bytes[..TAGGED];
        let canonical: Message = zerocopy::transmute!(Layout::of(&answer, session, nonce));
        if canonical[..TAGGED] != *tagged {
            return Err(BadMessage::Field("padding"));
        }
        Ok(Unverified { answer, session, nonce, tagged, tag: &layout.tag })
    }
}

impl Layout {
    fn of(answer: &Answer, session: SessionId, nonce: Nonce) -> Self {
        let mut layout = Self {
            native: NATIVE,
            flags: FLAG_OWNER,
            reserved: U16::ZERO,
            session: session.bytes(),
            epoch: U32::ZERO,
            state_version: U64::ZERO,
            version: VERSION,
            kind: 0,
            reason: U16::ZERO,
            key_generation: U32::ZERO,
            nonce: nonce.get().into(),
            content: [0; Cookie::LENGTH],
            tag: [0; 16],
        };
        match answer {
            Answer::Challenge(cookie) => {
                layout.kind = CHALLENGE;
                layout.content.copy_from_slice(cookie.as_bytes());
            }
            Answer::Ack(snapshot) => {
                layout.kind = ACK;
                layout.put(snapshot);
            }
            Answer::Reject { code, snapshot } => {
                layout.kind = REATTACH_REJECT;
                layout.reason = (*code).into();
                snapshot.iter().for_each(|snapshot| layout.put(snapshot));
            }
            Answer::State(snapshot) => {
                layout.kind = STATE;
                layout.put(snapshot);
            }
            Answer::Pending => layout.kind = PENDING,
        }
        layout
    }

    fn put(&mut self, snapshot: &Snapshot) {
        let Snapshot { version, epoch, key_generation, accepted, is_bound } = *snapshot;
        self.epoch = epoch.get().into();
        self.state_version = version.get().into();
        self.key_generation = key_generation.into();
        let mut rest = Rest { flags: if is_bound { BOUND } else { 0 }, ..Rest::default() };
        if let Some(Accepted { version, nonce }) = accepted {
            rest.flags |= HAS_ACCEPTED;
            rest.accepted_version = version.get().into();
            rest.accepted_nonce = nonce.get().into();
        }
        self.content = zerocopy::transmute!(rest);
    }

    fn answer(&self) -> Result<Answer, BadMessage> {
        let snapshot = || self.snapshot().ok_or(BadMessage::Field("owner epoch"));
        Ok(match self.kind {
            CHALLENGE => Answer::Challenge(zerocopy::transmute!(self.content)),
            ACK => Answer::Ack(snapshot()?),
            REATTACH_REJECT if self.reason == U16::ZERO => {
                return Err(BadMessage::Field("reason code"));
            }
            REATTACH_REJECT => {
                let snapshot = if self.epoch == U32::ZERO { None } else { Some(snapshot()?) };
                Answer::Reject { code: self.reason.get(), snapshot }
            }
            STATE => Answer::State(snapshot()?),
            PENDING => Answer::Pending,
            kind => return Err(BadMessage::Kind(kind)),
        })
    }

    fn snapshot(&self) -> Option<Snapshot> {
        let rest: Rest = zerocopy::transmute!(self.content);
        let accepted = Accepted {
            version: StateVersion::new(rest.accepted_version.get()),
            nonce: Nonce::new(rest.accepted_nonce.get()),
        };
        Some(Snapshot {
            version: StateVersion::new(self.state_version.get()),
            epoch: Epoch::new(self.epoch.get())?,
            key_generation: self.key_generation.get(),
            accepted: (rest.flags & HAS_ACCEPTED != 0).then_some(accepted),
            is_bound: rest.flags & BOUND != 0,
        })
    }
}

/// An answer as somebody sent it: whom it claims to be for can be read, what it says only once it is
/// verified.
#[derive(Clone, Copy, Debug)]
pub struct Unverified<'a> {
    answer: Answer,
    session: SessionId,
    nonce: Nonce,
    tagged: &'a [u8],
    tag: &'a Tag,
}

impl Unverified<'_> {
    /// The session that it names.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The nonce of the request that it claims to answer.
    pub fn nonce(&self) -> Nonce {
        self.nonce
    }

    /// What it says, if it was sealed with this key, for the request with this tag.
    pub fn verify(&self, key: &AnswerKey, request: &Tag) -> Option<Answer> {
        key.mac().verify([self.tagged, request], self.tag).then_some(self.answer)
    }
}
