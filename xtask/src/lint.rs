//! `cargo xtask lint`: formatting, clippy for the host and for the BPF target, and the documentation's
//! links.

use anyhow::Result;

use crate::bpf::{self, Variant};
use crate::command::{cargo, run};
use crate::fuzz;
use crate::setup;
use crate::test::ALL_STORES;

/// Checks the source; a warning is an error.
pub fn lint() -> Result<()> {
    setup::require_lintable()?;
    run(
        cargo().args(["fmt", "--all", "--check"]),
        "checking the formatting (`cargo fmt` mends it)",
    )?;
    host()?;
    fuzz::lint()?;
    Variant::ALL.into_iter().try_for_each(bpf)?;
    documentation()
}

fn host() -> Result<()> {
    let mut command = cargo();
    command.args(["clippy", "--workspace", "--all-targets", "--features", ALL_STORES]);
    command.args(["--", "-Dwarnings"]);
    // Without the objects: so the build that needs no BPF toolchain is checked as well.
    command.env_remove("JUMPGATE_BPF_OBJECT").env_remove("JUMPGATE_BPF_PROBE_OBJECT");
    run(&mut command, "checking the host's code")
}

fn bpf(variant: Variant) -> Result<()> {
    let toolchain = bpf::toolchain()?;
    let mut command = toolchain.cargo_clippy();
    bpf::describe(&mut command, &toolchain, variant);
    run(command.args(["--", "-Dwarnings"]), "checking the BPF programs")
}

/// Links that lead nowhere are warnings.
fn documentation() -> Result<()> {
    let mut command = cargo();
    command.args(["doc", "--workspace", "--lib", "--no-deps", "--quiet"]);
    command.args(["--features", ALL_STORES]);
    command.env("RUSTDOCFLAGS", "-Dwarnings");
    command.env_remove("JUMPGATE_BPF_OBJECT").env_remove("JUMPGATE_BPF_PROBE_OBJECT");
    run(&mut command, "checking the documentation")
}
