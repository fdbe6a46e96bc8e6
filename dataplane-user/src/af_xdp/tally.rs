//! What a port has done, counted where the daemon finds it.

use crate::dataplane::{
    counters::{XSK_COUNTS, xsk_admission, xsk_transmission},
    region::Region,
};
use dataplane_ebpf::verdict::{Admission, Transmission};
use std::{
    io,
    os::fd::BorrowedFd,
    sync::atomic::{AtomicU64, Ordering},
};

/// Counts of one port. They are gathered here and added to those of all ports once for each batch,
/// so that ports on several CPUs do not fight for a cache line with every packet.
pub(super) struct Tally {
    shared: Region<AtomicU64>,
    gathered: Box<[u32]>,
    /// The places that are not zero.
    touched: Vec<usize>,
}

impl Tally {
    pub(super) fn new(counts: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self {
            shared: Region::of_map(counts, XSK_COUNTS)?,
            gathered: vec![0; XSK_COUNTS].into_boxed_slice(),
            touched: Vec::new(),
        })
    }

    pub(super) fn admission(&mut self, service: u16, admission: Admission) {
        self.count(xsk_admission(service, admission));
    }

    pub(super) fn transmission(&mut self, service: u16, transmission: Transmission) {
        self.count(xsk_transmission(service, transmission));
    }

    fn count(&mut self, place: usize) {
        if self.gathered[place] == 0 {
            self.touched.push(place);
        }
        self.gathered[place] += 1;
    }

    /// Shows what was gathered.
    pub(super) fn publish(&mut self) {
        for place in self.touched.drain(..) {
            let count = std::mem::take(&mut self.gathered[place]);
            if let Some(shared) = self.shared.get(place) {
                shared.fetch_add(count.into(), Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.publish();
    }
}
