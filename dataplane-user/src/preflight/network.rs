//! The addresses of the node and of its services, and what becomes of packets near sockets.

use super::{Finding, sysctl};
use crate::{config::Config, neighbours::Interfaces};
use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, UdpSocket},
};

/// A default socket buffer of this size holds about 200 packets; it is Linux's default.
const SMALL_BUFFER: u64 = 212_992;

pub(super) fn findings(config: &Config, interfaces: &Interfaces) -> Vec<Finding> {
    let mut found = Vec::new();
    if config.nodes.len() > 1 {
        found.push(own_address(config, interfaces));
    }
    let vips: BTreeSet<_> = config.services.iter().map(|service| service.address.ip()).collect();
    for vip in vips {
        let services = config.services.iter().filter(|service| service.address.ip() == vip);
        let names: Vec<_> = services.map(|service| service.name.as_str()).collect();
        found.push(virtual_address(vip, &names, locality(vip, interfaces)));
    }
    if let Some(bytes) = sysctl::number("core/rmem_default") {
        found.push(socket_buffers(bytes));
    }
    let read = |file: &str| fs::read_to_string(format!("/proc/thread-self/net/{file}"));
    let v4 = read("snmp").ok().and_then(|table| sysctl::snmp(&table, "Udp", "InCsumErrors"));
    let v6 = read("snmp6").ok().and_then(|table| sysctl::snmp6(&table, "Udp6InCsumErrors"));
    found.push(checksums(v4, v6));
    found
}

fn own_address(config: &Config, interfaces: &Interfaces) -> Finding {
    let subject = format!("node {}", config.node);
    let address = config.this_node().address;
    let names: Vec<_> = config.interfaces.iter().map(|interface| interface.name.as_str()).collect();
    match interfaces.holding(address) {
        Some(holder) if names.contains(&holder.name.as_str()) => {
            Finding::fine(&subject, format!("{address} is on {}", holder.name))
        }
        // A loopback address is reached through whichever interface the routers choose.
        Some(holder) if holder.name == "lo" => Finding::note(
            &subject,
            format!("its address {address} is on lo"),
            format!("see that other nodes have a route to it by {}", names.join(" or ")),
        ),
        Some(holder) => Finding::warning(
            &subject,
            format!(
                "its address {address} is on {}, where no program is attached: what other nodes \
                 forward does not arrive there",
                holder.name
            ),
            format!("add {} to [[interfaces]], or correct the address", holder.name),
        ),
        None => Finding::warning(
            &subject,
            format!(
                "its address {address} is on no interface here: what other nodes forward does \
                 not arrive"
            ),
            format!("`ip addr add {address}/PREFIX dev {}`, or correct [[nodes]]", names[0]),
        ),
    }
}

/// Whether the kernel takes packets to an address for its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Locality {
    Local,
    Foreign,
    /// A socket may be bound to any address here, so that trying tells nothing.
    Unknown,
}

fn locality(address: IpAddr, interfaces: &Interfaces) -> Locality {
    if interfaces.holding(address).is_some() {
        return Locality::Local;
    }
    let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
    if sysctl::number(&format!("{family}/ip_nonlocal_bind")) == Some(1) {
        return Locality::Unknown;
    }
    // A whole network may be local by a route.
    match UdpSocket::bind((address, 0)) {
        Ok(_) => Locality::Local,
        Err(_) => Locality::Foreign,
    }
}

fn virtual_address(vip: IpAddr, services: &[&str], locality: Locality) -> Finding {
    let subject = format!("VIP {vip}");
    let services = services.join(", ");
    let prefix = if vip.is_ipv4() { 32 } else { 128 };
    let command = format!("`ip addr add {vip}/{prefix} dev lo`");
    match locality {
        Locality::Local => Finding::fine(&subject, format!("local, for {services}")),
        Locality::Foreign => Finding::error(
            &subject,
            format!("it is no address of this machine: nothing of {services} can be delivered"),
            command,
        ),
        Locality::Unknown => Finding::unseen(
            &subject,
            "on no interface; whether a route makes it local cannot be seen with ip_nonlocal_bind",
            format!("if none does: {command}"),
        ),
    }
}

fn socket_buffers(bytes: u64) -> Finding {
    const SUBJECT: &str = "socket buffers";
    if bytes > SMALL_BUFFER {
        return Finding::fine(SUBJECT, format!("{bytes} bytes"));
    }
    Finding::note(
        SUBJECT,
        format!(
            "net.core.rmem_default is {bytes} bytes: a socket holds about {} packets, and loses \
             more than that at once",
            bytes * 200 / SMALL_BUFFER
        ),
        "set SO_RCVBUF in the application (and net.core.rmem_max), or \
         `sysctl -w net.core.rmem_default=4194304`",
    )
}

fn checksums(v4: Option<u64>, v6: Option<u64>) -> Finding {
    const SUBJECT: &str = "checksums";
    if (v4, v6) == (None, None) {
        return Finding::unseen(SUBJECT, "/proc/thread-self/net has no counters", "");
    }
    let errors = v4.unwrap_or(0) + v6.unwrap_or(0);
    if errors == 0 {
        return Finding::fine(SUBJECT, "no UDP packet had a wrong one");
    }
    Finding::warning(
        SUBJECT,
        format!("{errors} UDP packets were dropped here for a wrong checksum since boot"),
        "if `nstat -az UdpInCsumErrors Udp6InCsumErrors` still rises: on virtual links \
         (veth, bridge) turn transmit checksum offload off where the packets come from, \
         `ethtool -K PEER tx off`",
    )
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_vip_must_be_local() {
        let vip: IpAddr = "198.51.100.1".parse().unwrap();
        assert_eq!(virtual_address(vip, &["echo"], Locality::Local).level, Level::Fine);
        let finding = virtual_address(vip, &["echo", "chat"], Locality::Foreign);
        assert_eq!(finding.level, Level::Error);
        assert!(finding.what.contains("echo, chat"), "{finding}");
        assert_eq!(finding.mend, "`ip addr add 198.51.100.1/32 dev lo`");
        let vip: IpAddr = "2001:db8::1".parse().unwrap();
        let finding = virtual_address(vip, &["echo"], Locality::Foreign);
        assert_eq!(finding.mend, "`ip addr add 2001:db8::1/128 dev lo`");
    }

    #[test]
    fn the_kernel_knows_what_is_local() {
        let none = Interfaces::default();
        let expected = match sysctl::number("ipv4/ip_nonlocal_bind") {
            Some(1) => [Locality::Unknown; 2],
            _ => [Locality::Local, Locality::Foreign],
        };
        let addresses = ["127.0.0.9", "198.51.100.1"].map(|address| address.parse().unwrap());
        assert_eq!(addresses.map(|address| locality(address, &none)), expected);
    }

    #[test]
    fn small_socket_buffers_are_noted() {
        assert_eq!(socket_buffers(4_194_304).level, Level::Fine);
        let finding = socket_buffers(SMALL_BUFFER);
        assert_eq!(finding.level, Level::Note);
        assert!(finding.what.contains("about 200 packets"), "{finding}");
    }

    #[test]
    fn wrong_checksums_of_both_families_are_added() {
        assert_eq!(checksums(Some(0), None).level, Level::Fine);
        assert_eq!(checksums(None, None).level, Level::Unseen);
        let finding = checksums(Some(2), Some(3));
        assert_eq!(finding.level, Level::Warning);
        assert!(finding.what.starts_with("5 UDP packets"), "{finding}");
    }
}
