//! Many clients in one thread.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::client::{Client, Counts};

/// How long a client waits for its session before it asks again.
const RETRY: Duration = Duration::from_millis(200);

/// A number of clients that are driven together, all in the calling thread.
#[derive(Debug, Default)]
pub struct Swarm {
    clients: Vec<Client>,
}

impl Swarm {
    /// A swarm of these clients.
    pub fn new(clients: Vec<Client>) -> Self {
        Self { clients }
    }

    /// Opens a session for every client that has none, asking again until the time is up.
    pub fn open(&mut self, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            let mut closed = 0;
            for client in self.clients.iter_mut().filter(|client| client.session().is_none()) {
                client.send_open().context("asking for a session")?;
                closed += 1;
            }
            if closed == 0 {
                return Ok(());
            }
            let now = Instant::now();
            ensure!(now < end, "{closed} clients got no session within {limit:?}");
            self.wait(RETRY.min(end - now), |client| client.session().is_some())?;
        }
    }

    /// Sends one data packet of every client.
    pub fn send(&mut self) {
        for client in &mut self.clients {
            client.send();
        }
    }

    /// Takes in answers until every packet is answered or the time is up; returns whether all are.
    pub fn settle(&mut self, limit: Duration) -> Result<bool> {
        self.wait(limit, |client| client.counts().unanswered() == 0)
    }

    /// Takes in answers for this long.
    pub fn receive_for(&mut self, time: Duration) -> Result<()> {
        self.wait(time, |_| false).map(drop)
    }

    /// Takes in answers until all clients satisfy `done` or the time is up.
    fn wait(&mut self, limit: Duration, done: impl Fn(&Client) -> bool) -> Result<bool> {
        let end = Instant::now() + limit;
        loop {
            if !self.clients.is_empty() && self.clients.iter().all(&done) {
                return Ok(true);
            }
            let left = end.saturating_duration_since(Instant::now());
            self.poll(left)?;
            if left.is_zero() {
                return Ok(self.clients.iter().all(&done));
            }
        }
    }

    /// Waits for the first packet and takes in all that have arrived by then.
    pub fn poll(&mut self, limit: Duration) -> Result<()> {
        let mut owners = Vec::with_capacity(self.clients.len());
        let mut sockets = Vec::with_capacity(self.clients.len());
        for (index, client) in self.clients.iter().enumerate() {
            for socket in client.sockets() {
                owners.push(index);
                sockets.push(PollFd::new(socket.as_fd(), PollFlags::POLLIN));
            }
        }
        // Rounded up, so that less than a millisecond does not become a busy loop.
        let limit =
            PollTimeout::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX);
        match poll(&mut sockets, limit) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error).context("waiting for answers"),
        }
        let ready: Vec<usize> = sockets
            .iter()
            .zip(&owners)
            .filter(|(socket, _)| socket.any() == Some(true))
            .map(|(_, &index)| index)
            .collect();
        for index in ready {
            self.clients[index].receive().context("receiving an answer")?;
        }
        Ok(())
    }

    /// The clients.
    pub fn clients(&self) -> &[Client] {
        &self.clients
    }

    /// The clients, to move some to another address.
    pub fn clients_mut(&mut self) -> &mut [Client] {
        &mut self.clients
    }

    /// What all of them have seen.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for client in &self.clients {
            counts += client.counts();
        }
        counts
    }
}
