//! What can happen.

use crate::shelf::Delivery;

/// Something that happens. Machines, nodes and sessions by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A late request arrives at the directory.
    Arrive(usize),
    Start(usize),
    Register(usize, Delivery),
    Resume(usize),
    BeatArrives(usize),
    BeatAnswered(usize),
    BeatLook(usize),
    Beat(usize),
    BeatThrough(usize),
    Copy(usize, usize),
    TakeIn(usize, usize),
    Look(usize, usize),
    Rival(usize, usize, Delivery),
    GiveUp(usize, usize, Delivery),
    Accept(usize, usize),
    ResumeSession(usize, usize, Delivery),
    Quiesce(usize, usize),
    HandOff(usize, usize, Delivery),
    Find(usize, usize),
    Apply(usize),
    Census(usize),
    Watch(usize, u16),
    EndSilent(usize, u16, Delivery),
    FailOver(usize),
    TakeOver(usize, usize, Delivery),
    Clear(usize),
    /// An answer reaches the client of a session, for the last time or not.
    Hear(usize, usize, bool),
    /// A request of a session's client reaches a machine.
    Serve(usize, usize, usize, Delivery),
    /// A client's timer fires.
    Retry(usize),
    // What need not happen.
    Move(usize),
    Tick,
    BeatInDoubt(usize),
    Crash(usize),
    Reboot(usize),
    End(usize),
    Change(usize, usize, Delivery),
    Freeze(usize, usize, u16, Delivery),
    Birth(usize, usize, Delivery),
    Plan(usize, u16),
    /// The directory is backed up.
    BackUp,
    /// The backup is restored.
    Restore,
    // Mistakes.
    SendAgain(usize, usize),
    AcceptEarly(usize, usize),
    Forget(usize, usize),
}

impl Action {
    /// Whether it happens by itself if nothing comes in its way.
    pub fn is_progress(self) -> bool {
        match self {
            Self::Tick
            | Self::BackUp
            | Self::Restore
            | Self::Move(_)
            | Self::Hear(_, _, true)
            | Self::BeatInDoubt(_)
            | Self::Crash(_)
            | Self::Reboot(_)
            | Self::End(_)
            | Self::Change(..)
            | Self::Freeze(..)
            | Self::Birth(..)
            | Self::Plan(..)
            | Self::SendAgain(..)
            | Self::AcceptEarly(..)
            | Self::Forget(..) => false,
            Self::Register(_, delivery)
            | Self::Rival(_, _, delivery)
            | Self::GiveUp(_, _, delivery)
            | Self::ResumeSession(_, _, delivery)
            | Self::HandOff(_, _, delivery)
            | Self::EndSilent(_, _, delivery)
            | Self::TakeOver(_, _, delivery)
            | Self::Serve(_, _, _, delivery) => delivery == Delivery::Whole,
            _ => true,
        }
    }
}

impl Action {
    /// What becomes of its request, if it sends one.
    pub fn delivery(self) -> Option<Delivery> {
        match self {
            Self::Register(_, delivery)
            | Self::Rival(_, _, delivery)
            | Self::GiveUp(_, _, delivery)
            | Self::ResumeSession(_, _, delivery)
            | Self::HandOff(_, _, delivery)
            | Self::EndSilent(_, _, delivery)
            | Self::TakeOver(_, _, delivery)
            | Self::Serve(_, _, _, delivery)
            | Self::Change(_, _, delivery)
            | Self::Freeze(_, _, _, delivery)
            | Self::Birth(_, _, delivery) => Some(delivery),
            _ => None,
        }
    }

    /// The machine that it happens on, if it is one of these.
    pub fn machine(self) -> Option<usize> {
        let at = match self {
            Self::Tick
            | Self::BackUp
            | Self::Restore
            | Self::Arrive(_)
            | Self::Hear(..)
            | Self::Retry(_)
            | Self::Move(_) => return None,
            Self::Start(at)
            | Self::Register(at, _)
            | Self::Resume(at)
            | Self::BeatArrives(at)
            | Self::BeatAnswered(at)
            | Self::BeatLook(at)
            | Self::Beat(at)
            | Self::BeatThrough(at)
            | Self::Copy(at, _)
            | Self::TakeIn(at, _)
            | Self::Look(at, _)
            | Self::Rival(at, ..)
            | Self::GiveUp(at, ..)
            | Self::Accept(at, _)
            | Self::ResumeSession(at, ..)
            | Self::Quiesce(at, _)
            | Self::HandOff(at, ..)
            | Self::Find(at, _)
            | Self::Apply(at)
            | Self::Census(at)
            | Self::Watch(at, _)
            | Self::EndSilent(at, ..)
            | Self::FailOver(at)
            | Self::TakeOver(at, ..)
            | Self::Clear(at)
            | Self::BeatInDoubt(at)
            | Self::Crash(at)
            | Self::Reboot(at)
            | Self::End(at)
            | Self::Change(at, ..)
            | Self::Freeze(at, ..)
            | Self::Birth(at, ..)
            | Self::Plan(at, _)
            | Self::SendAgain(at, _)
            | Self::AcceptEarly(at, _)
            | Self::Forget(at, _)
            | Self::Serve(at, ..) => at,
        };
        Some(at)
    }
}

impl Action {
    /// Whether it happens on one of these machines.
    pub fn is_of(self, machines: &[usize]) -> bool {
        self.machine().is_some_and(|at| machines.contains(&at))
    }
}
