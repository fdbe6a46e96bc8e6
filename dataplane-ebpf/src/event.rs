//! Events: what userspace is told of single refused packets, and how many it is not told of.
//!
//! A flood of bad packets must not become a flood of events. Each CPU tells the first few refusals of
//! a window for each service and reason and counts the others, so that for every service and reason
//! those told and those suppressed add up to the packets that its counter shows.

use crate::{
    node::Address,
    parse::Datagram,
    verdict::{ADMISSION_SLOTS, Admission, Class, EGRESS_SLOTS, Egress, VERDICT_SLOTS, Verdict},
    wire_id::Key,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Events that a CPU tells in a window for each service and reason.
pub const PER_WINDOW: u64 = 8;

/// log2 of a window's length in jiffies: 256 are 2.6 s at 100 Hz, 0.26 s at 1,000 Hz.
const WINDOW_BITS: u32 = 8;

/// Size of the ring in bytes: 1,023 events with the kernel's 8 bytes before each.
pub const RING: u32 = 64 * 1024;

/// Which program refused a packet. Stored as a plain number.
pub mod origin {
    /// The XDP program: reasons are [`crate::verdict::Verdict`]s.
    pub const XDP: u8 = 0;
    /// The socket selector: reasons are [`crate::verdict::Admission`]s.
    pub const SOCKET: u8 = 1;
    /// The program at egress: reasons are [`crate::verdict::Egress`].
    pub const EGRESS: u8 = 2;
}

/// How many reasons there are room for, over all origins.
pub const REASON_SLOTS: usize = VERDICT_SLOTS + ADMISSION_SLOTS + EGRESS_SLOTS;

/// Why a packet was refused, and by which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The XDP program's verdict.
    Verdict(Verdict),
    /// The socket selector's admission.
    Admission(Admission),
    /// The outcome at egress.
    Egress(Egress),
}

impl Reason {
    /// Its place among [`REASON_SLOTS`].
    #[inline(always)]
    pub const fn slot(self) -> usize {
        match self {
            Self::Verdict(verdict) => verdict as usize,
            Self::Admission(admission) => VERDICT_SLOTS + admission as usize,
            Self::Egress(egress) => VERDICT_SLOTS + ADMISSION_SLOTS + egress as usize,
        }
    }

    /// See [`origin`].
    #[inline(always)]
    pub const fn origin(self) -> u8 {
        match self {
            Self::Verdict(_) => origin::XDP,
            Self::Admission(_) => origin::SOCKET,
            Self::Egress(_) => origin::EGRESS,
        }
    }

    /// Its code: the index of its counter.
    #[inline(always)]
    pub const fn code(self) -> u8 {
        match self {
            Self::Verdict(verdict) => verdict as u8,
            Self::Admission(admission) => admission as u8,
            Self::Egress(egress) => egress as u8,
        }
    }

    /// The reason of an origin with a code; `None` if this version knows no such.
    pub fn of(origin: u8, code: u8) -> Option<Self> {
        let code = code as usize;
        match origin {
            origin::XDP => Verdict::ALL.get(code).map(|&verdict| Self::Verdict(verdict)),
            origin::SOCKET => Admission::ALL.get(code).map(|&admission| Self::Admission(admission)),
            origin::EGRESS => Egress::ALL.get(code).map(|&egress| Self::Egress(egress)),
            _ => None,
        }
    }

    /// All reasons for which a packet is refused.
    pub fn refusals() -> impl Iterator<Item = Self> {
        let verdicts = Verdict::ALL.iter().filter(|verdict| verdict.is_reject());
        let admissions = Admission::ALL.iter().filter(|admission| admission.is_reject());
        let egress = Egress::ALL.iter().filter(|egress| !egress.is_sent());
        verdicts
            .map(|&verdict| Self::Verdict(verdict))
            .chain(admissions.map(|&admission| Self::Admission(admission)))
            .chain(egress.map(|&egress| Self::Egress(egress)))
    }

    /// The stable name, unique within an origin.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verdict(verdict) => verdict.name(),
            Self::Admission(admission) => admission.name(),
            Self::Egress(egress) => egress.name(),
        }
    }

    /// Where the packet was refused, as `jumpgate stats` calls it.
    pub const fn place(self) -> &'static str {
        match self {
            Self::Verdict(_) => "xdp",
            Self::Admission(_) => "socket",
            Self::Egress(_) => "egress",
        }
    }

    /// How grave it is.
    pub const fn class(self) -> Class {
        match self {
            Self::Verdict(verdict) => verdict.class(),
            Self::Admission(admission) => admission.class(),
            Self::Egress(egress) => egress.class(),
        }
    }
}

/// What is known of a refused packet. What is not known is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The address it came from.
    pub source: Address,
    /// The port it came from, in network byte order.
    pub port: u16,
    /// The key of its session.
    pub key: Key,
}

impl Evidence {
    /// What a decision has found out.
    #[inline(always)]
    pub const fn of(datagram: &Datagram, key: Key) -> Self {
        Self { source: datagram.source, port: datagram.source_port, key }
    }
}

/// One refused packet, as it stands in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Event {
    /// When, in jiffies.
    pub jiffies: u64,
    /// How many of the same service and reason this CPU has suppressed so far.
    pub suppressed: u64,
    /// The hash of the session's key; 0 if not known.
    pub hash: u64,
    /// Where the packet came from; for forwarded packets, if they could be unwrapped, the client.
    /// Of replies, where it was to go. All zeroes if not known.
    pub source: Address,
    /// The interface that it arrived on; 0 if not known.
    pub ifindex: u32,
    /// The CPU that refused it.
    pub cpu: u32,
    /// The source port in network byte order; 0 if not known.
    pub port: u16,
    /// The slot; means nothing where the hash is not known.
    pub slot: u16,
    /// The service's index; 0 if none.
    pub service: u16,
    /// See [`origin`].
    pub origin: u8,
    /// See [`Reason::code`].
    pub code: u8,
}

const _: () = assert!(size_of::<Event>() == 56);

impl Event {
    /// The event in a ring entry; `None` if that has another size.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::read_from_bytes(bytes).ok()
    }

    /// Why the packet was refused; `None` if this version knows no such reason.
    pub fn reason(&self) -> Option<Reason> {
        Reason::of(self.origin, self.code)
    }
}

/// What a CPU has told of one service and reason. One row of a per-CPU array; only programs on that
/// CPU write it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Budget {
    window: u64,
    spent: u64,
    /// Packets of which an event was told.
    pub told: u64,
    /// Packets of which none was.
    pub suppressed: u64,
}

const _: () = assert!(size_of::<Budget>() == 32);

/// A [`Budget`] as userspace reads it.
pub type BudgetWords = [u64; 4];

const _: () = assert!(size_of::<BudgetWords>() == size_of::<Budget>());

impl From<BudgetWords> for Budget {
    fn from([window, spent, told, suppressed]: BudgetWords) -> Self {
        Self { window, spent, told, suppressed }
    }
}

impl Budget {
    /// Where the budget of a service and reason lies.
    #[inline(always)]
    pub const fn index(service: u16, reason: Reason) -> u32 {
        service as u32 * REASON_SLOTS as u32 + reason.slot() as u32
    }

    /// Whether one more may be told at `jiffies`. The caller then counts it, in `told` or, if it
    /// finds no room, in `suppressed`; what may not be told is counted here.
    #[inline(always)]
    pub fn may_tell(&mut self, jiffies: u64) -> bool {
        let window = jiffies >> WINDOW_BITS;
        if self.window != window {
            self.window = window;
            self.spent = 0;
        }
        if self.spent >= PER_WINDOW {
            self.suppressed += 1;
            return false;
        }
        self.spent += 1;
        true
    }
}
