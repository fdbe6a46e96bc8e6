//! Raising one program to root. Builds never run as root when the user is not.

use std::ffi::OsStr;
use std::process::Command;

use anyhow::{Result, bail};

use crate::command::which;
use crate::machine::is_root;

/// A command that runs `program` as root: as it is when we are root, through `sudo -E` when not.
///
/// # Errors
/// When we are not root and there is no `sudo`.
pub fn as_root(program: impl AsRef<OsStr>) -> Result<Command> {
    let Some(words) = raise()? else {
        return Ok(Command::new(program));
    };
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(program);
    Ok(command)
}

/// The words that raise a program to root, or `None` when we are root.
pub fn raise() -> Result<Option<[&'static str; 2]>> {
    if is_root() {
        return Ok(None);
    }
    if which("sudo").is_none() {
        bail!(
            "this needs root: you are not root, and there is no sudo on this machine. \
             Run the same command as root, or install sudo"
        );
    }
    // -E: the tests read JUMPGATE_* from the environment.
    Ok(Some(["sudo", "-E"]))
}
