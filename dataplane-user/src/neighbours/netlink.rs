//! Questions to the kernel: the route to an address, the neighbours of an interface; and the
//! request to keep a neighbour resolved.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use rtnetlink::Handle;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
    NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia,
};

use super::Error;

/// How long the kernel may take for an answer. It answers at once; what never comes is an answer
/// that the netlink library could not read.
const PATIENCE: Duration = Duration::from_secs(2);

/// An address on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Neighbour {
    pub(super) ifindex: u32,
    pub(super) address: IpAddr,
}

/// Where packets to an address go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// To a neighbour: a gateway, or the address itself.
    Via(Neighbour),
    /// To this host.
    Local,
    /// Nowhere.
    Unreachable,
}

/// What the kernel knows of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its MAC address, unless resolving it failed or has not ended yet.
    pub(super) mac: Option<[u8; 6]>,
    /// Resolving it failed, or was never tried.
    pub(super) idle: bool,
    /// Set by the administrator: nothing to resolve.
    pub(super) permanent: bool,
    /// The kernel keeps it resolved.
    pub(super) managed: bool,
}

/// Whether the kernel is to keep a neighbour resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Care {
    /// Resolve it now and from now on.
    Managed,
    /// Resolve it now, if it is not; a kernel that managed it stops doing so.
    Once,
}

/// A netlink connection for requests, in the namespace of the thread that opened it.
#[derive(Clone, Debug)]
pub(super) struct Netlink(Handle);

impl Netlink {
    /// Opens a connection; a task of its own serves it until the last clone is dropped.
    pub(super) fn open() -> Result<Self, Error> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Open)?;
        tokio::spawn(connection);
        Ok(Self(handle))
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.0
    }

    /// Waits for an answer, but not for ever.
    pub(super) async fn in_time<T>(
        doing: &'static str,
        answer: impl Future<Output = T>,
    ) -> Result<T, Error> {
        tokio::time::timeout(PATIENCE, answer)
            .await
            .map_err(|_| Error::Answer { doing, reason: "no answer from netlink".to_owned() })
    }

    /// The route to an address, as the kernel would choose it for a packet without a flow.
    pub(super) async fn route(&self, address: IpAddr) -> Result<Route, Error> {
        const DOING: &str = "looking up a route";
        let mut message = RouteMessage::default();
        message.header.address_family = family(address);
        message.header.destination_prefix_length = if address.is_ipv4() { 32 } else { 128 };
        message.attributes.push(RouteAttribute::Destination(address.into()));
        let mut answers = pin!(self.0.route().get(message).execute());
        match Self::in_time(DOING, answers.next()).await? {
            Some(Ok(route)) => Ok(read_route(address, &route)),
            Some(Err(error)) => {
                let error = Error::request(DOING, error);
                match error.errno() {
                    Some(
                        libc::ENETUNREACH
                        | libc::EHOSTUNREACH
                        | libc::ENETDOWN
                        | libc::EACCES
                        | libc::EINVAL,
                    ) => Ok(Route::Unreachable),
                    _ => Err(error),
                }
            }
            None => Err(Error::Answer { doing: DOING, reason: "an empty answer".to_owned() }),
        }
    }

    /// The IPv4 and IPv6 neighbours on an interface; none if the interface is gone.
    pub(super) async fn neighbours(
        &self,
        ifindex: u32,
    ) -> Result<BTreeMap<Neighbour, Entry>, Error> {
        const DOING: &str = "listing the neighbours";
        let mut request = self.0.neighbours().get();
        request.message_mut().attributes.push(NeighbourAttribute::IfIndex(ifindex));
        let messages: Vec<_> = Self::in_time(DOING, request.execute().collect()).await?;
        let mut neighbours = BTreeMap::new();
        for message in messages {
            let message = message.map_err(|error| Error::request(DOING, error))?;
            neighbours.extend(read_neighbour(&message));
        }
        Ok(neighbours)
    }

    /// Has the kernel resolve a neighbour. Kernels before 5.16 do so only this once.
    pub(super) async fn resolve(&self, neighbour: Neighbour, care: Care) -> Result<(), Error> {
        const DOING: &str = "having the kernel resolve a neighbour";
        // With NTF_USE the state, none, is not taken over, on old kernels neither.
        let mut request = self
            .0
            .neighbours()
            .add(neighbour.ifindex, neighbour.address)
            .replace()
            .state(NeighbourState::None)
            .flags(NeighbourFlags::Use);
        if care == Care::Managed {
            let managed = NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed);
            request.message_mut().attributes.push(managed);
        }
        Self::in_time(DOING, request.execute()).await?.map_err(|error| Error::request(DOING, error))
    }
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn read_route(address: IpAddr, message: &RouteMessage) -> Route {
    match message.header.kind {
        RouteType::Unicast => {}
        RouteType::Local => return Route::Local,
        _ => return Route::Unreachable,
    }
    let mut ifindex = None;
    let mut next = address;
    // Whatever else the route says, its MTU for one, is no matter of the next hop.
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(gateway))
            | RouteAttribute::Via(RouteVia::Inet(gateway)) => next = (*gateway).into(),
            RouteAttribute::Gateway(RouteAddress::Inet6(gateway))
            | RouteAttribute::Via(RouteVia::Inet6(gateway)) => next = (*gateway).into(),
            _ => {}
        }
    }
    ifindex.map_or(Route::Unreachable, |ifindex| Route::Via(Neighbour { ifindex, address: next }))
}

fn read_neighbour(message: &NeighbourMessage) -> Option<(Neighbour, Entry)> {
    let mut address = None;
    let mut mac = None;
    let mut managed = false;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                address = Some(IpAddr::from(*v4));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                address = Some(IpAddr::from(*v6));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().filter(|mac| *mac != [0; 6]);
            }
            NeighbourAttribute::ExtFlags(flags) => {
                managed = flags.contains(NeighbourExtFlags::Managed);
            }
            _ => {}
        }
    }
    let neighbour = Neighbour { ifindex: message.header.ifindex, address: address? };
    // The kernel's NUD_VALID: it would send to this MAC address.
    let valid = matches!(
        message.header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp
    );
    let entry = Entry {
        mac: mac.filter(|_| valid),
        idle: matches!(message.header.state, NeighbourState::Failed | NeighbourState::None),
        permanent: matches!(
            message.header.state,
            NeighbourState::Permanent | NeighbourState::Noarp
        ),
        managed,
    };
    Some((neighbour, entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 0, 2));

    fn route(kind: RouteType, attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.kind = kind;
        message.attributes = attributes;
        message
    }

    #[test]
    fn an_address_on_the_link_is_its_own_neighbour() {
        let message = route(RouteType::Unicast, vec![RouteAttribute::Oif(3)]);
        let on_link = Neighbour { ifindex: 3, address: NODE };
        assert_eq!(read_route(NODE, &message), Route::Via(on_link));
    }

    #[test]
    fn a_gateway_may_be_of_the_other_family() {
        let gateway = std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
        let via = RouteAttribute::Via(RouteVia::Inet6(gateway));
        let message = route(RouteType::Unicast, vec![via, RouteAttribute::Oif(3)]);
        let gateway = Neighbour { ifindex: 3, address: gateway.into() };
        assert_eq!(read_route(NODE, &message), Route::Via(gateway));
    }

    #[test]
    fn only_unicast_routes_lead_to_a_neighbour() {
        let oif = || vec![RouteAttribute::Oif(1)];
        assert_eq!(read_route(NODE, &route(RouteType::Local, oif())), Route::Local);
        assert_eq!(read_route(NODE, &route(RouteType::BlackHole, oif())), Route::Unreachable);
    }

    #[test]
    fn a_failed_neighbour_has_no_mac_even_if_the_kernel_still_tells_the_old_one() {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = 3;
        message.header.state = NeighbourState::Failed;
        message.attributes = vec![
            NeighbourAttribute::Destination(NODE.into()),
            NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, 1]),
        ];
        let (_, entry) = read_neighbour(&message).unwrap();
        assert_eq!((entry.mac, entry.idle), (None, true));
        message.header.state = NeighbourState::Stale;
        let (_, entry) = read_neighbour(&message).unwrap();
        assert_eq!((entry.mac, entry.idle), (Some([2, 0, 0, 0, 0, 1]), false));
    }
}
