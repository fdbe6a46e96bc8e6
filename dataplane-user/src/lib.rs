//! The userspace side of Jumpgate: loads the data plane, publishes its tables, keeps the fence.

pub mod af_xdp;
pub mod api;
mod checksum;
pub mod cluster;
pub mod config;
pub mod control_port;
pub mod daemon;
pub mod dataplane;
pub mod fences;
mod frame;
pub mod hold;
pub mod metrics;
pub mod neighbours;
pub mod node;
pub mod pins;
pub mod preflight;
pub mod runtime;
pub mod secrets;
pub mod session_client;
pub mod sessions_api;
pub mod takeover;
