//! SIGINT, SIGTERM and SIGHUP ask the demo to end; it looks for that between two ticks.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static ASKED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_: libc::c_int) {
    ASKED.store(true, Ordering::Relaxed);
}

/// Catches the signals from here on.
pub fn catch() -> Result<()> {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler does nothing but an atomic store, which is async-signal-safe.
        unsafe { sigaction(signal, &action) }.with_context(|| format!("catching {signal}"))?;
    }
    Ok(())
}

/// Whether the demo was asked to end.
pub fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// An error once the demo was asked to end.
pub fn check() -> Result<()> {
    ensure!(!asked(), "interrupted");
    Ok(())
}
