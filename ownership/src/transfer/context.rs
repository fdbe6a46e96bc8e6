use std::sync::Arc;
use thiserror::Error;

/// What the application at the origin gives the one at the destination: bytes that this crate gives no
/// meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AppContext(Arc<[u8]>);

/// How long a context may be in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContextLimit(usize);

/// The context does not fit into the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the session's context has {length} bytes: at most {most}; keep less in it")]
pub struct ContextTooLong {
    /// Its length in bytes.
    pub length: usize,
    /// The limit in bytes.
    pub most: usize,
}

impl ContextLimit {
    /// In redb and in memory: 64 KiB.
    pub const LOCAL: Self = Self(64 * 1024);

    /// In etcd, where a transaction has to be small: 4 KiB.
    pub const ETCD: Self = Self(4 * 1024);

    /// The limit in bytes.
    pub const fn bytes(self) -> usize {
        self.0
    }
}

impl AppContext {
    /// The context with these bytes.
    ///
    /// # Errors
    ///
    /// If they are too many.
    pub fn new(bytes: &[u8], limit: ContextLimit) -> Result<Self, ContextTooLong> {
        let (length, most) = (bytes.len(), limit.0);
        if length > most { Err(ContextTooLong { length, most }) } else { Ok(Self(bytes.into())) }
    }

    pub(super) fn shared(&self) -> Arc<[u8]> {
        Arc::clone(&self.0)
    }
}
