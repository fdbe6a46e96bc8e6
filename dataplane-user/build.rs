//! Compiles the protocol of the Sessions API, with `protoc`, and embeds the BPF objects that `cargo xtask
//! build` names in the environment. Without them the crate builds all the same, and the daemon says what
//! is missing when it is started.

use std::{env, fs, path::PathBuf};

const PROTOCOL: &str = "proto/jumpgate/sessions/v1/sessions.proto";

fn main() {
    embed("JUMPGATE_BPF_OBJECT", "jumpgate.o");
    embed("JUMPGATE_BPF_PROBE_OBJECT", "jumpgate-probe.o");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={PROTOCOL}");
    tonic_prost_build::configure()
        .emit_rerun_if_changed(false)
        .compile_protos(&[PROTOCOL], &["proto"])
        .unwrap_or_else(|error| {
            panic!("compiling {PROTOCOL}: {error}\n`cargo xtask setup` brings protoc")
        });
}

/// Copies the object named by `variable` to `name` in the output folder; an empty file if unset.
fn embed(variable: &str, name: &str) {
    println!("cargo:rerun-if-env-changed={variable}");
    let output = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join(name);
    let bytes = match env::var_os(variable) {
        Some(path) => {
            let path = PathBuf::from(path);
            println!("cargo:rerun-if-changed={}", path.display());
            fs::read(&path)
                .unwrap_or_else(|error| panic!("{variable}: reading {}: {error}", path.display()))
        }
        None => Vec::new(),
    };
    fs::write(&output, bytes)
        .unwrap_or_else(|error| panic!("writing {}: {error}", output.display()));
}
