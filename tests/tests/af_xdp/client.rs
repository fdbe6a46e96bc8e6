//! A client of the native protocol by hand, and what a port hands out of its packets.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Result, ensure};
use dataplane_ebpf::dissect::native::Header;
use dataplane_user::af_xdp::{Path as Route, Port, Speaker};
use jumpgate_tests::address::Family;
use jumpgate_tests::topology::Cluster;

pub const PATIENCE: Duration = Duration::from_secs(10);
pub const PORT: u16 = 7000;

/// A client with one address, which writes native packets by hand.
pub struct Client {
    pub socket: UdpSocket,
    pub vip: IpAddr,
}

impl Client {
    pub fn new(cluster: &Cluster, family: Family) -> Result<Self> {
        let host = &cluster.clients()[0];
        let socket = host.namespace().run(|| UdpSocket::bind((host.address(family), 0)))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { socket, vip: cluster.vip(family) })
    }

    pub fn send(&self, kind: u8, session: [u8; 16], mark: u8) -> Result<()> {
        self.send_to(PORT, kind, session, mark)
    }

    pub fn send_to(&self, port: u16, kind: u8, session: [u8; 16], mark: u8) -> Result<()> {
        self.socket.send_to(&native(kind, session, mark), (self.vip, port))?;
        Ok(())
    }

    /// The mark of the next answer, which comes from the service.
    pub fn answer(&self) -> Result<u8> {
        let mut buffer = [0; 2048];
        let (length, from) = self.socket.recv_from(&mut buffer)?;
        ensure!(from == SocketAddr::new(self.vip, PORT), "answered by {from}");
        Ok(buffer[length - 1])
    }

    pub fn is_silent(&self) -> Result<bool> {
        self.socket.set_nonblocking(true)?;
        let silent = self.socket.recv_from(&mut [0; 2048]).is_err();
        self.socket.set_nonblocking(false)?;
        Ok(silent)
    }
}

pub fn native(kind: u8, session: [u8; 16], mark: u8) -> Vec<u8> {
    let (bytes, length) = Header { kind, session, owner: None }.encode();
    [&bytes[..length], &[mark]].concat()
}

/// What a port has handed out.
pub struct Got {
    pub mark: u8,
    pub path: Route,
    pub speaker: Speaker,
}

/// Waits for something to be received, and takes what is there.
pub fn take(port: &mut Port, limit: Duration) -> Result<Vec<Got>> {
    let mut taken = Vec::new();
    port.wait(limit)?;
    port.receive(|datagram, _| {
        let mark = *datagram.payload().last().expect("a native packet");
        taken.push(Got { mark, path: datagram.path(), speaker: datagram.speaker() });
    })?;
    Ok(taken)
}
