//! From requests to answers.

use super::{Node, Refusal};
use crate::api::{Request, Response};
use std::os::fd::OwnedFd;

impl Node {
    /// Answers a request.
    pub fn handle(&mut self, request: Request, fd: Option<OwnedFd>) -> Response {
        let result = self.try_handle(request, fd);
        result.unwrap_or_else(|refusal| Response::Error(refusal.to_string()))
    }

    fn try_handle(&mut self, request: Request, fd: Option<OwnedFd>) -> Result<Response, Refusal> {
        Ok(match request {
            Request::Status => Response::Status(Box::new(self.status())),
            Request::Stats => Response::Stats(self.stats()?),
            Request::Sessions { after, limit } => {
                Response::Sessions(self.sessions(after.as_deref(), limit)?)
            }
            Request::AddSocket { service, control, cpu } => {
                self.add_socket(&service, control, cpu, fd)?;
                Response::Done
            }
            Request::Open { service, cpu } => Response::Opened(self.open(&service, cpu)?),
            Request::Mint { session } => Response::WireId(self.mint(&session)?),
            Request::AddWireId { session, id, off_home } => {
                self.add_wire_id(&session, &id, off_home)?;
                Response::Done
            }
            Request::RemoveWireId { session, id } => {
                self.remove_wire_id(&session, &id)?;
                Response::Done
            }
            Request::AddRow { service, id, node, version } => {
                self.add_row(&service, &id, &node, version)?;
                Response::Done
            }
            Request::RemoveRow { service, id } => {
                self.remove_row(&service, &id)?;
                Response::Done
            }
            Request::Close { session } => {
                self.close(&session)?;
                Response::Done
            }
        })
    }
}
