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

/// A measured figure: the median over the rounds, and how far they spread.
pub struct Figure {
    /// Its flat name; the unit is its ending.
    pub name: String,
    /// The median.
    pub median: f64,
    /// The lowest round.
    pub lowest: f64,
    /// The highest round.
    pub highest: f64,
}

impl Figure {
    /// A figure that was measured once.
    pub fn once(name: String, value: f64) -> Self {
        Self { name, median: value, lowest: value, highest: value }
    }

    /// The figure of one of `count` equal parts.
    pub fn divided_by(self, count: f64) -> Self {
        let Self { name, median, lowest, highest } = self;
        Self { name, median: median / count, lowest: lowest / count, highest: highest / count }
    }

    /// The figure of these rounds.
    pub fn of(name: &str, mut rounds: Vec<f64>) -> Self {
        rounds.sort_by(f64::total_cmp);
        Self {
            name: name.to_owned(),
            median: rounds[rounds.len() / 2],
            lowest: rounds[0],
            highest: rounds[rounds.len() - 1],
        }
    }
}

/// What was measured so far, each figure printed as it comes.
#[derive(Default)]
pub struct Figures(Vec<Figure>);

impl Figures {
    /// Adds a figure and prints it.
    pub fn push(&mut self, figure: Figure) {
        if self.0.is_empty() {
            println!("{:32} {:>9} {:>9} {:>9}", "figure", "median", "lowest", "highest");
        }
        let Figure { name, median, lowest, highest } = &figure;
        println!("{name:32} {median:>9.1} {lowest:>9.1} {highest:>9.1}");
        self.0.push(figure);
    }

    /// The figures, in the order in which they were measured.
    pub fn iter(&self) -> impl Iterator<Item = &Figure> {
        self.0.iter()
    }
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
