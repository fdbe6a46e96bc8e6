//! AF_XDP sockets of applications.

use super::{Node, Refusal};
use crate::{api::XskPlace, dataplane::services::Delivery};
use dataplane_ebpf::abi::SCHEMA;
use nix::net::if_::if_nametoindex;
use std::os::fd::{BorrowedFd, OwnedFd};

impl Node {
    /// Gives an AF_XDP socket the packets of a queue. Returns what its application needs to know,
    /// and the descriptors of the tables.
    pub fn add_xsk(
        &mut self,
        interface: &str,
        queue: u32,
        socket: Option<BorrowedFd<'_>>,
    ) -> Result<(XskPlace, Vec<OwnedFd>), Refusal> {
        let is_attached = self.attached.iter().any(|attached| attached.interface == interface);
        let ifindex = if_nametoindex(interface).ok().filter(|_| is_attached);
        let Some(link) = ifindex.and_then(|ifindex| self.dataplane.link_of(ifindex)) else {
            let known: Vec<_> = self.attached.iter().map(|known| &*known.interface).collect();
            let (interface, known) = (interface.to_owned(), known.join(", "));
            return Err(Refusal::NoInterface { interface, known });
        };
        let services = self.services.iter().filter(|service| service.delivery == Delivery::AfXdp);
        let services = services.map(|service| (service.index, service.name.clone()));
        let bindings = self.services.iter().any(|service| service.enforces_binding);
        let place = XskPlace { schema: SCHEMA, services: services.collect(), bindings };
        if place.services.is_empty() {
            return Err(Refusal::NoAfXdp);
        }
        let socket = socket.ok_or(Refusal::NoSocket)?;
        let tables = self.dataplane.xsk_tables()?;
        self.dataplane.add_xsk(link as u32, queue, socket)?;
        Ok((place, tables))
    }
}
