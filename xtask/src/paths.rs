//! Where the project's files are.

use std::env;
use std::path::PathBuf;

/// The workspace's root.
pub fn root() -> PathBuf {
    // Cargo sets the variable when it runs us; the compiled-in value serves a binary run by hand.
    let xtask = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    xtask.parent().map_or(xtask.clone(), PathBuf::from)
}

/// Cargo's target directory for the host build.
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// The target directory of the BPF build: its own, so that neither build evicts the other.
pub fn bpf_target() -> PathBuf {
    target().join("bpf")
}

/// The target directory of the loom model, which is compiled with other flags than the rest.
pub fn loom_target() -> PathBuf {
    target().join("loom")
}

/// Where set-up unpacks the system's package of etcd.
pub fn etcd_package() -> PathBuf {
    target().join("etcd")
}

/// Where etcd's programs then are; the tests look there too.
pub fn etcd() -> PathBuf {
    etcd_package().join("usr/bin")
}
