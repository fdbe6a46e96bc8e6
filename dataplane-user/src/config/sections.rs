//! From a file's sections to the configuration, one key at a time.

use super::{
    Api, CPU_MAX, Cluster, Config, Egress, EgressInterfaces, Fence, Hold, Interface, Level, Log,
    LogFormat, Metrics, Node, Pins, Responder, Service, Sessions, State,
    convert::{
        address, boolean, choice, cpu_list, duration, egress, integer, interface, name, path,
        permissions, power_of_two, seed, size, socket_address,
    },
    cpus,
    document::{Document, Section},
    limits, policy,
    protocol::protocol,
    sessions_api, store,
};
use crate::dataplane::{attach::Mode, services::Delivery};
use ownership::{NodeIndex, placement::WEIGHT_MAX};
use std::{
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

const WEIGHT: u32 = 100;
const LEASE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
const RENEW: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
const MARGIN: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);
const CAPACITY: u64 = 100_000;
const CAPACITY_MAX: u64 = 1 << 29;
const QUEUE: u32 = 2048;
const QUEUE_MAX: u32 = 16_384;
const RING: RangeInclusive<u64> = 1 << 16..=1 << 30;
const HELD: RangeInclusive<u64> = 1 << 12..=1 << 36;
const PACE: RangeInclusive<u32> = 1_000..=100_000_000;

/// The configuration, or problems in `document`.
pub(super) fn read(document: &Document<'_>) -> Option<Config> {
    document.check_keys();
    // Everything is read before anything is given up, so that all problems are found.
    let node =
        document.top().required("node", "name this node, by one of the names in [[nodes]]", name);
    let state = document.section("state").or("path", PathBuf::from("/var/lib/jumpgate"), path);
    let folder = state.clone().unwrap_or_default();
    let cluster = cluster(&document.section("cluster"), &folder);
    let nodes = all(document.list("nodes"), self::node);
    let interfaces = all(document.list("interfaces"), self::link);
    let egress = document.section("egress").or("interfaces", EgressInterfaces::All, egress);
    let fence = fence(&document.section("fence"));
    let sessions = sessions(&document.section("sessions"));
    let services = all(document.list("services"), service);
    let hold = hold(&document.section("hold"));
    let drain = policy::drain(&document.section("drain"));
    let api = api(&document.section("api"), node.as_deref().unwrap_or_default());
    let metrics = document.section("metrics").optional("listen", socket_address);
    let log = log(&document.section("log"));
    let sessions_api =
        sessions_api::read(&document.section("sessions_api"), node.as_deref().unwrap_or_default());
    let pins = pins(&document.section("pins"));
    let store =
        store::read(&document.section("store"), &folder, node.as_deref().unwrap_or_default());
    Some(Config {
        node: node?,
        cluster: cluster?,
        nodes: nodes?,
        interfaces: interfaces?,
        egress: Egress { interfaces: egress? },
        fence: fence?,
        sessions: sessions?,
        services: services?,
        hold: hold?,
        drain: drain?,
        api: api?,
        metrics: Metrics { listen: metrics? },
        log: log?,
        sessions_api: sessions_api?,
        pins: pins?,
        state: State { path: state? },
        store: store?,
    })
}

/// All sections of a list, or `None` if one has a problem; every one is read.
fn all<T>(
    sections: Vec<Section<'_, '_>>,
    read: impl Fn(&Section<'_, '_>) -> Option<T>,
) -> Option<Vec<T>> {
    let read: Vec<_> = sections.iter().map(read).collect();
    read.into_iter().collect()
}

fn cluster(section: &Section<'_, '_>, state: &Path) -> Option<Cluster> {
    let advice = "draw it once for all nodes with `openssl rand -hex 8`";
    let hash_seed = section.required("hash_seed", advice, seed);
    let secrets = section.or("secrets", state.join("secrets"), path);
    Some(Cluster { hash_seed: hash_seed?, secrets: secrets? })
}

fn node(section: &Section<'_, '_>) -> Option<Node> {
    let name = section.required("name", "nodes are told apart by it", name);
    let advice = "give each node a number of its own";
    let index = section.required("index", advice, integer(1..=NodeIndex::MAX));
    let advice = "say where other nodes reach it";
    let address = section.required("address", advice, address);
    let weight = section.or("weight", WEIGHT, integer(0..=WEIGHT_MAX));
    let interface = section.optional("interface", interface);
    Some(Node {
        name: name?,
        index: NodeIndex::new(index?).expect("in range"),
        address: address?,
        weight: weight?,
        interface: interface?,
    })
}

fn link(section: &Section<'_, '_>) -> Option<Interface> {
    let name = section.required("name", "as `ip link` shows it", interface);
    let modes = [("native", Mode::Native), ("skb", Mode::Skb), ("auto", Mode::Auto)];
    let mode = section.or("mode", Mode::Auto, choice(&modes));
    Some(Interface { name: name?, mode: mode? })
}

fn fence(section: &Section<'_, '_>) -> Option<Fence> {
    let default = Fence::default();
    let lease = section.or("lease", default.lease, duration(LEASE));
    let renew = section.or("renew", default.renew, duration(RENEW));
    let margin = section.or("margin", default.margin, duration(MARGIN));
    Some(Fence { lease: lease?, renew: renew?, margin: margin? })
}

fn sessions(section: &Section<'_, '_>) -> Option<Sessions> {
    let capacity = section.or("capacity", CAPACITY, integer(1..=CAPACITY_MAX));
    let queue = section.or("queue", QUEUE, integer(1..=QUEUE_MAX));
    let cpus = match section.optional("cpus", cpu_list)? {
        Some(cpus) => Some(cpus),
        None => cpus::online()
            .map_err(|error| {
                section.report(format!(
                    "which CPUs are online could not be read from {}: {error}; name those that \
                     process sessions, 0 to {CPU_MAX}, with `cpus` in [sessions]",
                    cpus::ONLINE
                ));
            })
            .ok(),
    };
    Some(Sessions { capacity: capacity?, cpus: cpus?, queue: queue? })
}

fn service(section: &Section<'_, '_>) -> Option<Service> {
    let name = section.required("name", "services are told apart by it", name);
    let advice = "say which address its clients send to";
    let address = section.required("address", advice, address);
    let advice = "say which UDP port its clients send to";
    let port = section.required("port", advice, integer(1..=u16::MAX));
    let control_port = section.optional("control_port", integer(1..=u16::MAX));
    let responders = [("daemon", Responder::Daemon), ("application", Responder::Application)];
    let control = section.or("control", Responder::default(), choice(&responders));
    let protocol = protocol(section);
    let has_control_port = !matches!(control_port, Some(None));
    let limits = limits::read(section, has_control_port);
    if !has_control_port {
        section.refuse("control", || {
            "`control` is only for services with a `control_port`: remove it".to_owned()
        });
    }
    let choices = [Delivery::Socket, Delivery::AfXdp].map(|delivery| (delivery.name(), delivery));
    let delivery = section.or("deliver", Delivery::Socket, choice(&choices));
    let bindings = [("ignore", false), ("enforce", true)];
    let enforces_binding = section.or("binding", false, choice(&bindings));
    let users = sessions_api::users(section);
    let policy = policy::read(section);
    let (policy, on_loss) = policy?;
    Some(Service {
        name: name?,
        address: SocketAddr::new(address?, port?),
        control_port: control_port?,
        control: control?,
        protocol: protocol?,
        limits: limits?,
        delivery: delivery?,
        enforces_binding: enforces_binding?,
        policy,
        on_loss,
        users: users?,
    })
}

fn hold(section: &Section<'_, '_>) -> Option<Hold> {
    let default = Hold::default();
    let ring = section.or("ring", default.ring, power_of_two(RING));
    let per_session = section.or("per_session", default.per_session, size(HELD));
    let total = section.or("total", default.total, size(HELD));
    let pace = section.or("pace", default.pace, integer(PACE));
    Some(Hold { ring: ring?, per_session: per_session?, total: total?, pace: pace? })
}

fn api(section: &Section<'_, '_>, node: &str) -> Option<Api> {
    let default = PathBuf::from(format!("/run/jumpgate/{node}.sock"));
    let socket = section.or("socket", default, path);
    let mode = section.or("mode", 0o660, permissions);
    Some(Api { socket: socket?, mode: mode? })
}

fn log(section: &Section<'_, '_>) -> Option<Log> {
    let level =
        section.or("level", Level::Info, choice(&Level::ALL.map(|level| (level.name(), level))));
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let format = section.or("format", LogFormat::Text, choice(&formats));
    Some(Log { level: level?, format: format? })
}

fn pins(section: &Section<'_, '_>) -> Option<Pins> {
    let enabled = section.or("enabled", true, boolean);
    let path = section.or("path", "/sys/fs/bpf/jumpgate".into(), path);
    Some(Pins { enabled: enabled?, path: path? })
}
