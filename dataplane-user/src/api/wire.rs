//! One message on a sequenced-packet socket, with a file descriptor beside it or not.

use nix::{
    cmsg_space,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg},
};
use std::{
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

/// The longest message, in bytes.
pub const MESSAGE_MAX: usize = 128 * 1024;

/// Sends one message.
pub fn send(socket: BorrowedFd<'_>, message: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let parts = [IoSlice::new(message)];
    let fds: Vec<RawFd> = fd.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let rights: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
    sendmsg::<()>(socket.as_raw_fd(), &parts, rights, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives one message and the first descriptor beside it; others are closed. `None` when the
/// other side has hung up.
pub fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut Vec<u8>,
) -> io::Result<Option<Option<OwnedFd>>> {
    buffer.resize(MESSAGE_MAX, 0);
    let mut rights = cmsg_space!([RawFd; 8]);
    let (length, flags, mut fds) = {
        let mut parts = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut rights), flags)?;
        let mut fds = Vec::new();
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = control {
                // SAFETY: the kernel has just made these descriptors for us, and nobody else has
                // them.
                fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        (message.bytes, message.flags, fds)
    };
    if length == 0 {
        return Ok(None);
    }
    if flags.contains(MsgFlags::MSG_TRUNC) {
        let error = format!("the message is longer than {MESSAGE_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, error));
    }
    buffer.truncate(length);
    let first = (!fds.is_empty()).then(|| fds.swap_remove(0));
    Ok(Some(first))
}
