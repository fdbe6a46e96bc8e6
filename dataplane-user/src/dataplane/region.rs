//! Memory shared with the kernel program: an mmapped array map, or plain memory for decisions
//! without one.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::{self, NonNull},
    sync::atomic::AtomicU64,
};

/// Types that may lie in memory shared with the kernel program.
///
/// # Safety
///
/// Any bytes are a valid value, zeroes are an empty one, and what the program may read while it is
/// changed is made of [`dataplane_ebpf::word::MapWord`].
pub unsafe trait Shared {}

// SAFETY: plain integers, or words.
unsafe impl Shared for u64 {}
// SAFETY: any bytes are one.
unsafe impl Shared for AtomicU64 {}
// SAFETY: as above.
unsafe impl Shared for dataplane_ebpf::word::MapWord {}
// SAFETY: as above.
unsafe impl Shared for dataplane_ebpf::local::LocalRow {}
// SAFETY: as above; written before the program is attached, but for its limit: see `Memory::set_limit`.
unsafe impl Shared for dataplane_ebpf::service::ServiceRow {}
// SAFETY: as above.
unsafe impl Shared for dataplane_ebpf::table::Bucket {}
// SAFETY: as above.
unsafe impl Shared for dataplane_ebpf::table::DetailRow {}
// SAFETY: as above.
unsafe impl Shared for dataplane_ebpf::wire_id_row::WireIdRow {}
// SAFETY: as above.
unsafe impl Shared for dataplane_ebpf::binding::BindingRow {}
// SAFETY: as above; the plain fields are written before the program is attached.
unsafe impl Shared for dataplane_ebpf::node::NodeRow {}
// SAFETY: as above; written once, before the first use.
unsafe impl Shared for dataplane_ebpf::node::LinkRow {}

/// A zeroed or mapped array of `T`, unmapped on drop.
pub struct Region<T> {
    start: NonNull<T>,
    length: usize,
}

// SAFETY: a region is memory; what is shared in it is atomic, the rest needs `&mut`.
unsafe impl<T: Shared + Send> Send for Region<T> {}
// SAFETY: as above.
unsafe impl<T: Shared + Sync> Sync for Region<T> {}

impl<T: Shared> Region<T> {
    /// Memory of `length` zeroed values that no program sees.
    pub fn anonymous(length: usize) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        Self::map(length, libc::PROT_READ | libc::PROT_WRITE, flags, -1)
    }

    /// The values of an array map of `length` entries, created with `BPF_F_MMAPABLE` (Linux 5.5).
    pub fn of_map(map: BorrowedFd<'_>, length: usize) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        Self::map(length, access, libc::MAP_SHARED, map.as_raw_fd())
    }

    /// The same for reading only: whoever stores a word ends by a fault.
    pub fn of_map_read_only(map: BorrowedFd<'_>, length: usize) -> io::Result<Self> {
        Self::map(length, libc::PROT_READ, libc::MAP_SHARED, map.as_raw_fd())
    }

    fn map(length: usize, access: i32, flags: i32, fd: i32) -> io::Result<Self> {
        let bytes = length * size_of::<T>();
        // SAFETY: a fresh mapping of our own; the result is checked.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, access, flags, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).expect("mmap does not map at zero");
        Ok(Self { start, length })
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The value at `index`.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        // SAFETY: within the mapping, aligned as pages are, and valid for any bytes.
        (index < self.length).then(|| unsafe { self.start.add(index).as_ref() })
    }

    /// Where the value at `index` lies.
    pub(super) fn pointer(&self, index: usize) -> Option<NonNull<T>> {
        // SAFETY: within the mapping.
        (index < self.length).then(|| unsafe { self.start.add(index) })
    }

    /// Asks the CPU to fetch the value at `index`; nothing happens if there is none.
    #[inline]
    pub fn prefetch(&self, index: usize) {
        #[cfg(target_arch = "x86_64")]
        if index < self.length {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: within the mapping; a prefetch reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.start.add(index).as_ptr().cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = index;
    }

    /// Writes the value at `index`, which the program must not be using.
    ///
    /// # Panics
    ///
    /// If there is no such value.
    pub fn set(&mut self, index: usize, value: T) {
        assert!(index < self.length, "index {index} of {}", self.length);
        // SAFETY: within the mapping, and `&mut self` keeps other users in this process away.
        unsafe { self.start.add(index).write_volatile(value) };
    }
}

impl<T> Drop for Region<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made by `map`, which nobody can use any longer.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length * size_of::<T>()) };
    }
}
