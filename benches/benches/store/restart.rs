//! How long it takes until a store that was closed, or whose process was killed, is open again and all
//! its sessions have been read: from the disk, the kernel's copy of the file having been dropped.

use crate::{
    ROUNDS,
    callers::{Callers, read_all},
    label, open,
};
use anyhow::{Context, Result};
use jumpgate_benches::figure::{Figure, Figures};
use std::{
    fs::File,
    io::{BufRead, BufReader},
    os::fd::AsRawFd,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

/// What the victim says once it commits.
const READY: &str = "ready";

pub(crate) fn measure(
    runtime: &Runtime,
    file: &Path,
    cache: Option<usize>,
    sessions: u32,
    figures: &mut Figures,
) -> Result<()> {
    let (mut clean, mut killed) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        clean.push(restart(runtime, file, cache, sessions)?);
        kill_one(file, cache)?;
        killed.push(restart(runtime, file, cache, sessions)?);
    }
    let label = label(sessions);
    figures.push(Figure::of(&format!("restart_{label}_clean_ms"), clean));
    figures.push(Figure::of(&format!("restart_{label}_killed_ms"), killed));
    Ok(())
}

/// Milliseconds.
fn restart(runtime: &Runtime, file: &Path, cache: Option<usize>, sessions: u32) -> Result<f64> {
    forget(file)?;
    let begun = Instant::now();
    let store = open(file, cache)?;
    let found = read_all(runtime, &store)?.len();
    let took = begun.elapsed();
    anyhow::ensure!(found == sessions as usize, "{found} sessions, not {sessions}");
    Ok(took.as_secs_f64() * 1e3)
}

/// Has the kernel drop its copy of a file, so that it must be read from the disk.
fn forget(file: &Path) -> Result<()> {
    let file = File::open(file).context("opening the file")?;
    file.sync_all().context("syncing the file")?;
    // SAFETY: it takes a descriptor, which is open, and numbers.
    let error = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    anyhow::ensure!(
        error == 0,
        "dropping a file's pages: {}",
        std::io::Error::from_raw_os_error(error)
    );
    Ok(())
}

/// Kills a process amid its commits.
fn kill_one(file: &Path, cache: Option<usize>) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--victim").arg(file).stdout(Stdio::piped());
    if let Some(cache) = cache {
        command.arg("--cache").arg((cache >> 20).to_string());
    }
    let mut victim = command.spawn().context("starting a process")?;
    let said = BufReader::new(victim.stdout.take().context("its output")?).lines().next();
    // It is in the middle of something.
    thread::sleep(Duration::from_millis(200));
    victim.kill()?;
    let status = victim.wait()?;
    let is_ready = said.transpose()?.is_some_and(|line| line == READY);
    anyhow::ensure!(is_ready && status.code().is_none(), "it ended before it was killed: {status}");
    Ok(())
}

/// Changes sessions until somebody kills this process.
pub(crate) fn run_until_killed(runtime: &Runtime, file: &Path, cache: Option<usize>) -> Result<()> {
    let mut callers = Callers::of(runtime, open(file, cache)?)?;
    println!("{READY}");
    loop {
        callers.round(25_600)?;
    }
}
