//! The contract between the daemon and what earlier daemons have left in the kernel.

/// The version of the maps' layout: their names, kinds and sizes, and the meaning of every bit in
/// them.
///
/// A daemon takes over the maps of an earlier one only if both have the same version. Raise it with
/// every change that either could misread; `abi.txt` beside this crate's manifest holds the layout
/// of each version, and a test compares. What was padding (zero) before may get a meaning without a
/// new version if zero means what it meant.
pub const SCHEMA: u32 = 2;
