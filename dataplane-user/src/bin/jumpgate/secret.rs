//! `jumpgate secret`

use crate::output::say;
use anyhow::{Context, Result};
use clap::Subcommand;
use dataplane_user::{
    api::{Client, ClientError},
    config::Config,
    secrets::SecretsFile,
};
use std::path::Path;

/// What to do with the cluster's secrets.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Order {
    /// Lists the numbers of the secrets that are live, the one in force first.
    Show,
    /// Draws the next secret and puts it in force; the one before stays good until the next time. Makes the file
    /// if it is missing.
    Rotate,
    /// Takes one of two secrets away: clients that have only its keys are not answered any more.
    Revoke {
        /// Its number.
        number: u16,
    },
    /// Lets the daemon read the file again: on each node that it was copied to.
    Reload,
}

/// Does it, to the file that a configuration names, and tells the daemon.
pub fn secret(config: &Path, order: Order) -> Result<()> {
    let config = Config::load(config)?;
    let path = &config.cluster.secrets;
    let file = match order {
        Order::Show => return show(&SecretsFile::read(path)?.numbers()),
        Order::Reload => {
            return show(&Client::connect(&config.api.socket)?.reload_secrets()?);
        }
        Order::Rotate => SecretsFile::rotate(path)?,
        Order::Revoke { number } => SecretsFile::revoke(path, number)?,
    };
    show(&file.numbers())?;
    match Client::connect(&config.api.socket) {
        Ok(mut client) => {
            client
                .reload_secrets()
                .context("the file is written, but the daemon goes on without it")?;
        }
        Err(ClientError::Connect { .. }) => {
            say!("no daemon runs here: it reads the file when it starts")?;
        }
        Err(error) => return Err(error.into()),
    }
    if config.nodes.len() > 1 {
        let path = path.display();
        say!("copy {path} to all other nodes, and there: jumpgate secret reload --config FILE")?;
    }
    Ok(())
}

fn show(numbers: &[u16]) -> Result<()> {
    for (at, number) in numbers.iter().enumerate() {
        say!("{number}  {}", if at == 0 { "in force" } else { "good until the next rotation" })?;
    }
    Ok(())
}
