//! The configuration file: TOML, read whole, checked whole, never guessed at.
//!
//! Unknown keys are refused, with their line, their column and the key that was probably meant. All
//! problems of a file are reported at once. `docs/jumpgate.toml` shows every key.

mod change;
mod check;
mod convert;
mod cpus;
mod document;
mod error;
mod hint;
mod limits;
mod policy;
mod protocol;
mod schema;
mod sections;
mod sessions_api;
mod store;
#[cfg(test)]
mod tests;

pub use change::{Changes, Fixed};
pub use cpus::online as online_cpus;
pub use error::{ConfigError, Problem};
pub use sessions_api::{Account, MutualTls, SessionsApi};
pub use store::{EtcdStore, Store, Tls};

use crate::dataplane::{attach::Mode, services};
use document::Document;
use ownership::{NodeIndex, drain::LeftOver, model::Policy, placement::Member, takeover::OnLoss};
use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

/// The longest list of `[[interfaces]]`.
pub const INTERFACES_MAX: usize = dataplane_ebpf::node::NODE_INTERFACES;

/// The longest list of `[[services]]`.
pub const SERVICES_MAX: usize = dataplane_ebpf::service::SERVICES - 1;

/// The highest CPU that can process sessions.
pub const CPU_MAX: u32 = crate::dataplane::memory::CPUS as u32 - 1;

/// A node's configuration.
///
/// The sections `[cluster]`, `[[nodes]]` and `[[services]]` are the same in the files
/// of all nodes; the rest is a node's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `node`: the name of this node, one of those in `[[nodes]]`. Required, and the only key above
    /// the first section.
    pub node: String,
    /// `[cluster]`
    pub cluster: Cluster,
    /// `[[nodes]]`: all nodes of the cluster, this one included.
    pub nodes: Vec<Node>,
    /// `[[interfaces]]`: 1 to 6.
    pub interfaces: Vec<Interface>,
    /// `[egress]`
    pub egress: Egress,
    /// `[fence]`
    pub fence: Fence,
    /// `[sessions]`
    pub sessions: Sessions,
    /// `[[services]]`: 0 to 63. Their index in counters is their place in the file, from 1 on.
    pub services: Vec<Service>,
    /// `[hold]`
    pub hold: Hold,
    /// `[drain]`
    pub drain: Drain,
    /// `[api]`
    pub api: Api,
    /// `[metrics]`
    pub metrics: Metrics,
    /// `[log]`
    pub log: Log,
    /// `[sessions_api]`
    pub sessions_api: SessionsApi,
    /// `[pins]`
    pub pins: Pins,
    /// `[state]`
    pub state: State,
    /// `[store]`
    pub store: Store,
}

/// `[cluster]`: what all nodes must agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// `hash_seed`: 16 hexadecimal digits, or an integer from 0 to 2^64 - 1. Required. The seed of
    /// the hash that balances sessions over slots; draw it once with `openssl rand -hex 8` and never
    /// change it while sessions live.
    pub hash_seed: u64,
    /// `secrets`: an absolute path; default `<state.path>/secrets`. The secrets that clients' keys follow from: the
    /// same file on every node, which nobody else can read (see `docs/control-protocol.md`).
    pub secrets: PathBuf,
}

/// `[[nodes]]`: a node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// `name`: 1 to 63 letters, digits, `-`, `_` or `.`, the first one a letter or digit. Required.
    /// The node's slots follow from its name and weight: one that is renamed gets other slots.
    pub name: String,
    /// `index`: 1 to 4095. Required. Its number in the data plane; never give the number of a lost
    /// node to another one while packets of it may be on the way.
    pub index: NodeIndex,
    /// `address`: IPv4 or IPv6. Required. Where other nodes send the packets that they forward
    /// (to UDP port 7471); one family for all nodes.
    pub address: IpAddr,
    /// `weight`: 0 to 1,000,000; default 100. Its share of the slots relative to the other nodes'
    /// weights; a node with 0 owns none.
    pub weight: u32,
    /// `interface`: one of `[[interfaces]]`; default any of them. The only interface on which
    /// packets forwarded by that node may arrive here. Has no effect on the node's own entry.
    pub interface: Option<String>,
}

/// `[[interfaces]]`: an interface that the program is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// `name`: as `ip link` shows it, at most 15 bytes. Required.
    pub name: String,
    /// `mode`: `"native"` (in the driver), `"skb"` (in the kernel's generic path: any interface,
    /// many times slower), or `"auto"` (native if the driver can); default `"auto"`.
    pub mode: Mode,
}

/// `[egress]`: where replies leave, which the kernel drops once the lease has run out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Egress {
    /// `interfaces`: `"all"`, or a list of names, `[]` included; default `"all"`.
    pub interfaces: EgressInterfaces,
}

/// The interfaces that are fenced at egress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EgressInterfaces {
    /// All of the network namespace but the loopback, and those that come.
    #[default]
    All,
    /// Those with these names, when they come, and all of `[[interfaces]]`.
    Named(Vec<String>),
}

/// `[fence]`: for how long a node may act as owner. Times are strings such as `"10s"` or `"250ms"`.
///
/// `lease` must exceed 2 × `renew` + `margin`, so that one lost renewal shuts nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// `lease`: 100 ms to 1 h; default `"10s"`. How long after its last renewal the kernel still
    /// delivers, with the daemon stopped, crashed or cut off.
    pub lease: Duration,
    /// `renew`: 10 ms or more; default `"1s"`. How often the daemon renews.
    pub renew: Duration,
    /// `margin`: 0 or more; default `"50ms"`. The last part of the lease, which is not used. The
    /// kernel stops six of its ticks earlier still, as that is how far its cheap clock may be late.
    pub margin: Duration,
}

impl Default for Fence {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(10),
            renew: Duration::from_secs(1),
            margin: Duration::from_millis(50),
        }
    }
}

/// `[sessions]`: the session table, and who processes the packets of sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// `capacity`: 1 to 2^29 wire ids; default 100,000. The table is allocated for them at start,
    /// 140 to 270 bytes each, 245 to 495 where a service enforces bindings, and does not grow.
    pub capacity: u64,
    /// `cpus`: a list such as `"0-3,6"` or `[0, 1, 2, 3, 6]`, each CPU once, 0 to 1023; default all
    /// that are online. The CPUs that sessions are spread over. In increasing order.
    pub cpus: Vec<u32>,
    /// `queue`: 1 to 16,384 packets; default 2048. How many packets wait for one CPU before more
    /// are lost, after their verdict (`cpu-queue-full`).
    pub queue: u32,
}

/// Who answers at a control port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Responder {
    /// The daemon.
    #[default]
    Daemon,
    /// An application.
    Application,
}

/// `[[services]]`: what is steered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// `name`: as a node's name; unlike all other services' names. Required. The hash of wire ids
    /// depends on it.
    pub name: String,
    /// `address` and `port`: the VIP, IPv4 or IPv6, and the UDP port, 1 to 65535. Required. No
    /// node's underlay address, and no two services with the same pair.
    pub address: SocketAddr,
    /// `control_port`: 1 to 65535, not `port`; default none. The UDP port on the same VIP for
    /// control messages, which have native headers whatever the protocol is.
    pub control_port: Option<u16>,
    /// `control`: `"daemon"` or `"application"`; default `"daemon"`. Who answers at the control port: the daemon,
    /// by the control protocol (`docs/control-protocol.md`), or an application that hands over sockets for it.
    pub control: Responder,
    /// `protocol`: how packets name their session. Required.
    ///
    /// - `"native"`: Jumpgate's own header.
    /// - `"quic"`: QUIC v1 and v2. `id_length`: of the server's connection ids, 4 to 20 bytes;
    ///   default 8.
    /// - `"quic-lb"`: QUIC whose connection ids name a server. `server_id_length`: 1 to 15 bytes, or a
    ///   list of up to 7 such lengths by config id, 0 where one is not in use; required.
    ///   `config_id`: 0 to 6, that of new ids; default the lowest in use.
    /// - `"wireguard"`: WireGuard.
    /// - `"dtls"`: DTLS 1.2 and 1.3. `id_length`: of the server's connection ids, 4 to 20 bytes;
    ///   required.
    /// - `"gtpu"`: GTP-U.
    /// - `"offset"`: an id at a fixed place of the UDP payload. `id_length`: 4 to 20 bytes;
    ///   required. `id_offset`: where it starts, 0 to 255 bytes; default 0. `unknown`: what a packet
    ///   with an unknown id does, `"reject"` (belongs to no session) or `"open"` (opens one);
    ///   default `"reject"`.
    pub protocol: services::Protocol,
    /// How many packets of one source prefix (IPv4: /24, IPv6: /56) the node delivers: those that
    /// open a session (`new_`), and those to the control port (`control_`); the rest is dropped and
    /// counted. `new_rate`, `control_rate`: packets a second, 0 (no limit) to 1,000,000; default
    /// 10,000. `new_burst`, `control_burst`: how many of them may come at once, 1 to 10 times the
    /// rate; default as many as in a second. Each node counts for itself.
    pub limits: services::Limits,
    /// `deliver`: `"socket"` (through the kernel's stack) or `"af_xdp"` (to AF_XDP sockets, past the
    /// stack; see `docs/applications.md`); default `"socket"`.
    pub delivery: services::Delivery,
    /// `binding`: `"ignore"` or `"enforce"`; default `"ignore"`. Whether a session's packets are
    /// refused unless they come from the client that the application has bound it to.
    pub enforces_binding: bool,
    /// `session_ttl`: 1 s or more; default `"24h"`: how long a session lives in all. `transport_loss_ttl`: 1 s or
    /// more; default `"5m"`: how long one without a transport lives. `recovery_window`: up to that, which is the
    /// default: how long after the loss of its transport a session may be reattached.
    ///
    /// `switch_burst`: 1 to 10,000; default 20: how many changes of transport may come at once. `switch_interval`:
    /// 1 ms to 1 h; default `"6s"`: in which time one more is granted. `switch_cooldown`: up to 1 h; default
    /// `"500ms"`: how long two must be apart.
    pub policy: Policy,
    /// `on_loss`: what becomes of the sessions of a node that is lost: `"deny"` (they wait for it), `"terminate"` or
    /// `"take_over"` (by the others, if sessions are kept in a store that all share); default `"deny"`.
    pub on_loss: OnLoss,
    /// `users`: a list of users of the system, by name or number, such as `["game", 1001]`; default
    /// whoever may open the socket. Who may open sessions of this service, besides root. With it, the
    /// service's sessions cannot be used over TCP.
    pub users: Option<Vec<Account>>,
}

/// `[drain]`: how sessions are moved when a node is drained or another one takes its share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// `deadline`: 1 s to 24 h; default `"10m"`. How long sessions may take to leave.
    pub deadline: Duration,
    /// `left_over`: `"move"` (without waiting for their application) or `"terminate"`; default `"move"`. What becomes
    /// of those that take longer.
    pub left_over: LeftOver,
    /// `at_once`: 1 to 16,384; default 256. How many are under way at once.
    pub at_once: usize,
    /// `per_second`: 1 to 1,000,000; default 10,000. How many are started in a second.
    pub per_second: u32,
    /// `quiet`: 1 ms to 60 s; default `"1s"`. How long what is in flight of a session may take to be read by its
    /// application, before its move is given up for now.
    pub quiet: Duration,
    /// `application`: 1 ms to 60 s; default `"1s"`. How long an application may take to give a session's last
    /// context, or to get ready for it.
    pub application: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(600),
            left_over: LeftOver::Move,
            at_once: 256,
            per_second: 10_000,
            quiet: Duration::from_secs(1),
            application: Duration::from_secs(1),
        }
    }
}

/// `[hold]`: packets of sessions that are on their way to another node or from it. Sizes are strings
/// such as `"16MiB"` or `"256KiB"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// `ring`: 64 KiB to 1 GiB, a power of two; default `"16MiB"`. What comes between two looks of
    /// the daemon, which are a millisecond apart if the machine lets them be; more is dropped.
    /// Allocated at start.
    pub ring: u32,
    /// `per_session`: 4 KiB to 64 GiB; default `"1MiB"`. How much of one session is held; more is
    /// dropped.
    pub per_session: u64,
    /// `total`: 4 KiB to 64 GiB; default `"256MiB"`. How much of all sessions is held.
    pub total: u64,
    /// `pace`: 1,000 to 100,000,000; default 50,000. How many packets that were held the daemon
    /// sends in a second, beside as many as arrive meanwhile.
    pub pace: u32,
}

impl Default for Hold {
    fn default() -> Self {
        Self { ring: 16 << 20, per_session: 1 << 20, total: 256 << 20, pace: 50_000 }
    }
}

/// `[api]`: the Unix socket for applications and the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// `socket`: an absolute path of at most 107 bytes; default `/run/jumpgate/<node>.sock`.
    pub socket: PathBuf,
    /// `mode`: the socket's permissions, three or four octal digits up to `"0777"`; default
    /// `"0660"`.
    pub mode: u32,
}

/// `[metrics]`: what is to be seen over HTTP (see `docs/metrics.md`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// `listen`: an address and port of this host, such as `"127.0.0.1:9472"`; default none, and
    /// nothing listens. Whoever can reach it reads `/metrics`, `/healthz` and `/readyz`, unencrypted.
    pub listen: Option<SocketAddr>,
}

/// `[log]`: what the daemon writes to stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// `level`: `"error"`, `"warn"`, `"info"`, `"debug"` or `"trace"`; default `"info"`. What is less grave
    /// is left out. `RUST_LOG` in the environment overrides it.
    pub level: Level,
    /// `format`: `"text"` or `"json"`, an object a line; default `"text"`.
    pub format: LogFormat,
}

/// How grave a line of the log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Something does not work.
    Error,
    /// Somebody should look at it.
    Warn,
    /// What happens.
    #[default]
    Info,
    /// For whoever looks for a fault.
    Debug,
    /// All of it.
    Trace,
}

impl Level {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON object.
    Json,
}

/// `[pins]`: what stays in the kernel when the daemon goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins {
    /// `enabled`: whether maps and links are pinned, so that forwarding outlives the daemon;
    /// default `true`.
    pub enabled: bool,
    /// `path`: an absolute path on a bpffs; default `/sys/fs/bpf/jumpgate`.
    pub path: PathBuf,
}

/// `[state]`: what the daemon remembers across restarts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// `path`: an absolute path; default `/var/lib/jumpgate`.
    pub path: PathBuf,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or with all that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse_as(&text, &path.display().to_string())
    }

    /// Checks a text; errors call its file "configuration".
    ///
    /// # Errors
    ///
    /// With all that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        Self::parse_as(text, "configuration")
    }

    fn parse_as(text: &str, file: &str) -> Result<Self, ConfigError> {
        let invalid = |problems| ConfigError::Invalid { file: file.to_owned(), problems };
        let document = Document::parse(text).map_err(|problem| invalid(vec![problem]))?;
        let config = sections::read(&document);
        // What could not be read would only lead to problems that are none.
        if let (Some(config), false) = (&config, document.has_problems()) {
            check::check(config, &document);
        }
        match (config, document.into_problems()) {
            (Some(config), problems) if problems.is_empty() => Ok(config),
            (_, problems) => Err(invalid(problems)),
        }
    }

    /// The nodes as the placement sees them.
    pub fn members(&self) -> Vec<Member> {
        let member = |node: &Node| Member {
            index: node.index,
            name: node.name.clone(),
            weight: node.weight,
        };
        self.nodes.iter().map(member).collect()
    }

    /// The node that this configuration is for.
    ///
    /// # Panics
    ///
    /// If `node` or `nodes` were changed so that it is not one of them.
    pub fn this_node(&self) -> &Node {
        self.nodes
            .iter()
            .find(|node| node.name == self.node)
            .expect("a checked configuration lists its node")
    }

    /// The services as the data plane takes them, with indices from 1 on.
    pub fn services(&self) -> Vec<services::Service> {
        let row = |(index, service): (u16, &Service)| services::Service {
            index,
            name: service.name.clone(),
            address: service.address,
            control_port: service.control_port,
            protocol: service.protocol,
            limits: service.limits,
            delivery: service.delivery,
            enforces_binding: service.enforces_binding,
            cluster_seed: self.cluster.hash_seed,
        };
        (1..).zip(&self.services).map(row).collect()
    }
}
