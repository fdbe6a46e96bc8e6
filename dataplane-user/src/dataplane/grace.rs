//! Waiting until no program can still hold what it read before.

use std::io;

/// Returns when every XDP and selector program that runs now has ended.
///
/// `membarrier(MEMBARRIER_CMD_GLOBAL)` waits for an RCU grace period (Linux 4.3): about 10 ms. For
/// rare changes only: a rewritten row, a generation that wraps.
pub fn grace_period() -> io::Result<()> {
    const MEMBARRIER_CMD_GLOBAL: i32 = 1;
    // SAFETY: takes numbers only.
    match unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
