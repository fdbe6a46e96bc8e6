//! Applications' sockets on their way to the selector.

use super::{Dataplane, memory::CPUS};
use aya::programs::{ProgramError, SkReuseport};
use nix::sys::socket::{
    SockType, SockaddrStorage, getpeername, getsockname, getsockopt,
    sockopt::{self, ReusePort},
};
use std::{
    io,
    net::SocketAddr,
    os::fd::{AsRawFd, BorrowedFd},
};
use thiserror::Error;

/// Why a socket could not be given to the selector.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Not one of the CPUs that process sessions.
    #[error("CPU {cpu} processes no sessions: `sessions.cpus` is {cpus:?}")]
    Cpu {
        /// The CPU.
        cpu: u32,
        /// The configured ones.
        cpus: Vec<u32>,
    },
    /// Not a socket that can serve this service.
    #[error(
        "the socket {found}; it must be a UDP socket with SO_REUSEPORT and without UDP_GRO, bound to {wanted}, unconnected"
    )]
    Unfit {
        /// What is wrong.
        found: String,
        /// The service's address and port.
        wanted: SocketAddr,
    },
    /// The kernel refused the selector.
    #[error("attaching the selector failed")]
    Attach(#[source] ProgramError),
    /// The kernel refused the socket.
    #[error(
        "the socket array refused the socket: it must be in no other array; after a restart of \
         the daemon try again once the sockets of all services were handed over"
    )]
    Map(#[source] io::Error),
    /// Anything else about the program.
    #[error(transparent)]
    Program(#[from] ProgramError),
}

impl SocketError {
    /// Whether the socket is still another array's, as that of an earlier daemon: the kernel frees
    /// it when the last selector that used it is replaced, a grace period later.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Map(error) if error.raw_os_error() == Some(libc::EBUSY))
    }
}

impl Dataplane {
    /// Gives the selector an application's socket for a CPU.
    ///
    /// It must be bound to `address`, a service's; one that the selector has already may be given
    /// again. Its group gets the selector first: a socket that
    /// the array then refuses receives nothing that is not this node's, rather than anything.
    pub fn add_socket(
        &mut self,
        service: u16,
        control: bool,
        cpu: u32,
        address: SocketAddr,
        socket: BorrowedFd<'_>,
    ) -> Result<(), SocketError> {
        if !self.options.cpus.contains(&cpu) {
            return Err(SocketError::Cpu { cpu, cpus: self.options.cpus.clone() });
        }
        check(socket, address).map_err(|found| SocketError::Unfit { found, wanted: address })?;
        let selector: &SkReuseport =
            self.ebpf.program("select").expect("in the object").try_into()?;
        selector.attach(socket).map_err(SocketError::Attach)?;
        let row = |cpu| (service as u32 * 2 + control as u32) * CPUS as u32 + cpu;
        let siblings = self.options.cpus.iter().map(|&cpu| row(cpu));
        self.sockets.put(row(cpu), siblings, socket).map_err(SocketError::Map)
    }

    /// The CPUs for which the selector has an open socket of a service.
    pub fn sockets(&self, service: u16, control: bool) -> io::Result<Vec<u32>> {
        let group = (service as u32 * 2 + control as u32) * CPUS as u32;
        let mut cpus = Vec::new();
        for &cpu in &self.options.cpus {
            if self.sockets.has(group + cpu)? {
                cpus.push(cpu);
            }
        }
        Ok(cpus)
    }
}

/// Whether a socket can serve an address, or what is wrong with it.
fn check(socket: BorrowedFd<'_>, address: SocketAddr) -> Result<(), String> {
    let kind =
        getsockopt(&socket, sockopt::SockType).map_err(|error| format!("is none: {error}"))?;
    if kind != SockType::Datagram {
        return Err(format!("is of type {kind:?}"));
    }
    if getsockopt(&socket, ReusePort) != Ok(true) {
        return Err("has no SO_REUSEPORT".to_owned());
    }
    if getpeername::<SockaddrStorage>(socket.as_raw_fd()).is_ok() {
        return Err("is connected".to_owned());
    }
    // One datagram to the selector and to the application would be many: of other sessions, and
    // markers among them.
    if getsockopt(&socket, sockopt::UdpGroSegment) == Ok(true) {
        return Err("has UDP_GRO".to_owned());
    }
    let bound = getsockname::<SockaddrStorage>(socket.as_raw_fd())
        .map_err(|error| format!("has no address: {error}"))?;
    let ip = match (bound.as_sockaddr_in(), bound.as_sockaddr_in6()) {
        (Some(v4), _) => SocketAddr::from((v4.ip(), v4.port())),
        (_, Some(v6)) => SocketAddr::from((v6.ip(), v6.port())),
        _ => return Err("is of another address family".to_owned()),
    };
    if ip != address { Err(format!("is bound to {ip}")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::setsockopt;
    use std::{net::UdpSocket, os::fd::AsFd};

    fn shared() -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        setsockopt(&socket, ReusePort, &true).unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    #[test]
    fn only_a_socket_of_the_service_fits() {
        let (socket, address) = shared();
        assert_eq!(check(socket.as_fd(), address), Ok(()));
        let other = SocketAddr::new(address.ip(), 1);
        assert_eq!(check(socket.as_fd(), other), Err(format!("is bound to {address}")));
        setsockopt(&socket, sockopt::UdpGroSegment, &true).unwrap();
        assert_eq!(check(socket.as_fd(), address), Err("has UDP_GRO".to_owned()));
        setsockopt(&socket, sockopt::UdpGroSegment, &false).unwrap();
        assert_eq!(check(socket.as_fd(), address), Ok(()));
        socket.connect(other).unwrap();
        assert_eq!(check(socket.as_fd(), address), Err("is connected".to_owned()));
        let alone = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = alone.local_addr().unwrap();
        assert_eq!(check(alone.as_fd(), address), Err("has no SO_REUSEPORT".to_owned()));
        let stream = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(check(stream.as_fd(), address), Err("is of type Stream".to_owned()));
    }
}
