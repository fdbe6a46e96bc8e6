//! Sessions whose application has gone: their transport is reported lost.

use super::calls::{Desk, stopped};
use crate::{node::Refusal, runtime::Unchanged};
use futures_util::stream::{self, StreamExt};
use ownership::{SessionId, model, pending::NotDone};
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// How many are reported at once.
const AT_ONCE: usize = 64;

/// How long after what cannot be done now it is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Reports these sessions' transports lost, as far as nobody owns them by then, in the background.
pub(super) fn report(desk: &Arc<Desk>, sessions: Vec<SessionId>) {
    if sessions.is_empty() {
        return;
    }
    tracing::info!(sessions = sessions.len(), "an application has gone: its sessions recover");
    let desk = Arc::clone(desk);
    tokio::spawn(async move {
        let stops = stopped(desk.stops.clone());
        let reports = stream::iter(sessions).map(|session| report_one(&desk, session));
        let done = reports.buffer_unordered(AT_ONCE).for_each(|()| async {});
        tokio::select! {
            () = done => {}
            () = stops => {}
        }
    });
}

async fn report_one(desk: &Desk, session: SessionId) {
    // Whoever binds it anew meanwhile is not the client that was lost.
    let mut bound: Option<Option<SocketAddr>> = None;
    while !desk.streams.is_owned(session) {
        let view = match desk.runtime.view(session).await {
            Ok(Some(view)) if view.is_here && !view.record.is_terminated() => view,
            Ok(_) => return,
            Err(_) => {
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        let transport = view.record.transport().map(Into::into);
        let Some(lost) = *bound.get_or_insert(transport) else { return };
        match desk.runtime.lose(session, Some(lost)).await {
            Ok(version) => {
                tracing::debug!(%session, %version, "the application has gone");
                return;
            }
            Err(why) if is_passing(&why) => tokio::time::sleep(AGAIN).await,
            Err(why) => {
                tracing::debug!(%session, %why, "the application has gone");
                return;
            }
        }
    }
}

/// Whether it may be done later.
fn is_passing(why: &Refusal) -> bool {
    match why {
        Refusal::FenceShut => true,
        Refusal::Unchanged(Unchanged::Refused(reason)) => {
            matches!(reason, model::Reason::Frozen | model::Reason::HandedOff)
        }
        Refusal::Unchanged(Unchanged::NotDone(NotDone::Fenced)) => false,
        Refusal::Unchanged(Unchanged::NotDone(_)) => true,
        _ => false,
    }
}
