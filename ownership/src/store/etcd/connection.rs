use super::{EtcdConfig, OpenError, trouble::Trouble};
use crate::store::Fault;
use etcd_client::{Channel, Client, ConnectOptions, GetResponse, KvClient, WatchClient};
use hyper_util::rt::TokioIo;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use thiserror::Error;
use tokio::net::TcpStream;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Uri};
use tower::service_fn;

const DEFAULT_PORT: u16 = 2379;

/// etcd lets clients ping no more often than every 5 s.
const PING: Duration = Duration::from_secs(6);

/// How long the answer to a ping may take.
const PONG: Duration = Duration::from_secs(3);

/// The most bytes of an answer: far more than any page of rows has.
const MAX_ANSWER: usize = 256 << 20;

/// The members, and what it takes to connect to one.
pub(super) struct Dialer {
    members: Vec<Endpoint>,
    options: ConnectOptions,
    within: Duration,
}

/// One connection to one member. It is never made anew: whoever needs another one has to look first
/// how old the store is that it leads to.
#[derive(Clone)]
pub(super) struct Connection {
    client: Client,
    is_left: Arc<AtomicBool>,
    is_secured: bool,
}

/// The connection is over, and the request was never sent.
#[derive(Clone, Copy, Debug, Error)]
#[error("the connection is over")]
pub(super) struct Over;

impl Dialer {
    pub(super) fn new(config: &EtcdConfig) -> Result<Self, OpenError> {
        if config.members.is_empty() {
            return Err(OpenError::NoMembers);
        }
        // A request to a member that knows no leader is turned away at once, a watch ended.
        let mut options =
            ConnectOptions::new().with_require_leader(true).with_auto_token_refresh(true);
        if let Some(user) = &config.user {
            options = options.with_user(&user.name, &user.password);
        }
        let members = config
            .members
            .iter()
            .map(|member| endpoint(member, config))
            .collect::<Result<_, _>>()?;
        // One member that does not answer leaves time for another.
        Ok(Self { members, options, within: config.deadline / 3 })
    }

    pub(super) fn members(&self) -> usize {
        self.members.len()
    }

    /// How long it may take to connect, and to be ready then.
    pub(super) fn within(&self) -> Duration {
        self.within
    }

    /// Connects to a member. `keeps_alive` lets a connection on which little is sent notice that the
    /// member is gone.
    pub(super) async fn dial(&self, at: usize, keeps_alive: bool) -> Result<Connection, Fault> {
        let member = &self.members[at % self.members.len()];
        let (host, port) = address(member.uri()).ok_or(Fault::Unreachable)?;
        let stream = TcpStream::connect((host, port)).await.map_err(|_| Fault::Unreachable)?;
        stream.set_nodelay(true).map_err(|_| Fault::Unreachable)?;
        let mut stream = Some(TokioIo::new(stream));
        let once = service_fn(move |_: Uri| std::future::ready(stream.take().ok_or(Over)));
        let mut member = member.clone();
        if keeps_alive {
            member = member.http2_keep_alive_interval(PING).keep_alive_timeout(PONG);
        }
        let is_secured = member.uri().scheme_str() == Some("https");
        let channel = member.connect_with_connector(once).await;
        let channel = channel.map_err(|_| Self::broken(is_secured))?;
        let options = Some(self.options.clone());
        let client = Client::from_channel(Channel::Tonic(channel), options).await;
        let client = client.map_err(|error| match Trouble::of(&error) {
            Trouble::Unsent | Trouble::Unknown => Self::broken(is_secured),
            trouble => trouble.of_read(),
        })?;
        Ok(Connection { client, is_left: Arc::default(), is_secured })
    }

    /// Why a connection broke before anything was answered. With TLS most likely because one side does
    /// not believe in the other's certificate; the client learns of that only afterwards.
    fn broken(is_secured: bool) -> Fault {
        if is_secured { Fault::Denied } else { Fault::Unreachable }
    }
}

impl Connection {
    pub(super) fn kv(&self) -> KvClient {
        self.client.kv_client().max_decoding_message_size(MAX_ANSWER)
    }

    pub(super) fn watch(&self) -> WatchClient {
        self.client.watch_client().max_decoding_message_size(MAX_ANSWER)
    }

    /// Asks a first question.
    pub(super) async fn first(&self, key: Vec<u8>) -> Result<GetResponse, Fault> {
        self.kv().get(key, None).await.map_err(|error| match Trouble::of(&error) {
            Trouble::Unsent | Trouble::Unknown => Dialer::broken(self.is_secured),
            trouble => trouble.of_read(),
        })
    }

    /// How many members vote.
    pub(super) async fn voters(&self) -> Result<usize, etcd_client::Error> {
        let list = self.client.cluster_client().member_list().await?;
        Ok(list.members().iter().filter(|member| !member.is_learner()).count())
    }

    /// Nothing more is to be sent on it; what is under way goes on.
    pub(super) fn leave(&self) {
        self.is_left.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_left(&self) -> bool {
        self.is_left.load(Ordering::Relaxed)
    }
}

fn endpoint(member: &str, config: &EtcdConfig) -> Result<Endpoint, OpenError> {
    let bad = || OpenError::BadMember(member.to_owned());
    let endpoint = Endpoint::from_shared(member.to_owned()).map_err(|_| bad())?;
    address(endpoint.uri()).ok_or_else(bad)?;
    // Not the scheme of `endpoint`: what is no URL at all has one too.
    match (member.split_once("://").map(|(scheme, _)| scheme), &config.tls) {
        (Some("http"), _) => Ok(endpoint),
        (Some("https"), Some(tls)) => {
            let mut client =
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&tls.authorities));
            if let Some((certificate, key)) = &tls.identity {
                client = client.identity(Identity::from_pem(certificate, key));
            }
            if let Some(name) = &tls.name {
                client = client.domain_name(name);
            }
            endpoint.tls_config(client).map_err(|error| {
                let why = std::error::Error::source(&error)
                    .map_or_else(|| error.to_string(), |source| source.to_string());
                OpenError::Tls { member: member.to_owned(), why }
            })
        }
        (Some("https"), None) => Err(OpenError::Tls {
            member: member.to_owned(),
            why: "no authority is configured".to_owned(),
        }),
        _ => Err(bad()),
    }
}

fn address(uri: &Uri) -> Option<(&str, u16)> {
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
    Some((host, uri.port_u16().unwrap_or(DEFAULT_PORT)))
}
