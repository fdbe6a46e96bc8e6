//! The kernel's notifications that links, addresses, routes or neighbours changed.
//!
//! They only say that something has to be looked up again; nothing is taken from their contents.
//! So none can be misread, a lost one does no harm if the loss is known (the kernel says so with
//! ENOBUFS), and there is no queue but the socket's own.

use std::collections::BTreeSet;
use std::io;

use rtnetlink::MulticastGroup;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};

use super::Error;

/// What has to be looked up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// The neighbours.
    Neighbours,
    /// Routes and neighbours.
    Routes,
}

const GROUPS: [MulticastGroup; 8] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv6Rule,
];

/// Linux uapi, `linux/rtnetlink.h`.
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;

/// `struct nlmsghdr`, and the start of `struct ndmsg`: family, padding, interface index.
const HEADER: usize = 16;
const NEIGHBOUR: usize = HEADER + 8;

/// A subscription to notifications, in the namespace of the thread that opened it.
pub(super) struct Events {
    socket: TokioSocket,
    buffer: Vec<u8>,
}

impl Events {
    /// Subscribes.
    pub(super) fn open() -> Result<Self, Error> {
        let open = || {
            let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
            let groups = GROUPS.iter().fold(0, |groups, group| groups | 1 << (*group as u32 - 1));
            let inner = socket.socket_mut();
            inner.bind(&SocketAddr::new(0, groups))?;
            // Linux 5.3; before there are no nexthop objects to be told of.
            if let Err(error) = inner.add_membership(MulticastGroup::Nexthop as u32) {
                tracing::debug!(%error, "this kernel does not tell of nexthop objects");
            }
            Ok(socket)
        };
        let socket = open().map_err(Error::Open)?;
        // Only the start of a message matters; a longer one is cut off.
        Ok(Self { socket, buffer: Vec::with_capacity(4096) })
    }

    /// Waits for a notification that matters to next hops on these interfaces. Cancel safe.
    pub(super) async fn next(&mut self, underlay: &BTreeSet<u32>) -> Result<Scope, Error> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer).await {
                Ok(_) => {
                    if let Some(scope) = scope_of(&self.buffer, underlay) {
                        return Ok(scope);
                    }
                }
                // Notifications were lost: they may have been of any kind.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    return Ok(Scope::Routes);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Events(error)),
            }
        }
    }
}

/// What a notification (the kernel sends one a datagram) asks to be looked up.
fn scope_of(message: &[u8], underlay: &BTreeSet<u32>) -> Option<Scope> {
    let [_, _, _, _, kind_low, kind_high, ..] = *message else { return None };
    let kind = u16::from_ne_bytes([kind_low, kind_high]);
    if !matches!(kind, RTM_NEWNEIGH | RTM_DELNEIGH) {
        return Some(Scope::Routes);
    }
    let [family, _, _, _, a, b, c, d] = *message.get(HEADER..NEIGHBOUR)? else { return None };
    let is_ip = [AddressFamily::Inet, AddressFamily::Inet6].map(u8::from).contains(&family);
    let relevant = is_ip && underlay.contains(&u32::from_ne_bytes([a, b, c, d]));
    relevant.then_some(Scope::Neighbours)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notification(kind: u16, family: u8, ifindex: u32) -> Vec<u8> {
        let mut message = vec![0; HEADER];
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        message.extend([family, 0, 0, 0]);
        message.extend(ifindex.to_ne_bytes());
        message
    }

    #[test]
    fn neighbours_elsewhere_and_bridge_entries_are_ignored() {
        let underlay = BTreeSet::from([7]);
        let [v4, v6, bridge] = [2, 10, 7];
        for (family, ifindex, expected) in [
            (v4, 7, Some(Scope::Neighbours)),
            (v6, 7, Some(Scope::Neighbours)),
            (v4, 8, None),
            (bridge, 7, None),
        ] {
            let message = notification(RTM_NEWNEIGH, family, ifindex);
            assert_eq!(scope_of(&message, &underlay), expected);
        }
    }

    #[test]
    fn everything_else_may_change_routes() {
        let new_route = 24;
        let message = notification(new_route, 2, 0);
        assert_eq!(scope_of(&message, &BTreeSet::new()), Some(Scope::Routes));
        assert_eq!(scope_of(&message[..3], &BTreeSet::new()), None);
    }
}
