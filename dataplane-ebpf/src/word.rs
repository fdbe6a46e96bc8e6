//! A 64-bit word that the kernel program reads while userspace writes it.

/// One aligned 64-bit word of a shared table: each load sees one whole store, nothing more.
///
/// The tables need no ordering between words: every group of words carries a generation that
/// tells a reader whether they belong together (see [`crate::table`]). The trait exists so that
/// the same readers and writers run on BPF maps, on userspace memory and inside a model checker.
pub trait Word {
    /// Loads the word.
    fn load(&self) -> u64;
    /// Stores the word; every earlier store by this thread is visible to whoever sees it.
    fn store(&self, value: u64);
}

/// The word that maps are made of: volatile in the kernel, atomic in userspace.
#[repr(transparent)]
pub struct MapWord(Inner);

#[cfg(target_arch = "bpf")]
type Inner = core::cell::UnsafeCell<u64>;
#[cfg(not(target_arch = "bpf"))]
type Inner = core::sync::atomic::AtomicU64;

impl MapWord {
    /// A word that holds `value`.
    pub const fn new(value: u64) -> Self {
        Self(Inner::new(value))
    }

    /// Stores `new` if the word still holds `current`; `false`, and nothing is stored, if not. Atomic
    /// between CPUs, and between programs and userspace (Linux 5.12).
    #[inline(always)]
    pub fn compare_exchange(&self, current: u64, new: u64) -> bool {
        #[cfg(target_arch = "bpf")]
        {
            let mut found = current;
            // SAFETY: one instruction on an aligned word that the reference proves to be there; it
            // compares r0 with the word, and leaves there what it found.
            unsafe {
                core::arch::asm!(
                    "r0 = cmpxchg_64(r1 + 0, r0, r2)",
                    inout("r0") found,
                    in("r1") self.0.get(),
                    in("r2") new,
                );
            }
            found == current
        }
        #[cfg(not(target_arch = "bpf"))]
        {
            use core::sync::atomic::Ordering::Relaxed;
            self.0.compare_exchange(current, new, Relaxed, Relaxed).is_ok()
        }
    }
}

#[cfg(target_arch = "bpf")]
// SAFETY: each access is one 8-byte instruction.
unsafe impl Sync for MapWord {}

#[cfg(target_arch = "bpf")]
impl Word for MapWord {
    #[inline(always)]
    fn load(&self) -> u64 {
        // SAFETY: the pointer comes from a reference, so it is valid and aligned.
        // `AtomicU64::load` does not compile for BPF below target-cpu v4.
        unsafe { self.0.get().read_volatile() }
    }

    #[inline(always)]
    fn store(&self, value: u64) {
        // SAFETY: as for `load`.
        unsafe { self.0.get().write_volatile(value) }
    }
}

#[cfg(not(target_arch = "bpf"))]
impl Word for MapWord {
    #[inline(always)]
    fn load(&self) -> u64 {
        self.0.load(core::sync::atomic::Ordering::Relaxed)
    }

    #[inline(always)]
    fn store(&self, value: u64) {
        self.0.store(value, core::sync::atomic::Ordering::Release)
    }
}
