//! Batches of `ip` commands: one process for a whole list.

use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::netns::Namespace;

/// A list of `ip` commands to be run in one namespace.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    lines: String,
}

impl Batch {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a command, without the word `ip`: `batch.add("link set lo up")`.
    pub fn add(&mut self, command: impl AsRef<str>) -> &mut Self {
        self.lines.push_str(command.as_ref());
        self.lines.push('\n');
        self
    }

    /// Runs the commands; the first that fails ends the batch and is named in the error.
    pub fn run(&self, namespace: &Namespace) -> Result<()> {
        let mut child = namespace
            .command("ip")
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting `ip` (Debian package iproute2)")?;
        let mut stdin = child.stdin.take().context("stdin of `ip` was piped")?;
        // A broken pipe only means that `ip` has given up already; its message follows below.
        let _ = stdin.write_all(self.lines.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().context("waiting for `ip`")?;
        ensure!(
            output.status.success(),
            "`ip -batch` in {} failed: {}\nThe batch was:\n{}",
            namespace.name(),
            String::from_utf8_lossy(&output.stderr).trim_end(),
            self.lines,
        );
        Ok(())
    }
}
