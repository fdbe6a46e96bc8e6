//! The BPF objects inside this binary.

use aya::include_bytes_aligned;

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
