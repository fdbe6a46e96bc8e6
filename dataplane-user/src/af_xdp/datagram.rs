//! A received frame on its way to the application.

use super::{
    Speaker,
    path::{Hop, Path},
};
use crate::checksum;
use dataplane_ebpf::{
    admit::{Admit, Arrived, admit},
    frame::Frame,
    node::Address,
    parse::{IPV4, Parsed, UDP, parse_frame},
    tables::Tables,
    verdict::Admission,
    wire_id::Key,
};
use std::net::{IpAddr, SocketAddr};

/// A datagram for the application. Its payload lies where the kernel, or the NIC, has put it.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    path: Path,
    key: Key,
    opens: bool,
    payload: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// The client's address and port.
    pub fn client(&self) -> SocketAddr {
        self.path.client
    }

    /// The service's index; [`super::Port::service_name`] knows its name.
    pub fn service(&self) -> u16 {
        self.path.service
    }

    /// The way back to the client.
    pub fn path(&self) -> Path {
        self.path
    }

    /// The key of the wire id, which stands for one session as long as that lives. Of a packet that
    /// opens a session it is the key of the client's own choice.
    pub fn key(&self) -> Key {
        self.key
    }

    /// Whether no session of this node has the wire id: the packet opens one.
    pub fn opens(&self) -> bool {
        self.opens
    }

    /// In whose name it is answered: the session's, or that of its slot's owner if it opens one.
    pub fn speaker(&self) -> Speaker {
        if self.opens { Speaker::Slot(self.key) } else { Speaker::Session(self.key) }
    }

    /// The UDP payload.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Reads a frame and decides about it at `now`, in nanoseconds of CLOCK_BOOTTIME. On a refusal:
    /// the service it counts for, and why.
    pub(super) fn admit<T: Tables>(
        bytes: &'a [u8],
        tables: &T,
        now: u64,
        checksums: bool,
    ) -> Result<(Self, Admission), (u16, Admission)> {
        let unreadable = (0, Admission::NoWireId);
        let Parsed::Udp(parsed) = parse_frame(&Frame::new(bytes)) else {
            return Err(unreadable);
        };
        // The parser has found all of it within the frame.
        let udp = bytes.get(parsed.udp..parsed.payload() + parsed.payload_length);
        let udp = udp.ok_or(unreadable)?;
        let frame = Frame::new(udp);
        let destination = parsed.destination;
        // AF_XDP has no choice of the CPU: there is none that would be the right one.
        let source = parsed.source;
        let arrived = Arrived { frame: &frame, source, destination, now, cpu: u32::MAX };
        let Admit { admission, service, socket, key } = admit(&arrived, tables);
        let admission = match (admission, socket) {
            (admission, None) => return Err((service, admission)),
            (Admission::WrongCpu, _) => Admission::Delivered,
            (admission, _) => admission,
        };
        let header = &bytes[parsed.ip..parsed.udp];
        if checksums && !has_right_checksums(header, parsed.source, destination, udp) {
            return Err((service, Admission::BadChecksum));
        }
        let (mac, hop) = Hop::of_frame(bytes, parsed.ip).ok_or(unreadable)?;
        let path = Path {
            service,
            client: socket_address(parsed.source, parsed.source_port),
            server: socket_address(destination, parsed.port),
            mac,
            hop,
        };
        let opens = admission == Admission::DeliveredNew;
        Ok((Self { path, key, opens, payload: &udp[UDP..] }, admission))
    }
}

/// An address and port (network byte order) of the tables.
fn socket_address(address: Address, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from(address.bytes()).to_canonical(), u16::from_be(port))
}

/// Whether a datagram's checksums are right: that of an IPv4 header, and UDP's, which IPv4 may do
/// without (RFC 768) and IPv6 may not (RFC 8200 §8.1).
fn has_right_checksums(ip: &[u8], source: Address, destination: Address, udp: &[u8]) -> bool {
    let is_v4 = destination.v4().is_some();
    if is_v4 {
        let length = usize::from(ip[0] & 0xf) * 4;
        debug_assert!(length >= IPV4 && length == ip.len());
        if checksum::fold(checksum::sum(ip)) != 0xffff {
            return false;
        }
    }
    if udp[6..8] == [0, 0] {
        return is_v4;
    }
    let sum = pseudo_header(source, destination, udp.len()) + checksum::sum(udp);
    checksum::fold(sum) == 0xffff
}

/// The sum of UDP's pseudo header. An IPv4 address adds no more as a mapped one: the ones of its
/// prefix are nothing in one's complement.
pub(super) fn pseudo_header(source: Address, destination: Address, length: usize) -> u64 {
    const UDP_PROTOCOL: u8 = 17;
    let [a, b, c, d] = (length as u32).to_be_bytes();
    checksum::sum(&source.bytes())
        + checksum::sum(&destination.bytes())
        + checksum::sum(&[a, b, c, d, 0, 0, 0, UDP_PROTOCOL])
}
