//! The echo application with Jumpgate: it hands a socket for every CPU to the daemon, and opens a
//! session there for every client that asks for one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use dataplane_ebpf::marker::Token;
use dataplane_user::api::{Client, ClientError};

use crate::echo::{Opened, Place, SessionId, Sessions, pin_to, serve, shared_socket};
use crate::netns::Namespace;

/// The application on one node. It stops when dropped.
#[derive(Debug)]
pub struct Gateway {
    stop: Arc<AtomicBool>,
    deaf: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

/// A service that the application serves.
#[derive(Clone, Debug)]
pub struct Serving {
    /// Its name.
    pub service: String,
    /// Its address and port.
    pub address: SocketAddr,
}

impl Gateway {
    /// Starts a thread for each service and CPU, and gives their sockets to the daemon that
    /// listens at `daemon`.
    pub fn start(
        namespace: &Namespace,
        node: &str,
        daemon: &Path,
        services: &[Serving],
        cpus: u16,
    ) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut gateway =
            Self { stop: Arc::clone(&stop), deaf: Arc::default(), threads: Vec::new() };
        for Serving { service, address } in services {
            for cpu in 0..cpus {
                let socket = namespace.run(|| shared_socket(*address))?;
                let mut client = Client::connect(daemon)?;
                client
                    .add_socket(service, false, cpu.into(), socket.as_fd())
                    .with_context(|| format!("handing over {service}'s socket of CPU {cpu}"))?;
                let place = Place { node: node.to_owned(), cpu };
                let sessions = Granted {
                    daemon: daemon.to_owned(),
                    client,
                    service: service.clone(),
                    cpu,
                    deaf: Arc::clone(&gateway.deaf),
                    owners: HashMap::new(),
                };
                let stop = Arc::clone(&stop);
                gateway.threads.push(namespace.spawn_thread(move || {
                    pin_to(cpu)?;
                    serve(&socket, &place, sessions, &stop)
                }));
            }
        }
        Ok(gateway)
    }

    /// Whether it acknowledges markers: it does unless told otherwise.
    pub fn acknowledge(&self, whether: bool) {
        self.deaf.store(!whether, Ordering::Relaxed);
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => eprintln!("gateway: {error:#}"),
                Err(_) => eprintln!("gateway: a thread panicked"),
            }
        }
    }
}

/// The sessions that the daemon has granted to one thread.
struct Granted {
    daemon: PathBuf,
    client: Client,
    service: String,
    cpu: u16,
    deaf: Arc<AtomicBool>,
    /// Their owners' epochs and their versions, and whether that is known to be so still.
    owners: HashMap<SessionId, ((u32, u64), bool)>,
}

impl Granted {
    /// Asks the daemon, or the next one if there is another by now.
    fn ask<T>(
        &mut self,
        what: impl Fn(&mut Client) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        match what(&mut self.client) {
            Err(ClientError::HungUp | ClientError::Io(_)) => {
                self.client = Client::connect(&self.daemon)?;
                what(&mut self.client)
            }
            result => result,
        }
    }
}

impl Sessions for Granted {
    fn open(&mut self, _random: &SessionId, _client: SocketAddr) -> Option<Opened> {
        // A refusal leaves the client without an answer; it asks again.
        let (service, cpu) = (self.service.clone(), self.cpu.into());
        let opened = self.ask(|client| client.open(&service, cpu)).ok()?;
        let session: ownership::SessionId = opened.session.parse().ok()?;
        let (session, owner) = (session.bytes(), (opened.epoch, opened.version));
        self.owners.insert(session, (owner, true));
        Some(Opened { session, owner })
    }

    fn owner(&mut self, session: &SessionId) -> Option<(u32, u64)> {
        let known = self.owners.get(session).copied();
        if let Some((owner, true)) = known {
            return Some(owner);
        }
        // It came from another node, or may have been away.
        let id = ownership::SessionId::new(*session).to_string();
        match self.ask(|client| client.session(&id)) {
            Ok(state) => {
                let owner = state.map(|state| (state.owner.1, state.version))?;
                self.owners.insert(*session, (owner, true));
                Some(owner)
            }
            // No daemon is there, so nothing has changed.
            Err(_) => known.map(|(owner, _)| owner),
        }
    }

    fn marker(&mut self, token: Token) {
        if self.deaf.load(Ordering::Relaxed) {
            return;
        }
        // Some sessions are about to leave, and may come back with another owner.
        for (_, is_current) in self.owners.values_mut() {
            *is_current = false;
        }
        // A marker that is not acknowledged comes again.
        if let Err(ClientError::HungUp | ClientError::Io(_)) = self.client.acknowledge(token)
            && let Ok(client) = Client::connect(&self.daemon)
        {
            self.client = client;
        }
    }
}
