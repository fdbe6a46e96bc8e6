use super::connection::Over;
use crate::store::Fault;
use etcd_client::Error;
use tonic::{Code, Status};

/// What is known of a request that has no proper answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It was never sent, for the connection was over.
    Unsent,
    /// The member turned it away before anything else, since it knows no leader. Another one may take it.
    NotTaken,
    /// It was turned away before anything else.
    NotDone(Fault),
    /// etcd has no space. It was done or it was not, and that is over: etcd says so of what its
    /// quota kept out, and of the last one that it let in as well.
    Full,
    /// It may have been done, or be done later.
    Unknown,
}

impl Trouble {
    /// What an error says. By etcd's own words (`rpctypes/error.go`), since several of them share a
    /// code; what is not known here may be anything.
    pub(super) fn of(error: &Error) -> Self {
        match error {
            Error::GRpcStatus(status) => Self::of_status(status),
            _ => Self::Unknown,
        }
    }

    fn of_status(status: &Status) -> Self {
        if is_caused_by_over(status) {
            return Self::Unsent;
        }
        match status.message() {
            // Asked before a proposal is made (`require_leader`, learners), or when making it.
            "etcdserver: no leader"
            | "etcdserver: rpc not supported for learner"
            | "raft proposal dropped" => Self::NotTaken,
            "etcdserver: too many requests" => Self::NotDone(Fault::Overloaded),
            "etcdserver: request is too large"
            | "etcdserver: too many operations in txn request" => Self::NotDone(Fault::TooLarge),
            "etcdserver: mvcc: database space exceeded" => Self::Full,
            "etcdserver: corrupt cluster" => Self::NotDone(Fault::Corrupt),
            "etcdserver: authentication failed, invalid user ID or password"
            | "etcdserver: user name is empty"
            | "etcdserver: invalid auth token"
            | "etcdserver: permission denied" => Self::NotDone(Fault::Denied),
            message => match status.code() {
                Code::ResourceExhausted
                    if message.starts_with("grpc: received message larger than max") =>
                {
                    Self::NotDone(Fault::TooLarge)
                }
                _ => Self::Unknown,
            },
        }
    }

    /// Whether it is better to go on with another member.
    pub(super) fn is_of_the_member(self) -> bool {
        match self {
            Self::Unsent | Self::NotTaken | Self::Unknown => true,
            Self::NotDone(_) | Self::Full => false,
        }
    }

    /// The same of a request that changes nothing.
    pub(super) fn of_read(self) -> Fault {
        match self {
            Self::Unsent | Self::NotTaken | Self::Unknown => Fault::Unreachable,
            Self::NotDone(fault) => fault,
            Self::Full => Fault::Full,
        }
    }
}

fn is_caused_by_over(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<Over>() {
            return true;
        }
        cause = error.source();
    }
    false
}
