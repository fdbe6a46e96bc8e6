//! Fuzzing: functions that any bytes may be given to, and that panic, or touch memory that is not
//! theirs, if something is wrong.
//!
//! [`targets`] and [`control`] are the functions, [`seeds`] where their inputs start from, [`mutate`] makes more of
//! them, always the same ones, and [`guarded`] memory catches whoever reads beyond a frame. They
//! run in three ways: the tests replay a kept corpus and a bounded number of mutated inputs,
//! `cargo xtask fuzz` runs them under libFuzzer, which is guided by coverage, and the test `fuzz`
//! feeds packets to the loaded program as well.

pub mod control;
pub mod guarded;
pub mod mutate;
pub mod seeds;
pub mod targets;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A function to fuzz.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and its folder in the corpus.
    pub name: &'static str,
    /// The function.
    pub run: fn(&[u8]),
    /// Inputs that reach far.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 10] = [
    Target { name: "parser", run: targets::parser, seeds: seeds::frames },
    Target { name: "dissectors", run: targets::dissectors, seeds: seeds::payloads },
    Target { name: "packet", run: targets::packet, seeds: seeds::packets },
    Target { name: "decapsulation", run: targets::decapsulation, seeds: seeds::forwarded },
    Target { name: "icmp", run: targets::icmp, seeds: seeds::icmp_errors },
    Target { name: "egress", run: targets::egress, seeds: seeds::replies },
    Target { name: "control", run: control::messages, seeds: control::message_seeds },
    Target { name: "responder", run: control::responder, seeds: control::request_seeds },
    Target { name: "tracker", run: control::tracker, seeds: control::script_seeds },
    Target { name: "configuration", run: targets::configuration, seeds: seeds::configurations },
];

/// The target with a name.
///
/// # Panics
///
/// If there is none.
pub fn target(name: &str) -> Target {
    *TARGETS.iter().find(|target| target.name == name).expect("a target's name")
}

/// The folder of a target's kept inputs: what once failed, and what reached far.
pub fn corpus_folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

/// A target's kept inputs with their names, in the order of these.
pub fn corpus(target: &str) -> Result<Vec<(String, Vec<u8>)>> {
    let folder = corpus_folder(target);
    let mut inputs = Vec::new();
    let entries = folder.read_dir().with_context(|| format!("reading {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let input = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        inputs.push((name, input));
    }
    inputs.sort();
    Ok(inputs)
}

/// How many mutated inputs a test tries: `JUMPGATE_FUZZ_INPUTS` of them, or `full` under
/// `cargo xtask test --full`, or `quick`.
pub fn inputs(quick: u64, full: u64) -> u64 {
    let asked = std::env::var("JUMPGATE_FUZZ_INPUTS").ok().and_then(|text| text.parse().ok());
    let default = if std::env::var_os("JUMPGATE_FULL").is_some() { full } else { quick };
    asked.unwrap_or(default)
}

/// What the mutated inputs follow from: `JUMPGATE_FUZZ_SEED`, or always the same.
pub fn seed() -> u64 {
    let asked = std::env::var("JUMPGATE_FUZZ_SEED").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(0x6a75_6d70)
}
