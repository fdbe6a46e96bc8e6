use super::{
    connection::{Connection, Dialer},
    keys::Keys,
    standing::Standing,
    trouble::Trouble,
};
use crate::store::{Fault, Generation, Key, Row};
use etcd_client::{Error, GetResponse};
use std::{future::Future, sync::Arc};
use tokio::{
    sync::{Mutex, Semaphore},
    time::{Instant, timeout, timeout_at},
};

/// The most requests under way at once. Others wait, up to their deadline.
const REQUESTS: usize = 128;

/// A way to the cluster: a connection to one of its members, and to another one if that is no good.
pub(super) struct Link {
    shared: Arc<Shared>,
    keeps_alive: bool,
    current: Mutex<Current>,
    requests: Semaphore,
}

/// What all links of a store share.
pub(super) struct Shared {
    pub(super) dialer: Dialer,
    pub(super) keys: Keys,
    pub(super) standing: Standing,
}

#[derive(Default)]
struct Current {
    connection: Option<Connection>,
    next: usize,
}

impl Link {
    pub(super) fn new(shared: Arc<Shared>, keeps_alive: bool) -> Self {
        let current = Mutex::new(Current::default());
        Self { shared, keeps_alive, current, requests: Semaphore::new(REQUESTS) }
    }

    /// Sends a request that changes something: once, and to another member only if it was not taken.
    pub(super) async fn write<T, A>(
        &self,
        until: Instant,
        request: impl Fn(Connection) -> A + Send,
    ) -> Result<T, Trouble>
    where
        A: Future<Output = Result<T, Error>> + Send,
    {
        for _ in 0..self.shared.dialer.members() {
            match self.send(until, &request).await {
                Err(Trouble::Unsent | Trouble::NotTaken) => {}
                answer => return answer,
            }
        }
        Err(Trouble::NotDone(Fault::Unreachable))
    }

    /// Sends a request that changes nothing, to every member in turn if need be.
    pub(super) async fn read<T, A>(
        &self,
        until: Instant,
        request: impl Fn(Connection) -> A + Send,
    ) -> Result<T, Fault>
    where
        A: Future<Output = Result<T, Error>> + Send,
    {
        let members = self.shared.dialer.members();
        for left in (1..=members).rev() {
            let share = until.saturating_duration_since(Instant::now()) / left as u32;
            match self.send(Instant::now() + share, &request).await {
                Ok(answer) => return Ok(answer),
                Err(trouble) if trouble.is_of_the_member() => {}
                Err(trouble) => return Err(trouble.of_read()),
            }
        }
        Err(Fault::Unreachable)
    }

    async fn send<T, A>(
        &self,
        until: Instant,
        request: &(impl Fn(Connection) -> A + Send),
    ) -> Result<T, Trouble>
    where
        A: Future<Output = Result<T, Error>> + Send,
    {
        let Ok(Ok(_permit)) = timeout_at(until, self.requests.acquire()).await else {
            return Err(Trouble::NotDone(Fault::Overloaded));
        };
        let connection = self.connection(until).await.map_err(Trouble::NotDone)?;
        if Instant::now() >= until {
            return Err(Trouble::NotDone(Fault::Overloaded));
        }
        let trouble = match timeout_at(until, request(connection.clone())).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => Trouble::of(&error),
            Err(_late) => Trouble::Unknown,
        };
        if trouble.is_of_the_member() {
            connection.leave();
        }
        Err(trouble)
    }

    /// A connection that is good as far as is known.
    pub(super) async fn connection(&self, until: Instant) -> Result<Connection, Fault> {
        timeout_at(until, async {
            let mut current = self.current.lock().await;
            if let Some(connection) = current.connection.as_ref().filter(|one| !one.is_left()) {
                return Ok(connection.clone());
            }
            let mut fault = Fault::Unreachable;
            for _ in 0..self.shared.dialer.members() {
                let at = current.next;
                current.next = current.next.wrapping_add(1);
                let connect = timeout(self.shared.dialer.within(), self.connect(at));
                match connect.await.unwrap_or(Err(Fault::Unreachable)) {
                    Ok(connection) => {
                        current.connection = Some(connection.clone());
                        return Ok(connection);
                    }
                    Err(Fault::Unreachable) => {}
                    // Another member may let us in.
                    Err(Fault::Denied) => fault = Fault::Denied,
                    Err(fault) => return Err(fault),
                }
            }
            Err(fault)
        })
        .await
        .unwrap_or(Err(Fault::Unreachable))
    }

    /// Connects, and sees to it that the store is none that is older than what was seen.
    async fn connect(&self, at: usize) -> Result<Connection, Fault> {
        let Shared { dialer, keys, standing } = &*self.shared;
        let asked = standing.asks()?;
        let connection = dialer.dial(at, self.keeps_alive).await?;
        let answer = connection.first(keys.of(&Key::Generation)).await?;
        let generation = generation(&answer)?;
        standing
            .stands(asked, generation.unwrap_or(Generation(0)), answer.header())
            .map_err(|_| Fault::Older)?;
        Ok(connection)
    }
}

/// The generation that was read, if there is one. One of another schema is none of ours.
pub(super) fn generation(answer: &GetResponse) -> Result<Option<Generation>, Fault> {
    let Some(found) = answer.kvs().first() else { return Ok(None) };
    match Row::from_bytes(&Key::Generation, found.value()) {
        Ok(Row::Generation(generation)) => Ok(Some(generation)),
        Ok(_) | Err(_) => Err(Fault::Corrupt),
    }
}
