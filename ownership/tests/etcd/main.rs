//! The store on etcd, on real servers.
//!
//! Where there is no etcd the tests say so and are skipped; in CI they fail. `cargo xtask setup`
//! brings it.

mod cluster;
#[path = "../conformance/mod.rs"]
mod conformance;
mod doubt;
mod duel;
mod every_store;
mod fixture;
mod history;
mod limits;
mod load;
mod network;
mod opening;
mod restore;
mod rounds;
