//! `cargo xtask demo`: from a fresh clone to sessions that stay where they are.

use anyhow::Result;

use crate::build::{Profile, binary, build};
use crate::command::exec;
use crate::machine::check_kernel;
use crate::root::as_root;
use crate::setup;

/// Sets up what lacks, builds, then replaces this process by the demo.
pub fn demo(args: &[String]) -> Result<()> {
    check_kernel()?;
    setup::ensure_runnable()?;
    let built = build(Profile::Release)?;
    let demo = binary(&built.objects, Profile::Release, "jumpgate-tests", "demo")?;
    exec(built.set_env(&mut as_root(demo)?).args(args), "running the demo")
}
