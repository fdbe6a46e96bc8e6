//! Why something was refused: one reason for each cause, with a number for the wire and a name for
//! people, neither of which ever changes.

/// What an audit event about a refusal is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// SECURITY_EVENT: somebody may be attacking, or the cluster contradicts itself.
    Security,
    /// POLICY_EVENT: the rules say no.
    Policy,
}

impl Class {
    /// The name that the ownership model gives such events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Security => "SECURITY_EVENT",
            Self::Policy => "POLICY_EVENT",
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal, $name:literal, $class:ident;)+) => {
        /// Why an input was refused. Nothing has changed then.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant = $code,)+
        }

        impl Reason {
            /// All reasons, in the order of their codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name, as it stands in answers, logs and metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What the audit event about it is called.
            pub const fn class(self) -> Class {
                match self { $(Self::$variant => Class::$class,)+ }
            }

            /// One sentence for people.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

reasons! {
    /// The session is over.
    SessionTerminated = 1, "SESSION_TERMINATED", Policy;
    /// Whoever asks does not own the session.
    OwnershipConflict = 2, "OWNERSHIP_CONFLICT", Security;
    /// The request was made for an older version of the session.
    StaleVersion = 3, "STALE_VERSION", Security;
    /// The request was made for a version that the session has not reached.
    VersionAhead = 4, "VERSION_AHEAD", Security;
    /// The nonce was used before.
    NonceReplayed = 5, "NONCE_REPLAYED", Security;
    /// The nonce is so old that nobody can tell whether it was used.
    NonceTooOld = 6, "NONCE_TOO_OLD", Security;
    /// The session was given a transport before.
    AlreadyAttached = 7, "ALREADY_ATTACHED", Policy;
    /// The session has had no transport yet.
    NotAttached = 8, "NOT_ATTACHED", Policy;
    /// The message refers to a transport that the session is not bound to.
    OldTransport = 9, "OLD_TRANSPORT", Security;
    /// The session is moving to another node: it takes no new transport until it has arrived.
    Frozen = 10, "FROZEN", Policy;
    /// The session is not moving.
    NotFrozen = 11, "NOT_FROZEN", Policy;
    /// The session is moving to another node than this one.
    WrongDestination = 12, "WRONG_DESTINATION", Policy;
    /// The session has been handed off: there is no way back.
    HandedOff = 13, "HANDED_OFF", Policy;
    /// The session's time to live is over.
    SessionExpired = 14, "SESSION_EXPIRED", Policy;
    /// The session had no transport for too long.
    TransportLossExpired = 15, "TRANSPORT_LOSS_EXPIRED", Policy;
    /// The time in which the session could be reattached is over.
    RecoveryWindowOver = 16, "RECOVERY_WINDOW_OVER", Policy;
    /// The session has changed its transport too often.
    SwitchRate = 17, "SWITCH_RATE", Policy;
    /// The session has changed its transport a moment ago.
    SwitchCooldown = 18, "SWITCH_COOLDOWN", Policy;
    /// No time limit of the session has been reached.
    NotExpired = 19, "NOT_EXPIRED", Policy;
    /// The session's versions have come to their end.
    VersionsExhausted = 20, "VERSIONS_EXHAUSTED", Security;
    /// The proof of possession was made with a key of another generation.
    KeyGeneration = 21, "KEY_GENERATION", Security;
    /// The owner is not proven to be fenced off.
    NotFenced = 22, "NOT_FENCED", Security;
    /// Another change of the same version was committed first.
    ConcurrentMutation = 23, "CONCURRENT_MUTATION", Security;
    /// No such session is known to whoever could know it.
    UnknownSession = 24, "UNKNOWN_SESSION", Security;
    /// The store cannot be reached: nothing is changed until it can.
    StoreUnavailable = 25, "STORE_UNAVAILABLE", Policy;
    /// The proof of possession is wrong.
    BadProof = 26, "BAD_PROOF", Security;
    /// A write to the store was cut short by an I/O error.
    PartialWrite = 27, "PARTIAL_WRITE", Security;
}

impl Reason {
    /// The number on the wire.
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// The reason with this number.
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.code() == code)
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_and_names_are_unique_and_stable() {
        let names: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for (at, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(usize::from(reason.code()), at + 1, "{reason}: append, never renumber");
            assert_eq!(Reason::from_code(reason.code()), Some(*reason));
            assert!(reason.explanation().ends_with('.'), "{reason}");
        }
        assert_eq!(Reason::from_code(0), None);
        assert_eq!(Reason::OwnershipConflict.code(), 2);
    }
}
