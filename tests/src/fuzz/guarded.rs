//! Memory between two pages that nobody may touch: a read one byte beyond it ends the process.

use std::ptr;
use std::slice;

/// The longest content, in bytes.
pub const LONGEST: usize = 4 * PAGE;

const PAGE: usize = 4096;

/// Room for one frame at a time.
pub struct Guarded {
    start: *mut u8,
}

impl Guarded {
    /// Fresh memory.
    ///
    /// # Panics
    ///
    /// If the kernel gives none.
    pub fn new() -> Self {
        let bytes = LONGEST + 2 * PAGE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a fresh mapping of our own; the result is checked.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        let start = start.cast::<u8>().wrapping_add(PAGE);
        // SAFETY: within the mapping, between its first and its last page.
        let result =
            unsafe { libc::mprotect(start.cast(), LONGEST, libc::PROT_READ | libc::PROT_WRITE) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        Self { start }
    }

    /// The bytes (as many as fit), with nothing behind them.
    pub fn at_end(&mut self, bytes: &[u8]) -> &[u8] {
        let bytes = &bytes[..bytes.len().min(LONGEST)];
        self.put(LONGEST - bytes.len(), bytes)
    }

    /// The bytes (as many as fit), with nothing in front of them.
    pub fn at_start(&mut self, bytes: &[u8]) -> &[u8] {
        self.put(0, &bytes[..bytes.len().min(LONGEST)])
    }

    fn put(&mut self, at: usize, bytes: &[u8]) -> &[u8] {
        // SAFETY: `at` and the length lie within the mapping, which is ours alone through `&mut`.
        unsafe {
            let start = self.start.add(at);
            ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len());
            slice::from_raw_parts(start, bytes.len())
        }
    }
}

impl Default for Guarded {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping made by `new`, which nobody can use any longer.
        unsafe { libc::munmap(self.start.wrapping_sub(PAGE).cast(), LONGEST + 2 * PAGE) };
    }
}
