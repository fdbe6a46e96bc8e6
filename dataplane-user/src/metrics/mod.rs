//! What a node shows to whoever watches many: metrics, and whether it is well, over HTTP.
//!
//! `GET /metrics` is in OpenMetrics text (1.0), which Prometheus reads; `docs/metrics.md` lists all of it.
//! Counters come from the kernel when they are asked for, piece by piece, so that the node's lock, which
//! the renewal of the lease needs, is never held for long. What has to be counted as it happens goes to
//! [`Instruments`].
//!
//! `GET /healthz` is for whoever restarts a daemon, `GET /readyz` for whoever sends packets to the node.

mod answer;
mod endpoint;
mod instruments;
mod pulse;
mod render;
mod snapshot;

pub use answer::Source;
pub use endpoint::{Endpoint, ListenError, Listener};
pub use instruments::{Asked, Instruments, Operation};
pub use pulse::Pulse;
