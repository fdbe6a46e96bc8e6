//! `jumpgate check`

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
    println!("{:8}  configuration: {}", Level::Fine, file.display());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let found = runtime.block_on(async {
        let interfaces = Interfaces::read().await.context("asking the kernel for interfaces")?;
        anyhow::Ok(preflight::findings(&config, &interfaces).await)
    })?;
    for finding in &found {
        show(finding);
    }
    let count = |level| found.iter().filter(|finding| finding.level == level).count();
    let (errors, warnings) = (count(Level::Error), count(Level::Warning));
    println!();
    if errors > 0 {
        bail!(
            "{} and {}; below each stands what to do",
            counted(errors, "error"),
            counted(warnings, "warning")
        );
    }
    println!("no errors, {}, {} not seen", counted(warnings, "warning"), count(Level::Unseen));
    Ok(())
}

fn show(Finding { level, subject, what, mend }: &Finding) {
    println!("{level:8}  {subject}: {what}");
    if !mend.is_empty() {
        println!("{:8}  -> {mend}", "");
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
