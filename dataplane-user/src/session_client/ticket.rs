use crate::api::HexCredentials;
use ownership::{
    Epoch, SessionId, StateVersion,
    client::{Memory, Tracker},
};
use serde::{Deserialize, Serialize};
use std::{io, net::SocketAddr};
use thiserror::Error;

/// What an application gives the client of a session that it has opened. Whoever has it can speak for the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The SessionID.
    pub session: String,
    /// The service's name.
    pub service: String,
    /// Where the service is.
    pub address: SocketAddr,
    /// Where its control port is, if it has one.
    pub control: Option<SocketAddr>,
    /// The address that the session was bound to when it was opened.
    pub client: Option<SocketAddr>,
    /// Its state_version then.
    pub version: u64,
    /// The epoch of its owner then.
    pub epoch: u32,
    /// What its client proves itself with.
    pub credentials: HexCredentials,
}

/// Why nobody can be the client with a ticket.
#[derive(Debug, Error)]
pub enum BadTicket {
    /// No SessionID.
    #[error("the ticket's `session` is none: it has 32 hexadecimal digits")]
    Session,
    /// No epoch.
    #[error("the ticket's `epoch` is none: epochs begin with 1")]
    Epoch,
    /// No credentials.
    #[error("the ticket's `credentials` are none: they have 140 hexadecimal digits")]
    Credentials,
    /// About the socket.
    #[error("the client's socket cannot be used")]
    Socket(#[source] io::Error),
}

impl Ticket {
    /// The tracker of its session's client. It is attached if its address is the one that the session was bound
    /// to.
    pub(super) fn tracker(&self, address: Option<SocketAddr>) -> Result<Tracker, BadTicket> {
        let session: SessionId = self.session.parse().map_err(|_| BadTicket::Session)?;
        let epoch = Epoch::new(self.epoch).ok_or(BadTicket::Epoch)?;
        let credentials = self.credentials.read().ok_or(BadTicket::Credentials)?;
        let version = StateVersion::new(self.version);
        let memory = Memory::opened(version, epoch, credentials.name().generation);
        Ok(match address.is_some() && address == self.client {
            true => Tracker::opened(session, memory, credentials),
            false => Tracker::resumed(session, memory, credentials),
        })
    }
}
