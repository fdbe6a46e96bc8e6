//! The daemon's configuration file, as far as tests write it.
//!
//! What is `None` or empty is left out of the file, so that the daemon's default holds.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Serialize, Serializer};

use crate::mounts::BPFFS;
use crate::topology::{Cluster, Node};

/// The whole file.
#[derive(Clone, Debug, Serialize)]
pub struct Config {
    /// The name of the node that the daemon runs on.
    pub node: String,
    /// What all nodes must agree on.
    pub cluster: ClusterSection,
    /// All nodes, this one included.
    pub nodes: Vec<NodeSection>,
    /// The links that the program is attached to.
    pub interfaces: Vec<Interface>,
    /// Where replies leave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<Egress>,
    /// When the kernel stops to deliver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
    /// The session table, and who processes its sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Sessions>,
    /// How much is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// What is steered.
    pub services: Vec<Service>,
    /// The Unix socket for applications and the CLI.
    pub api: Api,
    /// Where metrics are shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    /// What the daemon writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<Log>,
    /// Where applications open sessions.
    pub sessions_api: SessionsApi,
    /// Where maps and links are pinned.
    pub pins: Pins,
    /// What the daemon remembers.
    pub state: State,
    /// Where leases are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<Store>,
}

/// `[cluster]`
#[derive(Clone, Debug, Serialize)]
pub struct ClusterSection {
    /// The seed of the hash that slots and keys come from.
    pub hash_seed: u64,
    /// The file of secrets that all nodes have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secrets: Option<PathBuf>,
}

/// `[[nodes]]`
#[derive(Clone, Debug, Serialize)]
pub struct NodeSection {
    /// Its name.
    pub name: String,
    /// Its number in the data plane.
    pub index: u16,
    /// Its address on the underlay.
    pub address: IpAddr,
    /// Its share of the slots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// The only link of this node's on which its packets may arrive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

/// `[[interfaces]]`
#[derive(Clone, Debug, Serialize)]
pub struct Interface {
    /// The link's name.
    pub name: String,
    /// `native`, `skb` or `auto`.
    pub mode: &'static str,
}

/// `[egress]`
#[derive(Clone, Debug, Serialize)]
pub struct Egress {
    /// The interfaces that are fenced besides `interfaces`.
    pub interfaces: Vec<String>,
}

/// `[fence]`
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Fence {
    /// How long a node may act as owner without renewing.
    #[serde(serialize_with = "milliseconds")]
    pub lease: Duration,
    /// How often it renews.
    #[serde(serialize_with = "milliseconds")]
    pub renew: Duration,
    /// How much earlier than the lease the kernel stops.
    #[serde(serialize_with = "milliseconds")]
    pub margin: Duration,
}

/// `[sessions]`
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sessions {
    /// How many sessions the table holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u64>,
    /// The CPUs that process sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Vec<u32>>,
    /// The length of each CPU's queue, in packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<u32>,
}

/// `[hold]`
#[derive(Clone, Debug, Serialize)]
pub struct Hold {
    /// The size of the ring that packets come through, such as `64KiB`.
    pub ring: String,
    /// How much of one session is held.
    pub per_session: String,
}

/// `[[services]]`
#[derive(Clone, Debug, Serialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its VIP.
    pub address: IpAddr,
    /// Its UDP port.
    pub port: u16,
    /// The port for control messages of the native protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_port: Option<u16>,
    /// Who answers there: `daemon` or `application`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<&'static str>,
    /// How the wire id is found, such as `native`.
    pub protocol: &'static str,
    /// Length of the wire id in bytes, for protocols that do not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_length: Option<u8>,
    /// Where the wire id starts in the UDP payload, for `offset`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_offset: Option<u16>,
    /// Whether packets must come from the client that a session is bound to: `enforce` or `ignore`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binding: Option<&'static str>,
    /// How long two changes of a session's transport must be apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switch_cooldown: Option<&'static str>,
    /// What becomes of the sessions of a lost node: `deny`, `terminate` or `take_over`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_loss: Option<&'static str>,
    /// What happens to packets of no known session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<&'static str>,
    /// Session-opening packets a second from one source prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_rate: Option<u32>,
    /// How many of them may come at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_burst: Option<u32>,
    /// Packets a second to the control port from one source prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_rate: Option<u32>,
    /// How many of them may come at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_burst: Option<u32>,
    /// Lengths of server ids in bytes, by config id, for `quic-lb`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_id_length: Option<Vec<u8>>,
    /// The config id of new server ids, for `quic-lb`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_id: Option<u8>,
    /// How packets get to the application: `socket` or `af_xdp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliver: Option<&'static str>,
    /// The users who may open its sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<Vec<u32>>,
}

impl Service {
    /// A service of the native protocol.
    pub fn native(name: &str, address: IpAddr, port: u16) -> Self {
        Self {
            name: name.to_owned(),
            address,
            port,
            control_port: None,
            control: None,
            protocol: "native",
            id_length: None,
            id_offset: None,
            binding: None,
            switch_cooldown: None,
            on_loss: None,
            unknown: None,
            new_rate: None,
            new_burst: None,
            control_rate: None,
            control_burst: None,
            server_id_length: None,
            config_id: None,
            deliver: None,
            users: None,
        }
    }
}

/// `[api]`
#[derive(Clone, Debug, Serialize)]
pub struct Api {
    /// The path of the socket.
    pub socket: PathBuf,
    /// Its permissions, octal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
}

/// `[metrics]`
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Metrics {
    /// Where it listens.
    pub listen: SocketAddr,
}

/// `[log]`
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Log {
    /// How grave lines are at least.
    pub level: &'static str,
    /// `text` or `json`.
    pub format: &'static str,
}

/// `[sessions_api]`
#[derive(Clone, Debug, Serialize)]
pub struct SessionsApi {
    /// The path of the socket.
    pub socket: PathBuf,
    /// Its permissions, octal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Its group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<u32>,
    /// The address and port of a TCP socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// The file of its certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// The file of its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The file of who signs the clients' certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_authorities: Option<PathBuf>,
}

/// `[pins]`
#[derive(Clone, Debug, Serialize)]
pub struct Pins {
    /// A directory on a bpffs.
    pub path: PathBuf,
    /// Whether anything is pinned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// `[state]`
#[derive(Clone, Debug, Serialize)]
pub struct State {
    /// A directory.
    pub path: PathBuf,
}

/// `[store]` of kind "etcd".
#[derive(Clone, Debug, Serialize)]
pub struct Store {
    /// `"etcd"`.
    pub kind: &'static str,
    /// Its members.
    pub members: Vec<String>,
    /// Where sessions are kept: `own` or `shared`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<&'static str>,
}

impl Config {
    /// The configuration of a node in a test network: native XDP on all its links, its files in
    /// the network's scratch directory, its pins on its own bpffs.
    pub fn of(cluster: &Cluster, node: &Node, services: &[Service]) -> Self {
        let directory = cluster.scratch().join(node.name());
        let section = |node: &Node| NodeSection {
            name: node.name().to_owned(),
            // Indices start at 1: 0 is nobody.
            index: u16::from(node.index()) + 1,
            address: cluster.underlay_address(node),
            weight: None,
            interface: None,
        };
        Self {
            node: node.name().to_owned(),
            cluster: ClusterSection { hash_seed: 0x6a75_6d70_6761_7465, secrets: None },
            nodes: cluster.nodes().iter().map(section).collect(),
            interfaces: node
                .interfaces()
                .into_iter()
                .map(|name| Interface { name, mode: "native" })
                .collect(),
            egress: None,
            fence: None,
            sessions: None,
            hold: None,
            services: services.to_vec(),
            api: Api { socket: directory.join("api.sock"), mode: None },
            metrics: None,
            log: None,
            sessions_api: SessionsApi {
                socket: directory.join("sessions.sock"),
                mode: None,
                group: None,
                listen: None,
                certificate: None,
                key: None,
                client_authorities: None,
            },
            pins: Pins { path: format!("{BPFFS}/jumpgate").into(), enabled: None },
            state: State { path: directory.join("state") },
            store: None,
        }
    }

    /// The file's text.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).context("writing a configuration as TOML")
    }
}

fn milliseconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{}ms", time.as_millis()))
}

/// The placement with which a cluster of this configuration begins.
pub fn first_placement(config: &dataplane_user::config::Config) -> Result<ownership::Placement> {
    Ok(ownership::Placement::plan(&config.members(), ownership::Revision::FIRST)?)
}
