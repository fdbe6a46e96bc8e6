//! The BPF objects inside this binary, and what is in them.

use aya::{
    Ebpf, include_bytes_aligned,
    maps::{Map, MapError},
    programs::{ProgramError, SchedClassifier, Xdp},
};

static DAEMON: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/jumpgate.o"));
static PROBE: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/jumpgate-probe.o"));

/// Which set of BPF programs to load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Object {
    /// What a node runs.
    #[default]
    Daemon,
    /// The same with the programs that benchmarks and the race test need.
    Probe,
}

impl Object {
    /// The object's bytes; `None` if the binary was built without a BPF toolchain.
    pub fn bytes(self) -> Option<&'static [u8]> {
        let bytes = match self {
            Self::Daemon => DAEMON,
            Self::Probe => PROBE,
        };
        (!bytes.is_empty()).then_some(bytes)
    }
}

/// Takes a map out of the loaded object.
pub(super) fn take_map(ebpf: &mut Ebpf, name: &str) -> Result<Map, MapError> {
    ebpf.take_map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() })
}

/// One of the XDP programs.
pub(super) fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, ProgramError> {
    ebpf.program_mut(name)
        .ok_or_else(|| ProgramError::InvalidName { name: name.to_owned() })?
        .try_into()
}

/// One of the programs for packets on their way out.
pub(super) fn classifier<'a>(
    ebpf: &'a mut Ebpf,
    name: &str,
) -> Result<&'a mut SchedClassifier, ProgramError> {
    ebpf.program_mut(name)
        .ok_or_else(|| ProgramError::InvalidName { name: name.to_owned() })?
        .try_into()
}
