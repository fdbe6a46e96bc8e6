//! Whole frames put on a link by hand, as no stack would send them.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;

use crate::netns::Namespace;

/// A raw socket on a link; what is sent there arrives at the other end.
#[derive(Debug)]
pub struct Wire(OwnedFd);

impl Wire {
    /// Opens one in a namespace.
    pub fn open(namespace: &Namespace, link: &str) -> Result<Self> {
        namespace
            .run(|| packet_socket(if_nametoindex(link)?))
            .with_context(|| format!("opening {link} in {}", namespace.name()))
            .map(Self)
    }

    /// Sends a frame, from its Ethernet header on.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: the buffer is as long as the length says.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// The MAC address of a link.
pub fn mac(namespace: &Namespace, link: &str) -> Result<[u8; 6]> {
    let find = || {
        let addresses = getifaddrs().ok()?.filter(|entry| entry.interface_name == link);
        addresses.filter_map(|entry| entry.address?.as_link_addr()?.addr()).next()
    };
    namespace.run(find).with_context(|| format!("{link} in {} has no MAC", namespace.name()))
}

/// A socket that sends to one interface and receives nothing.
fn packet_socket(ifindex: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only. Protocol 0 receives nothing.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made the descriptor for us.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all zeroes are a valid address of this kind.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = ifindex as i32;
    let length = size_of::<libc::sockaddr_ll>() as u32;
    // SAFETY: the address is of the length given.
    let bound = unsafe { libc::bind(fd, (&raw const address).cast(), length) };
    if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}
