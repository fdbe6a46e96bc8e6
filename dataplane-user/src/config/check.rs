//! What must hold between the values of a file.

use super::{
    Config, EtcdStore, INTERFACES_MAX, SERVICES_MAX,
    document::Document,
    hint::{alternatives, did_you_mean},
    schema::TOP,
    store::Store,
};
use crate::dataplane::services;
use dataplane_ebpf::service::ENCAP_PORT;
use ownership::takeover::OnLoss;
use std::{
    collections::HashMap,
    fmt::Display,
    hash::Hash,
    net::{IpAddr, SocketAddr},
    os::unix::ffi::OsStrExt,
};

/// The longest path of a Unix socket, in bytes (`sun_path` without the final zero).
const SOCKET_MAX: usize = 107;

/// Reports to `document` what its configuration gets wrong.
pub(super) fn check(config: &Config, document: &Document<'_>) {
    nodes(config, document);
    interfaces(config, document);
    fence(config, document);
    services(config, document);
    on_loss(config, document);
    sockets(config, document);
    // Takes a search, and says less than the checks before.
    if !document.has_problems() {
        room(config, document);
    }
}

fn nodes(config: &Config, document: &Document<'_>) {
    let nodes = &config.nodes;
    let report = |index, key, message| {
        document.report(document.place("nodes", index, key), message);
    };
    let names: Vec<_> = nodes.iter().map(|node| node.name.as_str()).collect();
    if !names.contains(&config.node.as_str()) {
        let hint = did_you_mean(&config.node, '"', names.iter().copied());
        document.report(
            document.place(TOP, 0, "node"),
            format!(
                "this node, {:?}, is not in [[nodes]]: list it there with its index and \
                 address{hint}",
                config.node
            ),
        );
    }
    unique(document, "nodes", "name", nodes.iter().map(|n| &n.name));
    unique(document, "nodes", "index", nodes.iter().map(|n| n.index));
    unique(document, "nodes", "address", nodes.iter().map(|n| n.address));
    if let Some(first) = nodes.first() {
        let other = |address: &IpAddr| address.is_ipv4() != first.address.is_ipv4();
        if let Some(index) = nodes.iter().position(|node| other(&node.address)) {
            let family = |address: IpAddr| if address.is_ipv4() { "IPv4" } else { "IPv6" };
            let message = format!(
                "{} is {}, but node {:?} has an {} address: nodes reach each other by one family",
                nodes[index].address,
                family(nodes[index].address),
                first.name,
                family(first.address),
            );
            report(index, "address", message);
        }
        if nodes.iter().all(|node| node.weight == 0) {
            let message = "every node has weight 0: one must own the slots".to_owned();
            report(0, "weight", message);
        }
    }
    let links: Vec<_> = config.interfaces.iter().map(|i| i.name.as_str()).collect();
    for (index, node) in nodes.iter().enumerate() {
        let Some(interface) = &node.interface else {
            continue;
        };
        if !links.contains(&interface.as_str()) {
            let known = match links.is_empty() {
                true => String::new(),
                false => format!(", which has {}", alternatives(&links, '"')),
            };
            let hint = did_you_mean(interface, '"', links.iter().copied());
            let message = format!("{interface:?} is not in [[interfaces]]{known}{hint}");
            report(index, "interface", message);
        }
    }
}

fn interfaces(config: &Config, document: &Document<'_>) {
    let interfaces = &config.interfaces;
    if interfaces.is_empty() {
        let message = "no [[interfaces]]: name at least the one where packets arrive".to_owned();
        document.report(document.place(TOP, 0, "node"), message);
    }
    let names = interfaces.iter().map(|interface| &interface.name);
    unique(document, "interfaces", "name", names);
    at_most(INTERFACES_MAX, interfaces.len(), "interfaces", document);
}

fn fence(config: &Config, document: &Document<'_>) {
    let fence = &config.fence;
    let least = 2 * fence.renew + fence.margin;
    if fence.lease <= least {
        let text = humantime::format_duration;
        let message = format!(
            "`lease` is {}: it must exceed 2 × `renew` + `margin`, which is {}, so that one lost \
             renewal does not shut the fence; raise `lease` or lower `renew`",
            text(fence.lease),
            text(least)
        );
        document.report(document.place("fence", 0, "lease"), message);
    }
}

fn services(config: &Config, document: &Document<'_>) {
    let services = &config.services;
    at_most(SERVICES_MAX, services.len(), "services", document);
    let names = services.iter().map(|service| &service.name);
    unique(document, "services", "name", names);
    let mut taken: HashMap<SocketAddr, (usize, &str)> = HashMap::new();
    for (index, service) in services.iter().enumerate() {
        let address = service.address;
        let report = |key, message| {
            document.report(document.place("services", index, key), message);
        };
        let control = service.control_port.map(|port| SocketAddr::new(address.ip(), port));
        if control == Some(address) {
            let port = address.port();
            let message =
                format!("`control_port` is {port}, as `port` is: give it a port of its own");
            report("control_port", message);
        }
        let ports = [("port", Some(address)), ("control_port", control)];
        for (key, address) in ports {
            let Some(address) = address else { continue };
            match taken.get(&address) {
                // Reported above.
                Some((first, _)) if *first == index => {}
                Some((first, first_key)) => {
                    let message = format!(
                        "`{key}` of service {:?} is {address}, which service {:?} has on line {}: \
                         give one of them another address or port",
                        service.name,
                        services[*first].name,
                        document.line("services", *first, first_key)
                    );
                    report(key, message);
                }
                None => {
                    taken.insert(address, (index, key));
                }
            }
        }
        if let Some(node) = config.nodes.iter().find(|n| n.address == address.ip()) {
            let encap = [Some(address.port()), service.control_port].contains(&Some(ENCAP_PORT));
            let why = if encap {
                format!(", which takes forwarded packets on port {ENCAP_PORT}")
            } else {
                String::new()
            };
            let message = format!(
                "{} is the underlay address of node {:?}{why}: give the service an address of its \
                 own",
                address.ip(),
                node.name
            );
            report("address", message);
        }
    }
}

/// Sessions that only their node keeps cannot be taken over from it.
fn on_loss(config: &Config, document: &Document<'_>) {
    let Store::Etcd(EtcdStore { own_sessions: Some(_), .. }) = &config.store else { return };
    for (index, service) in config.services.iter().enumerate() {
        if service.on_loss == OnLoss::TakeOver {
            let message = "`on_loss` is \"take_over\", but each node keeps its own sessions: set `sessions = \
                           \"shared\"` in [store], or choose \"deny\" or \"terminate\""
                .to_owned();
            document.report(document.place("services", index, "on_loss"), message);
        }
    }
}

fn sockets(config: &Config, document: &Document<'_>) {
    let sockets = [("api", &config.api.socket), ("sessions_api", &config.sessions_api.socket)];
    for (section, socket) in sockets {
        let length = socket.as_os_str().as_bytes().len();
        if length > SOCKET_MAX {
            let message = format!(
                "`socket` is a path of {length} bytes: the kernel takes at most {SOCKET_MAX}, so \
                 choose a shorter one"
            );
            document.report(document.place(section, 0, "socket"), message);
        }
    }
    if config.api.socket == config.sessions_api.socket {
        let message = "`socket` is the one of [api], too: each needs its own".to_owned();
        document.report(document.place("sessions_api", 0, "socket"), message);
    }
}

/// The table of addresses and ports has no chains: a large set may find no place.
fn room(config: &Config, document: &Document<'_>) {
    let rows = services::rows(&config.services(), config.this_node().address);
    if rows.is_err() {
        let message = "the kernel's table has no place for the addresses and ports of so many \
                       services: use fewer control ports, or one address for several services"
            .to_owned();
        document.report(document.place("services", 0, "name"), message);
    }
}

fn at_most(most: usize, count: usize, section: &str, document: &Document<'_>) {
    if count > most {
        let message = format!("{count} [[{section}]] are too many: at most {most}");
        document.report(document.place(section, most, "name"), message);
    }
}

fn unique<T: Display + Eq + Hash>(
    document: &Document<'_>,
    section: &str,
    key: &str,
    values: impl Iterator<Item = T>,
) {
    let mut seen = HashMap::new();
    for (index, value) in values.enumerate() {
        match seen.get(&value) {
            None => {
                seen.insert(value, index);
            }
            Some(&first) => {
                let message = format!(
                    "`{key}` {value} stands twice in [[{section}]], first on line {}: each needs \
                     its own",
                    document.line(section, first, key)
                );
                document.report(document.place(section, index, key), message);
            }
        }
    }
}
