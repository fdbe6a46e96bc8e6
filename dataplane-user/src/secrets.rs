//! The secrets that all nodes of a cluster share: what clients prove themselves with follows from them.
//!
//! A file with one line for each live secret, the one in force first: its number, and 64 hexadecimal digits.

use ownership::reattach::{SECRET_LENGTH, Secret, Secrets};
use rand::{TryRngCore, rngs::OsRng};
use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// Why there are no secrets.
#[derive(Debug, Error)]
pub enum SecretsError {
    /// The file cannot be read or made.
    #[error("the file of secrets {} cannot be used", .0.display())]
    Io(PathBuf, #[source] io::Error),
    /// It makes no sense.
    #[error(
        "{} holds no secrets on line {line}: each line is a number and 64 hexadecimal digits, at most two \
         lines, with two numbers", path.display()
    )]
    Garbled {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on.
        line: usize,
    },
}

/// The secrets in a file; if it is not there, one is drawn and kept there.
///
/// # Errors
///
/// If the file cannot be used, or makes no sense.
pub fn load_or_make(path: &Path) -> Result<Secrets, SecretsError> {
    let io = |error| SecretsError::Io(path.to_owned(), error);
    match fs::read_to_string(path) {
        Ok(text) => parse(path, &text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut bytes = [0; SECRET_LENGTH];
            OsRng.try_fill_bytes(&mut bytes).map_err(|error| io(io::Error::other(error)))?;
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            match made {
                Ok(mut file) => {
                    file.write_all(format!("1 {digits}\n").as_bytes()).map_err(io)?;
                    file.sync_all().map_err(io)?;
                    Ok(Secrets::new(Secret::new(1, &bytes)))
                }
                // Another node of this machine was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => load_or_make(path),
                Err(error) => Err(io(error)),
            }
        }
        Err(error) => Err(io(error)),
    }
}

fn parse(path: &Path, text: &str) -> Result<Secrets, SecretsError> {
    let garbled = |line| SecretsError::Garbled { path: path.to_owned(), line };
    let mut secrets: Option<Secrets> = None;
    // The one in force stands first, and is added last.
    let lines: Vec<_> = text.lines().enumerate().collect();
    for (line, text) in lines.into_iter().rev() {
        let secret = secret(text).ok_or_else(|| garbled(line + 1))?;
        secrets = Some(match secrets {
            None => Secrets::new(secret),
            Some(mut secrets) => {
                secrets.rotate(secret).map_err(|_| garbled(line + 1))?;
                secrets
            }
        });
    }
    secrets.ok_or_else(|| garbled(1))
}

fn secret(line: &str) -> Option<Secret> {
    let (number, digits) = line.split_once(' ')?;
    let mut bytes = [0; SECRET_LENGTH];
    if digits.len() != 2 * SECRET_LENGTH {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(Secret::new(number.parse().ok()?, &bytes))
}
