//! Sending: every frame is checked as the egress program checks those of sockets.

use super::{
    Datagram, Path, Speaker, datagram::pseudo_header, given::Given, path::Hop,
    registered::Registered, socket::Bound,
};
use crate::{
    checksum,
    dataplane::{clock::boottime, wire_address},
};
use dataplane_ebpf::{
    parse::{ETHERTYPE_V4, ETHERTYPE_V6, IPV4, IPV6, UDP},
    verdict::Transmission,
    xsk::may_send,
};
use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd},
    ptr,
};
use thiserror::Error;
use xdp::{
    Packet,
    slab::{HeapSlab, Slab},
};

const TTL: u8 = 64;
const PROTOCOL_UDP: u8 = 17;

/// How many frames wait here before they are sent without being told to.
const BATCH: usize = 64;

/// How often the kernel is asked to send before its refusal is taken for one. It sends up to 32
/// frames each time.
const KICKS: usize = 1024;

/// Why a datagram was not sent.
#[derive(Debug, Error)]
pub enum SendError {
    /// It may not be, or cannot be now; it is counted.
    #[error("not sent: {}", .0.explanation().trim())]
    Refused(Transmission),
    /// The port has never been registered.
    #[error("the port is not registered with the daemon: nothing may be sent")]
    NotRegistered,
    /// The kernel refused earlier frames.
    #[error("the kernel does not send frames")]
    Io(#[from] io::Error),
}

/// The sending side of a port. What is sent leaves with the end of [`super::Port::receive`], with
/// [`Sender::flush`], or when enough has gathered.
// Not the outbox itself, which could be exchanged for another port's while its frames are out.
pub struct Sender<'a>(pub(super) &'a mut Outbox);

/// A port's socket and memory, and what waits to be sent.
pub(super) struct Outbox {
    pub(super) bound: Bound,
    pub(super) registered: Option<Registered>,
    /// What may leave with the next flush.
    waiting: VecDeque<Waiting>,
    /// The way to clients whose packets came through another node: for IPv4, and for IPv6.
    gateways: [Gateway; 2],
    /// Whether the kernel may have left frames in its ring, to be sent with the next call. Completions
    /// are left alone meanwhile.
    is_behind: bool,
    /// What the kernel was given since it last had sent everything, but for what was made void.
    given: Vec<Given>,
}

/// A frame, and in whose name it is sent.
struct Waiting {
    packet: Packet,
    service: u16,
    speaker: Speaker,
}

// SAFETY: the packet points into the memory of the port that it waits in, and goes where that goes.
unsafe impl Send for Waiting {}

#[derive(Clone, Copy, Debug, Default)]
struct Gateway {
    hop: Option<Hop>,
    /// Whether it was set, rather than learned.
    is_set: bool,
}

impl Sender<'_> {
    /// Answers a datagram with a payload in parts, in the name of the datagram's session, or of its
    /// slot's owner if it opens one.
    ///
    /// # Errors
    ///
    /// If that may not speak here and now; see [`Transmission`].
    pub fn reply(&mut self, to: &Datagram<'_>, payload: &[&[u8]]) -> Result<(), SendError> {
        self.send(&to.path(), to.speaker(), payload)
    }

    /// Sends a payload in parts to a client.
    ///
    /// # Errors
    ///
    /// As for [`Sender::reply`].
    pub fn send(
        &mut self,
        path: &Path,
        speaker: Speaker,
        payload: &[&[u8]],
    ) -> Result<(), SendError> {
        self.0.send(path, speaker, payload)
    }

    /// Sends what waits: all of it, or none once the lease is over. What is no longer in the name
    /// of somebody who may speak here is dropped, and counted. What the kernel has not sent when it
    /// was last called counts among what waits; of that, frames for nobody may leave.
    ///
    /// # Errors
    ///
    /// If the interface is down.
    pub fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }

    /// Sets the MAC address of the router that answers go to when the client's packet came through
    /// another node, for clients of an address family. Without it that is whoever the last packet
    /// came from that came here directly.
    pub fn set_gateway(&mut self, is_ipv4: bool, mac: [u8; 6]) {
        let gateway = Gateway { hop: Some(Hop::new(mac)), is_set: true };
        self.0.gateways[usize::from(!is_ipv4)] = gateway;
    }
}

impl Outbox {
    pub(super) fn new(bound: Bound) -> Self {
        let waiting = VecDeque::with_capacity(BATCH);
        let gateways = Default::default();
        let given = Vec::with_capacity(BATCH);
        Self { bound, registered: None, waiting, gateways, is_behind: false, given }
    }

    fn send(&mut self, path: &Path, speaker: Speaker, payload: &[&[u8]]) -> Result<(), SendError> {
        if self.waiting.len() >= BATCH {
            self.flush()?;
        }
        let packet = self.prepare(path, speaker, payload)?;
        match packet {
            Ok(packet) => {
                self.waiting.push_back(Waiting { packet, service: path.service, speaker });
                Ok(())
            }
            Err(reason) => {
                if let Some(registered) = &mut self.registered {
                    registered.tally.transmission(path.service, reason);
                    registered.tally.publish();
                }
                Err(SendError::Refused(reason))
            }
        }
    }

    /// Writes the frame, if it may be sent.
    fn prepare(
        &mut self,
        path: &Path,
        speaker: Speaker,
        payload: &[&[u8]],
    ) -> Result<Result<Packet, Transmission>, SendError> {
        let registered = self.registered.as_ref().ok_or(SendError::NotRegistered)?;
        if let Err(reason) = may_send(&registered.tables, speaker, now()) {
            return Ok(Err(reason));
        }
        let Some(hop) = path.hop.or_else(|| self.gateway(path.client.ip()).hop) else {
            return Ok(Err(Transmission::NoNextHop));
        };
        let ip = if path.client.is_ipv4() { IPV4 } else { IPV6 };
        let length = ip + UDP + payload.iter().map(|part| part.len()).sum::<usize>();
        if length > self.bound.link.mtu {
            return Ok(Err(Transmission::TooBig));
        }
        let Some(mut packet) = self.frame() else {
            return Ok(Err(Transmission::NoFrame));
        };
        let grown = packet.adjust_tail((hop.header() + length) as i32);
        if grown.is_err() {
            self.bound.umem.free_packet(packet);
            return Ok(Err(Transmission::TooBig));
        }
        write(&mut packet, path, &hop, payload);
        Ok(Ok(packet))
    }

    /// A free frame.
    fn frame(&mut self) -> Option<Packet> {
        let Bound { umem, sent, .. } = &mut self.bound;
        // SAFETY: the packet is kept in `waiting` or given to the ring, which do not outlive it.
        let packet = unsafe { umem.alloc() };
        if packet.is_some() || self.is_behind {
            return packet;
        }
        sent.dequeue(umem, usize::MAX >> 32);
        // SAFETY: as above.
        unsafe { umem.alloc() }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        let Self { bound, registered, waiting, is_behind, given, .. } = self;
        let Some(Registered { tables, tally, .. }) = registered else {
            return Ok(());
        };
        let now = now();
        given.retain(|given| match may_send(tables, given.speaker, now) {
            Ok(()) => true,
            Err(reason) => {
                given.make_void();
                tally.transmission(given.service, reason);
                false
            }
        });
        let mut frames = HeapSlab::with_capacity(waiting.len());
        for Waiting { mut packet, service, speaker } in waiting.drain(..) {
            match may_send(tables, speaker, now) {
                Ok(()) => {
                    given.push(Given::new(&mut packet, service, speaker));
                    let left_over = frames.push_front(packet);
                    debug_assert!(left_over.is_none(), "there is room for all that waits");
                }
                Err(reason) => {
                    bound.umem.free_packet(packet);
                    tally.transmission(service, reason);
                }
            }
        }
        tally.publish();
        let count = frames.len();
        if count > 0 {
            // SAFETY: the packets are of this memory, whose pages the kernel holds.
            let queued = unsafe { bound.to_send.send(&mut frames, false) }?;
            debug_assert_eq!(queued, count, "the ring holds all frames of its kind");
        }
        if count > 0 || *is_behind {
            *is_behind = true;
            *is_behind = !kick(bound)?;
        }
        if !*is_behind {
            for Given { service, .. } in given.drain(..) {
                tally.transmission(service, Transmission::Sent);
            }
            tally.publish();
            bound.sent.dequeue(&mut bound.umem, usize::MAX >> 32);
        }
        Ok(())
    }

    /// Remembers who forwards to clients, as a client's own packet shows.
    pub(super) fn learn(&mut self, path: &Path) {
        let gateway = &mut self.gateways[family(path.client.ip())];
        if path.hop.is_some() && !gateway.is_set {
            gateway.hop = path.hop;
        }
    }

    fn gateway(&self, client: IpAddr) -> Gateway {
        self.gateways[family(client)]
    }
}

fn family(address: IpAddr) -> usize {
    usize::from(address.is_ipv6())
}

/// CLOCK_BOOTTIME in nanoseconds.
pub(super) fn now() -> u64 {
    boottime().as_nanos() as u64
}

/// Has the kernel send what is in its ring; `false` if something is left there.
fn kick(bound: &Bound) -> io::Result<bool> {
    for _ in 0..KICKS {
        // SAFETY: there is no buffer.
        let sent = unsafe {
            libc::sendto(
                bound.as_fd().as_raw_fd(),
                ptr::null(),
                0,
                libc::MSG_DONTWAIT,
                ptr::null(),
                0,
            )
        };
        if sent >= 0 {
            return Ok(true);
        }
        match io::Error::last_os_error() {
            // More than one call sends, or the device is busy.
            error
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::EINTR)
                ) => {}
            error => return Err(error),
        }
    }
    Ok(false)
}

/// Writes a whole frame, which is as long as it must be.
fn write(frame: &mut [u8], path: &Path, hop: &Hop, payload: &[&[u8]]) {
    let (ethernet, ip) = frame.split_at_mut(hop.header());
    let ethertype = if path.client.is_ipv4() { ETHERTYPE_V4 } else { ETHERTYPE_V6 };
    put(ethernet, &[&hop.mac, &path.mac, hop.tags(), &ethertype.to_be_bytes()]);
    let length = ip.len();
    let (header, udp) = ip.split_at_mut(if path.client.is_ipv4() { IPV4 } else { IPV6 });
    let udp_length = (udp.len() as u16).to_be_bytes();
    match (path.server, path.client) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            // Not to be fragmented, so that it needs no identification (RFC 6864 §4.1).
            let fixed = [0x45, 0, 0, 0, 0, 0, 0x40, 0, TTL, PROTOCOL_UDP, 0, 0];
            put(header, &[&fixed, &from.ip().octets(), &to.ip().octets()]);
            header[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            let sum = checksum::checksum(checksum::sum(header));
            header[10..12].copy_from_slice(&sum);
        }
        (from, to) => {
            let octets = |address: SocketAddr| wire_address(address.ip()).bytes();
            let [high, low] = udp_length;
            let fixed = [0x60, 0, 0, 0, high, low, PROTOCOL_UDP, TTL];
            put(header, &[&fixed, &octets(from), &octets(to)]);
        }
    }
    let ports = [path.server.port().to_be_bytes(), path.client.port().to_be_bytes()];
    let (head, body) = udp.split_at_mut(UDP);
    put(head, &[&ports[0], &ports[1], &udp_length, &[0, 0]]);
    put(body, payload);
    let [server, client] = [path.server, path.client].map(|address| wire_address(address.ip()));
    let sum = pseudo_header(server, client, udp.len()) + checksum::sum(udp);
    let sum = match checksum::checksum(sum) {
        // None would mean that there is no checksum (RFC 768).
        [0, 0] => [0xff, 0xff],
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum);
}

/// Puts parts one behind the other.
fn put(mut place: &mut [u8], parts: &[&[u8]]) {
    for part in parts {
        let (here, rest) = place.split_at_mut(part.len());
        here.copy_from_slice(part);
        place = rest;
    }
}
