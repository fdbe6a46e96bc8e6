//! The echo application over AF_XDP: a port on every receive queue, and no socket.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dataplane_user::af_xdp::{Options, Port};
use dataplane_user::api::Client;

use crate::echo::{Opened, Place, SessionId, Sessions, answer};
use crate::netns::Namespace;

/// How often a thread looks whether it is to stop.
const TICK: Duration = Duration::from_millis(20);

const PATIENCE: Duration = Duration::from_secs(20);

/// The application on one node. It stops when dropped.
#[derive(Debug)]
pub struct XskGateway {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl XskGateway {
    /// Opens a port on each of the first queues of `eth0`, and answers what comes there from a
    /// thread of its own. Answers to packets that came through other nodes go where the kernel
    /// would send what is for one of `clients`.
    pub fn start(
        namespace: &Namespace,
        node: &str,
        daemon: &Path,
        queues: u32,
        clients: &[IpAddr],
    ) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut gateway = Self { stop: Arc::clone(&stop), threads: Vec::new() };
        let owners = Owners::default();
        for queue in 0..queues {
            let port = namespace.run(|| -> Result<Port> {
                let mut port = bind(&Options::new("eth0", queue))?;
                port.register(&mut Client::connect(daemon)?)?;
                for client in clients {
                    port.find_gateway(*client)?;
                }
                Ok(port)
            });
            let port = port.with_context(|| format!("opening a port on queue {queue}"))?;
            // A session may come by any queue, so none of them is its place.
            let place = Place { node: node.to_owned(), cpu: 0 };
            let (daemon, owners) = (daemon.to_owned(), owners.clone());
            let stop = Arc::clone(&stop);
            gateway
                .threads
                .push(namespace.spawn_thread(move || serve(port, &place, &daemon, owners, &stop)));
        }
        Ok(gateway)
    }
}

impl Drop for XskGateway {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => eprintln!("AF_XDP gateway: {error:#}"),
                Err(_) => eprintln!("AF_XDP gateway: a thread panicked"),
            }
        }
    }
}

/// Opens a port; waits for the kernel to free its queue, which takes long while other tests make and
/// remove devices.
pub fn bind(options: &Options) -> Result<Port> {
    let end = Instant::now() + PATIENCE;
    loop {
        match Port::bind(options) {
            Err(error) if error.is_busy() && Instant::now() < end => {}
            done => return Ok(done?),
        }
    }
}

fn serve(
    mut port: Port,
    place: &Place,
    daemon: &Path,
    owners: Owners,
    stop: &AtomicBool,
) -> Result<()> {
    let mut client = Client::connect(daemon)?;
    let names: HashMap<u16, String> =
        port.services().map(|(index, name)| (index, name.to_owned())).collect();
    while !stop.load(Ordering::Relaxed) {
        port.wait(TICK)?;
        port.receive(|datagram, sender| {
            let service = &names[&datagram.service()];
            let mut sessions = Granted { client: &mut client, service, owners: &owners };
            let answer = answer(datagram.payload(), datagram.client(), place, &mut sessions);
            if let Some(answer) = answer {
                // A refusal is counted, and the client asks again.
                let _ = sender.reply(datagram, &[&answer]);
            }
        })?;
    }
    Ok(())
}

/// The sessions of all threads.
#[derive(Clone, Debug, Default)]
struct Owners(Arc<Mutex<HashMap<SessionId, (u32, u64)>>>);

impl Owners {
    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, (u32, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Granted<'a> {
    client: &'a mut Client,
    service: &'a str,
    owners: &'a Owners,
}

impl Sessions for Granted<'_> {
    fn open(&mut self, _random: &SessionId, _client: SocketAddr) -> Option<Opened> {
        // A refusal leaves the client without an answer; it asks again.
        let opened = self.client.open(self.service, 0).ok()?;
        let session: ownership::SessionId = opened.session.parse().ok()?;
        let (session, owner) = (session.bytes(), (opened.epoch, opened.version));
        self.owners.lock().insert(session, owner);
        Some(Opened { session, owner })
    }

    fn owner(&mut self, session: &SessionId) -> Option<(u32, u64)> {
        self.owners.lock().get(session).copied()
    }
}
