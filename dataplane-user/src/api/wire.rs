//! One message on a sequenced-packet socket, with file descriptors beside it or not.

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::{
    io::{
        self,
        ErrorKind::{ConnectionReset, Interrupted},
        IoSlice,
    },
    mem,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};
use thiserror::Error;

/// The longest request, in bytes. A socket's default send buffer holds it.
pub const REQUEST_MAX: usize = 128 * 1024;

/// The longest response, in bytes. The daemon makes its send buffers large enough for it; a Unix
/// socket's receive buffer bounds nothing.
pub const RESPONSE_MAX: usize = 1024 * 1024;

/// The most descriptors that can be beside a response.
pub const RESPONSE_FDS: usize = 8;

/// Control data with one descriptor. The kernel closes those that do not fit, so that a flood of
/// them fills nobody's table of descriptors.
type OneFd = [u64; 3];

/// Control data with as many descriptors as a response can have.
type ManyFds = [u64; 6];

// SAFETY: CMSG_SPACE only computes.
const _: () = assert!(size_of::<OneFd>() >= unsafe { libc::CMSG_SPACE(4) } as usize);
const _: () = assert!(
    // SAFETY: as above.
    size_of::<ManyFds>() >= unsafe { libc::CMSG_SPACE(4 * RESPONSE_FDS as u32) } as usize
);
const _: () = assert!(align_of::<u64>() >= align_of::<libc::cmsghdr>());

/// A message as it came.
#[derive(Debug)]
pub struct Message<'a> {
    /// What it says.
    pub bytes: &'a [u8],
    /// The descriptor beside it.
    pub fd: Option<OwnedFd>,
}

/// A response as it came.
#[derive(Debug)]
pub struct ResponseMessage<'a> {
    /// What it says.
    pub bytes: &'a [u8],
    /// The descriptors beside it.
    pub fds: Vec<OwnedFd>,
}

/// No message that can be used. After all but `Io` the socket is ready for the next one.
#[derive(Debug, Error)]
pub enum ReceiveError {
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is cut off.
    #[error("the message is longer than {0} bytes")]
    Long(usize),
    /// Only one can be used.
    #[error("more than one file descriptor is beside the message; send one with each")]
    ManyFds,
    /// The receiver's table of descriptors is full.
    #[error("the file descriptor beside the message was lost: too many are open here")]
    LostFd,
}

/// Sends one message.
pub fn send(
    socket: BorrowedFd<'_>,
    message: &[u8],
    fds: &[BorrowedFd<'_>],
    flags: MsgFlags,
) -> io::Result<()> {
    let parts = [IoSlice::new(message)];
    let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let rights: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
    sendmsg::<()>(socket.as_raw_fd(), &parts, rights, flags | MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives one message, as long as `buffer` at most. `None` when the other side has hung up.
pub fn receive<'a>(
    socket: BorrowedFd<'_>,
    buffer: &'a mut [u8],
) -> Result<Option<Message<'a>>, ReceiveError> {
    let (length, flags, mut fds) = receive_raw(socket, buffer, &mut OneFd::default())?;
    if length == 0 {
        return Ok(None);
    }
    if flags & libc::MSG_TRUNC != 0 {
        return Err(ReceiveError::Long(buffer.len()));
    }
    if fds.len() > 1 {
        return Err(ReceiveError::ManyFds);
    }
    if flags & libc::MSG_CTRUNC != 0 {
        return Err(ReceiveError::LostFd);
    }
    Ok(Some(Message { bytes: &buffer[..length], fd: fds.pop() }))
}

/// Receives one response, as long as `buffer` at most, with up to [`RESPONSE_FDS`] descriptors.
/// `None` when the other side has hung up.
pub fn receive_response<'a>(
    socket: BorrowedFd<'_>,
    buffer: &'a mut [u8],
) -> Result<Option<ResponseMessage<'a>>, ReceiveError> {
    let (length, flags, fds) = receive_raw(socket, buffer, &mut ManyFds::default())?;
    if length == 0 {
        return Ok(None);
    }
    if flags & libc::MSG_TRUNC != 0 {
        return Err(ReceiveError::Long(buffer.len()));
    }
    if flags & libc::MSG_CTRUNC != 0 {
        return Err(ReceiveError::LostFd);
    }
    Ok(Some(ResponseMessage { bytes: &buffer[..length], fds }))
}

/// recvmsg(2), with every descriptor that the kernel has installed. nix shows none of them when
/// control data was cut off, though some are there: they would stay open for ever.
fn receive_raw(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    control: &mut [u64],
) -> io::Result<(usize, i32, Vec<OwnedFd>)> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeroes are a valid msghdr.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(control);
    let length = loop {
        // SAFETY: the header leads to a part and control data that outlive the call, and gives
        // their lengths.
        let length =
            unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
        match usize::try_from(length) {
            Ok(length) => break length,
            Err(_) => match io::Error::last_os_error() {
                // A reset is reported once; what the other side said before comes after it.
                error if matches!(error.kind(), Interrupted | ConnectionReset) => {}
                error => return Err(error),
            },
        }
    };
    let mut fds = Vec::new();
    // SAFETY: the kernel has filled in the header and its control data.
    let mut place = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    while !place.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR lead to whole control messages in an aligned
        // buffer.
        let message = unsafe { &*place };
        if (message.cmsg_level, message.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: CMSG_LEN only computes.
            let head = unsafe { libc::CMSG_LEN(0) } as usize;
            for index in 0..(message.cmsg_len - head) / size_of::<RawFd>() {
                // SAFETY: the kernel has written so many descriptors, has just made them for us,
                // and nobody else has them.
                fds.push(unsafe {
                    let data = libc::CMSG_DATA(place).cast::<RawFd>();
                    OwnedFd::from_raw_fd(ptr::read_unaligned(data.add(index)))
                });
            }
        }
        // SAFETY: as above.
        place = unsafe { libc::CMSG_NXTHDR(&raw const header, place) };
    }
    Ok((length, header.msg_flags, fds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    use std::{fs::File, io::Read, os::fd::AsFd};

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SockFlag::SOCK_CLOEXEC;
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).expect("a socketpair")
    }

    fn send_fds(socket: &OwnedFd, message: &[u8], fds: &[RawFd]) {
        let rights = [ControlMessage::ScmRights(fds)];
        let parts = [IoSlice::new(message)];
        sendmsg::<()>(socket.as_raw_fd(), &parts, &rights, MsgFlags::empty(), None).expect("sent");
    }

    /// Whether all copies of a pipe's end were closed: its other end then reads the end.
    fn all_closed(reader: OwnedFd, writer: OwnedFd) -> bool {
        drop(writer);
        nix::sys::socket::setsockopt(
            &reader,
            nix::sys::socket::sockopt::ReceiveTimeout,
            &nix::sys::time::TimeVal::new(0, 100_000),
        )
        .expect("a timeout");
        let mut file = File::from(reader);
        matches!(file.read(&mut [0; 1]), Ok(0))
    }

    #[test]
    fn a_descriptor_travels_beside_a_message() {
        let (ours, theirs) = pair();
        let (far, near) = pair();
        send(ours.as_fd(), b"take", &[far.as_fd()], MsgFlags::empty()).expect("sent");
        let mut buffer = [0; 16];
        let message = receive(theirs.as_fd(), &mut buffer).expect("received").expect("a message");
        assert_eq!(message.bytes, b"take");
        send(message.fd.expect("it came").as_fd(), b"hello", &[], MsgFlags::empty()).expect("sent");
        let message = receive(near.as_fd(), &mut buffer).expect("received").expect("a message");
        assert!(message.bytes == b"hello" && message.fd.is_none(), "{message:?}");
    }

    #[test]
    fn several_descriptors_travel_beside_a_response_in_order() {
        let (ours, theirs) = pair();
        let ends: Vec<_> = (0..RESPONSE_FDS).map(|_| pair()).collect();
        let fds: Vec<_> = ends.iter().map(|(far, _)| far.as_fd()).collect();
        send(ours.as_fd(), b"take", &fds, MsgFlags::empty()).expect("sent");
        let mut buffer = [0; 16];
        let received = receive_response(theirs.as_fd(), &mut buffer).expect("received");
        let ResponseMessage { bytes, fds } = received.expect("a message");
        assert_eq!((bytes, fds.len()), (&b"take"[..], RESPONSE_FDS));
        for (number, (fd, (_, near))) in fds.iter().zip(&ends).enumerate() {
            send(fd.as_fd(), &[number as u8], &[], MsgFlags::empty()).expect("sent");
            let message = receive(near.as_fd(), &mut buffer).expect("received").expect("a message");
            assert_eq!(message.bytes, [number as u8]);
        }
        send_fds(&ours, b"flood", &[ours.as_raw_fd(); RESPONSE_FDS + 5]);
        let refused = receive_response(theirs.as_fd(), &mut buffer);
        assert!(matches!(refused, Err(ReceiveError::LostFd)), "{refused:?}");
    }

    #[test]
    fn a_flood_of_descriptors_is_refused_and_leaves_none_open() {
        for count in [2, 3, 9, 253] {
            let (ours, theirs) = pair();
            let (far, near) = pair();
            send_fds(&ours, b"flood", &vec![far.as_raw_fd(); count]);
            let mut buffer = [0; 16];
            let refused = receive(theirs.as_fd(), &mut buffer);
            assert!(matches!(refused, Err(ReceiveError::ManyFds)), "{refused:?}");
            assert!(all_closed(near, far), "{count}");
            send(ours.as_fd(), b"next", &[], MsgFlags::empty()).expect("sent");
            let next = receive(theirs.as_fd(), &mut buffer).expect("received").expect("a message");
            assert_eq!(next.bytes, b"next");
        }
    }

    #[test]
    fn a_message_that_is_too_long_leaves_no_descriptor_open() {
        let (ours, theirs) = pair();
        let (far, near) = pair();
        send_fds(&ours, &[b'x'; 17], &[far.as_raw_fd(); 2]);
        let refused = receive(theirs.as_fd(), &mut [0; 16]).map(drop);
        assert!(matches!(refused, Err(ReceiveError::Long(16))), "{refused:?}");
        assert!(all_closed(near, far));
    }

    #[test]
    fn a_message_without_a_byte_ends_the_connection_and_leaves_no_descriptor_open() {
        let (ours, theirs) = pair();
        let (far, near) = pair();
        send_fds(&ours, b"", &[far.as_raw_fd()]);
        assert!(receive(theirs.as_fd(), &mut [0; 16]).expect("received").is_none());
        assert!(all_closed(near, far));
    }
}
