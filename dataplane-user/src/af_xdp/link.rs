//! The interface that a port is on.

use nix::{
    net::if_::if_nametoindex,
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};
use std::{ffi::CString, io, mem, os::fd::AsRawFd};

/// An interface of this thread's network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) ifindex: u32,
    /// In bytes, from the IP header on.
    pub(super) mtu: usize,
}

impl Link {
    pub(super) fn named(name: &str) -> io::Result<Self> {
        Ok(Self { ifindex: if_nametoindex(name)?, mtu: mtu(name)? })
    }
}

/// Asks the kernel for an MTU (SIOCGIFMTU, see netdevice(7)).
fn mtu(name: &str) -> io::Result<usize> {
    let any = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: all zeroes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    let name = CString::new(name)?;
    let bytes = name.as_bytes_with_nul();
    if bytes.len() > request.ifr_name.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    for (place, &byte) in request.ifr_name.iter_mut().zip(bytes) {
        *place = byte.cast_signed();
    }
    // SAFETY: SIOCGIFMTU reads the name, which ends with a zero, and writes the MTU.
    if unsafe { libc::ioctl(any.as_raw_fd(), libc::SIOCGIFMTU, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has written this field.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    usize::try_from(mtu).map_err(io::Error::other)
}
