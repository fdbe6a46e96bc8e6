//! Held packets that are delivered here after all: the client's IP packets from a raw socket, through
//! the kernel's loopback to the selector, which admits them as it would have from a CPU's queue.
//!
//! Not through the program that sends markers: for every run on live frames the kernel makes a pool
//! of pages that it keeps for a second, and there are only so many.

use crate::checksum;
use nix::{
    errno::Errno,
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, sendto,
        socket,
    },
    unistd::Pid,
};
use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsRawFd, OwnedFd},
};

/// Sends clients' packets to this host.
#[derive(Debug)]
pub struct Deliverer {
    v4: OwnedFd,
    v6: OwnedFd,
}

impl Deliverer {
    /// Delivers in this thread's network namespace. Needs CAP_NET_RAW.
    pub fn new() -> io::Result<Self> {
        let raw = |family| {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            // Who sends to this protocol brings a whole IP packet along (raw(7)).
            socket(family, SockType::Raw, flags, SockProtocol::Raw)
        };
        Ok(Self { v4: raw(AddressFamily::Inet)?, v6: raw(AddressFamily::Inet6)? })
    }

    /// Delivers an IP packet to its own destination, on the CPU that this thread runs on. Whether
    /// there was room for it.
    ///
    /// # Errors
    /// When the kernel refuses it, as when its destination is no address of this host; and when the
    /// checksum of its IPv4 header is wrong, since the kernel would put a right one in its place.
    pub fn send(&self, packet: &[u8]) -> io::Result<bool> {
        let sent = match packet.first().map(|first| first >> 4) {
            Some(4) => {
                check_header(packet)?;
                let bytes: [u8; 4] = part(packet, 16)?;
                let to = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::from(bytes), 0));
                sendto(self.v4.as_raw_fd(), packet, &to, MsgFlags::empty())
            }
            _ => {
                let bytes: [u8; 16] = part(packet, 24)?;
                let to = SockaddrIn6::from(SocketAddrV6::new(Ipv6Addr::from(bytes), 0, 0, 0));
                sendto(self.v6.as_raw_fd(), packet, &to, MsgFlags::empty())
            }
        };
        match sent {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::ENOBUFS) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// The checksum of an IPv4 header.
fn check_header(packet: &[u8]) -> io::Result<()> {
    let length = packet.first().map_or(0, |first| usize::from(first & 0xf) * 4);
    match packet.get(..length) {
        Some(header) if checksum::fold(checksum::sum(header)) == 0xffff => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the IP header's checksum is wrong")),
    }
}

fn part<const N: usize>(packet: &[u8], at: usize) -> io::Result<[u8; N]> {
    let bytes = packet.get(at..at + N).and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// This thread on a CPU; back where it may run when this is dropped.
pub struct OnCpu(Option<CpuSet>);

impl OnCpu {
    /// Moves this thread to a CPU. Where it may not run there it stays where it is: what it delivers
    /// then reaches the right socket too, but is counted as processed on a wrong CPU.
    pub fn enter(cpu: u32) -> Self {
        let this = Pid::from_raw(0);
        let enter = || -> nix::Result<CpuSet> {
            let before = sched_getaffinity(this)?;
            let mut only = CpuSet::new();
            only.set(cpu as usize)?;
            sched_setaffinity(this, &only)?;
            Ok(before)
        };
        Self(enter().ok())
    }
}

impl Drop for OnCpu {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // It was there before.
            let _ = sched_setaffinity(Pid::from_raw(0), before);
        }
    }
}
