//! A port: an AF_XDP socket that is registered with the daemon.

use super::{
    Datagram, OpenError, Options, Sender,
    registered::Registered,
    sender::{Outbox, now},
    socket::Bound,
};
use crate::{
    api::{Client, ClientError},
    neighbours::{self, find_hop},
};
use std::{
    io,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};
use thiserror::Error;
use xdp::{
    slab::{HeapSlab, Slab},
    socket::PollTimeout,
};

/// How many frames are taken from the ring at a time.
const BATCH: usize = 64;

/// What can go wrong with a port.
#[derive(Debug, Error)]
pub enum PortError {
    /// It could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The daemon did not take it.
    #[error("the daemon did not register the port")]
    Register(#[source] ClientError),
    /// What the daemon sent cannot be used.
    #[error("the daemon's tables cannot be mapped")]
    Tables(#[source] io::Error),
    /// It was never registered.
    #[error("the port is not registered with the daemon: nothing may be delivered")]
    NotRegistered,
    /// The kernel refused to go on.
    #[error("the AF_XDP socket failed")]
    Io(#[from] io::Error),
    /// The kernel knows no way to an address.
    #[error("asking the kernel for the way to {0} failed")]
    Route(IpAddr, #[source] neighbours::Error),
    /// There is no such way, or its neighbour does not answer.
    #[error(
        "no neighbour on this port's interface leads to {0} (`ip route get {0}`, `ip neighbour`)"
    )]
    NoGateway(IpAddr),
}

/// An AF_XDP socket on one receive queue, with the checks of deliveries and transmissions.
///
/// It serves all services that deliver to AF_XDP sockets, for the packets that arrive at its queue.
/// One thread uses it at a time. When it is dropped, packets that arrive are refused (`no-xsk`).
pub struct Port {
    outbox: Outbox,
    checksums: bool,
    interface: String,
    queue: u32,
    frames: u64,
    /// Frames that were received and are done with.
    done: u64,
    /// How often the ring was found empty.
    emptied: u64,
}

/// A moment in a port's life; see [`Port::drain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    done: u64,
    emptied: u64,
}

impl Port {
    /// Opens a port and registers it with the daemon of this node.
    pub fn open(daemon: &mut Client, options: &Options) -> Result<Self, PortError> {
        let mut port = Self::bind(options)?;
        port.register(daemon)?;
        Ok(port)
    }

    /// Opens a port that the daemon does not know of yet: it neither receives nor sends.
    pub fn bind(options: &Options) -> Result<Self, OpenError> {
        let outbox = Outbox::new(Bound::new(options)?);
        let Options { interface, queue, frames, checksums, .. } = options;
        Ok(Self {
            outbox,
            checksums: *checksums,
            interface: interface.clone(),
            queue: *queue,
            frames: (*frames).into(),
            done: 0,
            emptied: 0,
        })
    }

    /// Registers the port, for the first time or with a daemon that has started anew. What was
    /// received under the old registration and not yet handed out is judged by the new tables.
    pub fn register(&mut self, daemon: &mut Client) -> Result<(), PortError> {
        let added = daemon.add_xsk(&self.interface, self.queue, self.as_fd());
        let (place, fds) = added.map_err(PortError::Register)?;
        let registered = Registered::new(place, &fds).map_err(PortError::Tables)?;
        self.outbox.registered = Some(registered);
        Ok(())
    }

    /// Whether frames get here without a copy.
    pub fn is_zero_copy(&self) -> bool {
        self.outbox.bound.is_zero_copy
    }

    /// How long this node may deliver and send, unless its lease is renewed; `None` if it may not.
    /// A daemon that starts anew ends the lease under which a port was registered for ever:
    /// [`Port::register`] then gets the new one.
    pub fn lease(&self) -> Option<Duration> {
        self.outbox.registered.as_ref()?.open_for()
    }

    /// The services that deliver to AF_XDP sockets: index and name.
    pub fn services(&self) -> impl Iterator<Item = (u16, &str)> {
        let services = self.outbox.registered.iter().flat_map(|registered| &registered.services);
        services.map(|(index, name)| (*index, name.as_str()))
    }

    /// The name of a service by its index.
    pub fn service_name(&self, index: u16) -> Option<&str> {
        self.outbox.registered.as_ref()?.services.get(&index).map(String::as_str)
    }

    /// Waits until something was received, or for so long; returns whether something was.
    pub fn wait(&self, limit: Duration) -> io::Result<bool> {
        // The kernel's resolution is a millisecond, and its longest time 24 days.
        let limit = limit.min(Duration::from_millis(i32::MAX as u64));
        self.outbox.bound.socket.poll_read(PollTimeout::new(Some(limit)))
    }

    /// Hands out what was received, up to 64 datagrams, and then sends what `each` had the sender
    /// send. Returns how many were handed out. What is refused is counted.
    ///
    /// # Errors
    ///
    /// If the port was never registered, or the interface is down.
    pub fn receive(
        &mut self,
        mut each: impl FnMut(&Datagram<'_>, &mut Sender<'_>),
    ) -> Result<usize, PortError> {
        let outbox = &mut self.outbox;
        if outbox.registered.is_none() {
            return Err(PortError::NotRegistered);
        }
        let mut frames = HeapSlab::with_capacity(BATCH);
        let Bound { received, umem, .. } = &mut outbox.bound;
        // SAFETY: the packets are given back below, to the memory that they are of.
        let count = unsafe { received.recv(umem, &mut frames) };
        if count == 0 {
            self.emptied += 1;
        }
        let mut handed_out = 0;
        while let Some(frame) = frames.pop_back() {
            // One that has not fitted the frame: the programs take none in pieces.
            let whole = if frame.is_continued() { &[][..] } else { &frame[..] };
            handed_out += usize::from(hand_out(whole, outbox, self.checksums, &mut each));
            outbox.bound.umem.free_packet(frame);
        }
        outbox.bound.refill(count)?;
        outbox.flush()?;
        if let Some(registered) = &mut outbox.registered {
            registered.tally.publish();
        }
        self.done += count as u64;
        Ok(handed_out)
    }

    /// The sending side, for what is no answer.
    pub fn sender(&mut self) -> Sender<'_> {
        Sender(&mut self.outbox)
    }

    /// Has answers to packets that came through another node go to the neighbour through which the
    /// kernel would reach `client`; see [`Sender::set_gateway`]. To be repeated when routes or
    /// neighbours change. Takes up to a second if the neighbour has to be asked.
    pub fn find_gateway(&mut self, client: IpAddr) -> Result<(), PortError> {
        let hop = find_hop(client).map_err(|error| PortError::Route(client, error))?;
        let hop = hop.filter(|hop| hop.ifindex == self.outbox.bound.link.ifindex);
        let hop = hop.ok_or(PortError::NoGateway(client))?;
        self.sender().set_gateway(client.is_ipv4(), hop.mac);
        Ok(())
    }

    /// Remembers what is in the ring now: [`Port::has_drained`] says when all of it has been handed
    /// out.
    pub fn drain(&self) -> Drain {
        Drain { done: self.done, emptied: self.emptied }
    }

    /// Whether all that was in the ring at a moment has been handed out: the ring was empty since,
    /// or as much was received as it can hold.
    pub fn has_drained(&self, since: &Drain) -> bool {
        self.emptied > since.emptied || self.done - since.done >= self.frames
    }
}

/// Hands a frame out if it may be; returns whether it was.
fn hand_out(
    frame: &[u8],
    outbox: &mut Outbox,
    checksums: bool,
    each: &mut impl FnMut(&Datagram<'_>, &mut Sender<'_>),
) -> bool {
    let Some(registered) = &mut outbox.registered else {
        return false;
    };
    match Datagram::admit(frame, &registered.tables, now(), checksums) {
        Ok((datagram, admission)) => {
            registered.tally.admission(datagram.service(), admission);
            outbox.learn(&datagram.path());
            each(&datagram, &mut Sender(outbox));
            true
        }
        Err((service, admission)) => {
            registered.tally.admission(service, admission);
            false
        }
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.outbox.bound.as_fd()
    }
}
