//! Waiting until no program can still hold what it read before.
//!
//! A program runs with bottom halves disabled, from the poll that calls it to the flush of the CPU
//! queues behind it. No thread preempts that: when a thread has run once on every CPU, whatever ran
//! when it set out has ended. One thread of this process does nothing else. It runs as `SCHED_FIFO`,
//! so that it waits for no other thread on a busy CPU; that takes some 50 µs and costs packets
//! nothing.
//!
//! On PREEMPT_RT programs run in threads that can be preempted; and a cpuset or a lack of privilege
//! may keep the thread off a CPU or out of that class. Then the kernel is asked for an RCU grace
//! period, which takes some 10 to 50 ms: the sections that it waits for are the same.

mod rcu;

pub use rcu::rcu_grace_period;

use nix::{
    errno::Errno,
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use std::{
    fmt, fs, io,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
};

/// The priority of the thread that hops: any goes before all threads that are not real-time.
const PRIORITY: i32 = 1;

/// How a grace period was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A thread ran on every CPU: some 50 µs.
    Hop,
    /// `membarrier(MEMBARRIER_CMD_GLOBAL)` waited for RCU (Linux 4.3): some 10 to 50 ms.
    Membarrier,
    /// The update of a map of maps waited for RCU (Linux 5.0): as long. Where the kernel has no
    /// membarrier, as with `nohz_full`.
    MapOfMaps,
}

impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Hop => "a thread that ran on every CPU",
            Self::Membarrier => "membarrier(GLOBAL)",
            Self::MapOfMaps => "the update of a map of maps",
        })
    }
}

/// Returns when every program that runs now has ended, and the packets that it sent to a CPU are in
/// that CPU's queue.
///
/// # Errors
/// When the kernel refuses every way of waiting.
pub fn grace_period() -> io::Result<Method> {
    static HOPPER: OnceLock<Hopper> = OnceLock::new();
    HOPPER.get_or_init(|| Hopper::start(&Kernel::read())).wait()
}

/// Why grace periods take long here; `None` if they do not. Tries one.
pub fn obstacle() -> Option<String> {
    Hopper::start(&Kernel::read()).hop().err().map(|error| error.to_string())
}

/// The thread that runs on every CPU.
struct Hopper {
    /// `None`, and why, if there can be none.
    requests: Result<Sender<Sender<io::Result<()>>>, String>,
    complained: AtomicBool,
}

impl Hopper {
    /// Starts the thread, or remembers why that is of no use.
    fn start(kernel: &Kernel) -> Self {
        let requests = start(kernel).map_err(|error| error.to_string());
        Self { requests, complained: false.into() }
    }

    fn wait(&self) -> io::Result<Method> {
        match self.hop() {
            Ok(()) => Ok(Method::Hop),
            Err(reason) => {
                let method = rcu_grace_period()?;
                if !self.complained.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        %reason,
                        "grace periods wait for {method}, some 10 to 50 ms each: give the daemon \
                         CAP_SYS_NICE and all CPUs"
                    );
                }
                Ok(method)
            }
        }
    }

    fn hop(&self) -> io::Result<()> {
        let requests = self.requests.as_ref().map_err(|reason| io::Error::other(reason.clone()))?;
        let (done, answer) = mpsc::channel();
        let ended = || io::Error::other("the thread that runs on every CPU has ended");
        requests.send(done).map_err(|_| ended())?;
        answer.recv().map_err(|_| ended())?
    }
}

fn start(kernel: &Kernel) -> io::Result<Sender<Sender<io::Result<()>>>> {
    if kernel.is_preempt_rt() {
        return Err(io::Error::other("PREEMPT_RT runs programs in threads that can be preempted"));
    }
    let (requests, queue) = mpsc::channel();
    let (started, outcome) = mpsc::channel();
    thread::Builder::new().name("grace".into()).spawn(move || {
        let fifo = become_fifo();
        let goes_on = fifo.is_ok();
        let _ = started.send(fifo);
        if goes_on {
            serve(&queue);
        }
    })?;
    outcome.recv().map_err(io::Error::other)??;
    Ok(requests)
}

/// Hops for whoever waits. All that wait when a hop begins are served by it.
fn serve(queue: &Receiver<Sender<io::Result<()>>>) {
    while let Ok(first) = queue.recv() {
        let waiting: Vec<_> = std::iter::once(first).chain(queue.try_iter()).collect();
        let hopped = hop().map_err(|error| error.to_string());
        for waits in waiting {
            // Nobody waits any longer if this fails.
            let _ = waits.send(hopped.clone().map_err(io::Error::other));
        }
    }
}

fn hop() -> io::Result<()> {
    for cpu in crate::config::online_cpus()? {
        let mut only = CpuSet::new();
        only.set(cpu as usize)?;
        match sched_setaffinity(Pid::from_raw(0), &only) {
            Ok(()) => {}
            // Went offline in the meantime: nothing runs there.
            Err(Errno::EINVAL) if !crate::config::online_cpus()?.contains(&cpu) => {}
            Err(error) => {
                return Err(io::Error::other(format!("running on CPU {cpu}: {error}")));
            }
        }
    }
    Ok(())
}

fn become_fifo() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: sets this thread's class from one structure.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) } {
        0 => Ok(()),
        _ => {
            let error = io::Error::last_os_error();
            Err(io::Error::new(error.kind(), format!("becoming SCHED_FIFO: {error}")))
        }
    }
}

/// What a kernel says of itself; empty where it says nothing.
struct Kernel {
    /// `/sys/kernel/realtime`, which kernels with the patches of PREEMPT_RT have.
    realtime: String,
    /// `/proc/sys/kernel/version`, which names PREEMPT_RT since it needs no patches (Linux 6.12), and
    /// did before.
    version: String,
}

impl Kernel {
    fn read() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self { realtime: read("/sys/kernel/realtime"), version: read("/proc/sys/kernel/version") }
    }

    fn is_preempt_rt(&self) -> bool {
        self.realtime.trim() == "1" || self.version.contains("PREEMPT_RT")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sched::sched_getaffinity;

    #[test]
    fn a_grace_period_leaves_the_thread_that_waits_where_it_was() {
        let this = Pid::from_raw(0);
        let before = sched_getaffinity(this).unwrap();
        let method = grace_period().unwrap();
        assert_eq!(method == Method::Hop, obstacle().is_none(), "{method}");
        assert_eq!(sched_getaffinity(this).unwrap(), before);
    }

    #[test]
    fn many_can_wait_at_a_time() {
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        grace_period().unwrap();
                    }
                });
            }
        });
    }

    #[test]
    fn without_the_privilege_the_kernel_is_asked_and_the_answer_says_so() {
        thread::spawn(|| {
            without_nice();
            let hopper = Hopper::start(&Kernel::read());
            let refused = hopper.hop().unwrap_err().to_string();
            assert!(refused.contains("SCHED_FIFO"), "{refused}");
            assert_ne!(hopper.wait().unwrap(), Method::Hop);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn no_thread_hops_on_preempt_rt() {
        let kernel = |realtime: &str, version: &str| Kernel {
            realtime: realtime.to_owned(),
            version: version.to_owned(),
        };
        const DEBIAN: &str = "#1 SMP PREEMPT_DYNAMIC Debian 6.12.57-1 (2025-11-05)";
        const DEBIAN_RT: &str = "#1 SMP PREEMPT_RT Debian 6.12.57-1 (2025-11-05)";
        for kernel in [kernel("1\n", "#1 SMP"), kernel("", DEBIAN_RT), kernel("1\n", DEBIAN_RT)] {
            let hopper = Hopper::start(&kernel);
            let refused = hopper.hop().unwrap_err().to_string();
            assert!(refused.contains("PREEMPT_RT"), "{refused}");
            assert_ne!(hopper.wait().unwrap(), Method::Hop);
        }
        for kernel in [kernel("", DEBIAN), kernel("0\n", DEBIAN), kernel("", "")] {
            assert!(!kernel.is_preempt_rt());
        }
    }

    /// Takes CAP_SYS_NICE from this thread and those that it starts.
    fn without_nice() {
        const VERSION_3: u32 = 0x2008_0522;
        const CAP_SYS_NICE: u32 = 23;
        let header = [VERSION_3, 0];
        // Effective, permitted and inheritable, the low and then the high halves.
        let mut sets = [0_u32; 6];
        // SAFETY: version 3 reads and writes two words of header and six of sets.
        let got = unsafe { libc::syscall(libc::SYS_capget, &raw const header, &raw mut sets) };
        assert_eq!(got, 0, "{}", io::Error::last_os_error());
        for set in &mut sets[..3] {
            *set &= !(1 << CAP_SYS_NICE);
        }
        // SAFETY: as above.
        let set = unsafe { libc::syscall(libc::SYS_capset, &raw const header, &raw const sets) };
        assert_eq!(set, 0, "{}", io::Error::last_os_error());
    }
}
