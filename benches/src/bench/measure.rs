//! Rounds of two programs in turns.

use anyhow::{Context, Result};
use aya::programs::{TestRun, TestRunOptions, TestRunResult};
use std::{ops::RangeInclusive, time::Duration};

/// How often to measure.
pub struct Rounds {
    /// Rounds; each runs both programs.
    pub count: usize,
    /// Packets a program gets in a round.
    pub repeat: u32,
}

/// Runs a program on a packet `repeat` times in the kernel; nanoseconds a packet.
pub fn run<P>(program: &P, frame: &[u8], repeat: u32) -> Result<f64>
where
    P: for<'a> TestRun<Opts<'a> = TestRunOptions<'a>, Result = TestRunResult>,
{
    let result = program
        .test_run(TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::default() })
        .context("running a program in the kernel")?;
    anyhow::ensure!(result.return_value != 0, "the program aborted");
    Ok(nanoseconds(result.duration))
}

fn nanoseconds(duration: Duration) -> f64 {
    duration.as_nanos() as f64
}

/// Keeps this thread, and with it the programs it runs, on one CPU.
pub fn pin_to_cpu(cpu: usize) -> Result<()> {
    pin_to(cpu..=cpu).with_context(|| format!("pinning to CPU {cpu}"))
}

/// Lets this thread, and what it starts, run on every CPU.
pub fn use_all_cpus() -> Result<()> {
    pin_to(0..=1023).context("using all CPUs")
}

fn pin_to(cpus: RangeInclusive<usize>) -> Result<()> {
    // SAFETY: zeroes are an empty set; the calls only touch it.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        cpus.for_each(|cpu| libc::CPU_SET(cpu, &mut set));
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    anyhow::ensure!(result == 0, std::io::Error::last_os_error());
    Ok(())
}
