//! An interface: its link, its MTU, and settings that lose, slow or misplace packets.

use super::{Finding, ethtool, sysctl};
use crate::{config::Config, neighbours::Interface};
use dataplane_ebpf::encap::{OVERHEAD_V4, OVERHEAD_V6};
use std::{fs, net::IpAddr, path::Path};

/// The largest packet that clients send, in bytes: what Ethernet carries unless told otherwise.
const CLIENT_MTU: u32 = 1500;

pub(super) fn findings(config: &Config, interface: &Interface) -> Vec<Finding> {
    let mut found = vec![link(interface)];
    if config.nodes.len() > 1 {
        found.push(mtu(interface, config.this_node().address));
    }
    if config.services.iter().any(|service| service.address.is_ipv4()) {
        let name = &interface.name;
        let setting = |key: &str| {
            let all = sysctl::number(&format!("ipv4/conf/all/{key}"));
            all.max(sysctl::number(&format!("ipv4/conf/{name}/{key}")))
        };
        found.push(rp_filter(name, setting("rp_filter")));
        found.push(arp(name, setting("arp_ignore"), setting("arp_announce")));
    }
    found.push(packet_steering(interface));
    found.extend(large_receive(interface));
    found
}

fn link(interface: &Interface) -> Finding {
    let Interface { name, mac, is_up, has_carrier, .. } = interface;
    let subject = format!("{name}: link");
    let Some([a, b, c, d, e, f]) = mac else {
        return Finding::error(
            &subject,
            "it has no MAC address: the data plane works on Ethernet",
            "name another one in [[interfaces]]",
        );
    };
    if !is_up {
        let mend = format!("`ip link set dev {name} up`");
        return Finding::error(&subject, "it is down: nothing arrives", mend);
    }
    if !has_carrier {
        return Finding::warning(
            &subject,
            "it has no carrier: nothing arrives",
            "see to its cable, or to the other end",
        );
    }
    Finding::fine(&subject, format!("up, {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"))
}

fn mtu(interface: &Interface, underlay: IpAddr) -> Finding {
    let Interface { name, mtu, .. } = interface;
    let subject = format!("{name}: MTU");
    let (family, overhead) =
        if underlay.is_ipv4() { ("IPv4", OVERHEAD_V4) } else { ("IPv6", OVERHEAD_V6) };
    let overhead = overhead as u32;
    let needed = CLIENT_MTU + overhead;
    if *mtu >= needed {
        return Finding::fine(&subject, format!("{mtu} bytes, {needed} are needed"));
    }
    Finding::warning(
        &subject,
        format!(
            "{mtu} bytes are too few for the {overhead} that forwarding over {family} adds: \
             packets of more than {} bytes that are another node's are dropped and counted as \
             too big",
            mtu.saturating_sub(overhead)
        ),
        format!(
            "`ip link set dev {name} mtu {needed}`, here and on all that is between the nodes; or \
             have clients send packets of at most {} bytes",
            mtu.saturating_sub(overhead)
        ),
    )
}

/// `setting` is the greater one of `all` and the interface's own: it is what holds.
fn rp_filter(name: &str, setting: Option<u64>) -> Finding {
    let subject = format!("{name}: rp_filter");
    match setting {
        Some(1) => Finding::warning(
            &subject,
            "it is 1 (strict): the kernel drops a client's packet without a word where the answer \
             would leave by another interface than the one that the packet, or the node that \
             forwarded it, came by",
            // The greater one holds, so the interface's own suffices.
            format!("`sysctl -w net.ipv4.conf.{}.rp_filter=2`", sysctl::dotted(name)),
        ),
        Some(value) => Finding::fine(&subject, value.to_string()),
        None => Finding::unseen(&subject, "there is no /proc/sys/net here", ""),
    }
}

fn arp(name: &str, ignore: Option<u64>, announce: Option<u64>) -> Finding {
    let subject = format!("{name}: ARP");
    match (ignore, announce) {
        (Some(1..), Some(2..)) => Finding::fine(&subject, "a VIP on lo is not announced"),
        (Some(ignore), Some(announce)) => Finding::note(
            &subject,
            format!(
                "arp_ignore = {ignore} and arp_announce = {announce}: where several nodes with \
                 the VIP on lo share a segment, each answers for it"
            ),
            "there `sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2`",
        ),
        _ => Finding::unseen(&subject, "there is no /proc/sys/net here", ""),
    }
}

/// Receive packet steering moves packets away from the CPU that the data plane chose.
fn packet_steering(interface: &Interface) -> Finding {
    let name = &interface.name;
    let subject = format!("{name}: RPS");
    let folder = Path::new("/sys/class/net").join(name);
    let shown = fs::read_to_string(folder.join("ifindex"));
    // sysfs shows the namespace in which it was mounted, which may have one of the same name.
    let is_ours = shown.is_ok_and(|shown| shown.trim() == interface.ifindex.to_string())
        && interface.mac.is_none_or(|mac| {
            let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
            fs::read_to_string(folder.join("address")).is_ok_and(|shown| shown.trim() == mac)
        });
    if !is_ours {
        return Finding::unseen(
            &subject,
            "/sys does not show this network namespace",
            "see that rps_cpus of its queues are 0",
        );
    }
    let queues = fs::read_dir(folder.join("queues")).into_iter().flatten().flatten();
    let steered: Vec<_> = queues
        .filter(|queue| {
            let cpus = fs::read_to_string(queue.path().join("rps_cpus"));
            cpus.is_ok_and(|cpus| !is_empty_mask(&cpus))
        })
        .filter_map(|queue| queue.file_name().into_string().ok())
        .collect();
    if steered.is_empty() {
        return Finding::fine(&subject, "off");
    }
    Finding::warning(
        &subject,
        format!("it is on for {}: it moves packets to CPUs of its own choice", steered.join(", ")),
        format!("`for q in /sys/class/net/{name}/queues/rx-*/rps_cpus; do echo 0 > $q; done`"),
    )
}

fn is_empty_mask(mask: &str) -> bool {
    mask.trim().chars().all(|digit| matches!(digit, '0' | ','))
}

fn large_receive(interface: &Interface) -> Option<Finding> {
    let name = &interface.name;
    let is_on = ethtool::large_receive(interface).unwrap_or(false);
    is_on.then(|| {
        Finding::note(
            &format!("{name}: LRO"),
            "large receive offload is on: many drivers refuse native XDP then",
            format!("`ethtool -K {name} lro off`"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn interface() -> Interface {
        Interface {
            ifindex: 2,
            name: "eth0".to_owned(),
            mac: Some([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            is_up: true,
            has_carrier: true,
            kind: None,
            xdp: None,
            peer: None,
        }
    }

    #[test]
    fn a_link_must_be_up_connected_and_ethernet() {
        assert_eq!(link(&interface()).what, "up, 02:00:00:00:00:01");
        let down = Interface { is_up: false, has_carrier: false, ..interface() };
        assert_eq!(link(&down).level, Level::Error);
        assert_eq!(link(&down).mend, "`ip link set dev eth0 up`");
        assert_eq!(link(&Interface { has_carrier: false, ..interface() }).level, Level::Warning);
        assert_eq!(link(&Interface { mac: None, ..interface() }).level, Level::Error);
    }

    #[test]
    fn the_mtu_must_hold_a_full_packet_and_the_encapsulation() {
        let v4 = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
        let with = |mtu| Interface { mtu, ..interface() };
        assert_eq!(mtu(&with(1560), v4).level, Level::Fine);
        assert_eq!(mtu(&with(1580), v6).level, Level::Fine);
        let finding = mtu(&with(1500), v4);
        assert_eq!(finding.level, Level::Warning);
        assert!(finding.what.contains("more than 1440 bytes"), "{finding}");
        assert!(finding.mend.contains("`ip link set dev eth0 mtu 1560`"), "{finding}");
        let finding = mtu(&with(1560), v6);
        assert!(finding.what.contains("more than 1480 bytes"), "{finding}");
        assert!(finding.mend.contains("mtu 1580`"), "{finding}");
    }

    #[test]
    fn only_a_strict_reverse_path_filter_is_in_the_way() {
        for (setting, level) in [
            (Some(0), Level::Fine),
            (Some(1), Level::Warning),
            (Some(2), Level::Fine),
            (None, Level::Unseen),
        ] {
            assert_eq!(rp_filter("eth0", setting).level, level, "{setting:?}");
        }
        assert_eq!(
            rp_filter("eth0.7", Some(1)).mend,
            "`sysctl -w net.ipv4.conf.eth0/7.rp_filter=2`"
        );
    }

    #[test]
    fn arp_is_quiet_with_both_settings_only() {
        assert_eq!(arp("eth0", Some(1), Some(2)).level, Level::Fine);
        assert_eq!(arp("eth0", Some(1), Some(0)).level, Level::Note);
        assert_eq!(arp("eth0", Some(0), Some(2)).level, Level::Note);
    }

    #[test]
    fn masks_of_cpus() {
        assert!(is_empty_mask("0\n") && is_empty_mask("00000000,00000000\n"));
        assert!(!is_empty_mask("3\n") && !is_empty_mask("00000001,00000000\n"));
    }
}
