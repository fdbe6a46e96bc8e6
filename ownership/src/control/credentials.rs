use super::{AnswerKey, KEY_LENGTH, RequestKey};
use std::fmt;
use thiserror::Error;
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    byteorder::network_endian::{U16, U32},
};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Which keys of a session are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyName {
    /// The number of the cluster secret that they are derived from.
    pub secret: u16,
    /// Their generation.
    pub generation: u32,
}

/// What a client needs to speak for its session: both keys, and their name. Wiped when dropped.
///
/// The application gives them to its client over its own, confidential channel, when it opens the
/// session and before it has the key rotated: a client that always holds the keys in force and the
/// next ones is not locked out by a rotation.
#[derive(Clone)]
pub struct Credentials(Layout);

#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Layout {
    secret: U16,
    generation: U32,
    request: [u8; KEY_LENGTH],
    answer: [u8; KEY_LENGTH],
}

/// Length of credentials in bytes.
pub const CREDENTIALS_LENGTH: usize = size_of::<Layout>();

const _: () = assert!(CREDENTIALS_LENGTH == 70);

/// Bytes that are no credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("credentials have {CREDENTIALS_LENGTH} bytes, not {0}")]
pub struct BadCredentials(pub usize);

impl Credentials {
    /// The credentials of these keys.
    pub fn new(name: KeyName, request: &[u8; KEY_LENGTH], answer: &[u8; KEY_LENGTH]) -> Self {
        let KeyName { secret, generation } = name;
        Self(Layout {
            secret: secret.into(),
            generation: generation.into(),
            request: *request,
            answer: *answer,
        })
    }

    /// The credentials with these bytes: secret number, generation, request key, answer key.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadCredentials> {
        Layout::read_from_bytes(bytes).map(Self).map_err(|_| BadCredentials(bytes.len()))
    }

    /// Their bytes. Whoever has them can speak for the session.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Their name.
    pub fn name(&self) -> KeyName {
        KeyName { secret: self.0.secret.get(), generation: self.0.generation.get() }
    }

    /// The key for requests.
    pub fn request_key(&self) -> RequestKey {
        RequestKey::new(&self.0.request)
    }

    /// The key for answers.
    pub fn answer_key(&self) -> AnswerKey {
        AnswerKey::new(&self.0.answer)
    }
}

impl Drop for Credentials {
    fn drop(&mut self) {
        self.0.request.zeroize();
        self.0.answer.zeroize();
    }
}

impl ZeroizeOnDrop for Credentials {}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Credentials").field(&self.name()).finish()
    }
}
