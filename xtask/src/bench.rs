//! `cargo xtask bench`: the benchmarks, which load programs into the kernel.

use anyhow::Result;

use crate::build::{Profile, binary, build};
use crate::command::exec;
use crate::machine::check_kernel;
use crate::root::as_root;
use crate::setup;

/// Sets up what lacks, builds with optimisation, then replaces this process by the benchmarks.
pub fn bench(args: &[String]) -> Result<()> {
    check_kernel()?;
    setup::ensure_testable()?;
    let built = build(Profile::Release)?;
    let bench = binary(&built.objects, Profile::Release, "jumpgate-benches", "bench")?;
    exec(built.set_env(&mut as_root(bench)?).args(args), "running the benchmarks")
}
