//! Tests that need root are skipped without it, except in CI, where they must run.

use std::io::Write;
use std::thread;

use nix::unistd::geteuid;

use crate::netns::Namespace;

/// Whether this process may make network namespaces. If not, it says on stderr that the calling
/// test, which is in the module `module`, is skipped.
///
/// # Panics
/// When it may not and the environment variable `CI` is set: there a skipped test is a failure.
pub fn may_run(module: &str) -> bool {
    let reason = if !geteuid().is_root() {
        "needs root".to_owned()
    } else if let Err(error) = Namespace::new("probe") {
        format!("root may not do this here: {error:#}")
    } else {
        return true;
    };
    // The test harness names a test's thread after the test.
    let test = format!("{module}::{}", thread::current().name().unwrap_or_default());
    assert!(std::env::var_os("CI").is_none(), "{test}: {reason}, and CI must not skip it");
    // Not eprintln: the test harness would show that only for tests that fail.
    let _ =
        writeln!(std::io::stderr(), "skipped: {test}: {reason} (run `cargo xtask test kernel`)");
    false
}

/// Ends a test (one that returns a `Result`) that cannot run without root; see [`may_run`].
#[macro_export]
macro_rules! require_root {
    () => {
        if !$crate::root::may_run(module_path!()) {
            return Ok(());
        }
    };
}
