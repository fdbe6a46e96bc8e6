//! `cargo xtask ci`: what is run on every submission.

use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::test::{Skipping, Suite};
use crate::{lint, setup, test};

/// A step: its name, as a person would type it, and what it does.
type Step = (&'static str, fn() -> Result<()>);

const STEPS: &[Step] = &[
    ("setup", setup::install),
    ("lint", lint::lint),
    ("test", || test::test(Suite::All, false, Skipping::Refused)),
];

/// Runs every step; stops at the first that fails.
pub fn ci() -> Result<()> {
    let mut times = Vec::new();
    for (name, step) in STEPS {
        println!("ci: cargo xtask {name}");
        let start = Instant::now();
        step().with_context(|| format!("ci: `cargo xtask {name}`"))?;
        times.push(format!("{name} {:.1} s", start.elapsed().as_secs_f32()));
    }
    println!("ci: done: {}", times.join(", "));
    Ok(())
}
