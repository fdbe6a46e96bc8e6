//! Between what goes over the wire and what it means.

use super::{
    proto::{self, to_application::Message},
    refusal::bad,
};
use crate::runtime::{Notice, SessionView};
use ownership::{
    SessionId,
    model::{Hold, State, Transport},
};
use std::net::SocketAddr;
use tonic::Status;

/// The SessionID with these bytes.
pub(super) fn session_id(bytes: &[u8]) -> Result<SessionId, Status> {
    let bytes =
        bytes.try_into().map_err(|_| bad(format!("a SessionID has 16 bytes, not {}", bytes.len())));
    bytes.map(SessionId::new)
}

/// A SessionID's bytes.
pub(super) fn bytes(session: SessionId) -> Vec<u8> {
    session.bytes().to_vec()
}

/// The client that a text names; none if it is empty.
pub(super) fn client(text: &str) -> Result<Option<SocketAddr>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let client = text.parse().map_err(|_| {
        bad(format!("{text:?} is no client: write \"192.0.2.1:4000\" or \"[2001:db8::1]:4000\""))
    });
    client.map(Some)
}

fn client_text(transport: Option<Transport>) -> String {
    transport.map(|transport| transport.to_string()).unwrap_or_default()
}

/// A session as it is told.
pub(super) fn session(view: SessionView, with_context: bool) -> proto::Session {
    let record = view.record;
    let (state, hold) = (state(record.state()), hold(record.hold()));
    proto::Session {
        session: bytes(record.id()),
        service: view.service.unwrap_or_default(),
        state: state.into(),
        hold: hold.into(),
        version: record.version().get(),
        node: record.owner().node.get().into(),
        epoch: record.owner().epoch.get(),
        client: client_text(record.transport()),
        wire_ids: view.wire_ids,
        context: if with_context { view.context.to_vec() } else { Vec::new() },
        is_here: view.is_here,
    }
}

fn state(state: State) -> proto::State {
    match state {
        State::Birth => proto::State::Birth,
        State::Attached(_) => proto::State::Attached,
        State::Recovering { .. } => proto::State::Recovering,
        State::Terminated(_) => proto::State::Terminated,
    }
}

fn hold(hold: Hold) -> proto::Hold {
    match hold {
        Hold::Active => proto::Hold::Active,
        Hold::Frozen { .. } => proto::Hold::Frozen,
        Hold::HandedOff { .. } => proto::Hold::HandedOff,
    }
}

/// What an application is told.
pub(super) fn notice(notice: Notice) -> Message {
    match notice {
        Notice::Granted { session, service: _, owner, version, transport, wire_ids, context } => {
            Message::Granted(proto::Granted {
                session: bytes(session),
                epoch: owner.epoch.get(),
                version: version.get(),
                client: client_text(transport),
                wire_ids,
                context: context.to_vec(),
            })
        }
        Notice::Freezes { session, service: _, to } => {
            Message::Freezes(proto::Freezes { session: bytes(session), node: to.get().into() })
        }
        Notice::Quiesce { session, service: _ } => {
            Message::Quiesce(proto::Quiesce { session: bytes(session) })
        }
        Notice::Thaws { session, service: _ } => {
            Message::Thaws(proto::Thaws { session: bytes(session) })
        }
        Notice::Lost { session, service: _, to } => {
            Message::Lost(proto::Lost { session: bytes(session), node: to.get().into() })
        }
        Notice::Changed { session, service: _, version, transport } => {
            Message::Changed(proto::Changed {
                session: bytes(session),
                version: version.get(),
                client: client_text(transport),
            })
        }
        Notice::Ended { session, service: _ } => {
            Message::Ended(proto::Ended { session: bytes(session) })
        }
    }
}
