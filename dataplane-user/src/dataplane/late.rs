//! Loading a program that few need, when it is first used.
//!
//! The kernel's verifier takes up to a second for the largest one. Nobody is to have the data plane
//! for so long, so the program is taken out, loaded, and put back.

use super::{
    Dataplane, LoadError,
    object::{Object, xdp},
};
use aya::{Ebpf, EbpfLoader, programs::ProgramError};
use std::mem;

/// An XDP program that is out of the data plane.
pub struct Late {
    name: &'static str,
    /// aya gives no program away. So one of another instance of the object stands in its place while
    /// it is here, which is never loaded, and whose maps are nobody's.
    object: Ebpf,
}

impl Late {
    /// The one that is to stand in a program's place.
    pub fn new(name: &'static str) -> Result<Self, LoadError> {
        let bytes = Object::Daemon.bytes().ok_or(LoadError::NoObject)?;
        // The kernel refuses more queues than it was built for CPUs.
        let object = EbpfLoader::new().map_max_entries("CPUS", 1).load(bytes)?;
        Ok(Self { name, object })
    }

    /// Loads the program that was taken out.
    pub fn load(&mut self) -> Result<(), ProgramError> {
        xdp(&mut self.object, self.name)?.load()
    }
}

impl Dataplane {
    /// Whether a program is loaded.
    pub fn is_loaded(&mut self, name: &str) -> Result<bool, ProgramError> {
        Ok(xdp(&mut self.ebpf, name)?.fd().is_ok())
    }

    /// Takes a program out, or puts it back.
    pub fn exchange(&mut self, late: &mut Late) -> Result<(), ProgramError> {
        let Late { name, object } = late;
        mem::swap(xdp(&mut self.ebpf, name)?, xdp(object, name)?);
        Ok(())
    }
}
