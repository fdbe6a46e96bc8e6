//! The way back to a client.

use dataplane_ebpf::{parse::ETHERNET, xsk::is_forwarded};
use std::net::SocketAddr;

/// Where answers to a client go, as one of its packets has shown it. Can be kept for as long as the
/// client's address holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    pub(super) service: u16,
    pub(super) client: SocketAddr,
    pub(super) server: SocketAddr,
    /// The interface's own MAC address.
    pub(super) mac: [u8; 6],
    /// Who has sent the frame; `None` if that was another node, which is no way back.
    pub(super) hop: Option<Hop>,
}

/// A neighbour on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) mac: [u8; 6],
    tags: [u8; 8],
    tags_length: u8,
}

impl Path {
    /// The client's address and port.
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// The address and port that it has sent to: the service's.
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// Whether the packet came here through another node.
    pub fn is_forwarded(&self) -> bool {
        self.hop.is_none()
    }
}

impl Hop {
    /// A neighbour that frames without VLAN tags go to.
    pub(super) fn new(mac: [u8; 6]) -> Self {
        Self { mac, tags: [0; 8], tags_length: 0 }
    }

    /// The frame's own MAC address and its sender, if that is a way back. Its IP header starts at
    /// `ip`, behind at most two VLAN tags.
    pub(super) fn of_frame(frame: &[u8], ip: usize) -> Option<([u8; 6], Option<Self>)> {
        let addresses: &[u8; 12] = frame.first_chunk()?;
        let (own, sender) = addresses.split_first_chunk::<6>()?;
        if is_forwarded(addresses) {
            return Some((*own, None));
        }
        let mut hop = Self::new(*sender.first_chunk()?);
        let tags = frame.get(addresses.len()..ip - 2)?;
        hop.tags.get_mut(..tags.len())?.copy_from_slice(tags);
        hop.tags_length = tags.len() as u8;
        Some((*own, Some(hop)))
    }

    pub(super) fn tags(&self) -> &[u8] {
        &self.tags[..self.tags_length.into()]
    }

    /// The length of the Ethernet header of a frame for it.
    pub(super) fn header(&self) -> usize {
        ETHERNET + usize::from(self.tags_length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_go_back_as_they_came() {
        let frame =
            [[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0, 0, 7, 8, 0].as_slice(), &[0; 40]];
        let (own, hop) = Hop::of_frame(&frame.concat(), 18).expect("a frame");
        let hop = hop.expect("a way back");
        assert_eq!((own, hop.mac), ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]));
        assert_eq!((hop.tags(), hop.header()), (&[0x81, 0, 0, 7][..], 18));
    }

    #[test]
    fn another_node_is_no_way_back() {
        let frame = [2, 0, 0, 0, 0, 1, 3, 0, 0, 0, 0, 2, 8, 0];
        assert_eq!(Hop::of_frame(&frame, 14), Some(([2, 0, 0, 0, 0, 1], None)));
    }
}
