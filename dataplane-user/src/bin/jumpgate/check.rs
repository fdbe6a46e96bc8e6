//! `jumpgate check`

use anyhow::Result;
use dataplane_user::config::Config;
use std::path::Path;

/// Checks a configuration file.
pub fn check(file: &Path) -> Result<()> {
    Config::load(file)?;
    println!("{}: fine", file.display());
    Ok(())
}
