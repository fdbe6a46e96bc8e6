//! Captured packets: what the program `capturing` writes into its ring for the session that somebody
//! watches.
//!
//! A record is a [`CapturedHeader`] and the frame as it arrived, cut to [`CAPTURED_MAX`] bytes.

use crate::verdict::Verdict;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The most bytes of a frame that are captured.
pub const CAPTURED_MAX: usize = 2048;

/// The size of the ring in bytes.
pub const RING: u32 = 4 << 20;

/// The most keys that are watched: more than a session has.
pub const KEYS: u32 = 64;

/// The head of a record, in the machine's byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct CapturedHeader {
    /// When, in nanoseconds of CLOCK_BOOTTIME.
    pub time: u64,
    /// The interface that it arrived on.
    pub ingress: u32,
    /// The CPU that it was steered on.
    pub cpu: u32,
    /// Its length in bytes as it arrived.
    pub frame_length: u32,
    /// How many bytes of it follow.
    pub length: u16,
    /// The service's index.
    pub service: u16,
    /// The verdict's code.
    pub verdict: u32,
    /// Zero.
    pub _pad: u32,
}

/// Length of a record's head in bytes.
pub const CAPTURED_HEADER: usize = size_of::<CapturedHeader>();

const _: () = assert!(CAPTURED_HEADER == 32);

impl CapturedHeader {
    /// The head as words in memory order.
    #[inline(always)]
    pub fn words(self) -> [u64; CAPTURED_HEADER / 8] {
        zerocopy::transmute!(self)
    }

    /// The head of a record and its frame; `None` if it makes no sense.
    pub fn read(record: &[u8]) -> Option<(Self, &[u8])> {
        let (header, bytes) = Self::read_from_prefix(record).ok()?;
        Some((header, bytes.get(..usize::from(header.length))?))
    }

    /// The verdict; `None` if this version does not know it.
    pub fn verdict(&self) -> Option<Verdict> {
        Verdict::ALL.iter().copied().find(|verdict| *verdict as u32 == self.verdict)
    }
}
