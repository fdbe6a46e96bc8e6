//! Markers on their way through the CPUs' queues to applications, and back as acknowledgements.

use crate::{
    dataplane::{inject::Injector, memory::Memory},
    frame::udp_frame,
};
use dataplane_ebpf::{
    marker::{Token, encode},
    node::{LINKS, LinkRow, NODES},
    service::ENCAP_PORT,
    tables::Tables,
};
use rand::{TryRngCore, rngs::OsRng};
use std::{
    collections::BTreeMap,
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

/// How long a marker may take before it is sent again: the queue or the socket's buffer may have
/// been full.
const AGAIN: Duration = Duration::from_millis(20);

/// A queue of packets from the program to an application: a CPU's queue and a socket's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Queue {
    /// The service's index.
    pub service: u16,
    /// Whether it is that of the control port.
    pub control: bool,
    /// The CPU.
    pub cpu: u32,
}

impl fmt::Display for Queue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, control, cpu } = self;
        let port = if *control { "control" } else { "data" };
        write!(formatter, "service {service}, {port} port, CPU {cpu}")
    }
}

/// Where a service's packets go to.
#[derive(Clone, Copy, Debug)]
struct Marked {
    address: SocketAddr,
    queue: Queue,
    /// When it is sent again; `None` once it has been read.
    next: Option<Instant>,
    tries: usize,
}

/// All markers that somebody waits for.
#[derive(Debug, Default)]
pub struct Markers {
    nonce: [u64; 2],
    marked: BTreeMap<Token, Marked>,
}

impl Markers {
    /// Begins to send a marker through a queue, to a service's address and port.
    pub fn add(&mut self, queue: Queue, address: SocketAddr, tables: &Memory) -> io::Result<Token> {
        if self.marked.is_empty() {
            let words = random::<16>()?;
            let word = |at: usize| u64::from_ne_bytes(words[at..at + 8].try_into().expect("8"));
            // 0 would admit none.
            self.nonce = [word(0) | 1, word(8)];
            tables.local_row().set_nonce(self.nonce);
        }
        let token = random()?;
        let marked = Marked { address, queue, next: Some(Instant::now()), tries: 0 };
        self.marked.insert(token, marked);
        Ok(token)
    }

    /// Notes that an application has read a marker; `false` if there is no such marker.
    pub fn acknowledge(&mut self, token: Token) -> bool {
        match self.marked.get_mut(&token) {
            Some(marked) => marked.next.take().is_some(),
            None => false,
        }
    }

    /// Of these markers, the queues of those that were not read.
    pub fn unread(&self, tokens: &[Token]) -> Vec<Queue> {
        let marked = tokens.iter().filter_map(|token| self.marked.get(token));
        marked.filter(|marked| marked.next.is_some()).map(|marked| marked.queue).collect()
    }

    /// Forgets markers; without any, no datagram is admitted as one.
    pub fn forget(&mut self, tokens: &[Token], tables: &Memory) {
        for token in tokens {
            self.marked.remove(token);
        }
        if self.marked.is_empty() {
            self.nonce = [0; 2];
            tables.local_row().set_nonce(self.nonce);
        }
    }

    /// Whether no marker is on its way.
    pub fn is_empty(&self) -> bool {
        self.marked.is_empty()
    }

    /// Sends the markers whose time has come.
    pub fn send(&mut self, now: Instant, injector: &mut Injector, tables: &Memory) {
        let links = links(tables);
        for (&token, marked) in &mut self.marked {
            if marked.next.is_none_or(|next| next > now) {
                continue;
            }
            // What refuses one source or interface may not refuse another.
            let link = &links[marked.tries % links.len()];
            let sources = sources(marked.address.ip(), tables);
            let source = sources[marked.tries / links.len() % sources.len()];
            let payload = encode(self.nonce, token);
            let from = SocketAddr::new(source, ENCAP_PORT);
            let frame = udp_frame(link.mac, from, marked.address, &payload);
            if let Err(error) = injector.send(link.ifindex, marked.queue.cpu, &frame) {
                tracing::debug!(%error, ifindex = link.ifindex, "a marker was not sent");
            }
            marked.tries += 1;
            marked.next = Some(now + AGAIN);
        }
    }
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    OsRng.try_fill_bytes(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

/// The interfaces that a marker can seem to come in on: those that packets do come in on.
fn links(tables: &Memory) -> Vec<LinkRow> {
    let rows = (0..LINKS as u8).filter_map(|link| tables.link(link));
    let mut links: Vec<_> = rows.filter(|row| row.ifindex != 0).copied().collect();
    if links.is_empty() {
        // The loopback interface.
        links.push(LinkRow { ifindex: 1, ..LinkRow::EMPTY });
    }
    links
}

/// The addresses that a marker can seem to come from: unicast, none of this host, and first one that
/// is routed where a reverse path is asked for. Nobody answers a marker.
fn sources(destination: IpAddr, tables: &Memory) -> Vec<IpAddr> {
    let this = tables.local_row().identity().node;
    let nodes = (1..NODES as u16).filter(|&node| node != this).filter_map(|node| tables.node(node));
    let peer = nodes
        .filter(|node| node.is_present())
        .map(|node| IpAddr::from(Ipv6Addr::from(node.address.bytes())).to_canonical())
        .find(|address| address.is_ipv4() == destination.is_ipv4());
    let nobody = match destination {
        // TEST-NET-1 (RFC 5737), and the discard prefix (RFC 6666).
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1).into(),
    };
    peer.into_iter().chain([nobody]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_markers_that_are_waited_for_are_admitted() {
        let tables = Memory::anonymous(4).unwrap();
        let mut markers = Markers::default();
        let nonce = || tables.local_row().nonce();
        assert_eq!(nonce()[0], 0);
        let queue = |cpu| Queue { service: 1, control: false, cpu };
        let to = "198.51.100.1:7000".parse().unwrap();
        let one = markers.add(queue(0), to, &tables).unwrap();
        let first = nonce();
        assert_ne!(first[0], 0);
        let two = markers.add(queue(1), to, &tables).unwrap();
        assert_eq!(nonce(), first, "one nonce for all that are on their way");
        assert_eq!(markers.unread(&[one, two]), [queue(0), queue(1)]);
        assert!(markers.acknowledge(two) && !markers.acknowledge(two));
        assert!(!markers.acknowledge([0; 16]));
        assert_eq!(markers.unread(&[one, two]), [queue(0)]);
        markers.forget(&[one], &tables);
        assert_eq!(nonce(), first);
        markers.forget(&[two], &tables);
        assert_eq!(nonce()[0], 0);
        let _three = markers.add(queue(0), to, &tables).unwrap();
        assert_ne!(nonce(), first, "another nonce for the next time");
    }
}
