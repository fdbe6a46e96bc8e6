//! `jumpgate store`

use crate::output::say;
use anyhow::{Context, Result, bail};
use clap::Subcommand;
use dataplane_user::{cluster::recover, config::Config};
use ownership::Revision;
use std::path::PathBuf;

/// What to do with the store.
#[derive(Subcommand)]
pub enum What {
    /// Makes a store that was restored from a backup one that nodes take again. All epochs and sessions in it end. To be
    /// done at one node, while no daemon of the cluster runs.
    Recover {
        /// The configuration of one of the nodes.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The highest placement revision that any node has shown (`jumpgate status`).
        #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(u32).range(1..1 << 31))]
        applied: Option<u32>,
        /// That no daemon of the cluster runs, and that all sessions are to end.
        #[arg(long)]
        all_sessions_end: bool,
    },
}

/// Does it.
pub fn store(what: What) -> Result<()> {
    let What::Recover { config, applied, all_sessions_end } = what;
    if !all_sessions_end {
        bail!(
            "recovering a store ends all epochs and sessions in it: stop all daemons of the cluster, and say \
             --all-sessions-end"
        );
    }
    let config = Config::load(&config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let applied = applied.and_then(Revision::new);
    let waiting = |time| eprintln!("waiting for {time:?}, until no lease of before can be open");
    let recovered = runtime.block_on(recover(&config, applied, waiting))?;
    let (generation, ended) = (recovered.generation.0, recovered.ended);
    say!(
        "the store is in generation {generation}; {} nodes and {} sessions have ended",
        ended.nodes,
        ended.sessions
    )?;
    say!("start the daemons again")
}
