//! `jumpgate run`

use crate::log;
use anyhow::{Context, Result};
use dataplane_user::{
    config::Config,
    daemon::{Daemon, Options, Origin, Reloader},
};
use std::path::Path;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Runs the daemon until SIGTERM or SIGINT. At SIGHUP it reads its configuration again.
///
/// With [`Options::log_packets`] every packet's verdict is logged, whatever level the environment
/// asks for.
pub fn run(file: &Path, options: Options) -> Result<()> {
    let config = Config::load(file)?;
    let set_log = log::start(&config.log, options.log_packets)?;
    // One thread: everything happens in the network namespace of whoever started it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("handling SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("handling SIGINT")?;
        let hangup = signal(SignalKind::hangup()).context("handling SIGHUP")?;
        let origin = Origin { file: file.to_owned(), set_log };
        let daemon = Daemon::start(config, options).await?.from_file(origin);
        tokio::spawn(reload_at(hangup, daemon.reloader()));
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

/// Has the configuration read again at each signal. The daemon logs what comes of it.
async fn reload_at(mut hangup: Signal, reloader: Reloader) {
    while hangup.recv().await.is_some() {
        let _ = reloader.reload().await;
    }
}
