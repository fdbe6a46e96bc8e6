//! An event as one line of JSON: for people and their tools, with the bytes for `verify`.

use crate::{
    audit::{Entry, Event, Head, NodeChange, NodeEvent, Place, PlacementEvent, Refusal},
    model::{
        ChangeCause, Context, FenceProof, Input, OperationId, Owner, Reattach, StateChange, Time,
    },
    store::{AuditKey, AuditRow},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::fmt::Write;
use thiserror::Error;

/// A line that is no event.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadLine {
    /// It is no JSON, or lacks what every line has.
    #[error("the line is no audit event: {0}")]
    Json(String),
    /// Its bytes are no event.
    #[error("the line's bytes are no audit event")]
    Bytes,
    /// What people read in it is not what its bytes say.
    #[error("the line was changed: what it shows is not what its bytes say")]
    Changed,
}

/// What every line has.
#[derive(Serialize, Deserialize)]
struct Line {
    stream: u64,
    row: u64,
    /// Which of the row's events, and how many it has.
    at: usize,
    of: usize,
    event: String,
    #[serde(flatten)]
    shown: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    head: Option<String>,
    bytes: String,
}

/// The lines of a row, without their ends.
pub(super) fn lines(row: &AuditRow) -> impl Iterator<Item = String> {
    let of = row.entries.len();
    let entries = row.entries.iter().enumerate();
    entries.map(move |(at, entry)| line(Place { row: row.key, at }, of, entry))
}

fn line(place: Place, of: usize, entry: &Entry) -> String {
    let line = Line {
        stream: place.row.stream,
        row: place.row.number,
        at: place.at,
        of,
        event: entry.event.name().to_owned(),
        shown: shown(&entry.event),
        head: entry.head.map(|head| head.to_string()),
        bytes: hexadecimal(&entry.event.to_bytes()),
    };
    serde_json::to_string(&line).expect("names and plain values")
}

/// The event of a line, its place, and how many events its row has. Every part of the line must be
/// as it was written.
pub(super) fn parse(text: &str) -> Result<(Place, usize, Entry), BadLine> {
    let parsed: Line =
        serde_json::from_str(text).map_err(|error| BadLine::Json(error.to_string()))?;
    let head = match &parsed.head {
        None => None,
        Some(text) => {
            let bytes = binary(text).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            Some(Head::new(bytes.ok_or(BadLine::Bytes)?))
        }
    };
    let bytes = binary(&parsed.bytes).ok_or(BadLine::Bytes)?;
    let event = Event::from_bytes(&bytes).map_err(|_| BadLine::Bytes)?;
    let row = AuditKey { stream: parsed.stream, number: parsed.row };
    let (place, entry) = (Place { row, at: parsed.at }, Entry { event, head });
    let is_same = line(place, parsed.of, &entry) == text;
    is_same.then_some((place, parsed.of, entry)).ok_or(BadLine::Changed)
}

impl Event {
    /// The name, as it stands in logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::StateChange(_) => "STATE_CHANGE",
            Self::Node(_) => "NODE_EVENT",
            Self::Placement(_) => "PLACEMENT_EVENT",
            Self::Refusal(refusal) => refusal.reason.class().name(),
        }
    }
}

/// What people want to see of an event; not all of it.
pub(super) fn shown(event: &Event) -> Map<String, Value> {
    let mut shown = Map::new();
    match event {
        Event::StateChange(change) => state_change(&mut shown, change),
        Event::Node(event) => {
            let NodeEvent { node, incarnation, number, change, actor, now, operation } = event;
            attempt(&mut shown, *actor, *now, *operation);
            shown.insert("node".into(), json!(node.node.get()));
            shown.insert("node_epoch".into(), json!(node.epoch.get()));
            shown.insert("incarnation".into(), json!(format!("{:032x}", incarnation.0)));
            shown.insert("number".into(), json!(number));
            let name = match change {
                NodeChange::Registered { name } => {
                    shown.insert("name".into(), json!(name));
                    "REGISTERED"
                }
                NodeChange::Accepting => "ACCEPTING",
                NodeChange::Draining => "DRAINING",
                NodeChange::Fenced => "FENCED",
            };
            shown.insert("change".into(), json!(name));
        }
        Event::Placement(event) => {
            let PlacementEvent { revision, digest, actor, now, operation } = event;
            attempt(&mut shown, *actor, *now, *operation);
            shown.insert("revision".into(), json!(revision.get()));
            shown.insert("digest".into(), json!(hexadecimal(digest)));
        }
        Event::Refusal(Refusal { reason, session, stood, count, actor, now }) => {
            shown.insert("reason".into(), json!(reason.name()));
            if let Some(session) = session {
                shown.insert("session".into(), json!(session.to_string()));
            }
            if let Some(stood) = stood {
                shown.insert("stood_at_version".into(), json!(stood.get()));
            }
            shown.insert("count".into(), json!(count));
            shown.insert("actor".into(), json!(actor.get()));
            shown.insert("time_ms".into(), json!(now.millis()));
        }
    }
    shown
}

fn state_change(shown: &mut Map<String, Value>, change: &StateChange) {
    let Context { now, actor, policy, operation } = *change.context();
    shown.insert("session".into(), json!(change.session().to_string()));
    shown.insert("version".into(), json!(change.version().get()));
    attempt(shown, actor, now, operation);
    shown.insert("policy_revision".into(), json!(policy.revision));
    let input = match change.cause() {
        ChangeCause::Birth { service } => {
            shown.insert("input".into(), json!("BIRTH"));
            shown.insert("service".into(), json!(service));
            return;
        }
        ChangeCause::Input(input) => input,
    };
    shown.insert("input".into(), json!(input.name()));
    match input {
        Input::Attach { transport } | Input::LoseTransport { transport } => {
            shown.insert("transport".into(), json!(transport.to_string()));
        }
        Input::Reattach(Reattach { version, nonce, transport, key_generation }) => {
            shown.insert("transport".into(), json!(transport.to_string()));
            shown.insert("known_version".into(), json!(version.get()));
            shown.insert("nonce".into(), json!(nonce.get()));
            shown.insert("key_generation".into(), json!(key_generation));
        }
        Input::Freeze { to } => {
            shown.insert("to".into(), json!(to.get()));
        }
        Input::HandOff { to } => {
            shown.insert("to".into(), json!(to.node.get()));
            shown.insert("to_epoch".into(), json!(to.epoch.get()));
        }
        Input::TakeOver { proof } | Input::TerminateLost { proof } => fenced(shown, proof),
        Input::Terminate { cause } => {
            shown.insert("cause".into(), json!(cause.name()));
        }
        Input::Abort | Input::Resume | Input::RotateKey | Input::Expire => {}
    }
}

fn fenced(shown: &mut Map<String, Value>, proof: FenceProof) {
    shown.insert("fenced".into(), json!(proof.fenced().node.get()));
    shown.insert("fenced_epoch".into(), json!(proof.fenced().epoch.get()));
}

fn attempt(shown: &mut Map<String, Value>, actor: Owner, now: Time, operation: OperationId) {
    shown.insert("actor".into(), json!(actor.node.get()));
    shown.insert("actor_epoch".into(), json!(actor.epoch.get()));
    shown.insert("time_ms".into(), json!(now.millis()));
    shown.insert("operation".into(), json!(format!("{:032x}", operation.0)));
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("strings take everything");
    }
    text
}

fn binary(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let digit = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}
