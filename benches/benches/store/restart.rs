//! How long it takes until a store that was closed, or whose process was killed, is open again and all
//! its sessions have been read, and what memory it has then: by a process of its own, from the disk,
//! the kernel's copy of the file having been dropped.

use crate::{COMMITS, callers::Callers, label, open};
use anyhow::{Context, Result};
use jumpgate_benches::figure::{Figure, Figures};
use ownership::store::Sessions;
use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    os::fd::AsRawFd,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

/// How often a store is opened after either end.
const RESTARTS: usize = 5;

/// What the victim says once it commits.
const READY: &str = "ready";

pub(crate) fn measure(
    file: &Path,
    cache: Option<usize>,
    sessions: u32,
    figures: &mut Figures,
) -> Result<()> {
    let (mut clean, mut killed, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RESTARTS {
        let restarted = restart(file, cache, sessions)?;
        clean.push(restarted.ms);
        kill_one(file, cache)?;
        killed.push(restart(file, cache, sessions)?.ms);
        memory.push(restarted.bytes / f64::from(sessions));
    }
    let label = label(sessions);
    figures.push(Figure::of(&format!("restart_{label}_clean_ms"), clean));
    figures.push(Figure::of(&format!("restart_{label}_killed_ms"), killed));
    figures.push(Figure::of(&format!("memory_{label}_bytes_a_session"), memory));
    Ok(())
}

/// What a process says that has opened a store and read its sessions.
struct Restarted {
    ms: f64,
    /// What its memory has grown by.
    bytes: f64,
}

/// Starts a process that opens the store and reads it.
fn restart(file: &Path, cache: Option<usize>, sessions: u32) -> Result<Restarted> {
    forget(file)?;
    let output = again("--restart", file, cache)?.stderr(Stdio::inherit()).output()?;
    let said = String::from_utf8(output.stdout)?;
    let said: Vec<f64> = said.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let [found, ms, bytes] = said[..] else { anyhow::bail!("a restart said {said:?}") };
    anyhow::ensure!(found == f64::from(sessions), "{found} sessions, not {sessions}");
    Ok(Restarted { ms, bytes })
}

/// What that process does.
pub(crate) fn open_and_read(runtime: &Runtime, file: &Path, cache: Option<usize>) -> Result<()> {
    let (before, begun) = (resident()?, Instant::now());
    let store = open(file, cache)?;
    let (mut found, mut after) = (0, None);
    loop {
        let page = runtime.block_on(store.sessions(after, 1000))?;
        let Some(last) = page.last() else { break };
        after = Some(last.record.id());
        found += page.len();
    }
    let ms = begun.elapsed().as_secs_f64() * 1e3;
    println!("{found} {ms} {}", resident()?.saturating_sub(before));
    Ok(())
}

/// Bytes of memory that this process has.
fn resident() -> Result<u64> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm.split(' ').nth(1).context("its second field")?.parse()?;
    // SAFETY: it takes a number and touches nothing.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Ok(pages * u64::try_from(size)?)
}

/// This program once more, to do something with the file.
fn again(what: &str, file: &Path, cache: Option<usize>) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(what).arg(file);
    if let Some(cache) = cache {
        command.arg("--cache").arg((cache >> 20).to_string());
    }
    Ok(command)
}

/// Has the kernel drop its copy of a file, so that it must be read from the disk.
pub(crate) fn forget(file: &Path) -> Result<()> {
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
    let mut victim = again("--victim", file, cache)?.stdout(Stdio::piped()).spawn()?;
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
        callers.round(COMMITS)?;
    }
}
