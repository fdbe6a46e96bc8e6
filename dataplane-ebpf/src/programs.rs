//! Programs that the XDP program hands rare packets to, so that it stays small itself.
//!
//! They are reached through the map `PROGRAMS` by tail calls. Where one is missing the packet is
//! refused as [`NotReady`](crate::verdict::Verdict::NotReady), or as what it was refused for.

/// Decides about ICMP errors: [`crate::icmp`].
pub const ICMP: u32 = 0;

/// Answers packets that would not fit: [`crate::answer`].
pub const TOO_BIG: u32 = 1;

/// The names of all, by index.
pub const NAMES: [&str; 2] = ["icmp", "too_big"];

/// Rows of the map.
pub const PROGRAMS: usize = 16;
