//! Offload settings of a link, as `ethtool -K` sets them.

use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, ensure};

use crate::netns::Namespace;

/// Linux uapi, `linux/ethtool.h`: set transmit checksum offload.
const SET_TX_CHECKSUM: u32 = 0x17;
/// Linux uapi, `linux/ethtool.h`: set generic receive offload.
const SET_GRO: u32 = 0x2c;

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

nix::ioctl_write_ptr_bad!(
    /// `SIOCETHTOOL`: `ifr_data` points to a command of `linux/ethtool.h`.
    ethtool,
    libc::SIOCETHTOOL,
    libc::ifreq
);

/// Turns a link's transmit checksum offload off: XDP code that rewrites a packet would otherwise
/// find a checksum that was never computed, and so would a socket behind a CPUMAP.
pub fn tx_checksum_off(namespace: &Namespace, link: &str) -> Result<()> {
    set(namespace, link, SET_TX_CHECKSUM, false)
        .with_context(|| format!("turning tx checksum offload off on {link}"))
}

/// Turns a link's generic receive offload on, which on a veth also turns NAPI on.
///
/// The link must be up already: set earlier it shows as on, but NAPI stays off (Linux 6.18).
pub fn gro_on(namespace: &Namespace, link: &str) -> Result<()> {
    set(namespace, link, SET_GRO, true).with_context(|| format!("turning GRO on on {link}"))
}

/// Turns it off: a veth without an XDP program then takes no frames from XDP at all.
pub fn gro_off(namespace: &Namespace, link: &str) -> Result<()> {
    set(namespace, link, SET_GRO, false).with_context(|| format!("turning GRO off on {link}"))
}

fn set(namespace: &Namespace, link: &str, command: u32, on: bool) -> Result<()> {
    let socket = namespace.run(|| UdpSocket::bind("[::]:0")).context("opening a socket")?;
    let mut value = Value { command, data: on.into() };
    // SAFETY: ifreq is plain data; all zeroes is a value of it.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    ensure!(link.len() < request.ifr_name.len(), "the name is too long for a link");
    for (to, from) in request.ifr_name.iter_mut().zip(link.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the request holds a terminated name and points to a live ethtool_value, which is
    // what both commands take.
    unsafe { ethtool(socket.as_raw_fd(), &request) }?;
    Ok(())
}
