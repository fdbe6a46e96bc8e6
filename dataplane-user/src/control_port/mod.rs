//! The control port of each service: clients ask here, by the protocol in `docs/control-protocol.md`, and the
//! [runtime](crate::runtime) answers.
//!
//! The daemon has a socket on each CPU that processes sessions, as an application has at the data port, and
//! hands them to the selector: so the data plane steers, limits and fences what comes here. A request is
//! answered to where it came from, with as many bytes as it has; what is beyond the requests that may be under
//! way at once is dropped and counted. Whatever is refused is told ([`Refusals`]).

mod refusals;
mod serve;
mod socket;

pub use refusals::Refusals;
pub use serve::Serving;
pub use socket::OpenError;

use crate::{
    config::{Config, Responder},
    metrics::Instruments,
    node::Node,
    runtime::Runtime,
};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::net::UdpSocket;

/// The sockets of all control ports that the daemon answers at. Nobody answers yet.
pub struct ControlPorts {
    /// Each with its service's place in the configuration.
    sockets: Vec<(usize, UdpSocket)>,
}

impl ControlPorts {
    /// Opens the sockets, and gives them to the selector. To be done in a tokio runtime, on a thread in the
    /// node's network namespace.
    ///
    /// # Errors
    ///
    /// If an address or port cannot be had, or the selector does not take a socket.
    pub fn open(node: &mut Node, config: &Config) -> Result<Self, OpenError> {
        let mut sockets = Vec::new();
        for (place, service) in config.services.iter().enumerate() {
            let (Some(port), Responder::Daemon) = (service.control_port, service.control) else {
                continue;
            };
            let address = SocketAddr::new(service.address.ip(), port);
            for &cpu in &config.sessions.cpus {
                let bind = |source| {
                    let service = service.name.clone();
                    OpenError::Bind { service, address, source }
                };
                let socket = socket::open(address).map_err(bind)?;
                node.add_control_socket(&service.name, cpu, &socket).map_err(|refusal| {
                    let (service, why) = (service.name.clone(), refusal.to_string());
                    OpenError::Refused { service, why }
                })?;
                sockets.push((place, UdpSocket::from_std(socket).map_err(bind)?));
            }
        }
        Ok(Self { sockets })
    }

    /// Begins to answer, until the handle is dropped.
    pub fn serve(
        self,
        runtime: &Arc<Runtime>,
        node: &Arc<Mutex<Node>>,
        instruments: &Instruments,
    ) -> Serving {
        Serving::start(self.sockets, runtime, node, instruments)
    }
}
