//! Offload settings of an interface, as `ethtool -k` shows them.

use crate::neighbours::Interface;
use std::{io, net::UdpSocket, os::fd::AsRawFd};

/// Linux uapi, `linux/ethtool.h`: get transmit checksum offload.
const GET_TX_CHECKSUM: u32 = 0x16;
/// Linux uapi, `linux/ethtool.h`: get flags.
const GET_FLAGS: u32 = 0x25;
/// Linux uapi, `linux/ethtool.h`: large receive offload, one of those flags.
const FLAG_LRO: u32 = 1 << 15;

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Whether transmit checksums are left to the device.
pub(super) fn tx_checksum(interface: &Interface) -> io::Result<bool> {
    Ok(get(interface, GET_TX_CHECKSUM)? != 0)
}

/// Whether the device merges received packets.
pub(super) fn large_receive(interface: &Interface) -> io::Result<bool> {
    Ok(get(interface, GET_FLAGS)? & FLAG_LRO != 0)
}

/// Takes no privilege; concerns the calling thread's namespace.
fn get(interface: &Interface, command: u32) -> io::Result<u32> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let mut value = Value { command, data: 0 };
    // SAFETY: ifreq is plain data; all zeroes is a value of it.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the request holds a terminated name and points to a live ethtool_value, which is
    // what the commands above read and write.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value.data) }
}
