//! `cargo xtask run`: builds the daemon and becomes it, as root.

use anyhow::Result;

use crate::build::{Profile, build};
use crate::command::exec;
use crate::machine::check_kernel;
use crate::root::as_root;

/// Builds, then replaces this process by `jumpgate ARGS`.
pub fn run(profile: Profile, args: &[String]) -> Result<()> {
    check_kernel()?;
    let built = build(profile)?;
    exec(as_root(&built.jumpgate)?.args(args), "running jumpgate")
}
