//! The echo application: every answer says which node and CPU the packet came to.
//!
//! Payloads behind the native header, numbers big-endian:
//!
//! | packet | payload |
//! | --- | --- |
//! | DATA, from the client | sequence (8) |
//! | DATA, the answer | sequence (8), place |
//! | OPENED, the answer to OPEN | the client's 16 bytes, place |
//!
//! A place is a CPU (2), the length of the node's name (1) and the name.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use dataplane_ebpf::dissect::native::{Header, ID_LENGTH, TYPE_DATA, TYPE_OPEN, TYPE_OPENED};
use dataplane_ebpf::marker::{Token, recognise};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;
use socket2::{Domain, Socket, Type};

use crate::netns::Namespace;

/// A SessionID, or the random bytes that open a session.
pub type SessionId = [u8; ID_LENGTH];

/// How often a server looks whether it is to stop.
const TICK: Duration = Duration::from_millis(50);

/// Where a packet was answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The node's name, at most 255 bytes.
    pub node: String,
    /// The CPU whose socket got the packet.
    pub cpu: u16,
}

impl Place {
    fn encode(&self, packet: &mut Vec<u8>) {
        packet.extend(self.cpu.to_be_bytes());
        packet.push(self.node.len() as u8);
        packet.extend(self.node.as_bytes());
    }

    /// Reads a place; `None` if the bytes are not one.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (cpu, rest) = bytes.split_first_chunk()?;
        let (&length, rest) = rest.split_first()?;
        let node = std::str::from_utf8(rest.get(..length.into())?).ok()?;
        Some(Self { node: node.to_owned(), cpu: u16::from_be_bytes(*cpu) })
    }
}

/// A session as its server knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The SessionID that was minted.
    pub session: SessionId,
    /// Owner epoch and state_version, which go into the answers.
    pub owner: (u32, u64),
}

/// What the application needs to know of sessions.
pub trait Sessions {
    /// Mints a session for a client that sent these random bytes from this address; `None` refuses.
    fn open(&mut self, random: &SessionId, client: SocketAddr) -> Option<Opened>;

    /// Owner epoch and state_version of a session; `None` if it is unknown, which leaves the packet
    /// unanswered.
    fn owner(&mut self, session: &SessionId) -> Option<(u32, u64)>;

    /// A datagram was no client's packet but a marker, and whatever came before it is answered.
    fn marker(&mut self, _token: Token) {}
}

/// Sessions of a server that knows nothing of Jumpgate: any id will do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anything;

impl Sessions for Anything {
    fn open(&mut self, _: &SessionId, _: SocketAddr) -> Option<Opened> {
        Some(Opened { session: rand::random(), owner: (0, 0) })
    }

    fn owner(&mut self, _: &SessionId) -> Option<(u32, u64)> {
        Some((0, 0))
    }
}

/// The answer to a packet; `None` if it deserves none.
pub fn answer(
    packet: &[u8],
    client: SocketAddr,
    place: &Place,
    sessions: &mut impl Sessions,
) -> Option<Vec<u8>> {
    let (header, payload) = Header::decode(packet)?;
    let (kind, opened, repeated) = match header.kind {
        TYPE_OPEN => (TYPE_OPENED, sessions.open(&header.session, client)?, &header.session[..]),
        TYPE_DATA => {
            let owner = sessions.owner(&header.session)?;
            (TYPE_DATA, Opened { session: header.session, owner }, payload.get(..8)?)
        }
        _ => return None,
    };
    let answer = Header { kind, session: opened.session, owner: Some(opened.owner) };
    let (bytes, length) = answer.encode();
    let mut packet = bytes[..length].to_vec();
    packet.extend(repeated);
    place.encode(&mut packet);
    Some(packet)
}

/// Answers what comes to a socket until `stop` is set.
pub fn serve(
    socket: &UdpSocket,
    place: &Place,
    mut sessions: impl Sessions,
    stop: &AtomicBool,
) -> Result<()> {
    socket.set_read_timeout(Some(TICK)).context("setting a timeout")?;
    let mut packet = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        match socket.recv_from(&mut packet) {
            Ok((length, client)) => {
                if let Some(token) = recognise(&packet[..length]) {
                    sessions.marker(token);
                } else if let Some(answer) = answer(&packet[..length], client, place, &mut sessions)
                {
                    // A full queue loses the answer, as a network may; the client counts it.
                    let _ = socket.send_to(&answer, client);
                }
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error).context("receiving"),
        }
    }
    Ok(())
}

/// The socket of one CPU, in the calling thread's namespace: it shares its port with the others.
pub fn shared_socket(address: SocketAddr) -> Result<UdpSocket> {
    let bind = || -> std::io::Result<UdpSocket> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
        socket.set_reuse_port(true)?;
        // The default holds some 200 packets, and so does what is allowed to everybody.
        let size = 4 << 20;
        if setsockopt(&socket, sockopt::RcvBufForce, &size).is_err() {
            socket.set_recv_buffer_size(size)?;
        }
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        Ok(socket.into())
    };
    bind().with_context(|| format!("binding a shared socket to {address}"))
}

/// The application without Jumpgate: a thread and a socket for each CPU, chosen by the kernel's
/// hash of the 5-tuple. It stops when dropped.
#[derive(Debug)]
pub struct Server {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Server {
    /// Starts it on every address, with `cpus` threads each, on the CPUs from 0.
    pub fn start(
        namespace: &Namespace,
        node: &str,
        addresses: &[SocketAddr],
        cpus: u16,
    ) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut server = Self { stop: Arc::clone(&stop), threads: Vec::new() };
        for &address in addresses {
            for cpu in 0..cpus {
                let socket = namespace.run(|| shared_socket(address))?;
                let place = Place { node: node.to_owned(), cpu };
                let stop = Arc::clone(&stop);
                server.threads.push(namespace.spawn_thread(move || {
                    pin_to(cpu)?;
                    serve(&socket, &place, Anything, &stop)
                }));
            }
        }
        Ok(server)
    }

    /// Stops it, and returns the first error that a thread met.
    pub fn stop(mut self) -> Result<()> {
        self.join()
    }

    fn join(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let mut result = Ok(());
        for thread in self.threads.drain(..) {
            let end =
                thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("an echo thread panicked")));
            result = result.and(end);
        }
        result
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.join() {
            eprintln!("echo application: {error:#}");
        }
    }
}

/// Keeps the calling thread on one CPU.
pub fn pin_to(cpu: u16) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu.into())
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .with_context(|| format!("keeping a thread on CPU {cpu}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

    fn place() -> Place {
        Place { node: "a".into(), cpu: 3 }
    }

    fn ask(kind: u8, payload: &[u8]) -> Option<Vec<u8>> {
        let (bytes, length) = Header { kind, session: [7; 16], owner: None }.encode();
        answer(&[&bytes[..length], payload].concat(), CLIENT, &place(), &mut Anything)
    }

    #[test]
    fn an_opening_is_answered_with_a_fresh_session() {
        let packet = ask(TYPE_OPEN, &[]).unwrap();
        let (header, payload) = Header::decode(&packet).unwrap();
        assert_eq!(header.kind, TYPE_OPENED);
        assert_ne!(header.session, [7; 16]);
        assert_eq!(payload[..16], [7; 16]);
        assert_eq!(Place::decode(&payload[16..]), Some(place()));
    }

    #[test]
    fn data_is_answered_with_its_number_and_the_place() {
        let packet = ask(TYPE_DATA, &9u64.to_be_bytes()).unwrap();
        let (header, payload) = Header::decode(&packet).unwrap();
        assert_eq!((header.kind, header.session), (TYPE_DATA, [7; 16]));
        assert_eq!(payload[..8], 9u64.to_be_bytes());
        assert_eq!(Place::decode(&payload[8..]), Some(place()));
    }

    #[test]
    fn what_is_cut_short_gets_no_answer() {
        assert_eq!(ask(TYPE_DATA, &[0; 7]), None);
        assert_eq!(ask(TYPE_OPENED, &[0; 8]), None);
        assert_eq!(answer(&[0x10; 19], CLIENT, &place(), &mut Anything), None);
    }
}
