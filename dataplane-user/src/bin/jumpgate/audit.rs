//! `jumpgate audit`

use crate::{Daemon, output::say};
use anyhow::{Context, Result};
use clap::Subcommand;
use ownership::audit::{Verifier, read_rows};
use std::{
    fs::File,
    io::BufReader,
    path::{PathBuf, absolute},
};

/// What to do with the log.
#[derive(Subcommand)]
pub enum What {
    /// Replays the log and proves that it is whole: each version has exactly one event, which is what the model makes
    /// of the one before.
    Verify {
        #[command(flatten)]
        daemon: Daemon,
        /// Files that were exported, instead of what is in the store; several times for those of several nodes.
        #[arg(long = "log", value_name = "FILE", conflicts_with_all = ["socket", "config"])]
        logs: Vec<PathBuf>,
    },
    /// Moves what is in the store to a file, one line of JSON for each event.
    Export {
        #[command(flatten)]
        daemon: Daemon,
        /// The file; it is gone on with if it is there.
        file: PathBuf,
    },
}

/// Does it.
pub fn audit(what: What) -> Result<()> {
    match what {
        What::Verify { daemon, logs } if logs.is_empty() => {
            let (rows, events, sessions) = daemon.connect()?.verify_audit()?;
            say!(
                "whole: {events} events in {rows} rows lead to {sessions} sessions as they are kept"
            )
        }
        What::Verify { logs, .. } => verify(&logs),
        What::Export { daemon, file } => {
            let rows = daemon.connect()?.export_audit(&absolute(&file)?)?;
            say!("{rows} rows moved to {}", file.display())
        }
    }
}

fn verify(logs: &[PathBuf]) -> Result<()> {
    let mut verifier = Verifier::default();
    for log in logs {
        let file = File::open(log).with_context(|| format!("opening {}", log.display()))?;
        for row in read_rows(BufReader::new(file)) {
            let row = row.with_context(|| format!("reading {}", log.display()))?;
            verifier.row(&row).with_context(|| format!("in {}", log.display()))?;
        }
    }
    verifier.whole()?;
    say!("whole: {} rows", verifier.rows())
}
