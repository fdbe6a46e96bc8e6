//! What a store in one file costs beside its engine: 256 callers that change sessions, and redb by
//! itself doing the same writes on a copy of the file.
//!
//! Each round, the callers decide, chain and commit; then redb writes the same keys and bytes in the
//! same groups, with the same guarantees. What the audit log grew by is exported and trimmed between the
//! rounds, on both sides, and not measured. At the end both files must hold the same sessions.

mod bars;
mod callers;
mod raw;
mod restart;

use anyhow::{Context, Result};
use callers::Callers;
use clap::Parser;
use jumpgate_benches::figure::{Figure, Figures};
use ownership::{
    NodeIndex,
    store::{
        Position, Seen,
        redb::{Options, Redb},
    },
};
use raw::Raw;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::runtime::Runtime;

/// Measures the store in one file.
#[derive(Parser)]
struct Arguments {
    /// How many sessions there are; the sizes that have bars if none is named.
    sessions: Vec<u32>,
    /// A quarter of the rounds.
    #[arg(long)]
    quick: bool,
    /// Fail if a figure misses its bar. Only on a machine that does nothing else.
    #[arg(long, conflicts_with = "sessions")]
    check: bool,
    /// Where the files are: on the disk that is to be measured.
    #[arg(long, value_name = "FOLDER", default_value = env!("CARGO_TARGET_TMPDIR"))]
    folder: PathBuf,
    /// Memory for pages of the file in MiB, for both sides; the store's default if not said.
    #[arg(long, value_name = "MIB")]
    cache: Option<usize>,
    /// Changes sessions in this file until it is killed.
    #[arg(long, hide = true, value_name = "FILE")]
    victim: Option<PathBuf>,
    /// Opens this file, reads its sessions, and says how many, in how long, and with how much memory.
    #[arg(long, hide = true, value_name = "FILE")]
    restart: Option<PathBuf>,
    /// What cargo passes.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Rounds of both sides: short and many, since a machine is not always as fast.
const ROUNDS: usize = 20;

/// Commits in a round: a hundred groups.
const COMMITS: usize = 25_600;

/// The sizes that have bars.
const SIZES: [u32; 3] = [10_000, 100_000, 1_000_000];

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let runtime = Runtime::new().context("starting the callers' threads")?;
    let cache = arguments.cache.map(|mib| mib << 20);
    if let Some(file) = &arguments.victim {
        return restart::run_until_killed(&runtime, file, cache);
    }
    if let Some(file) = &arguments.restart {
        return restart::open_and_read(&runtime, file, cache);
    }
    let rounds = if arguments.quick { ROUNDS / 4 } else { ROUNDS };
    let sizes = if arguments.sessions.is_empty() { &SIZES[..] } else { &arguments.sessions };
    let mut figures = Figures::default();
    for &sessions in sizes {
        let folder = tempfile::tempdir_in(&arguments.folder).context("making a folder")?;
        let file = folder.path().join("store");
        measure(&runtime, &file, cache, sessions, rounds, &mut figures)?;
        restart::measure(&file, cache, sessions, &mut figures)?;
    }
    if arguments.sessions.is_empty() {
        let missed = bars::missed(&figures);
        missed.iter().for_each(|bar| println!("misses its bar: {bar}"));
        anyhow::ensure!(!arguments.check || missed.is_empty(), "{} bars are missed", missed.len());
    }
    Ok(())
}

fn open(file: &Path, cache: Option<usize>) -> Result<Redb> {
    let node = NodeIndex::new(1).context("a node's index")?;
    let options = Options::new(file, node);
    let options = Options { cache: cache.unwrap_or(options.cache), ..options };
    Redb::open(file, &options, Seen::new(Position::START)).context("opening the store")
}

/// Commits a second of both sides, and the one in percent of the other.
fn measure(
    runtime: &Runtime,
    file: &Path,
    cache: Option<usize>,
    sessions: u32,
    rounds: usize,
    figures: &mut Figures,
) -> Result<()> {
    let mut callers = Callers::of(runtime, open(file, cache)?)?;
    callers.fill(sessions)?;
    // Both sides start from the same bytes, laid out on the disk alike, and none of them in memory.
    callers.close();
    let (own, other) = (file.with_extension("own"), file.with_extension("raw"));
    for copy in [&own, &other] {
        fs::copy(file, copy).context("copying the store")?;
        restart::forget(copy)?;
    }
    fs::rename(own, file).context("putting the copy in its place")?;
    callers.reopen(open(file, cache)?);
    let mut raw = Raw::open(&other, cache.unwrap_or(Options::new(file, callers.node()).cache))?;
    // The first round warms the caches.
    let (mut ours, mut engine) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let (took, groups) = callers.round(COMMITS)?;
        let per_second = |took: Duration| COMMITS as f64 / took.as_secs_f64();
        let (ours_per_s, raw_per_s) = (per_second(took), per_second(raw.round(&groups)?));
        if round > 0 {
            ours.push(ours_per_s);
            engine.push(raw_per_s);
        }
    }
    raw.compare(&callers)?;
    let percent = ours.iter().zip(&engine).map(|(ours, raw)| 100.0 * ours / raw).collect();
    let label = label(sessions);
    figures.push(Figure::of(&format!("redb_{label}_per_s"), ours));
    figures.push(Figure::of(&format!("raw_{label}_per_s"), engine));
    figures.push(Figure::of(&format!("redb_{label}_percent_of_raw"), percent));
    callers.close();
    fs::remove_file(other).context("removing the copy")
}

/// A size as names of figures have it.
fn label(sessions: u32) -> String {
    match sessions {
        1_000_000.. => format!("{}m", sessions / 1_000_000),
        1_000.. => format!("{}k", sessions / 1_000),
        few => few.to_string(),
    }
}
