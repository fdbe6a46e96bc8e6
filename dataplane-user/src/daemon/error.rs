//! Why a daemon could not start.

use crate::{
    api::ServerError,
    cluster::{BeginError, OpenError},
    control_port::OpenError as OpenControlError,
    dataplane::{
        ClockError, LoadError, attach::AttachError, egress::EgressError, pinned::PinnedMapError,
        services::Clash,
    },
    metrics::ListenError,
    neighbours::UnknownInterface,
    node::StateError,
    runtime::PlaceError,
    secrets::SecretsError,
    sessions_api,
    takeover::LookError,
};
use ownership::store::Fault;
use std::io;
use thiserror::Error;

/// Why the daemon could not start.
///
/// Nothing is left in the kernel then but the links that it took over from an earlier daemon: they
/// go on forwarding.
#[derive(Debug, Error)]
pub enum StartError {
    /// About the node's state.
    #[error(transparent)]
    State(#[from] StateError),
    /// About the store.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// About the sessions of an earlier daemon.
    #[error("the sessions of the daemon before this one cannot be taken over")]
    Resume(#[source] Fault),
    /// About the cluster's secrets.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// About the node's epoch.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// About what an earlier daemon left.
    #[error(transparent)]
    Look(#[from] LookError),
    /// About the maps' pins.
    #[error(transparent)]
    Pins(#[from] PinnedMapError),
    /// Nothing can stay without pins.
    #[error("--stay needs pins: set pins.enabled = true, or leave it out")]
    StayWithoutPins,
    /// About links or nodes that changed.
    #[error("publishing links and nodes failed")]
    Publish(#[source] io::Error),
    /// About the boot's id.
    #[error("reading the id of this boot failed")]
    Boot(#[source] io::Error),
    /// About the kernel's interfaces, routes and neighbours.
    #[error("asking the kernel for its interfaces and routes failed")]
    Netlink(#[from] crate::neighbours::Error),
    /// No such interface.
    #[error(transparent)]
    Interface(#[from] UnknownInterface),
    /// An interface without Ethernet.
    #[error("interface {0} has no MAC address: the data plane works on Ethernet")]
    NoMac(String),
    /// About the programs.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// About an interface.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// About the fence at egress.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// About the services.
    #[error(transparent)]
    Services(#[from] Clash),
    /// About the placement.
    #[error(transparent)]
    Placement(#[from] PlaceError),
    /// About time.
    #[error("reading the kernel's clock failed")]
    Clock(#[from] ClockError),
    /// About the program's log.
    #[error("the program's log cannot be read")]
    Log(#[from] aya_log::Error),
    /// About the socket for metrics.
    #[error(transparent)]
    Metrics(#[from] ListenError),
    /// About the control ports.
    #[error(transparent)]
    ControlPort(#[from] OpenControlError),
    /// About the socket.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// About the Sessions API.
    #[error(transparent)]
    Sessions(#[from] sessions_api::ServerError),
}
