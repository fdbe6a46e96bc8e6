//! The maps of the probe object: how benchmarks and the race test talk to its programs.

use super::region::{Region, Shared};
use aya::{Ebpf, maps::Map};
use std::{io, os::fd::AsFd};

/// Eight numbers: state of the random generator, lines of the random array, numbered sessions,
/// seed; then hits, misses, torn reads and mixtures that the race program counted.
pub type ProbeRow = [u64; 8];

// SAFETY: plain integers; userspace reads and writes them while no probe program runs, but for
// single numbers of the race test.
unsafe impl Shared for ProbeRow {}

/// The probe object's own memory.
pub struct Probe {
    row: Region<ProbeRow>,
    /// Lines of the array that `random_read` walks through: as many as the session table has.
    pub lines: u64,
}

impl Probe {
    /// The maps of a loaded object; `None` if it is not the probe object.
    pub(super) fn of_maps(ebpf: &Ebpf) -> io::Result<Option<Self>> {
        let (Some(Map::Array(row)), Some(Map::Array(random))) =
            (ebpf.map("PROBE"), ebpf.map("RANDOM"))
        else {
            return Ok(None);
        };
        let lines = random.info().map_err(io::Error::other)?.max_entries() as u64;
        Ok(Some(Self { row: Region::of_map(row.fd().as_fd(), 1)?, lines }))
    }

    /// Sets all numbers.
    pub fn set(&mut self, row: ProbeRow) {
        self.row.set(0, row);
    }

    /// Reads all numbers.
    pub fn get(&self) -> ProbeRow {
        *self.row.get(0).expect("one row")
    }
}
