//! Clients that attach again: the messages, the node's side, the client's side, and both together over
//! a network that does what it likes.

mod channel;
mod cluster;
