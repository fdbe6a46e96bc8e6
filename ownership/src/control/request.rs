use super::{
    BadMessage, Cookie, KeyName, MESSAGE_LENGTH, Message, NATIVE, RequestKey, Tag, VERSION,
};
use crate::{SessionId, StateVersion, model::Nonce};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    byteorder::network_endian::{U16, U32, U64},
};

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Ask {
    /// REATTACH_REQUEST: bind the session to the address that this comes from.
    Reattach = 1,
    /// STATE_QUERY: say how the session stands.
    Query = 2,
    /// DETACH: the client leaves the address that this comes from, and comes back later.
    Detach = 3,
    /// CLOSE: end the session.
    Close = 4,
}

impl Ask {
    /// All of them, in the order of their kinds.
    pub const ALL: [Self; 4] = [Self::Reattach, Self::Query, Self::Detach, Self::Close];

    fn from_kind(kind: u8) -> Result<Self, BadMessage> {
        Self::ALL.into_iter().find(|ask| *ask as u8 == kind).ok_or(BadMessage::Kind(kind))
    }
}

/// A message from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it asks for.
    pub ask: Ask,
    /// The session.
    pub session: SessionId,
    /// The keys that it is sealed with.
    pub key: KeyName,
    /// The version that the client knows.
    pub version: StateVersion,
    /// The client's number for it, used once.
    pub nonce: Nonce,
    /// The cookie that the client was last given.
    pub cookie: Cookie,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Layout {
    native: u8,
    flags: u8,
    reserved: U16,
    session: [u8; 16],
    version: u8,
    kind: u8,
    secret: U16,
    key_generation: U32,
    state_version: U64,
    nonce: U64,
    cookie: Cookie,
    padding: U32,
    tag: Tag,
}

const _: () = assert!(size_of::<Layout>() == MESSAGE_LENGTH);

/// Where the tag begins: it covers all that is in front of it.
const TAGGED: usize = MESSAGE_LENGTH - size_of::<Tag>();

impl Request {
    /// The message, proven with the key that [`Request::key`] names.
    pub fn seal(&self, key: &RequestKey) -> Message {
        let Self { ask, session, key: KeyName { secret, generation }, version, nonce, cookie } =
            *self;
        let layout = Layout {
            native: NATIVE,
            flags: 0,
            reserved: U16::ZERO,
            session: session.bytes(),
            version: VERSION,
            kind: ask as u8,
            secret: secret.into(),
            key_generation: generation.into(),
            state_version: version.get().into(),
            nonce: nonce.get().into(),
            cookie,
            padding: U32::ZERO,
            tag: [0; 16],
        };
        let mut message: Message = zerocopy::transmute!(layout);
        let (tagged, tag) = message.split_at_mut(TAGGED);
        tag.copy_from_slice(&key.mac().tag([tagged, &[]]));
        message
    }

    /// Reads a message.
    ///
    /// # Errors
    ///
    /// If it is no request of this version.
    pub fn parse(bytes: &[u8]) -> Result<Unproven<'_>, BadMessage> {
        let layout = Layout::ref_from_bytes(bytes).map_err(|_| BadMessage::Length(bytes.len()))?;
        if (layout.native, layout.flags, layout.reserved.get()) != (NATIVE, 0, 0) {
            return Err(BadMessage::Header);
        }
        if layout.version != VERSION {
            return Err(BadMessage::Version(layout.version));
        }
        let request = Self {
            ask: Ask::from_kind(layout.kind)?,
            session: SessionId::new(layout.session),
            key: KeyName { secret: layout.secret.get(), generation: layout.key_generation.get() },
            version: StateVersion::new(layout.state_version.get()),
            nonce: Nonce::new(layout.nonce.get()),
            cookie: layout.cookie,
        };
        if layout.padding != U32::ZERO {
            return Err(BadMessage::Field("padding"));
        }
        Ok(Unproven { request, tagged: &bytes[..TAGGED], tag: &layout.tag })
    }
}

/// A request as somebody sent it: readable, and nothing of it proven.
#[derive(Clone, Copy, Debug)]
pub struct Unproven<'a> {
    request: Request,
    tagged: &'a [u8],
    tag: &'a Tag,
}

impl Unproven<'_> {
    /// What it claims.
    pub fn claim(&self) -> &Request {
        &self.request
    }

    /// Its tag, by which an answer is bound to it.
    pub fn tag(&self) -> Tag {
        *self.tag
    }

    /// Whether it was sealed with this key.
    pub fn is_proven(&self, key: &RequestKey) -> bool {
        key.mac().verify([self.tagged, &[]], self.tag)
    }
}
