//! What the program `capturing` writes, and putting it in the place of `jumpgate`.

use super::{Dataplane, LoadError, attach::Attached, late::Late, object::take_map};
use aya::{
    Ebpf,
    maps::{HashMap, MapData, MapError, PerCpuArray, RingBuf},
    programs::ProgramError,
};
use dataplane_ebpf::{
    capture::{CAPTURED_HEADER, CapturedHeader, RING},
    verdict::Verdict,
};
use thiserror::Error;

/// The most records that the ring holds.
const RECORDS: usize = RING as usize / CAPTURED_HEADER;

/// The program that stands in for `jumpgate` meanwhile.
const CAPTURING: &str = "capturing";

/// Why a capture could not begin.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// About what stands in the program's place while it is loaded.
    #[error("preparing the program that captures failed")]
    Late(#[from] LoadError),
    /// About the program.
    #[error("loading the program that captures failed")]
    Program(#[from] ProgramError),
    /// About a map.
    #[error("setting up the capture failed")]
    Map(#[from] MapError),
    /// About an interface's program.
    #[error("the program of {interface} could not be replaced")]
    Link {
        /// The interface.
        interface: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The maps of the program `capturing`.
pub struct CaptureMaps {
    ring: RingBuf<MapData>,
    keys: HashMap<MapData, u64, u8>,
    lost: PerCpuArray<MapData, u64>,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// What it says.
    pub header: CapturedHeader,
    /// What became of the packet.
    pub verdict: Verdict,
    /// The frame as it arrived, or its start.
    pub frame: Vec<u8>,
}

impl CaptureMaps {
    pub(super) fn of_maps(ebpf: &mut Ebpf) -> Result<Self, MapError> {
        Ok(Self {
            ring: RingBuf::try_from(take_map(ebpf, "CAPTURE")?)?,
            keys: HashMap::try_from(take_map(ebpf, "CAPTURE_KEYS")?)?,
            lost: PerCpuArray::try_from(take_map(ebpf, "CAPTURE_LOST")?)?,
        })
    }

    /// Copies packets with this hash of their key from now on.
    pub fn watch(&mut self, hash: u64) -> Result<(), MapError> {
        self.keys.insert(hash, 1, 0)
    }

    /// Copies packets with this hash of their key no longer.
    pub fn unwatch(&mut self, hash: u64) -> Result<(), MapError> {
        self.keys.remove(&hash)
    }

    /// Copies nothing any more, and forgets what was not read.
    pub fn clear(&mut self) -> Result<(), MapError> {
        let watched: Vec<u64> = self.keys.keys().collect::<Result<_, _>>()?;
        for hash in watched {
            self.keys.remove(&hash)?;
        }
        for _ in 0..RECORDS {
            if self.ring.next().is_none() {
                break;
            }
        }
        Ok(())
    }

    /// The next record; `None` if there are no more now.
    pub fn take_next(&mut self) -> Option<Captured> {
        while let Some(record) = self.ring.next() {
            let Some((header, frame)) = CapturedHeader::read(&record) else { continue };
            let Some(verdict) = header.verdict() else { continue };
            return Some(Captured { header, verdict, frame: frame.to_vec() });
        }
        None
    }

    /// How many packets found no room since the program was loaded.
    pub fn lost(&self) -> Result<u64, MapError> {
        Ok(self.lost.get(&0, 0)?.iter().sum())
    }
}

/// The program that captures, to be loaded by whoever has not the data plane: see [`Late`].
pub fn late() -> Result<Late, LoadError> {
    Late::new(CAPTURING)
}

impl Dataplane {
    /// Whether the program that captures is loaded.
    pub fn can_capture(&mut self) -> Result<bool, ProgramError> {
        self.is_loaded(CAPTURING)
    }

    /// Puts the program that captures into links, each in one atomic step. On an error all have the
    /// program of before; where a link was lost with the error, for a moment none.
    pub fn begin_capture(&mut self, links: &mut [Attached]) -> Result<(), CaptureError> {
        let program = self.program(CAPTURING)?.info()?.id();
        self.losses.watch_capturing(program)?;
        let begun = self.put(CAPTURING, links);
        if begun.is_err() {
            self.end_capture(links)?;
        }
        begun
    }

    /// Puts the program that steers back into links, and forgets what was not read.
    pub fn end_capture(&mut self, links: &mut [Attached]) -> Result<(), CaptureError> {
        let ended = self.put("jumpgate", links);
        self.capture.clear()?;
        ended
    }

    /// Goes through all links whatever happens; returns the first error.
    fn put(&mut self, program: &str, links: &mut [Attached]) -> Result<(), CaptureError> {
        let mut result = Ok(());
        for attached in links {
            let put = self.replace_program(program, attached);
            let interface = attached.interface.clone();
            let put = put.map_err(|source| CaptureError::Link { interface, source });
            result = result.and(put);
        }
        result
    }
}
