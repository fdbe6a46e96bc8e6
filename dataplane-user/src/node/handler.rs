//! From requests to answers.
//!
//! What changes a session goes through the [runtime](crate::runtime), which commits it first.

use super::{
    Node, Refusal,
    capture::start_capture,
    holds::{hold_sessions, release_sessions},
    ids::{hex, parse_session, unhex},
    lock,
};
use crate::{
    api::{Answer, HexCredentials, MoveResult, OpenedSession, Request, Response},
    runtime::{Moved, Open, Runtime, Unchanged, Verified},
    secrets::SecretsFile,
};
use ownership::model::Cause;
use std::{
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};
use tokio::runtime::Handle;

/// How long the kernel may take to free what an earlier daemon left.
const FREEING: Duration = Duration::from_millis(250);

/// How often it is asked meanwhile.
const TICK: Duration = Duration::from_millis(2);

/// Answers a request. Waits for nothing while it holds the node's lock, which the renewal of the
/// lease needs too.
pub fn answer(
    node: &Mutex<Node>,
    sessions: &Sessions,
    request: &Request,
    fd: Option<&OwnedFd>,
) -> Answer {
    match sessions.handle.block_on(sessions.answer(request)) {
        Ok(Some(response)) => return response.into(),
        Ok(None) => {}
        Err(refusal) => return refused(refusal),
    }
    match request {
        Request::Hold { sessions, deadline_ms } => {
            let result = hold_sessions(node, sessions, *deadline_ms);
            return result.map_or_else(refused, |held| Response::Held(held).into());
        }
        Request::Release { sessions, node: to, version } => {
            let result = release_sessions(node, sessions, to.as_deref(), *version);
            return result.map_or_else(refused, |counts| Response::Released(counts).into());
        }
        Request::CaptureStart { session } => {
            let result = start_capture(node, session);
            return result.map_or_else(refused, |number| Response::Capturing(number).into());
        }
        _ => {}
    }
    let end = Instant::now() + FREEING;
    loop {
        let result = lock(node).handle(request, fd);
        match result {
            Ok(answer) => return answer,
            // The socket was an earlier daemon's. Our selector has just replaced the last that
            // used that daemon's array, which the kernel frees a grace period later.
            Err(Refusal::Socket(error)) if error.is_busy() && Instant::now() < end => {
                thread::sleep(TICK);
            }
            Err(refusal) => return refused(refusal),
        }
    }
}

/// The sessions as requests change them: from threads that may wait.
pub struct Sessions {
    /// What commits.
    pub runtime: Arc<Runtime>,
    /// Where it runs.
    pub handle: Handle,
    /// The file of the cluster's secrets.
    pub secrets: PathBuf,
}

impl Sessions {
    /// Does what a request asks of the runtime; nothing if it asks for something else.
    async fn answer(&self, request: &Request) -> Result<Option<Response>, Refusal> {
        let runtime = &self.runtime;
        Ok(Some(match request {
            Request::Open { service, cpu, client } => {
                let (service, cpu) = (service.clone(), Some(*cpu));
                let open = Open { service, cpu, client: *client, context: Vec::new() };
                let opened = runtime.open(open).await?;
                Response::Opened(OpenedSession {
                    session: opened.session.to_string(),
                    epoch: opened.epoch.get(),
                    version: opened.version.get(),
                    credentials: HexCredentials::new(&opened.credentials),
                })
            }
            Request::Bind { session, client } => {
                runtime.bind(parse_session(session)?, *client).await?;
                Response::Done
            }
            Request::Unbind { session } => {
                runtime.lose(parse_session(session)?, None).await?;
                Response::Done
            }
            Request::Mint { session } => {
                let bytes = runtime.mint(parse_session(session)?).await?;
                Response::WireId(hex(&bytes))
            }
            Request::AddWireId { session, id, off_home } => {
                let bytes = unhex(id).ok_or_else(|| Refusal::NotHex(id.clone()))?;
                runtime.add_wire_id(parse_session(session)?, &bytes, *off_home).await?;
                Response::Done
            }
            Request::RemoveWireId { session, id } => {
                let bytes = unhex(id).ok_or_else(|| Refusal::NotHex(id.clone()))?;
                runtime.remove_wire_id(parse_session(session)?, &bytes).await?;
                Response::Done
            }
            Request::Close { session } => {
                runtime.terminate(parse_session(session)?, Cause::Request).await?;
                Response::Done
            }
            Request::ReloadSecrets => {
                let file = SecretsFile::read(&self.secrets)?;
                runtime.set_secrets(file.secrets());
                tracing::info!(numbers = ?file.numbers(), "other cluster secrets are in force");
                Response::Secrets(file.numbers())
            }
            Request::HandOver { session, node } => {
                let to = runtime.node_named(node)?;
                let moved = runtime.hand_over_to(parse_session(session)?, to).await?;
                Response::Moved(match moved {
                    Moved::Away { with_context: true } => MoveResult::HandedOver,
                    Moved::Away { with_context: false } => MoveResult::HandedOverWithoutContext,
                    Moved::Stays => MoveResult::Stays,
                    Moved::Over => MoveResult::Over,
                })
            }
            Request::Drain { node, how } => {
                runtime.drain(node, how.as_ref()).await?;
                Response::Done
            }
            Request::Undrain { node } => {
                runtime.undrain(node).await?;
                Response::Done
            }
            Request::DrainStatus => {
                let status = runtime.drain_status().await.map_err(Unchanged::from)?;
                Response::Draining(status.into())
            }
            Request::AuditVerify => {
                let Verified { rows, events, sessions } = runtime.verify_audit().await?;
                Response::Verified { rows, events, sessions }
            }
            Request::AuditExport { path } => Response::Exported(runtime.export_audit(path).await?),
            Request::Session { session } => {
                let view = runtime.view(parse_session(session)?).await;
                let view = view.map_err(Unchanged::from)?;
                Response::Session(view.as_ref().map(Into::into))
            }
            _ => return Ok(None),
        }))
    }
}

fn refused(refusal: Refusal) -> Answer {
    Response::Error(refusal.to_string()).into()
}

impl Node {
    fn handle(&mut self, request: &Request, fd: Option<&OwnedFd>) -> Result<Answer, Refusal> {
        let response = match request {
            Request::Status => Response::Status(Box::new(self.status())),
            Request::Nodes => Response::Nodes(self.nodes()),
            Request::Stats { by_cpu } => Response::Stats(self.stats(*by_cpu)?),
            Request::Events { after } => Response::Events(self.events_after(*after)?),
            Request::Sessions { after, limit } => {
                Response::Sessions(self.sessions(after.as_deref(), *limit)?)
            }
            Request::Explain { packets, interface } => {
                Response::Explanations(self.explain(packets, interface.as_deref())?)
            }
            Request::ExplainSession { session, interface } => {
                Response::Explanations(self.explain_session(session, interface.as_deref())?)
            }
            Request::CaptureNext { capture } => Response::Captured(self.next_captured(*capture)?),
            Request::CaptureStop { capture } => {
                self.stop_capture(*capture)?;
                Response::Done
            }
            Request::AddSocket { service, control, cpu } => {
                self.add_socket(service, *control, *cpu, fd.map(AsFd::as_fd))?;
                Response::Done
            }
            Request::AddRow { service, id, node, version } => {
                self.add_row(service, id, node, *version)?;
                Response::Done
            }
            Request::RemoveRow { service, id } => {
                self.remove_row(service, id)?;
                Response::Done
            }
            Request::AddXsk { interface, queue } => {
                let (place, fds) = self.add_xsk(interface, *queue, fd.map(AsFd::as_fd))?;
                return Ok(Answer { response: Response::Xsk(place), fds });
            }
            Request::Acknowledge { marker } => {
                self.acknowledge(marker)?;
                Response::Done
            }
            Request::Hold { .. }
            | Request::Release { .. }
            | Request::CaptureStart { .. }
            | Request::Reload => {
                unreachable!("they wait, so they are answered without the lock")
            }
            Request::Open { .. }
            | Request::Bind { .. }
            | Request::Unbind { .. }
            | Request::Mint { .. }
            | Request::AddWireId { .. }
            | Request::RemoveWireId { .. }
            | Request::HandOver { .. }
            | Request::Drain { .. }
            | Request::Undrain { .. }
            | Request::DrainStatus
            | Request::AuditVerify
            | Request::AuditExport { .. }
            | Request::Session { .. }
            | Request::ReloadSecrets
            | Request::Close { .. } => unreachable!("the runtime has answered them"),
        };
        Ok(response.into())
    }
}
