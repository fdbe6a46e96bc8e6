//! What the benchmarks share: figures, packets and numbered sessions.

pub mod figure;
pub mod packet;
pub mod session;
