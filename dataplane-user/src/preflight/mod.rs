//! What is in the way of a configuration on this machine, found before packets find it.
//!
//! Everything is only looked at, nothing is changed. What concerns the network is that of the
//! calling thread's network namespace.

mod ethtool;
mod interfaces;
mod kernel;
mod network;
mod sysctl;
mod xdp;

use crate::{config::Config, neighbours::Interfaces};
use std::fmt;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// All is well.
    Fine,
    /// It could not be looked at, for want of privilege or from here.
    Unseen,
    /// Good to know.
    Note,
    /// What works, but not as well as it could, or only for some packets.
    Warning,
    /// The daemon will not start, or a service will not be delivered.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Fine => "ok",
            Self::Unseen => "not seen",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// What was looked at: `kernel`, `eth0: MTU`.
    pub subject: String,
    /// How it is, and what follows from it.
    pub what: String,
    /// What to do about it, with the command; empty if nothing is to be done.
    pub mend: String,
}

impl Finding {
    fn new(level: Level, subject: &str, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level, subject: subject.to_owned(), what: what.into(), mend: mend.into() }
    }

    fn fine(subject: &str, what: impl Into<String>) -> Self {
        Self::new(Level::Fine, subject, what, "")
    }

    fn unseen(subject: &str, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(Level::Unseen, subject, what, mend)
    }

    fn note(subject: &str, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(Level::Note, subject, what, mend)
    }

    fn warning(subject: &str, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(Level::Warning, subject, what, mend)
    }

    fn error(subject: &str, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::new(Level::Error, subject, what, mend)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { level: _, subject, what, mend } = self;
        write!(formatter, "{subject}: {what}")?;
        if mend.is_empty() { Ok(()) } else { write!(formatter, "; {mend}") }
    }
}

/// Looks at everything that a configuration needs on this machine, and says what it found, the
/// good included, in the order in which one would set a machine up.
///
/// # Panics
///
/// Outside of a tokio runtime with I/O and time.
pub async fn findings(config: &Config, interfaces: &Interfaces) -> Vec<Finding> {
    let mut found = kernel::findings(config);
    for configured in &config.interfaces {
        match interfaces.named(&configured.name) {
            Ok(interface) => {
                found.extend(interfaces::findings(config, interface));
                found.extend(xdp::findings(config, configured.mode, interface, interfaces).await);
            }
            Err(unknown) => found.push(Finding::error(
                &configured.name,
                unknown.to_string(),
                "correct the name in [[interfaces]], or start the daemon in that namespace",
            )),
        }
    }
    found.extend(network::findings(config, interfaces));
    found
}

/// Of the findings those that the daemon logs and shows: warnings and errors, as sentences.
pub async fn warnings(config: &Config, interfaces: &Interfaces) -> Vec<String> {
    let found = findings(config, interfaces).await;
    let bad = found.iter().filter(|finding| finding.level >= Level::Warning);
    bad.map(Finding::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_as_a_sentence_with_its_answer() {
        let finding = Finding::error("eth0", "it is down", "`ip link set dev eth0 up`");
        assert_eq!(finding.to_string(), "eth0: it is down; `ip link set dev eth0 up`");
        assert_eq!(Finding::fine("kernel", "Linux 6.1").to_string(), "kernel: Linux 6.1");
        assert!(Level::Error > Level::Warning && Level::Warning > Level::Note);
        assert!(Level::Note > Level::Unseen && Level::Unseen > Level::Fine);
    }
}
