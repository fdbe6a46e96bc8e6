//! What a host's kernel knows of the MTU on the way to another.

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};

use crate::netns::Namespace;

/// Lets the kernel refuse (EMSGSIZE) what it knows to be longer than the path's MTU, and never
/// fragment.
pub fn never_fragment(socket: &UdpSocket) -> io::Result<()> {
    let (level, name) = match socket.local_addr()?.ip() {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
    };
    // The same number in both families.
    let value = libc::IP_PMTUDISC_DO;
    // SAFETY: the option takes an int, and gets a pointer to one with its size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            mem::size_of_val(&value) as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The MTU of the path that a connected socket sends on, as its kernel knows it.
pub fn of_socket(socket: &UdpSocket) -> io::Result<u32> {
    let (level, name) = match socket.local_addr()?.ip() {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU),
    };
    let mut value: libc::c_int = 0;
    let mut length = mem::size_of_val(&value) as libc::socklen_t;
    // SAFETY: the option gives an int, for which there is room, as the length says.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut length)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value as u32) }
}

/// The MTU of the path from an address of `namespace` to another host.
pub fn known(namespace: &Namespace, from: IpAddr, to: SocketAddr) -> Result<u32> {
    let ask = || -> io::Result<u32> {
        let socket = UdpSocket::bind((from, 0))?;
        socket.connect(to)?;
        of_socket(&socket)
    };
    namespace
        .run(ask)
        .with_context(|| format!("asking {} for the MTU on the way to {to}", namespace.name()))
}
