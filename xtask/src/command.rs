//! Running other programs: what was run is shown, and a failure says what was being done.

use std::env;
use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::paths;

/// The cargo that runs us, at the workspace's root, so that a build never mixes two toolchains.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(paths::root());
    cargo
}

/// The command as a person would type it in a shell.
pub fn shown(command: &Command) -> String {
    let mut words: Vec<String> = Vec::new();
    words.push(quoted(command.get_program()));
    words.extend(command.get_args().map(quoted));
    words.join(" ")
}

/// A word as a shell takes it.
pub fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Runs `command` with our output; an error says what was being done (`doing`) and what was run.
pub fn run(command: &mut Command, doing: &str) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("{doing}: `{}` could not be started", shown(command)))?;
    if !status.success() {
        bail!("{doing}: `{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// Replaces this process by `command`, so that signals and the exit status are the program's own.
pub fn exec(command: &mut Command, doing: &str) -> Result<()> {
    let error = command.exec();
    Err(error).with_context(|| format!("{doing}: `{}` could not be started", shown(command)))
}

/// What `command` prints, or nothing when it can't be started or fails.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether `command` can be started and succeeds; its output is dropped.
pub fn succeeds(command: &mut Command) -> bool {
    output(command).is_some()
}

/// Finds a program on the PATH, in cargo's own bin directory, or where administration tools are.
pub fn which(program: &str) -> Option<PathBuf> {
    // Debian leaves /usr/sbin out of an ordinary user's PATH, and cargo-web leaves out ~/.cargo/bin.
    let path = env::var_os("PATH").unwrap_or_default();
    let extra = [PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")];
    env::split_paths(&path)
        .chain(cargo_bin())
        .chain(extra)
        .map(|dir| dir.join(program))
        .find(|file| is_executable(file))
}

/// Where `cargo install` puts programs.
pub fn cargo_bin() -> Option<PathBuf> {
    let home = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cargo_home = home("CARGO_HOME").or_else(|| Some(home("HOME")?.join(".cargo")));
    home("CARGO_INSTALL_ROOT").or(cargo_home).map(|dir| dir.join("bin"))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_a_shell_takes_it() {
        let mut command = Command::new("env");
        command.args(["RUSTFLAGS=--cfg a=\"b\"", "cargo", "it's", ""]);
        assert_eq!(shown(&command), r#"env 'RUSTFLAGS=--cfg a="b"' cargo 'it'\''s' ''"#);
    }

    #[test]
    fn a_failure_says_what_was_being_done_and_what_was_run() {
        let error = run(&mut Command::new("false"), "testing").expect_err("false fails");
        let text = error.to_string();
        assert!(text.starts_with("testing: `false` failed"), "{text}");
    }
}
