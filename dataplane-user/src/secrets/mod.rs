//! The secrets that all nodes of a cluster share: what clients prove themselves with follows from them.
//!
//! They are in a [file](SecretsFile) that nobody but its owner can read, the same on every node. A node with the
//! embedded store makes it if it is not there; where several machines share a store, it has to be made once
//! and copied.

mod file;

pub use file::SecretsFile;

use crate::config::{Config, Store};
use ownership::reattach::Secrets;
use std::{
    io,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// Why there are no secrets, or no others.
#[derive(Debug, Error)]
pub enum SecretsError {
    /// There is no file, and nobody may make one up.
    #[error(
        "there are no secrets at {}, and all nodes must have the same: make the file on one node with \
         `jumpgate secret rotate --config FILE`, and copy it to all others", .0.display()
    )]
    Missing(PathBuf),
    /// Others can read it.
    #[error(
        "{} has mode {mode:03o}, and whoever reads it can speak for any session: `chmod 600` it, and if \
         others may have read it, `jumpgate secret rotate`", path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file cannot be read or made.
    #[error("the file of secrets {} cannot be used", .0.display())]
    Io(PathBuf, #[source] io::Error),
    /// It makes no sense.
    #[error(
        "line {line} of {} makes no sense there: each is a number and 64 hexadecimal digits, the one in force \
         first, and one or two of them; or a number that is revoked", path.display()
    )]
    Garbled {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on.
        line: usize,
    },
    /// Numbers are never used again.
    #[error("secret {0} has the last number: no other can follow")]
    LastNumber(u16),
    /// No such secret.
    #[error("secret {0} is not live: `jumpgate secret show` lists those that are")]
    NotLive(u16),
    /// Nothing would be left.
    #[error(
        "secret {0} is the only one: `jumpgate secret rotate` first, and again to make what followed it the \
         only one"
    )]
    OnlyOne(u16),
}

impl SecretsError {
    fn io(path: &Path, error: io::Error) -> Self {
        Self::Io(path.to_owned(), error)
    }
}

/// The secrets that a configuration names. On the embedded store the first one is drawn if there is no file.
///
/// # Errors
///
/// If the file is missing, cannot be used, can be read by others, or makes no sense.
pub fn load(config: &Config) -> Result<Secrets, SecretsError> {
    let path = &config.cluster.secrets;
    let file = match (SecretsFile::read(path), &config.store) {
        (Err(SecretsError::Missing(_)), Store::Embedded { .. }) => SecretsFile::make(path),
        (read, _) => read,
    };
    Ok(file?.secrets())
}
