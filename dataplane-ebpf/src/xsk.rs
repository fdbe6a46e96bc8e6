//! AF_XDP: which socket a packet goes to, and whether the application behind it may send.
//!
//! A socket takes packets only from the interface and receive queue that it is bound to, so there
//! is one place for each of them. The application checks both ways itself, with the code here and
//! in [`crate::admit`], as no hook of the kernel lies between it and the network.

use crate::{
    node::NODE_INTERFACES,
    table::{Entry, Place},
    tables::{Lookup, Tables, lookup},
    verdict::Transmission,
    wire_id::Key,
};

/// Receive queues of an interface that sockets can serve.
pub const QUEUES: u32 = 256;

/// Rows of the `XSKS` map.
pub const ROWS: u32 = NODE_INTERFACES as u32 * QUEUES;

/// The row of a queue of the interface that is configured as this link; `None` beyond the map.
pub const fn row(link: u32, queue: u32) -> Option<u32> {
    if link < NODE_INTERFACES as u32 && queue < QUEUES { Some(link * QUEUES + queue) } else { None }
}

/// The row of a queue of the interface with this index.
#[inline(always)]
pub fn row_of<T: Tables>(tables: &T, ifindex: u32, queue: u32) -> Option<u32> {
    for link in 0..NODE_INTERFACES {
        if tables.link(link as u8)?.ifindex == ifindex {
            return row(link as u32, queue);
        }
    }
    None
}

/// The first byte of the source MAC address within a frame's two addresses.
const SOURCE: usize = 6;

/// The group bit of a MAC address.
const GROUP: u8 = 1;

/// Marks a frame's MAC addresses: another node has forwarded it, so that its source is no way back
/// to the client. The mark is the group bit, which no source address has.
#[inline(always)]
pub fn mark_forwarded(mut addresses: [u8; 12]) -> [u8; 12] {
    addresses[SOURCE] |= GROUP;
    addresses
}

/// Whether MAC addresses bear the mark of [`mark_forwarded`].
pub fn is_forwarded(addresses: &[u8; 12]) -> bool {
    addresses[SOURCE] & GROUP != 0
}

/// In whose name an application sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// The session with this key, which must be this node's.
    Session(Key),
    /// Whoever answers for the slot of this key, which must be this node's: for answers to packets
    /// that open a session, and that name none yet.
    Slot(Key),
}

/// Whether the application may send at `now`, in nanoseconds of CLOCK_BOOTTIME: the reason why not
/// is never [`Transmission::Sent`].
pub fn may_send<T: Tables>(tables: &T, speaker: Speaker, now: u64) -> Result<(), Transmission> {
    let local = tables.local().ok_or(Transmission::Late)?;
    if now >= local.exact_deadline() {
        return Err(Transmission::Late);
    }
    let identity = local.identity();
    let is_ours = match speaker {
        Speaker::Session(key) => {
            let Lookup::Hit { bits, .. } = lookup(tables, key.hash, identity.bucket_bits) else {
                return Err(Transmission::NotOwner);
            };
            Place::unpack(bits).and_then(Place::ours).is_some()
                && Entry::epoch_of(bits) == local.fence().epoch()
        }
        Speaker::Slot(key) => {
            tables.slot(key.slot).is_some_and(|slot| slot.owner() == identity.node)
        }
    };
    if is_ours { Ok(()) } else { Err(Transmission::NotOwner) }
}
