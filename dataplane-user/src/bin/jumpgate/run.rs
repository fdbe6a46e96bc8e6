//! `jumpgate run`

use anyhow::{Context, Result};
use dataplane_user::{
    config::Config,
    daemon::{Daemon, Options},
};
use std::{io::IsTerminal, path::Path};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Runs the daemon until SIGTERM or SIGINT.
///
/// With [`Options::log_packets`] every packet's verdict is logged, whatever level the environment
/// asks for.
pub fn run(file: &Path, options: Options) -> Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let filter = match options.log_packets {
        true => filter.add_directive("jumpgate_bpf=debug".parse().context("the log's filter")?),
        false => filter,
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let config = Config::load(file)?;
    // One thread: everything happens in the network namespace of whoever started it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("handling SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("handling SIGINT")?;
        let daemon = Daemon::start(config, options).await?;
        daemon
            .run(async move {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            })
            .await?;
        Ok(())
    })
}
