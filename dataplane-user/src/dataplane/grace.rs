//! Waiting until no program can still hold what it read before.

use nix::{
    errno::Errno,
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use std::io;

/// Returns when every XDP and selector program that runs now has ended. For rare changes only: a
/// generation that wraps.
///
/// `membarrier(MEMBARRIER_CMD_GLOBAL)` waits for an RCU grace period (Linux 4.3): about 10 ms.
/// Where the kernel refuses that (nohz_full, or built without it) this thread runs on every CPU
/// once: programs run with bottom halves disabled, which no thread preempts. That is not so on
/// PREEMPT_RT, and a cpuset may forbid it; then this is an error.
pub fn grace_period() -> io::Result<()> {
    const MEMBARRIER_CMD_GLOBAL: i32 = 1;
    // SAFETY: takes numbers only.
    if unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) } == 0 {
        return Ok(());
    }
    hop_over_cpus()
}

fn hop_over_cpus() -> io::Result<()> {
    if std::fs::read_to_string("/sys/kernel/realtime").is_ok_and(|text| text.trim() == "1") {
        return Err(io::Error::other("PREEMPT_RT runs programs in threads that can be preempted"));
    }
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this)?;
    let hopped = hop(this);
    sched_setaffinity(this, &allowed)?;
    hopped
}

fn hop(this: Pid) -> io::Result<()> {
    for cpu in crate::config::online_cpus()? {
        let mut only = CpuSet::new();
        only.set(cpu as usize)?;
        match sched_setaffinity(this, &only) {
            Ok(()) => {}
            // Went offline in the meantime: nothing runs there.
            Err(Errno::EINVAL) if !crate::config::online_cpus()?.contains(&cpu) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_waiting_work_here_and_leave_the_thread_where_it_was() {
        let this = Pid::from_raw(0);
        let before = sched_getaffinity(this).unwrap();
        hop_over_cpus().unwrap();
        assert_eq!(sched_getaffinity(this).unwrap(), before);
        grace_period().unwrap();
    }
}
