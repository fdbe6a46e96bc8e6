use super::connection::Dialer;
use crate::store::{Fault, OlderStore};
use std::{fmt, time::Duration};
use thiserror::Error;

/// How an etcd cluster is reached, and how it is used.
#[derive(Clone, Debug)]
pub struct EtcdConfig {
    /// The members, as `http://HOST:PORT` or `https://HOST:PORT`; without a port, 2379. All of one
    /// cluster, and behind each the member itself: what spreads connections hides which member it is
    /// that does not answer.
    pub members: Vec<String>,
    /// What all keys begin with, so that a cluster can be shared.
    pub prefix: String,
    /// Who we are, if the cluster asks for a password.
    pub user: Option<User>,
    /// For members that are reached by `https`.
    pub tls: Option<Tls>,
    /// How long a request may take, connecting and going to another member included. What was sent
    /// and not answered by then is Unknown. Well under the lease.
    pub deadline: Duration,
    /// How often history is compacted away, up to what stood so long ago. `None` leaves it to etcd.
    pub compacts_every: Option<Duration>,
    /// For tests only: a cluster of one member loses all with that member.
    pub accepts_single_member: bool,
}

/// A user of etcd: needs a role that may read and write all keys that begin with the prefix.
#[derive(Clone)]
pub struct User {
    /// The name.
    pub name: String,
    /// The password.
    pub password: String,
}

/// TLS: who is believed to be a member, and who we are.
#[derive(Clone)]
pub struct Tls {
    /// Certificates in PEM of the authorities that sign those of members.
    pub authorities: Vec<u8>,
    /// Our own certificate and its key, both in PEM, if members ask for one.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// The name that members' certificates have, if not the host they are reached by.
    pub name: Option<String>,
}

impl EtcdConfig {
    /// Of these members, all else being as usual.
    pub fn new(members: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            members: members.into_iter().map(Into::into).collect(),
            prefix: "jumpgate/".to_owned(),
            user: None,
            tls: None,
            deadline: Duration::from_secs(2),
            compacts_every: Some(Duration::from_secs(10)),
            accepts_single_member: false,
        }
    }

    pub(super) fn dialer(&self) -> Result<Dialer, OpenError> {
        Dialer::new(self)
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why a store on etcd could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// There is nobody to connect to.
    #[error("opening etcd: no member is configured")]
    NoMembers,
    /// Something is no address of a member.
    #[error("opening etcd: `{0}` is no member: it must be http://HOST:PORT or https://HOST:PORT")]
    BadMember(String),
    /// A member is reached by TLS that is not configured, or not rightly.
    #[error("opening etcd: TLS to {member}: {why}; check its certificates")]
    Tls {
        /// The member.
        member: String,
        /// What is wrong.
        why: String,
    },
    /// The cluster has one member only.
    #[error(
        "opening etcd: the cluster has a single member, and all would be lost with it; \
         give it three"
    )]
    SingleMember,
    /// The store was restored from a backup, or is another one.
    #[error("opening etcd: {0}")]
    Older(#[from] OlderStore),
    /// It did not answer, or not with what was asked.
    #[error("opening etcd: {0}")]
    Unavailable(#[from] Fault),
}
