//! `cargo xtask demo`: from a fresh clone to sessions that outlive their node.

use anyhow::Result;

use crate::bpf;
use crate::build::{Profile, binary};
use crate::command::exec;
use crate::machine::check_kernel;
use crate::root::as_root;
use crate::setup;

/// Sets up what lacks, builds, then replaces this process by the demo, which holds the daemon itself.
pub fn demo(args: &[String]) -> Result<()> {
    check_kernel()?;
    setup::ensure_runnable()?;
    let demo = binary(&bpf::build()?, Profile::Release, "jumpgate-tests", "demo")?;
    exec(as_root(demo)?.args(args), "running the demo")
}
