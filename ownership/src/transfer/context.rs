use std::sync::Arc;
use thiserror::Error;

/// What goes with a session that is handed to another node: its [`Baggage`](crate::baggage::Baggage) with the
/// final context that the application at the origin gives the one at the destination,
/// [packed](crate::baggage::Baggage::packed).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AppContext(Arc<[u8]>);

/// How long an application's context may be in a store. The wire ids that a session carries come on top, at
/// most 8 KiB of them ([`Baggage::MAX_BESIDES`](crate::baggage::Baggage::MAX_BESIDES)).
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

    /// In etcd, where a transaction has to be small: 4 KiB. With all of the wire ids a write that replaces
    /// one baggage by another has 25 KiB, where etcd takes 1.5 MiB.
    pub const ETCD: Self = Self(4 * 1024);

    /// The limit in bytes.
    pub const fn bytes(self) -> usize {
        self.0
    }

    /// Whether a context of this length in bytes is within the limit.
    ///
    /// # Errors
    ///
    /// If it is not.
    pub const fn check(self, length: usize) -> Result<(), ContextTooLong> {
        let most = self.0;
        if length > most { Err(ContextTooLong { length, most }) } else { Ok(()) }
    }
}

impl AppContext {
    /// What has these bytes.
    pub(crate) fn of(bytes: Arc<[u8]>) -> Self {
        Self(bytes)
    }

    /// The bytes, as they stand in the inbox.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn shared(&self) -> Arc<[u8]> {
        Arc::clone(&self.0)
    }
}
