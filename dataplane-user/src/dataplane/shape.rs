//! What maps look like: those that the object wants, and those that the kernel has.

use super::{LoadError, LoadOptions, bpf::MapInfo, memory::binding_sizes};
use aya_obj::{EbpfSectionKind, Object, generated::bpf_map_type};
use dataplane_ebpf::table::{WAYS, bits_for, buckets};
use std::collections::BTreeMap;

/// A map's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Its kind: `BPF_MAP_TYPE_…`.
    pub kind: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value; 0 where the kernel's version decides.
    pub value_size: u32,
    /// Rows; bytes of a ring.
    pub max_entries: u32,
    /// `BPF_F_…`.
    pub flags: u32,
}

/// Who a map belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// All programs of the node, one after the other: it is pinned, and taken over.
    Node,
    /// One program: its constants, its log, and what it says to the daemon that ran it. (An array of
    /// programs would be another case: they call each other through it, so it goes with them; but the
    /// kernel empties it with its last user.)
    Program,
}

/// The number of rows of the maps whose size the configuration decides.
pub(super) fn sizes(options: &LoadOptions) -> Vec<(&'static str, u32)> {
    let bits = bits_for(options.sessions);
    let buckets = buckets(bits);
    let (bindings, clients) = binding_sizes(bits, options.bindings);
    vec![
        ("SESSIONS", buckets),
        ("DETAILS", buckets * WAYS as u32),
        ("WIRE_IDS", buckets * WAYS as u32),
        ("BINDINGS", bindings),
        ("CLIENTS", clients),
        ("HOLD", options.hold_ring),
        // The kernel refuses more queues than it was built for CPUs.
        ("CPUS", options.cpus.iter().max().map_or(1, |last| last + 1)),
    ]
}

/// The maps that the object has, by name, in the sizes that these options ask for.
pub fn maps(options: &LoadOptions) -> Result<BTreeMap<String, (Owner, Shape)>, LoadError> {
    let bytes = options.object.bytes().ok_or(LoadError::NoObject)?;
    let object = Object::parse(bytes).map_err(aya::EbpfError::from)?;
    let sizes: BTreeMap<_, _> = sizes(options).into_iter().collect();
    let shape = |(name, map): (String, aya_obj::Map)| {
        let kind = map.map_type();
        let max_entries = sizes.get(&*name).copied().unwrap_or(map.max_entries());
        let shape = Shape {
            kind,
            key_size: map.key_size(),
            // The loader does as the kernel's version allows for these.
            value_size: if has_own_size(kind) { 0 } else { map.value_size() },
            max_entries: if is(kind, bpf_map_type::BPF_MAP_TYPE_RINGBUF) {
                ring_size(max_entries)
            } else {
                max_entries
            },
            flags: map.map_flags(),
        };
        let is_constant = matches!(
            map.section_kind(),
            EbpfSectionKind::Bss | EbpfSectionKind::Data | EbpfSectionKind::Rodata
        );
        let owner = match &*name {
            _ if is_constant => Owner::Program,
            "AYA_LOGS" | "EXPLAINED" | "CAPTURE" | "CAPTURE_FRAME" | "CAPTURE_KEYS"
            | "CAPTURE_LOST" => Owner::Program,
            _ => Owner::Node,
        };
        (name, (owner, shape))
    };
    Ok(object.maps.into_iter().map(shape).collect())
}

impl Shape {
    /// Of a map in the kernel.
    pub(super) fn of(info: &MapInfo) -> Self {
        let MapInfo { kind, id: _, key_size, value_size, max_entries, flags } = *info;
        let value_size = if has_own_size(kind) { 0 } else { value_size };
        Self { kind, key_size, value_size, max_entries, flags }
    }

    /// The first thing in which another shape differs from this one: what it is, how it is here and
    /// how it is there.
    pub fn difference(&self, other: &Self) -> Option<(&'static str, u32, u32)> {
        let Self { kind, key_size, value_size, max_entries, flags } = *self;
        [
            ("is of type", kind, other.kind),
            ("has keys of size", key_size, other.key_size),
            ("has values of size", value_size, other.value_size),
            ("has the flags", flags, other.flags),
            ("has the number of rows", max_entries, other.max_entries),
        ]
        .into_iter()
        .find(|(_, here, there)| here != there)
    }
}

fn is(kind: u32, wanted: bpf_map_type) -> bool {
    kind == wanted as u32
}

fn has_own_size(kind: u32) -> bool {
    [
        bpf_map_type::BPF_MAP_TYPE_CPUMAP,
        bpf_map_type::BPF_MAP_TYPE_DEVMAP,
        bpf_map_type::BPF_MAP_TYPE_DEVMAP_HASH,
        bpf_map_type::BPF_MAP_TYPE_RINGBUF,
    ]
    .into_iter()
    .any(|own| is(kind, own))
}

/// As the loader rounds it: a power of two of pages.
pub(super) fn ring_size(bytes: u32) -> u32 {
    // SAFETY: takes a number only.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u32;
    bytes.div_ceil(page).next_power_of_two() * page
}
