//! The daemon's log: to stderr, as the configuration says.

use anyhow::{Context, Result};
use dataplane_user::{
    config::{Log, LogFormat},
    daemon::SetLog,
};
use std::io::IsTerminal;
use tracing_subscriber::{
    EnvFilter, Registry, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

/// Begins it; what sets another level.
///
/// With `log_packets` every packet's verdict is logged, whatever the level.
pub fn start(log: &Log, log_packets: bool) -> Result<SetLog> {
    let (filter, handle) = reload::Layer::<_, Registry>::new(filter(log, log_packets)?);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    match log.format {
        LogFormat::Text => {
            registry.with(lines.with_ansi(std::io::stderr().is_terminal())).init();
        }
        LogFormat::Json => registry.with(lines.json()).init(),
    }
    Ok(Box::new(move |log| match self::filter(log, log_packets) {
        Ok(filter) => handle.reload(filter).expect("the log lives as long as the process"),
        Err(error) => tracing::error!("the log's level stays as it is: {error:#}"),
    }))
}

/// What the environment asks for, or else the configuration.
fn filter(log: &Log, log_packets: bool) -> Result<EnvFilter> {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(log.level.name()));
    Ok(match log_packets {
        true => filter.add_directive("jumpgate_bpf=debug".parse().context("the log's filter")?),
        false => filter,
    })
}
