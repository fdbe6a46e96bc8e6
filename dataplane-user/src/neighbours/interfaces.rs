//! The network interfaces of this namespace, by name and by index.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use thiserror::Error;

use super::Error;
use super::netlink::Netlink;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its index in this namespace, never 0.
    pub ifindex: u32,
    /// Its name, such as `eth0`.
    pub name: String,
    /// Its MAC address; `None` where addresses are not 6 bytes (tun, for one).
    pub mac: Option<[u8; 6]>,
    /// The largest IP packet that it sends, in bytes.
    pub mtu: u32,
    /// Whether it was set up by the administrator.
    pub is_up: bool,
    /// Whether it can send now: it is up and what lies beneath it is connected.
    pub has_carrier: bool,
    /// The kernel's name of a virtual interface's kind (`veth`, `bridge`, `vlan`); `None` for a
    /// physical one.
    pub kind: Option<String>,
}

/// There is no such interface.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "there is no network interface {name:?} in this network namespace; there are: {known}",
    known = self.known.join(", ")
)]
pub struct UnknownInterface {
    /// The name that was asked for.
    pub name: String,
    /// The names of those that exist.
    pub known: Vec<String>,
}

/// The interfaces of a network namespace as they were at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    by_index: BTreeMap<u32, Interface>,
}

impl Interfaces {
    /// Asks the kernel for the interfaces of the calling thread's namespace.
    ///
    /// # Errors
    /// When netlink does not answer.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time.
    pub async fn read() -> Result<Self, Error> {
        Netlink::open()?.interfaces().await
    }

    /// The interface with this name.
    ///
    /// # Errors
    /// When there is none; the error lists those that exist.
    pub fn named(&self, name: &str) -> Result<&Interface, UnknownInterface> {
        self.iter().find(|interface| interface.name == name).ok_or_else(|| UnknownInterface {
            name: name.to_owned(),
            known: self.iter().map(|interface| interface.name.clone()).collect(),
        })
    }

    /// The interface with this index.
    pub fn indexed(&self, ifindex: u32) -> Option<&Interface> {
        self.by_index.get(&ifindex)
    }

    /// All of them, by rising index.
    pub fn iter(&self) -> impl Iterator<Item = &Interface> {
        self.by_index.values()
    }
}

impl FromIterator<Interface> for Interfaces {
    fn from_iter<I: IntoIterator<Item = Interface>>(interfaces: I) -> Self {
        let by_index = interfaces.into_iter().map(|interface| (interface.ifindex, interface));
        Self { by_index: by_index.collect() }
    }
}

impl Netlink {
    /// All interfaces.
    pub(super) async fn interfaces(&self) -> Result<Interfaces, Error> {
        const DOING: &str = "listing the network interfaces";
        let links = self.handle().link().get().execute();
        let links: Vec<_> = Self::in_time(DOING, links.collect()).await?;
        let links = links.into_iter().map(|link| link.map(|link| interface(&link)));
        links.collect::<Result<_, _>>().map_err(|error| Error::request(DOING, error))
    }
}

fn interface(message: &LinkMessage) -> Interface {
    let flags = message.header.flags;
    let mut interface = Interface {
        ifindex: message.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        is_up: flags.contains(LinkFlags::Up),
        has_carrier: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        kind: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name.clone_from(name),
            LinkAttribute::Address(bytes) => interface.mac = bytes.as_slice().try_into().ok(),
            LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
            LinkAttribute::LinkInfo(infos) => {
                interface.kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    interface
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let named = |ifindex, name: &str| Interface {
            ifindex,
            name: name.to_owned(),
            mac: None,
            mtu: 1500,
            is_up: true,
            has_carrier: true,
            kind: None,
        };
        let interfaces = Interfaces::from_iter([named(2, "eth0"), named(1, "lo")]);
        assert_eq!(interfaces.named("eth0").map(|found| found.ifindex), Ok(2));
        assert_eq!(
            interfaces.named("eth1").unwrap_err().to_string(),
            "there is no network interface \"eth1\" in this network namespace; there are: lo, eth0"
        );
    }
}
