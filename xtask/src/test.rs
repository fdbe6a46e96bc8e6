//! `cargo xtask test`: everything that shows that Jumpgate does what it says.

use std::process::Command;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::build::{Built, Profile, build};
use crate::command::{cargo, output, run};
use crate::machine::check_kernel;
use crate::paths;
use crate::root::raise;
use crate::setup;
use crate::version::Compiler;

/// Cases of each property test under `--full`; proptest's own default otherwise.
const FULL_PROPTEST_CASES: &str = "4096";

/// All that the ownership library can be built with.
pub const ALL_STORES: &str = "ownership/etcd";

/// Which tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    /// What needs no root: unit and property tests, and the model of the session table
    Unit,
    /// What loads programs into the kernel and makes networks, as root
    Kernel,
    /// Both
    All,
}

/// Whether a test that cannot run here may be skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skipping {
    /// It says so.
    Allowed,
    /// It fails.
    Refused,
}

/// Sets up what lacks, builds, and runs the tests.
pub fn test(suite: Suite, full: bool, skipping: Skipping) -> Result<()> {
    if suite != Suite::Unit {
        check_kernel()?;
    }
    setup::ensure_testable()?;
    let built = build(Profile::Dev)?;
    if suite != Suite::Kernel {
        unit(&built, full, skipping)?;
        model(full)?;
    }
    if suite != Suite::Unit {
        kernel(&built, full, skipping)?;
    }
    Ok(())
}

fn unit(built: &Built, full: bool, skipping: Skipping) -> Result<()> {
    let mut command = cargo();
    // What stays out needs root (tests) or is measured, not tested (benches).
    command.args(["test", "--workspace", "--exclude", "jumpgate-tests"]);
    command.args(["--exclude", "jumpgate-benches", "--features", ALL_STORES]);
    skipping.tell(&mut command);
    run(with_size(built.set_env(&mut command), full), "running the unit tests")
}

/// The race between the session table's writer and its readers, explored by loom.
fn model(full: bool) -> Result<()> {
    let mut command = cargo();
    command
        .args(["test", "--package", "dataplane-ebpf", "--release", "--test", "model"])
        .env("CARGO_TARGET_DIR", paths::loom_target())
        .env("CARGO_ENCODED_RUSTFLAGS", "--cfg\u{1f}loom");
    run(with_size(&mut command, full), "running the model of the session table")
}

/// Compiled as the user; only the test programs are raised to root.
fn kernel(built: &Built, full: bool, skipping: Skipping) -> Result<()> {
    let mut command = cargo();
    command.args(["test", "--package", "jumpgate-tests"]);
    if let Some(words) = raise()? {
        command.env(runner_variable(&host()?), words.join(" "));
    }
    skipping.tell(&mut command);
    run(with_size(built.set_env(&mut command), full), "running the kernel tests")
}

impl Skipping {
    /// Tests read it from the environment; if it is set already, it stays.
    fn tell(self, command: &mut Command) {
        if self == Self::Refused {
            command.env("CI", "1");
        }
    }
}

fn with_size(command: &mut Command, full: bool) -> &mut Command {
    if full {
        command.env("JUMPGATE_FULL", "1").env("PROPTEST_CASES", FULL_PROPTEST_CASES);
    }
    command
}

/// The variable by which cargo is told what runs the programs of `triple`.
fn runner_variable(triple: &str) -> String {
    format!("CARGO_TARGET_{}_RUNNER", triple.to_uppercase().replace(['-', '.'], "_"))
}

/// The target that host programs are compiled for.
pub fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    output(Command::new(rustc).arg("-vV"))
        .and_then(|verbose| Compiler::parse(&verbose))
        .map(|compiler| compiler.host)
        .context("finding out the host's target: `rustc -vV` does not tell; is rustc on the PATH?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_finds_the_runner_by_the_triple() {
        assert_eq!(
            runner_variable("x86_64-unknown-linux-gnu"),
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER"
        );
    }
}
