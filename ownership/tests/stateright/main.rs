//! The protocols, explored with stateright: every order in which things can happen in a small cluster.
//!
//! What is explored is the code that a daemon runs, not a copy: `decide`, the lease, pending writes, transfers,
//! the placement, takeover, a node's answers and a client's tracker, and the tables that every store has. What
//! stands here is only what lies between them: who calls them when, and sets the kernel by what they say.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `world`, `node`, `client`, `shelf` | the state: machines, their kernels, disks and processes; clients; stores, and what was ever committed |
//! | `actions`, `possible`, `steps` | what can happen, when, and what comes of it |
//! | `driver`, `epochs`, `slots`, `sessions`, `doubts`, `moves`, `sight` | what the daemon does |
//! | `way` | the two strategies: *shared* and *sticky* |
//! | `properties`, `model` | what must hold in every state, and what must be reached in some |
//! | `config`, `configurations` | what is in a model, and how much may go wrong |
//! | `quick`, `full`, `mistakes` | the models that are explored |
//!
//! # What can go wrong
//!
//! - A request to the store is done and its answer lost; or it is late, and is done at any later time, after any
//!   other, or never. Heartbeats and their answers take as long as they like.
//! - What a client sends, and what it is sent, is lost, late, out of order, or arrives twice.
//! - A process ends and another is started; a machine starts anew; an operator ends an epoch.
//! - Clocks run at different rates, up to the bound that leases are made for: 9 to 11 nanoseconds a tick.
//! - A clone of a node runs beside it.
//! - The directory is restored from a backup.
//!
//! Each model has a [`Budget`](config::Budget) of these: whatever is in it may happen at any time, in any order. What
//! is no trouble (the next step of a transfer, a look at the inbox) is always possible, and never has to happen.
//!
//! # What must hold
//!
//! In every state: a session is delivered by its owner alone; one version is one state and has its one event; no
//! session that is served is denied anywhere, and none ends by a false alarm; no client is locked out. And from one
//! state in sixteen, chosen by its digest, the world is run on without more trouble: every session must get to where
//! it is served or over, and every client to where it is attached, whether what was late arrives or not.
//!
//! Each model also names what it has to reach ([`Reached`](properties::Reached)), and how many states it has at least.
//! That it sees something is shown in `mistakes`: protocols with one rule left out.
//!
//! # What is left out
//!
//! - All 65,536 slots are alike; there is one session, or two where one is made on the way.
//! - Time limits of sessions: it is always the same time of day. So are rates and cooldowns.
//! - A node's own store (*sticky*) always answers, is never restored, and is not cloned with its node, which
//!   [`ownership::lease`] says nothing helps against. What a crash does to it is shown in `tests/redb`.
//! - What an application's context, marker and hold ring do: a session is LOCAL, HOLD or REDIRECT at once.
//! - The cookie exchange, which depends on nothing that is explored, and forged messages: `tests/reattach`.
//! - Backups are older than what every node has seen. What a recovery does to the rest is shown
//!   in `tests/conformance/recovery.rs`.

mod actions;
mod client;
mod config;
mod configurations;
mod digest;
mod doubts;
mod driver;
mod epochs;
mod explore;
mod full;
mod mistakes;
mod model;
mod moves;
mod node;
mod placements;
mod possible;
mod properties;
mod quick;
mod sessions;
mod shelf;
mod sight;
mod slots;
mod steps;
mod way;
mod world;
