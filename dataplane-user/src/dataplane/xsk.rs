//! Applications' AF_XDP sockets, and the tables that they read.

use super::Dataplane;
use aya::maps::{Map, MapError};
use dataplane_ebpf::xsk;
use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};
use thiserror::Error;

/// Why an AF_XDP socket could not get its place.
#[derive(Debug, Error)]
pub enum XskError {
    /// The map has no place for such a queue.
    #[error("queue {0} cannot be served by AF_XDP: only 0 to {last}", last = xsk::QUEUES - 1)]
    Queue(u32),
    /// The kernel refused the socket.
    #[error(
        "the kernel refused the socket: it must be an AF_XDP socket (XDP_UMEM_REG done), bound to \
         the interface and queue that it is registered for"
    )]
    Map(#[source] MapError),
    /// The tables could not be opened for the application.
    #[error("opening the tables for the application failed")]
    Tables(#[source] io::Error),
}

/// What applications read, and last what they write, in the order in which they get it.
const TABLES: [&str; 6] = ["LOCAL", "SERVICES", "SLOTS", "SESSIONS", "BINDINGS", "XSK_COUNTS"];

impl Dataplane {
    /// Gives the packets of a queue of the interface that is configured as `link` to an AF_XDP
    /// socket.
    pub fn add_xsk(
        &mut self,
        link: u32,
        queue: u32,
        socket: BorrowedFd<'_>,
    ) -> Result<(), XskError> {
        let row = xsk::row(link, queue).ok_or(XskError::Queue(queue))?;
        self.xsks.set(row, socket.as_raw_fd(), 0).map_err(XskError::Map)
    }

    /// Descriptors of the tables that an application with an AF_XDP socket needs: five to read, and
    /// its counters.
    ///
    /// They can be written to, all of them: the kernel maps no descriptor of a map that is open for
    /// reading only (`bpf_map_mmap` wants VM_SHARED, which such a mapping has not; Linux 6.18). So
    /// whoever gets them is trusted with the node's tables. The library maps them for reading and
    /// closes them, after which the kernel lets nobody make the mapping writable.
    pub fn xsk_tables(&self) -> Result<Vec<OwnedFd>, XskError> {
        let open = |name: &&str| match self.ebpf.map(name) {
            Some(Map::Array(data)) => data.fd().as_fd().try_clone_to_owned(),
            _ => Err(io::Error::other(format!("the object has no array map {name}"))),
        };
        TABLES.iter().map(open).collect::<io::Result<_>>().map_err(XskError::Tables)
    }
}
