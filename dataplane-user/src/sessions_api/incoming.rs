//! The connections that are taken, and a bound on them.

use super::allowed::Caller;
use crate::api::places::{Full, Place, Places};
use futures_util::stream::{self, Stream};
use std::{
    convert::Infallible,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};
use tonic::transport::server::Connected;

/// How long nothing is accepted after accepting failed: most often too many files are open.
const PAUSE: Duration = Duration::from_millis(100);

/// How often the log says that connections are refused or fail.
const COMPLAINTS: Duration = Duration::from_secs(10);

/// Whom all TCP connections count for.
const ELSEWHERE: i32 = -1;

/// What is listened at.
pub(super) trait Listener: Send + 'static {
    /// A connection.
    type Connection: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection, who made it, and the process that its place counts for.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Connection, Caller, i32)>> + Send;
}

impl Listener for UnixListener {
    type Connection = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Caller, i32)> {
        let (connection, _) = self.accept().await?;
        let peer = connection.peer_cred()?;
        Ok((connection, Caller::User(peer.uid()), peer.pid().unwrap_or(ELSEWHERE)))
    }
}

impl Listener for TcpListener {
    type Connection = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Caller, i32)> {
        let (connection, _) = self.accept().await?;
        connection.set_nodelay(true)?;
        Ok((connection, Caller::Certified, ELSEWHERE))
    }
}

/// A connection that has a place.
pub(super) struct Admitted<C> {
    connection: C,
    caller: Caller,
    _place: Place,
}

/// The connections of a listener, for ever; those that have no place are hung up on.
pub(super) fn connections<L: Listener>(
    listener: L,
) -> impl Stream<Item = Result<Admitted<L::Connection>, Infallible>> {
    let state = (listener, Places::default(), None);
    stream::unfold(state, |(listener, places, mut complained)| async move {
        loop {
            let failed = match listener.accept().await {
                Ok((connection, caller, process)) => match places.take(process) {
                    Ok(place) => {
                        let admitted = Admitted { connection, caller, _place: place };
                        return Some((Ok(admitted), (listener, places, complained)));
                    }
                    Err(full) => Failed::Full(full),
                },
                Err(error) => Failed::Accept(error),
            };
            complain(&failed, &mut complained);
            if let Failed::Accept(_) = failed {
                tokio::time::sleep(PAUSE).await;
            }
        }
    })
}

enum Failed {
    Full(Full),
    Accept(io::Error),
}

fn complain(failed: &Failed, last: &mut Option<Instant>) {
    if last.is_some_and(|at| at.elapsed() < COMPLAINTS) {
        return;
    }
    *last = Some(Instant::now());
    match failed {
        Failed::Full(why) => tracing::warn!("a connection to the Sessions API is refused: {why}"),
        Failed::Accept(error) => tracing::warn!("a connection to the Sessions API failed: {error}"),
    }
}

impl<C> Connected for Admitted<C> {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Admitted<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_read(context, buffer)
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Admitted<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }
}
