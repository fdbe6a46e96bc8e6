//! A node with a daemon, and an application that talks to it.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dataplane_user::sessions_api::proto::{Reason, State};
use dataplane_user::sessions_api::{Attachment, Client, ClientError, Notice, Session};
use jumpgate_tests::address::Family;
use jumpgate_tests::config::{Config, Service, Sessions};
use jumpgate_tests::daemon::Daemon;
use jumpgate_tests::topology::Cluster;
use ownership::SessionId;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The services of the node: two of the native protocol.
pub const GAME: &str = "game";
/// The other one.
pub const CHAT: &str = "chat";

/// A node and its daemon.
pub struct Scene {
    pub daemon: Daemon,
    pub network: Cluster,
    pub config: Config,
}

impl Scene {
    pub fn new() -> Result<Self> {
        Self::with(|_| {})
    }

    /// A scene whose configuration was changed.
    pub fn with(change: impl FnOnce(&mut Config)) -> Result<Self> {
        let network = Cluster::builder().nodes(1).build()?;
        let node = &network.nodes()[0];
        let address = network.vip(Family::V4);
        let services =
            [(GAME, 7000), (CHAT, 7100)].map(|(name, port)| Service::native(name, address, port));
        let mut config = Config::of(&network, node, &services);
        config.sessions =
            Some(Sessions { capacity: Some(10_000), cpus: Some(vec![0, 1]), queue: None });
        change(&mut config);
        let daemon = Daemon::start(&network, node, &config)?;
        Ok(Self { daemon, network, config })
    }

    pub async fn client(&self) -> Result<Client> {
        Ok(Client::connect(self.daemon.sessions_socket()).await?)
    }

    /// Ends the daemon as `--stay` does, and starts the next one.
    pub fn restart(&mut self) -> Result<()> {
        self.daemon.kill()?;
        self.daemon = Daemon::start(&self.network, &self.network.nodes()[0], &self.config)?;
        Ok(())
    }
}

/// Runs an application.
pub fn block<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// A client's address.
pub fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 200, 0, 7], port))
}

/// That a call was refused for this reason.
pub fn refused<T: std::fmt::Debug>(
    called: Result<T, ClientError>,
    expected: Reason,
) -> Result<String> {
    match called {
        Err(ClientError::Refused { reason, message, .. }) if reason == expected => Ok(message),
        other => anyhow::bail!("{expected:?} was expected: {other:?}"),
    }
}

/// Waits until a session is in a state.
pub async fn reaches(client: &Client, session: SessionId, state: State) -> Result<Session> {
    let reached = async {
        loop {
            let stands = client.get(session).await?;
            if stands.state == state {
                return Ok(stands);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let reached = tokio::time::timeout(PATIENCE, reached).await;
    reached.with_context(|| format!("session {session} does not come to be {state:?}"))?
}

/// What is told next.
pub async fn told(attachment: &mut Attachment) -> Result<Notice> {
    let told =
        tokio::time::timeout(PATIENCE, attachment.next()).await.context("nothing is told")?;
    told?.context("the stream is over")
}

/// That nothing is told for a while.
pub async fn silence(attachment: &mut Attachment) -> Result<()> {
    let told = tokio::time::timeout(Duration::from_millis(300), attachment.next()).await;
    ensure!(told.is_err(), "{told:?}");
    Ok(())
}
