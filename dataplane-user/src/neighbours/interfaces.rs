//! The network interfaces of this namespace, by name and by index.

use std::collections::BTreeMap;
use std::net::IpAddr;

use futures_util::StreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp, XdpAttached,
};
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
    /// The XDP program that is attached to it.
    pub xdp: Option<XdpProgram>,
    /// The other end of a veth.
    pub peer: Option<Peer>,
}

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpProgram {
    /// The kernel's number for it.
    pub id: u32,
    /// Whether it runs in the driver, not in the kernel's generic path.
    pub is_native: bool,
}

/// Where the other end of a veth is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its index, in its own namespace.
    pub ifindex: u32,
    /// The number by which this namespace knows the other one; `None` if they are the same.
    pub namespace: Option<i32>,
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
    addresses: Vec<(u32, IpAddr)>,
}

impl Interfaces {
    /// Asks the kernel for the interfaces of the calling thread's namespace, with their addresses.
    ///
    /// # Errors
    /// When netlink does not answer.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time.
    pub async fn read() -> Result<Self, Error> {
        let netlink = Netlink::open()?;
        let addresses = netlink.addresses().await?;
        Ok(Self { addresses, ..netlink.interfaces().await? })
    }

    /// Asks the kernel for the other end of a veth; `None` if the interface is none.
    ///
    /// # Errors
    /// When the kernel refuses: an end in another namespace takes CAP_NET_ADMIN there.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time.
    pub async fn peer(&self, interface: &Interface) -> Result<Option<Interface>, Error> {
        match interface.peer {
            None => Ok(None),
            Some(Peer { ifindex, namespace: None }) => Ok(self.indexed(ifindex).cloned()),
            Some(Peer { ifindex, namespace: Some(namespace) }) => {
                Netlink::open()?.interface_elsewhere(ifindex, namespace).await.map(Some)
            }
        }
    }

    /// The interface that has this address.
    pub fn holding(&self, address: IpAddr) -> Option<&Interface> {
        let (ifindex, _) = self.addresses.iter().find(|(_, held)| *held == address)?;
        self.indexed(*ifindex)
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
        Self { by_index: by_index.collect(), addresses: Vec::new() }
    }
}

impl Netlink {
    /// All interfaces, without their addresses.
    pub(super) async fn interfaces(&self) -> Result<Interfaces, Error> {
        const DOING: &str = "listing the network interfaces";
        let links = self.handle().link().get().execute();
        let links: Vec<_> = Self::in_time(DOING, links.collect()).await?;
        let links = links.into_iter().map(|link| link.map(|link| interface(&link)));
        links.collect::<Result<_, _>>().map_err(|error| Error::request(DOING, error))
    }

    /// An interface of another namespace (Linux 4.20).
    async fn interface_elsewhere(&self, ifindex: u32, namespace: i32) -> Result<Interface, Error> {
        const DOING: &str = "asking for an interface of another network namespace";
        let mut request = self.handle().link().get().match_index(ifindex);
        request.message_mut().attributes.push(LinkAttribute::IfNetnsId(namespace));
        let mut links = std::pin::pin!(request.execute());
        match Self::in_time(DOING, links.next()).await? {
            Some(Ok(link)) => Ok(interface(&link)),
            Some(Err(error)) => Err(Error::request(DOING, error)),
            None => Err(Error::Answer { doing: DOING, reason: "an empty answer".to_owned() }),
        }
    }

    /// All addresses, each with the index of its interface.
    async fn addresses(&self) -> Result<Vec<(u32, IpAddr)>, Error> {
        const DOING: &str = "listing the addresses of interfaces";
        let addresses = self.handle().address().get().execute();
        let addresses: Vec<_> = Self::in_time(DOING, addresses.collect()).await?;
        let addresses = addresses.into_iter().collect::<Result<Vec<_>, _>>();
        let addresses = addresses.map_err(|error| Error::request(DOING, error))?;
        Ok(addresses.iter().filter_map(address).collect())
    }
}

/// A point-to-point link has its peer in `Address` and its own in `Local`; IPv6 often lacks the
/// latter.
fn address(message: &AddressMessage) -> Option<(u32, IpAddr)> {
    let own = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let any = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    Some((message.header.index, own.or(any)?))
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
        xdp: None,
        peer: None,
    };
    let (mut beneath, mut namespace) = (None, None);
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
            LinkAttribute::Xdp(attributes) => interface.xdp = xdp(attributes),
            LinkAttribute::Link(ifindex) => beneath = Some(*ifindex),
            LinkAttribute::LinkNetNsId(number) => namespace = Some(*number),
            _ => {}
        }
    }
    if interface.kind.as_deref() == Some("veth") {
        interface.peer = beneath.map(|ifindex| Peer { ifindex, namespace });
    }
    interface
}

fn xdp(attributes: &[LinkXdp]) -> Option<XdpProgram> {
    let is_native = attributes.iter().any(|attribute| {
        matches!(attribute, LinkXdp::Attached(XdpAttached::Driver | XdpAttached::Hardware))
    });
    let id = attributes.iter().find_map(|attribute| match attribute {
        LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) => Some(*id),
        _ => None,
    })?;
    Some(XdpProgram { id, is_native })
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
            xdp: None,
            peer: None,
        };
        let interfaces = Interfaces::from_iter([named(2, "eth0"), named(1, "lo")]);
        assert_eq!(interfaces.named("eth0").map(|found| found.ifindex), Ok(2));
        assert_eq!(
            interfaces.named("eth1").unwrap_err().to_string(),
            "there is no network interface \"eth1\" in this network namespace; there are: lo, eth0"
        );
    }
}
