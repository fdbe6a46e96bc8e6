//! An application that keeps what it gets: the sockets of a service on one node.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dataplane_user::api::Client as Api;
use dataplane_user::dataplane::Dataplane;

use crate::config::Service;
use crate::echo::shared_socket;
use crate::netns::Namespace;
use crate::probe;

/// The sockets of a service's data or control port on one node, one for each CPU.
#[derive(Debug)]
pub struct Inbox {
    sockets: BTreeMap<u32, UdpSocket>,
}

/// A datagram that reached the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The CPU whose socket got it.
    pub cpu: u32,
    /// Who sent it.
    pub from: SocketAddr,
    /// What was sent.
    pub payload: Vec<u8>,
}

impl Inbox {
    /// Makes sockets on `address`, not yet known to any selector.
    fn bind(namespace: &Namespace, address: SocketAddr, cpus: u32) -> Result<Self> {
        let socket = |cpu| -> Result<(u32, UdpSocket)> {
            let socket = namespace.run(|| shared_socket(address))?;
            socket.set_nonblocking(true).context("making a socket non-blocking")?;
            Ok((cpu, socket))
        };
        Ok(Self { sockets: (0..cpus).map(socket).collect::<Result<_>>()? })
    }

    /// Hands sockets for a service's data port, or for its control port, to the daemon that listens
    /// at `daemon`.
    ///
    /// # Panics
    /// When the control port of a service without one is asked for.
    pub fn open(
        namespace: &Namespace,
        daemon: &Path,
        service: &Service,
        control: bool,
        cpus: u32,
    ) -> Result<Self> {
        let port = if control {
            service.control_port.expect("a service with a control port")
        } else {
            service.port
        };
        let inbox = Self::bind(namespace, SocketAddr::new(service.address, port), cpus)?;
        inbox.hand_over(daemon, &service.name, control)?;
        Ok(inbox)
    }

    /// Hands the sockets to a daemon, the first or the next one.
    pub fn hand_over(&self, daemon: &Path, service: &str, control: bool) -> Result<()> {
        let mut api = Api::connect(daemon)?;
        for (&cpu, socket) in &self.sockets {
            api.add_socket(service, control, cpu, socket.as_fd())
                .with_context(|| format!("handing over {service}'s socket of CPU {cpu}"))?;
        }
        Ok(())
    }

    /// Gives sockets for the data port of service 1 to a data plane without a daemon.
    pub fn attach(
        namespace: &Namespace,
        dataplane: &mut Dataplane,
        address: SocketAddr,
        cpus: u32,
    ) -> Result<Self> {
        let inbox = Self::bind(namespace, address, cpus)?;
        for (&cpu, socket) in &inbox.sockets {
            dataplane.add_socket(1, false, cpu, address, socket.as_fd())?;
        }
        Ok(inbox)
    }

    /// The sockets, by CPU.
    pub fn sockets(&self) -> impl Iterator<Item = &UdpSocket> {
        self.sockets.values()
    }

    /// The same sockets for another reader.
    pub fn share(&self) -> Result<Self> {
        let share = |(&cpu, socket): (&u32, &UdpSocket)| Ok((cpu, socket.try_clone()?));
        Ok(Self { sockets: self.sockets.iter().map(share).collect::<Result<_>>()? })
    }

    /// How many datagrams each socket has dropped because its buffer was full.
    pub fn dropped(&self) -> Result<Vec<u32>> {
        self.sockets.values().map(drops).collect()
    }

    /// The next datagram, whichever CPU's, if one comes in time.
    pub fn receive(&self, limit: Duration) -> Result<Option<Received>> {
        let mut received = Ok(None);
        let _ = probe::until(limit, || {
            received = self.take();
            !matches!(received, Ok(None))
        });
        received
    }

    /// Sends a datagram from a CPU's socket.
    ///
    /// # Panics
    /// When there is no such socket.
    pub fn send(&self, cpu: u32, payload: &[u8], to: SocketAddr) -> Result<()> {
        self.sockets[&cpu].send_to(payload, to).context("sending")?;
        Ok(())
    }

    /// A CPU's socket.
    ///
    /// # Panics
    /// When there is none.
    pub fn socket(&self, cpu: u32) -> &UdpSocket {
        &self.sockets[&cpu]
    }

    /// The next datagram that is there already.
    pub fn take(&self) -> Result<Option<Received>> {
        let mut buffer = [0; 2048];
        for (&cpu, socket) in &self.sockets {
            match socket.recv_from(&mut buffer) {
                Ok((length, from)) => {
                    let payload = buffer[..length].to_vec();
                    return Ok(Some(Received { cpu, from, payload }));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("receiving"),
            }
        }
        Ok(None)
    }
}

/// What the kernel says of a socket's memory (Linux 4.12).
fn drops(socket: &UdpSocket) -> Result<u32> {
    /// Where the drops stand in SO_MEMINFO (`SK_MEMINFO_DROPS`).
    const DROPS: usize = 8;
    let mut info = [0_u32; 9];
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes no more than the length that it is given.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    ensure!(result == 0, "asking for a socket's memory: {}", std::io::Error::last_os_error());
    Ok(info[DROPS])
}
