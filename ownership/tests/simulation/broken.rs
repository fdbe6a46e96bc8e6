//! Daemons and stores that do one thing wrong: what the simulator must find.

use crate::check::Violation;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The kernel's deadline runs from when a heartbeat was answered, not from when it was sent.
    DeadlineFromAnswer,
    /// A session is handed off while it is still delivered here.
    HandOffWithoutHold,
    /// After an outcome that is unknown, a read that shows the old row is taken for a failure.
    ReadSettlesUnknown,
    /// A write in doubt is tried again as another one, whose loss is taken for the loss of both.
    RetriedAsAnother,
    /// A node that was fenced by somebody else is taken for gone at once.
    NoWaitForProof,
    /// Questions are answered from memory, whether the lease has run out or not.
    AnswersWithoutLease,
    /// An epoch is resumed on whatever machine and in whatever boot the record of it is found.
    ResumesAnywhere,
    /// A node calls unknown what it does not know, whoever the slot's owner is.
    DeniesEverything,
    /// A session that was handed over is never resumed.
    NeverResumes,
    /// The store loses a row of the audit log now and then.
    LosesAuditRows,
}

impl Broken {
    pub const ALL: [Self; 10] = [
        Self::DeadlineFromAnswer,
        Self::HandOffWithoutHold,
        Self::ReadSettlesUnknown,
        Self::RetriedAsAnother,
        Self::NoWaitForProof,
        Self::AnswersWithoutLease,
        Self::ResumesAnywhere,
        Self::DeniesEverything,
        Self::NeverResumes,
        Self::LosesAuditRows,
    ];

    /// Whether it does harm only where a lost node's sessions are taken over.
    pub fn needs_takeover(self) -> bool {
        match self {
            Self::DeadlineFromAnswer
            | Self::NoWaitForProof
            | Self::AnswersWithoutLease
            | Self::ResumesAnywhere => true,
            Self::HandOffWithoutHold
            | Self::ReadSettlesUnknown
            | Self::RetriedAsAnother
            | Self::DeniesEverything
            | Self::NeverResumes
            | Self::LosesAuditRows => false,
        }
    }

    /// Whether this is what it must be found by.
    pub fn shows_as(self, violation: &Violation) -> bool {
        match self {
            Self::DeadlineFromAnswer
            | Self::HandOffWithoutHold
            | Self::NoWaitForProof
            | Self::ResumesAnywhere => {
                matches!(violation, Violation::DualOwner { .. } | Violation::NotOwner { .. })
            }
            Self::ReadSettlesUnknown | Self::RetriedAsAnother => {
                matches!(violation, Violation::Contradiction(_))
            }
            Self::AnswersWithoutLease => matches!(violation, Violation::NotLinearizable { .. }),
            Self::DeniesEverything => matches!(violation, Violation::LockedOut { .. }),
            Self::NeverResumes => matches!(violation, Violation::Stuck(_)),
            Self::LosesAuditRows => matches!(violation, Violation::Audit(_)),
        }
    }
}
