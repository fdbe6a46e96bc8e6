//! Frames that were given to the kernel, and that it may send with any call until it has taken them
//! all.

use super::Speaker;
use dataplane_ebpf::parse::ETHERNET;
use std::ptr;
use xdp::Packet;

/// For experiments within a network (IEEE 802, "Local Experimental Ethertype 1"): nobody's.
const NOBODYS: u16 = 0x88b5;

/// Length of a MAC address in bytes.
const MAC: usize = 6;

/// A frame in the kernel's ring, and in whose name it is sent.
///
/// It is only of use until the frame may be taken for another packet: as long as the completions of
/// the ring are left alone.
pub(super) struct Given {
    frame: *mut u8,
    length: usize,
    pub(super) service: u16,
    pub(super) speaker: Speaker,
}

// SAFETY: the frame is in the memory of the port that this is of, and goes where that goes.
unsafe impl Send for Given {}

impl Given {
    /// A packet that is about to go into the ring: a whole frame.
    pub(super) fn new(packet: &mut Packet, service: u16, speaker: Speaker) -> Self {
        debug_assert!(packet.len() >= ETHERNET);
        Self { frame: packet.as_mut_ptr(), length: packet.len(), service, speaker }
    }

    /// Makes it a frame for nobody, as it cannot be taken back: empty, of a type without a meaning, and
    /// to the address that it comes from.
    pub(super) fn make_void(&self) {
        // SAFETY: the frame is this long, in memory that outlives the ring, and no other packet has
        // it yet. The kernel only reads it: it sends what was there before or what is there now, or
        // a mixture that no receiver takes for the datagram, as its checksum is wrong.
        unsafe {
            ptr::copy(self.frame.add(MAC), self.frame, MAC);
            self.frame.add(2 * MAC).cast::<[u8; 2]>().write(NOBODYS.to_be_bytes());
            self.frame.add(ETHERNET).write_bytes(0, self.length - ETHERNET);
        }
    }
}
