//! What happened, and which promises it breaks.

use std::fmt;
use std::time::Duration;

use jumpgate_tests::client::Counts;
use jumpgate_tests::together::Audited;

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

/// What happened while something was done to a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Episode {
    /// Sessions that another node answers than before.
    pub moved: u64,
    /// Sessions that had to move and did not.
    pub left: u64,
    /// Data packets sent.
    pub sent: u64,
    /// Of these, those that were never answered.
    pub unanswered: u64,
    /// Of these, those of a lost node's sessions until another node had them.
    pub apart: u64,
    /// Answers that came twice.
    pub twice: u64,
    /// Answers of a node that was not the owner, or not any more.
    pub foreign: u64,
    /// Packets to clients that answer nothing.
    pub strange: u64,
    /// The longest that a packet waited for its answer; of a lost node's sessions, the longest from the loss to
    /// the first packet that another node answered.
    pub longest: Duration,
}

impl Episode {
    /// What the clients have seen between two looks at their counts.
    pub fn between(before: &Counts, after: &Counts) -> Self {
        Self {
            sent: after.sent - before.sent,
            // Late answers to packets from before may come.
            unanswered: after.unanswered().saturating_sub(before.unanswered()),
            twice: after.duplicates - before.duplicates,
            foreign: after.stale + after.barred - before.stale - before.barred,
            strange: after.strange - before.strange,
            ..Self::default()
        }
    }

    /// Packets lost that had an owner.
    pub fn lost(&self) -> u64 {
        self.unanswered.saturating_sub(self.apart)
    }
}

/// What happened with Jumpgate.
#[derive(Clone, Debug, Default)]
pub struct Product {
    /// While nothing was done to nodes.
    pub column: Column,
    /// A node gave its sessions away,
    pub drain: Episode,
    /// and took its share again.
    pub comeback: Episode,
    /// Another was lost.
    pub loss: Episode,
    /// The audit log of all this.
    pub audited: Audited,
}

impl Product {
    /// What was done to nodes, in order.
    pub fn episodes(&self) -> [&Episode; 3] {
        [&self.drain, &self.comeback, &self.loss]
    }

    fn sum(&self, what: impl Fn(&Episode) -> u64) -> u64 {
        self.episodes().into_iter().map(what).sum()
    }
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
    /// Answers of an owner older than one seen before, or of a node whose lease was over.
    Stale(u64),
    /// Packets to clients that are no answer to anything.
    Strange(u64),
    /// Sessions that a drained or lost node kept.
    Left(u64),
    /// Versions that lack an event, or have too many.
    Versions(u64),
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
    /// A drain, a return or a loss moved no session.
    NothingDone,
    /// No session moved without Jumpgate, so that there was nothing to keep in place.
    NothingToCompare,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, count) = match *self {
            Self::NoSession(n) => ("clients without a session", n),
            Self::Lost(n) => ("packets never answered", n),
            Self::Duplicates(n) => ("answers that came twice", n),
            Self::Stale(n) => ("answers of a node that was not the owner", n),
            Self::Strange(n) => ("packets to clients that answer nothing", n),
            Self::Left(n) => ("sessions that a drained or lost node kept", n),
            Self::Versions(n) => ("versions with no event of their own, or too many events", n),
            Self::Moved(n) => ("sessions that changed their node or CPU", n),
            Self::Astray(n) => ("packets away from their session's node or CPU", n),
            Self::WrongCpu(n) => ("packets on a wrong CPU, by the kernel's count", n),
            Self::NobodyMoved => {
                return f.write_str("nothing proved: no client changed its address");
            }
            Self::NothingForwarded => {
                return f.write_str("nothing proved: no packet had to be forwarded");
            }
            Self::NothingDone => {
                return f
                    .write_str("nothing proved: no session moved in a drain, a return or a loss");
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
pub fn judge(without: &Column, with: &Product) -> Vec<Broken> {
    let Column { clients, counts, tally } = &with.column;
    let Audited { events, versions } = with.audited;
    let numbers = [
        (Broken::Moved as fn(u64) -> Broken, counts.moved_sessions),
        (Broken::Astray, counts.astray),
        (Broken::WrongCpu, tally.wrong_cpu()),
        (Broken::NoSession, clients.saturating_sub(counts.opened)),
        (Broken::Lost, counts.unanswered() + with.sum(Episode::lost)),
        (Broken::Duplicates, counts.duplicates + with.sum(|it| it.twice)),
        (Broken::Stale, counts.stale + with.sum(|it| it.foreign)),
        (Broken::Strange, counts.strange + with.sum(|it| it.strange)),
        (Broken::Left, with.sum(|it| it.left)),
        (Broken::Versions, events.abs_diff(versions)),
    ];
    let fewest = with.episodes().map(|it| it.moved).into_iter().min().unwrap_or(0);
    let proofs = [
        (Broken::NobodyMoved, counts.rebinds),
        (Broken::NothingForwarded, tally.forwarded()),
        (Broken::NothingDone, fewest),
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

    fn kept() -> Product {
        let counts =
            Counts { opened: 9, sent: 100, answered: 100, rebinds: 7, ..Counts::default() };
        let tally = Tally::example(&[(Verdict::Local, 100), (Verdict::ForwardSlot, 60)], 0);
        let column = Column { clients: 9, counts, tally };
        let episode = Episode { moved: 3, ..Episode::default() };
        let audited = Audited { events: 20, versions: 20 };
        Product { column, drain: episode, comeback: episode, loss: episode, audited }
    }

    fn without() -> Column {
        let counts = Counts { moved_sessions: 5, ..Counts::default() };
        Column { clients: 9, counts, tally: Tally::default() }
    }

    fn broken_by(change: impl FnOnce(&mut Column)) -> Vec<Broken> {
        broken_later(|with| change(&mut with.column))
    }

    fn broken_later(change: impl FnOnce(&mut Product)) -> Vec<Broken> {
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
    fn what_is_done_to_nodes_is_judged_too() {
        assert_eq!(broken_later(|with| with.drain.unanswered = 2), [Broken::Lost(2)]);
        assert_eq!(broken_later(|with| with.comeback.twice = 3), [Broken::Duplicates(3)]);
        assert_eq!(broken_later(|with| with.loss.foreign = 4), [Broken::Stale(4)]);
        assert_eq!(broken_later(|with| with.loss.strange = 5), [Broken::Strange(5)]);
        assert_eq!(broken_later(|with| with.drain.left = 6), [Broken::Left(6)]);
        assert_eq!(broken_later(|with| with.audited.events = 19), [Broken::Versions(1)]);
        assert_eq!(broken_later(|with| with.comeback.moved = 0), [Broken::NothingDone]);
    }

    #[test]
    fn only_packets_that_had_no_owner_are_counted_apart() {
        let loss = |unanswered, apart| {
            broken_later(|with| (with.loss.unanswered, with.loss.apart) = (unanswered, apart))
        };
        assert_eq!(loss(50, 50), []);
        assert_eq!(loss(51, 50), [Broken::Lost(1)]);
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
