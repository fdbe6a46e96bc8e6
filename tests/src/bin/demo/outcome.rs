//! What happened, and which promises it breaks.

use std::fmt;

use jumpgate_tests::client::Counts;

use crate::kernel::Tally;
use crate::view::text::thousands;

/// What happened in one part of the demo.
#[derive(Clone, Debug, Default)]
pub struct Column {
    /// How many clients there were.
    pub clients: u64,
    /// What they saw.
    pub counts: Counts,
    /// What the kernel counted; nothing without Jumpgate.
    pub tally: Tally,
}

/// A promise that was broken, or a demo that proved nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Clients without a session.
    NoSession(u64),
    /// Packets that were never answered.
    Lost(u64),
    /// Packets that were answered more than once.
    Duplicates(u64),
    /// Answers of an owner older than one seen before.
    Stale(u64),
    /// Packets to clients that are no answer to anything.
    Strange(u64),
    /// Sessions that changed their node or CPU.
    Moved(u64),
    /// Answers from another place than the session's.
    Astray(u64),
    /// Packets that the kernel processed on another CPU than their session's.
    WrongCpu(u64),
    /// No client changed its address.
    NobodyMoved,
    /// No packet came to a node that had to send it on.
    NothingForwarded,
    /// No session moved without Jumpgate, so that there was nothing to keep in place.
    NothingToCompare,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, count) = match *self {
            Self::NoSession(n) => ("clients without a session", n),
            Self::Lost(n) => ("packets never answered", n),
            Self::Duplicates(n) => ("answers that came twice", n),
            Self::Stale(n) => ("answers of an older owner", n),
            Self::Strange(n) => ("packets to clients that answer nothing", n),
            Self::Moved(n) => ("sessions that changed their node or CPU", n),
            Self::Astray(n) => ("packets away from their session's node or CPU", n),
            Self::WrongCpu(n) => ("packets on a wrong CPU, by the kernel's count", n),
            Self::NobodyMoved => {
                return f.write_str("nothing proved: no client changed its address");
            }
            Self::NothingForwarded => {
                return f.write_str("nothing proved: no packet had to be forwarded");
            }
            Self::NothingToCompare => {
                return f.write_str(
                    "nothing proved: without Jumpgate, too, every session stayed where it was",
                );
            }
        };
        write!(f, "{what}: {}", thousands(count))
    }
}

/// The promises that were broken with Jumpgate, the worst first; none if all were kept.
#[must_use]
pub fn judge(without: &Column, with: &Column) -> Vec<Broken> {
    let counts = &with.counts;
    let numbers = [
        (Broken::Moved as fn(u64) -> Broken, counts.moved_sessions),
        (Broken::Astray, counts.astray),
        (Broken::WrongCpu, with.tally.wrong_cpu()),
        (Broken::NoSession, with.clients.saturating_sub(counts.opened)),
        (Broken::Lost, counts.unanswered()),
        (Broken::Duplicates, counts.duplicates),
        (Broken::Stale, counts.stale),
        (Broken::Strange, counts.strange),
    ];
    let proofs = [
        (Broken::NobodyMoved, counts.rebinds),
        (Broken::NothingForwarded, with.tally.forwarded()),
        (Broken::NothingToCompare, without.counts.moved_sessions),
    ];
    numbers
        .into_iter()
        .filter(|&(_, count)| count > 0)
        .map(|(broken, count)| broken(count))
        .chain(proofs.into_iter().filter(|&(_, count)| count == 0).map(|(broken, _)| broken))
        .collect()
}

#[cfg(test)]
mod tests {
    use dataplane_ebpf::verdict::Verdict;

    use super::*;

    fn kept() -> Column {
        let counts =
            Counts { opened: 9, sent: 100, answered: 100, rebinds: 7, ..Counts::default() };
        let tally = Tally::example(&[(Verdict::Local, 100), (Verdict::ForwardSlot, 60)], 0);
        Column { clients: 9, counts, tally }
    }

    fn without() -> Column {
        let counts = Counts { moved_sessions: 5, ..Counts::default() };
        Column { clients: 9, counts, tally: Tally::default() }
    }

    fn broken_by(change: impl FnOnce(&mut Column)) -> Vec<Broken> {
        let mut with = kept();
        change(&mut with);
        judge(&without(), &with)
    }

    #[test]
    fn nothing_is_broken_when_all_went_well() {
        assert_eq!(broken_by(|_| {}), []);
    }

    #[test]
    fn every_promise_can_be_broken() {
        assert_eq!(broken_by(|with| with.counts.opened = 8), [Broken::NoSession(1)]);
        assert_eq!(broken_by(|with| with.counts.answered = 98), [Broken::Lost(2)]);
        assert_eq!(broken_by(|with| with.counts.duplicates = 3), [Broken::Duplicates(3)]);
        assert_eq!(broken_by(|with| with.counts.stale = 4), [Broken::Stale(4)]);
        assert_eq!(broken_by(|with| with.counts.strange = 5), [Broken::Strange(5)]);
        assert_eq!(broken_by(|with| with.counts.moved_sessions = 6), [Broken::Moved(6)]);
        assert_eq!(broken_by(|with| with.counts.astray = 7), [Broken::Astray(7)]);
        let wrong = Tally::example(&[(Verdict::ForwardSlot, 1)], 8);
        assert_eq!(broken_by(|with| with.tally = wrong), [Broken::WrongCpu(8)]);
    }

    #[test]
    fn a_demo_that_proves_nothing_is_no_success() {
        assert_eq!(broken_by(|with| with.counts.rebinds = 0), [Broken::NobodyMoved]);
        let quiet = Tally::example(&[(Verdict::Local, 100)], 0);
        assert_eq!(broken_by(|with| with.tally = quiet), [Broken::NothingForwarded]);
        assert_eq!(judge(&Column::default(), &kept()), [Broken::NothingToCompare]);
    }

    #[test]
    fn all_broken_promises_are_named() {
        let broken = broken_by(|with| {
            with.counts.moved_sessions = 1;
            with.counts.answered = 99;
        });
        assert_eq!(broken, [Broken::Moved(1), Broken::Lost(1)]);
        assert_eq!(broken[0].to_string(), "sessions that changed their node or CPU: 1");
    }
}
