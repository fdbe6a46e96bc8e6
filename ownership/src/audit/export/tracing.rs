use super::{Sink, line::shown};
use crate::{audit::Event, model::Class, store::AuditRow};
use serde_json::Value;
use std::io;

/// Events to `tracing`, with the target `audit`: SECURITY_EVENT as warnings, all else as information.
/// Some may come twice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tracing;

impl Sink for Tracing {
    fn take(&mut self, rows: &[AuditRow]) -> io::Result<()> {
        for row in rows {
            for (at, entry) in row.entries.iter().enumerate() {
                let (event, shown) = (entry.event.name(), Value::Object(shown(&entry.event)));
                let row = row.key;
                match &entry.event {
                    Event::Refusal(refusal) if refusal.reason.class() == Class::Security => {
                        tracing::warn!(target: "audit", %row, at, event, "{shown}");
                    }
                    Event::StateChange(_)
                    | Event::Node(_)
                    | Event::Placement(_)
                    | Event::Refusal(_) => {
                        tracing::info!(target: "audit", %row, at, event, "{shown}");
                    }
                }
            }
        }
        Ok(())
    }
}
