//! The HTTP side: bounded in connections, in what a request may be, and in time.

use super::answer::{Answer, Source};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, header::CONTENT_TYPE,
    server::conn::http1, service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Mutex,
    task::JoinSet,
    time::timeout,
};

/// How many connections are served at once; others wait in the kernel's queue.
const CONNECTIONS: usize = 16;

/// How many headers a request may have.
const HEADERS: usize = 32;

/// How many bytes of a request are read at most: the least that hyper takes.
const REQUEST: usize = 8192;

/// How long a request may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(5);

/// How long a connection may take in all.
const WHOLE: Duration = Duration::from_secs(20);

/// How long nothing is accepted after accepting failed: most often too many files are open.
const PAUSE: Duration = Duration::from_millis(100);

/// Nothing can listen there.
#[derive(Debug, Error)]
#[error(
    "listening at {address} for metrics failed; set metrics.listen to an address and port of this host"
)]
pub struct ListenError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// A socket that listens; whoever connects waits.
#[derive(Debug)]
pub struct Listener(TcpListener);

impl Listener {
    /// Listens, in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// If the kernel refuses it.
    pub async fn bind(address: SocketAddr) -> Result<Self, ListenError> {
        let bound = TcpListener::bind(address).await;
        bound.map(Self).map_err(|source| ListenError { address, source })
    }

    /// Answers, until the result is dropped.
    pub fn serve(self, source: Source) -> Endpoint {
        let mut task = JoinSet::new();
        task.spawn(accept_all(self.0, source));
        Endpoint { _task: task }
    }
}

/// What answers. When it is dropped, so are its connections.
#[derive(Debug)]
pub struct Endpoint {
    _task: JoinSet<()>,
}

async fn accept_all(listener: TcpListener, source: Source) {
    let shared = Arc::new(Shared { source, one: Arc::default() });
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    let shared = Arc::clone(&shared);
                    connections.spawn(async move {
                        // Too slow, or broken: whoever asked knows.
                        let _ = timeout(WHOLE, serve(stream, shared)).await;
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection to the metrics failed");
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
}

struct Shared {
    source: Source,
    /// One answer at a time is made.
    one: Arc<Mutex<()>>,
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) -> Result<(), hyper::Error> {
    let service = service_fn(|request| respond(request, Arc::clone(&shared)));
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ARRIVAL)
        .max_headers(HEADERS)
        .max_buf_size(REQUEST)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn respond(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    // hyper leaves the body of an answer to HEAD out.
    let answer = match *request.method() {
        Method::GET | Method::HEAD => {
            let path = request.uri().path().to_owned();
            let one = Arc::clone(&shared.one).lock_owned().await;
            // The node's lock may take a moment, and the lease is renewed on this thread.
            let made = tokio::task::spawn_blocking(move || {
                let _one = one;
                shared.source.answer(&path)
            });
            made.await.unwrap_or_else(|_| Answer::text(500, "the daemon is ending"))
        }
        _ => Answer::text(405, "only GET and HEAD"),
    };
    let Answer { status, content_type, body } = answer;
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = StatusCode::from_u16(status).expect("one of ours");
    let content_type = content_type.parse().expect("one of ours");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    Ok(response)
}
