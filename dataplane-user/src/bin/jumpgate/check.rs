//! `jumpgate check`

use crate::output::{Closed, say};
use anyhow::{Context, Result, bail};
use dataplane_user::{
    config::Config,
    neighbours::Interfaces,
    preflight::{self, Finding, Level},
};
use std::path::Path;

/// Checks a configuration file, then this machine against it. Fails if an error was found.
pub fn check(file: &Path) -> Result<()> {
    let config = Config::load(file)?;
    heard_or_not(say!("{:8}  configuration: {}", Level::Fine, file.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let found = runtime.block_on(async {
        let interfaces = Interfaces::read().await.context("asking the kernel for interfaces")?;
        anyhow::Ok(preflight::findings(&config, &interfaces).await)
    })?;
    heard_or_not(show(&found))?;
    let count = |level| found.iter().filter(|finding| finding.level == level).count();
    let (errors, warnings) = (count(Level::Error), count(Level::Warning));
    if errors > 0 {
        bail!(
            "{} and {}; below each stands what to do",
            counted(errors, "error"),
            counted(warnings, "warning")
        );
    }
    say!("no errors, {}, {} not seen", counted(warnings, "warning"), count(Level::Unseen))
}

/// What is found tells the exit code, whether somebody reads it or not.
fn heard_or_not(said: Result<()>) -> Result<()> {
    match said {
        Err(error) if error.is::<Closed>() => Ok(()),
        said => said,
    }
}

fn show(found: &[Finding]) -> Result<()> {
    for Finding { level, subject, what, mend } in found {
        say!("{level:8}  {subject}: {what}")?;
        if !mend.is_empty() {
            say!("{:8}  -> {mend}", "")?;
        }
    }
    say!()
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
