//! The array of applications' sockets, whose rows userspace can read.

use aya_ebpf::{
    EbpfContext,
    bindings::{bpf_map_def, bpf_map_type::BPF_MAP_TYPE_REUSEPORT_SOCKARRAY},
    helpers::generated::bpf_sk_select_reuseport,
    programs::SkReuseportContext,
};
use core::cell::UnsafeCell;

/// A socket array with values of eight bytes.
///
/// aya's has four, which the kernel takes for writing; but only an array with eight tells userspace
/// which socket a row holds (by its cookie), as the daemon that takes over an array must know.
#[repr(transparent)]
pub struct SocketArray(UnsafeCell<bpf_map_def>);

// SAFETY: nobody writes the definition; the program only takes its address, which the loader turns
// into the map's.
unsafe impl Sync for SocketArray {}

impl SocketArray {
    /// An array of this many rows.
    pub const fn with_max_entries(max_entries: u32) -> Self {
        Self(UnsafeCell::new(bpf_map_def {
            type_: BPF_MAP_TYPE_REUSEPORT_SOCKARRAY,
            key_size: size_of::<u32>() as u32,
            value_size: size_of::<u64>() as u32,
            max_entries,
            map_flags: 0,
            id: 0,
            pinning: 0,
        }))
    }

    /// Picks the socket of a row for the datagram; `false` if there is none.
    #[inline(always)]
    pub fn select(&self, ctx: &SkReuseportContext, mut row: u32) -> bool {
        let row = (&raw mut row).cast();
        // SAFETY: the loader puts the map's address here, and the key is one of its rows.
        unsafe { bpf_sk_select_reuseport(ctx.as_ptr().cast(), self.0.get().cast(), row, 0) == 0 }
    }
}
