//! What XDP needs of an interface: no other program, a driver that can do it, and for a veth its
//! other end.

use super::{Finding, ethtool};
use crate::{
    api::Client,
    config::Config,
    dataplane::attach::Mode,
    neighbours::{Interface, Interfaces, XdpProgram},
    pins,
};
use aya::programs::{
    links::{FdLink, PinnedLink},
    loaded_programs,
};
use std::path::Path;

/// The largest MTU of a veth's other end with which it takes a native program, with 4 kB pages
/// (Linux 6.18).
const VETH_MTU: u32 = 3506;

/// Virtual interfaces whose packets are seen by no driver of their own.
const NO_NATIVE: [&str; 13] = [
    "bridge",
    "dummy",
    "geneve",
    "gre",
    "gretap",
    "ifb",
    "ipvlan",
    "macvlan",
    "netkit",
    "vlan",
    "vrf",
    "vxlan",
    "wireguard",
];

pub(super) async fn findings(
    config: &Config,
    mode: Mode,
    interface: &Interface,
    interfaces: &Interfaces,
) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(interface.xdp.map(|program| attached(config, mode, interface, program)));
    found.push(native(interface, mode));
    if interface.kind.as_deref() == Some("veth") {
        let peer = interfaces.peer(interface).await;
        let peer = peer.map_err(|error| error.to_string());
        if mode != Mode::Skb {
            found.push(peer_program(interface, peer.as_ref().map(Option::as_ref)));
        }
        found.push(peer_checksums(interface, peer.ok().flatten().as_ref()));
    }
    found
}

fn attached(config: &Config, mode: Mode, interface: &Interface, program: XdpProgram) -> Finding {
    let name = &interface.name;
    let subject = format!("{name}: attached program");
    let XdpProgram { id, is_native } = program;
    let pin = pins::path(config, name);
    // Other pins are nothing that concerns this program.
    if let Ok(link) = PinnedLink::from_pin(&pin)
        && FdLink::from(link).info().is_ok_and(|link| link.program_id() == id)
    {
        return pinned(&subject, mode, is_native, &pin);
    }
    let called = loaded_programs().flatten().find(|program| program.id() == id);
    let called = called.and_then(|program| program.name_as_str().map(str::to_owned));
    let is_named_so = called.as_deref().is_none_or(|called| called == "jumpgate");
    if is_named_so && Client::connect(&config.api.socket).is_ok() {
        return Finding::fine(&subject, "that of the daemon, which is running");
    }
    let Some(called) = called else {
        return Finding::unseen(
            &subject,
            format!("there is one (id {id}); only root sees whether it is Jumpgate's own"),
            "check again as root",
        );
    };
    let off = if is_native { "xdp" } else { "xdpgeneric" };
    Finding::error(
        &subject,
        format!("another XDP program is attached: {called:?}, id {id}"),
        format!(
            "`ip link set dev {name} {off} off` removes it; if that fails, a BPF link holds it: \
             end the process that `bpftool link` shows, or remove its pin"
        ),
    )
}

/// A daemon takes a pinned link over as it is, so its mode stays.
fn pinned(subject: &str, mode: Mode, is_native: bool, pin: &Path) -> Finding {
    let pin = pin.display();
    let is = if is_native { "native" } else { "skb" };
    match (mode, is_native) {
        (Mode::Native, false) | (Mode::Skb, true) => Finding::warning(
            subject,
            format!("Jumpgate's own, pinned at {pin}, stays in {is} mode, unlike configured"),
            format!("stop the daemon, then `rm {pin}` (forwarding ends), then start it again"),
        ),
        _ => Finding::fine(subject, format!("Jumpgate's own, pinned at {pin}")),
    }
}

/// Whether a kind of interface runs XDP in its driver; `None` if only trying tells.
fn can_native(interface: &Interface) -> Option<bool> {
    match interface.kind.as_deref() {
        Some("veth" | "tun") => Some(true),
        Some(kind) if NO_NATIVE.contains(&kind) => Some(false),
        None if interface.name == "lo" => Some(false),
        _ => None,
    }
}

fn native(interface: &Interface, mode: Mode) -> Finding {
    let Interface { name, mtu, .. } = interface;
    let subject = format!("{name}: XDP");
    if mode == Mode::Skb {
        return Finding::fine(&subject, "in the kernel's generic path, as configured");
    }
    let kind = interface.kind.as_deref().unwrap_or("loopback");
    let (what, mend) = match can_native(interface) {
        Some(true) if kind == "veth" && *mtu > VETH_MTU => (
            format!("a veth takes a native program up to an MTU of {VETH_MTU}, this has {mtu}"),
            format!("`ip link set dev {name} mtu {VETH_MTU}`, on both ends"),
        ),
        Some(true) => {
            return Finding::fine(&subject, format!("native, as it is a {kind}"));
        }
        Some(false) => (
            format!("a {kind} interface has no native XDP"),
            "name the interface beneath it in [[interfaces]], or set mode = \"skb\"".to_owned(),
        ),
        None => {
            return Finding::unseen(
                &subject,
                "whether its driver has native XDP shows when it is attached",
                format!("`ethtool -i {name}` names the driver"),
            );
        }
    };
    if mode == Mode::Native {
        Finding::error(&subject, what, mend)
    } else {
        let what = format!("{what}: it will run in the kernel's generic path, many times slower");
        Finding::warning(&subject, what, mend)
    }
}

fn peer_program(interface: &Interface, peer: Result<Option<&Interface>, &String>) -> Finding {
    let name = &interface.name;
    let subject = format!("{name}: veth's other end");
    let mend = format!(
        "attach a native XDP program to it, if only one that passes all packets; or set \
         mode = \"skb\" for {name}"
    );
    let lost = format!("frames that this node forwards through {name} vanish");
    match peer {
        Ok(Some(peer)) if peer.xdp.is_some_and(|program| program.is_native) => {
            Finding::fine(&subject, format!("{} runs a native XDP program", peer.name))
        }
        Ok(Some(peer)) => Finding::warning(
            &subject,
            format!("{} runs no native XDP program: {lost}", peer.name),
            mend,
        ),
        Ok(None) => {
            Finding::unseen(&subject, format!("it is not to be found; without XDP {lost}"), mend)
        }
        Err(error) => Finding::unseen(
            &subject,
            format!("{error}; if it runs no native XDP program, {lost}"),
            mend,
        ),
    }
}

/// Looks from here, as offload settings of another namespace cannot be asked for.
fn peer_checksums(interface: &Interface, peer: Option<&Interface>) -> Finding {
    let subject = format!("{}: checksum offload", interface.name);
    let is_here = interface.peer.is_some_and(|peer| peer.namespace.is_none());
    let is_on = match peer {
        Some(peer) if is_here => ethtool::tx_checksum(peer).ok(),
        _ => None,
    };
    let peer = peer.map_or("PEER", |peer| &peer.name);
    let lost = "packets that its own stack sends carry no checksum and are dropped before the \
                socket";
    let mend = format!("`ethtool -K {peer} tx off`");
    match is_on {
        Some(false) => Finding::fine(&subject, format!("off on {peer}")),
        Some(true) => Finding::warning(&subject, format!("on on {peer}: {lost}"), mend),
        None => Finding::unseen(
            &subject,
            format!("{peer} is in another network namespace; if it is on there, {lost}"),
            format!("{mend} there"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;
    use crate::neighbours::Peer;

    fn interface(kind: Option<&str>) -> Interface {
        Interface {
            ifindex: 2,
            name: "eth0".to_owned(),
            mac: Some([2, 0, 0, 0, 0, 1]),
            mtu: 1600,
            is_up: true,
            has_carrier: true,
            kind: kind.map(str::to_owned),
            xdp: None,
            peer: None,
        }
    }

    #[test]
    fn native_xdp_is_known_for_virtual_interfaces_only() {
        for (kind, mode, level) in [
            (Some("veth"), Mode::Native, Level::Fine),
            (Some("bridge"), Mode::Native, Level::Error),
            (Some("bridge"), Mode::Auto, Level::Warning),
            (Some("bridge"), Mode::Skb, Level::Fine),
            (Some("bond"), Mode::Native, Level::Unseen),
            (None, Mode::Auto, Level::Unseen),
        ] {
            assert_eq!(native(&interface(kind), mode).level, level, "{kind:?} {mode:?}");
        }
        let lo = Interface { name: "lo".to_owned(), ..interface(None) };
        assert_eq!(native(&lo, Mode::Native).level, Level::Error);
        let jumbo = Interface { mtu: 9000, ..interface(Some("veth")) };
        assert_eq!(native(&jumbo, Mode::Native).level, Level::Error);
        assert_eq!(native(&jumbo, Mode::Auto).level, Level::Warning);
    }

    #[test]
    fn the_other_end_of_a_veth_needs_a_native_program() {
        let veth = interface(Some("veth"));
        let peer = |xdp| Interface { name: "peer".to_owned(), xdp, ..interface(Some("veth")) };
        let judge = |xdp| peer_program(&veth, Ok(Some(&peer(xdp)))).level;
        assert_eq!(judge(None), Level::Warning);
        assert_eq!(judge(Some(XdpProgram { id: 1, is_native: false })), Level::Warning);
        assert_eq!(judge(Some(XdpProgram { id: 1, is_native: true })), Level::Fine);
        assert_eq!(peer_program(&veth, Ok(None)).level, Level::Unseen);
    }

    #[test]
    fn offloads_elsewhere_are_not_seen_but_answered() {
        let elsewhere = Some(Peer { ifindex: 3, namespace: Some(0) });
        let veth = Interface { peer: elsewhere, ..interface(Some("veth")) };
        let peer = Interface { name: "port7".to_owned(), ..interface(Some("veth")) };
        let finding = peer_checksums(&veth, Some(&peer));
        assert_eq!(finding.level, Level::Unseen);
        assert_eq!(finding.mend, "`ethtool -K port7 tx off` there");
    }
}
