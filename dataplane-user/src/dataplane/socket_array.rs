//! The array of applications' sockets, as the daemon writes and reads it.

use super::bpf;
use aya::maps::MapData;
use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

/// The `SOCKETS` map. The kernel empties a row when its socket closes.
#[derive(Debug)]
pub struct SocketArray(MapData);

impl SocketArray {
    /// The array that is this map.
    pub fn new(map: MapData) -> Self {
        Self(map)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd().as_fd()
    }

    /// Whether a row holds a socket.
    pub fn has(&self, row: u32) -> io::Result<bool> {
        Ok(bpf::look_up(self.fd(), row)?.is_some())
    }

    /// Puts a socket into a row, instead of any other that is there. If the socket is in one of
    /// `siblings`, it is taken out of that: a socket is in one row at most.
    ///
    /// # Errors
    /// `EBUSY` when another array has the socket; and whatever else the kernel says.
    pub fn put(
        &self,
        row: u32,
        siblings: impl Iterator<Item = u32>,
        socket: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let cookie = cookie(socket)?;
        if bpf::look_up(self.fd(), row)? == Some(cookie) {
            return Ok(());
        }
        match self.set(row, socket) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                for sibling in siblings {
                    if bpf::look_up(self.fd(), sibling)? == Some(cookie) {
                        bpf::delete(self.fd(), sibling)?;
                        return self.set(row, socket);
                    }
                }
                Err(error)
            }
            result => result,
        }
    }

    fn set(&self, row: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        bpf::update(self.fd(), row, socket.as_raw_fd() as u64)
    }
}

/// What tells a socket from all others of this boot (Linux 4.12).
fn cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `cookie`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_COOKIE,
            (&raw mut cookie).cast(),
            &mut length,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}
