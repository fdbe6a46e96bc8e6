use super::Refusals;
use crate::{
    metrics::{Asked, Instruments},
    node::{Node, lock},
    runtime::{Answered, Runtime},
};
use dataplane_ebpf::marker::recognise;
use ownership::control::MESSAGE_LENGTH;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{net::UdpSocket, sync::Semaphore, task::JoinSet};

/// How many requests may be under way at once: enough for a store that answers within a tenth of a second and
/// ten thousand a second.
const AT_ONCE: usize = 1024;

/// Longer than any datagram that means something, so that longer ones are seen to be.
const LONGEST: usize = 2 * MESSAGE_LENGTH;

/// How long nothing is received after receiving failed.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a daemon that ends tries to tell of what was refused last.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Answers at the control ports. When this is dropped no more requests are taken; those that are under way are
/// answered still.
pub struct Serving {
    _tasks: JoinSet<()>,
    desk: Arc<Desk>,
}

/// A socket of a control port.
struct Port {
    /// The service's place in the configuration.
    service: usize,
    socket: UdpSocket,
}

/// What all sockets have in common.
struct Desk {
    runtime: Arc<Runtime>,
    node: Arc<Mutex<Node>>,
    instruments: Instruments,
    refusals: Refusals,
    places: Arc<Semaphore>,
}

impl Serving {
    pub(super) fn start(
        sockets: Vec<(usize, UdpSocket)>,
        runtime: &Arc<Runtime>,
        node: &Arc<Mutex<Node>>,
        instruments: &Instruments,
    ) -> Self {
        let desk = Arc::new(Desk {
            runtime: Arc::clone(runtime),
            node: Arc::clone(node),
            instruments: instruments.clone(),
            refusals: Refusals::default(),
            places: Arc::new(Semaphore::new(AT_ONCE)),
        });
        let mut tasks = JoinSet::new();
        for (service, socket) in sockets {
            let port = Arc::new(Port { service, socket });
            tasks.spawn(Arc::clone(&desk).answer_all(port));
        }
        let teller = Arc::clone(&desk);
        tasks.spawn(async move { teller.refusals.tell_all(&teller.runtime).await });
        Self { _tasks: tasks, desk }
    }

    /// Takes no more requests. Markers are acknowledged still: sessions may be on their way.
    pub fn close(&self) {
        self.desk.places.close();
    }

    /// Reads nothing more, and tells of what was refused and is not told of yet.
    pub async fn stop(self) {
        let Self { _tasks: tasks, desk } = self;
        drop(tasks);
        let told = desk.refusals.tell(&desk.runtime);
        if tokio::time::timeout(LAST_WORDS, told).await.is_err() {
            tracing::warn!("what was refused last is not in the audit log");
        }
    }
}

impl Desk {
    async fn answer_all(self: Arc<Self>, port: Arc<Port>) {
        let mut buffer = [0; LONGEST];
        loop {
            match port.socket.recv_from(&mut buffer).await {
                Ok((length, source)) => self.take(&port, &buffer[..length], source),
                Err(error) => {
                    tracing::warn!(%error, "receiving at a control port failed");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn take(self: &Arc<Self>, port: &Arc<Port>, datagram: &[u8], source: SocketAddr) {
        // All that came before it has been taken, and a session's requests wait for each other.
        if let Some(token) = recognise(datagram) {
            return lock(&self.node).acknowledge_token(token);
        }
        let Ok(request) = <[u8; MESSAGE_LENGTH]>::try_from(datagram) else {
            return self.instruments.asked(Asked::Unreadable);
        };
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return self.instruments.asked(Asked::Dropped);
        };
        let (desk, port) = (Arc::clone(self), Arc::clone(port));
        tokio::spawn(async move {
            desk.answer(&port, &request, source).await;
            drop(place);
        });
    }

    async fn answer(&self, port: &Port, request: &[u8; MESSAGE_LENGTH], source: SocketAddr) {
        let answered = self.runtime.answer(port.service, request, source).await;
        if let Some(refused) = answered.refused() {
            self.instruments.refused(refused.reason.name(), refused.class().name());
            self.refusals.add(refused);
            let (session, reason) = (refused.session, refused.reason);
            tracing::debug!(%session, %reason, %source, "a client's request was refused");
        }
        let asked = match answered {
            Answered::Reply(reply) => {
                // As long as the request, by their types: nobody is flooded by way of us.
                let message: &[u8; MESSAGE_LENGTH] = reply.message();
                match port.socket.send_to(message, source).await {
                    Ok(_) => Asked::Answered,
                    Err(error) => {
                        tracing::debug!(%source, %error, "an answer could not be sent");
                        Asked::Unsent
                    }
                }
            }
            Answered::Nothing(None) => Asked::Unreadable,
            Answered::Nothing(Some(_)) => Asked::Unanswerable,
        };
        self.instruments.asked(asked);
    }
}
