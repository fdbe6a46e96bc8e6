//! The Unix socket between the daemon, applications and the command line.
//!
//! A `SOCK_SEQPACKET` socket: each message is one JSON value, each request gets one response. A
//! socket that an application hands over travels beside its request as a file descriptor
//! (`SCM_RIGHTS`).

mod client;
pub(crate) mod listener;
mod message;
pub(crate) mod places;
mod server;
mod wire;

pub use client::{Client, ClientError};
pub use message::{
    Answer, CapturedPacket, CapturedPackets, DrainHow, DrainProgress, EventRow, EventTotal, Events,
    Explanation, HOLD_AT_ONCE, HeldSessions, HexCredentials, Interface, LeftOver, MoveResult,
    NextHop, NodeRow, OpenedSession, Request, Response, ServiceStatus, SessionRow, SessionState,
    Standing, Stats, Status, XskPlace,
};
pub use server::{Server, ServerError};
