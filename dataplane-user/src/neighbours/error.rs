//! What can go wrong between the daemon and the kernel's tables.

use std::io;

use thiserror::Error;

/// Why the kernel's links, routes or neighbours could not be read or changed.
#[derive(Debug, Error)]
pub enum Error {
    /// No netlink socket.
    #[error("opening a netlink socket: {0}")]
    Open(#[source] io::Error),
    /// The subscription to the kernel's notifications broke.
    #[error("reading notifications from netlink: {0}")]
    Events(#[source] io::Error),
    /// The kernel refused a request.
    #[error("{doing}: the kernel answered: {reason}")]
    Refused {
        /// What was being done.
        doing: &'static str,
        /// The errno, as an error.
        reason: io::Error,
    },
    /// The kernel's answer was not understood, or there was none.
    #[error("{doing}: {reason}")]
    Answer {
        /// What was being done.
        doing: &'static str,
        /// What came instead.
        reason: String,
    },
}

impl Error {
    /// The error of a request that rtnetlink made.
    pub(super) fn request(doing: &'static str, error: rtnetlink::Error) -> Self {
        match error {
            rtnetlink::Error::NetlinkError(message) => {
                Self::Refused { doing, reason: message.to_io() }
            }
            other => Self::Answer { doing, reason: other.to_string() },
        }
    }

    /// The errno with which the kernel refused.
    pub(super) fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { reason, .. } => reason.raw_os_error(),
            _ => None,
        }
    }
}
