//! From requests to answers.

use super::{
    Node, Refusal,
    capture::start_capture,
    holds::{hold_sessions, release_sessions},
    lock,
};
use crate::api::{Answer, Request, Response};
use std::{
    os::fd::{AsFd, OwnedFd},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

/// How long the kernel may take to free what an earlier daemon left.
const FREEING: Duration = Duration::from_millis(250);

/// How often it is asked meanwhile.
const TICK: Duration = Duration::from_millis(2);

/// Answers a request. Waits for nothing while it holds the node's lock, which the renewal of the
/// lease needs too.
pub fn answer(node: &Mutex<Node>, request: &Request, fd: Option<&OwnedFd>) -> Answer {
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
            Request::Open { service, cpu, client } => {
                Response::Opened(self.open(service, *cpu, *client)?)
            }
            Request::Bind { session, client } => {
                self.bind(session, *client)?;
                Response::Done
            }
            Request::Unbind { session } => {
                self.unbind(session)?;
                Response::Done
            }
            Request::Mint { session } => Response::WireId(self.mint(session)?),
            Request::AddWireId { session, id, off_home } => {
                self.add_wire_id(session, id, *off_home)?;
                Response::Done
            }
            Request::RemoveWireId { session, id } => {
                self.remove_wire_id(session, id)?;
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
            Request::Close { session } => {
                self.close(session)?;
                Response::Done
            }
        };
        Ok(response.into())
    }
}
