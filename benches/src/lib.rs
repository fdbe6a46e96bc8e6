//! Packets and numbered sessions that the benchmarks share.

pub mod packet;
pub mod session;
