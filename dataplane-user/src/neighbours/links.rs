//! The kernel's notifications that interfaces came, went or changed.

use std::io;

use rtnetlink::MulticastGroup;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use tokio::time::sleep;

use super::{DEBOUNCE, Error};

/// A subscription to changes of interfaces, in the namespace of the thread that opened it. As for
/// next hops, a notification only says that one has to look.
pub struct LinkChanges {
    socket: TokioSocket,
    buffer: Vec<u8>,
}

impl LinkChanges {
    /// Subscribes.
    ///
    /// # Errors
    /// When netlink is not to be had.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time.
    pub fn open() -> Result<Self, Error> {
        let open = || {
            let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
            let inner = socket.socket_mut();
            inner.bind(&SocketAddr::new(0, 1 << (MulticastGroup::Link as u32 - 1)))?;
            Ok(socket)
        };
        let socket = open().map_err(Error::Open)?;
        Ok(Self { socket, buffer: Vec::with_capacity(4096) })
    }

    /// Waits until something changed, and a moment longer for what comes with it.
    ///
    /// # Errors
    /// When netlink fails.
    pub async fn changed(&mut self) -> Result<(), Error> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer).await {
                Ok(_) => break,
                // Notifications were lost: something changed.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Events(error)),
            }
        }
        sleep(DEBOUNCE).await;
        Ok(())
    }
}
