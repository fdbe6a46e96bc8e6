use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket,
    sockopt::{IpFreebind, Ipv6V6Only, RcvBufForce, ReusePort},
};
use std::{
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd,
};
use thiserror::Error;

/// How much waits in a socket: some thousand requests.
const BUFFER: usize = 1 << 20;

/// Why a control port cannot be answered at.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The port cannot be had.
    #[error(
        "the control port {address} of service {service:?} cannot be had; if an application is to answer there, \
         set `control = \"application\"`"
    )]
    Bind {
        /// The service.
        service: String,
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The selector does not take a socket.
    #[error("a socket for the control port of service {service:?} was refused: {why}")]
    Refused {
        /// The service.
        service: String,
        /// Why.
        why: String,
    },
}

/// A socket of one CPU, which shares its port with the others.
pub fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Datagram, flags, None)?;
    setsockopt(&socket, ReusePort, &true)?;
    setsockopt(&socket, RcvBufForce, &BUFFER)?;
    if address.is_ipv6() {
        setsockopt(&socket, Ipv6V6Only, &true)?;
    }
    // The VIP may come to this host later than the daemon.
    setsockopt(&socket, IpFreebind, &true)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_share_a_port_and_an_address_may_be_nobodys_yet() {
        for vip in ["198.51.100.7:0", "[2001:db8::7]:0"] {
            let first = match open(vip.parse().expect("an address")) {
                // RcvBufForce needs CAP_NET_ADMIN.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return,
                opened => opened.expect("opened"),
            };
            let address = first.local_addr().expect("bound");
            assert_eq!(open(address).expect("shared").local_addr().expect("bound"), address);
        }
    }
}
