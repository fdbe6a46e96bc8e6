//! Bounded waiting, and a way to find out whether a packet gets through.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::netns::Namespace;

/// A port that nothing in a test network listens on (RFC 863, discard).
const CLOSED: u16 = 9;

/// Asks until the answer is yes; returns whether it ever was before the time was up.
#[must_use]
pub fn until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until a datagram from `namespace` reaches each address and an answer comes back.
///
/// It knocks at a closed port: the ICMP error proves both ways, and needs nothing at the other
/// end. As a side effect every neighbour on the way is resolved.
pub fn reachable(namespace: &Namespace, addresses: &[IpAddr], limit: Duration) -> Result<()> {
    namespace.run(|| {
        for &address in addresses {
            knock(address, limit).with_context(|| {
                format!("reaching {address} from the namespace {}", namespace.name())
            })?;
        }
        Ok(())
    })
}

fn knock(address: IpAddr, limit: Duration) -> Result<()> {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let end = Instant::now() + limit;
    // Short at first: a lost first packet (a link that is not quite up) should cost nothing.
    let mut patience = Duration::from_millis(5);
    loop {
        let socket = UdpSocket::bind(any).context("opening a socket")?;
        socket.set_read_timeout(Some(patience)).context("setting a timeout")?;
        let sent = socket
            .connect(SocketAddr::new(address, CLOSED))
            .and_then(|()| socket.send(b"knock"))
            .and_then(|_| socket.recv(&mut [0; 16]));
        match sent {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(()),
            _ => ensure!(Instant::now() < end, "no answer within {limit:?}: {sent:?}"),
        }
        if matches!(&sent, Err(error) if error.kind() != ErrorKind::WouldBlock) {
            thread::sleep(Duration::from_millis(2));
        }
        patience = (patience * 2).min(Duration::from_millis(200));
    }
}
