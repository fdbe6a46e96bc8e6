//! Writes the seeds of a fuzz target into a folder, one file each, for libFuzzer to start from.

use std::path::PathBuf;

use anyhow::{Context, Result};
use jumpgate_tests::fuzz::target;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(name), Some(folder)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: fuzz-seeds TARGET FOLDER");
    };
    let folder = PathBuf::from(folder);
    for (number, seed) in (target(&name).seeds)().into_iter().enumerate() {
        let file = folder.join(format!("seed-{number:05}"));
        std::fs::write(&file, seed).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}
