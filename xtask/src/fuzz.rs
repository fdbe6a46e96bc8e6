//! `cargo xtask fuzz`: the fuzz targets under libFuzzer, guided by coverage.
//!
//! What libFuzzer needs of the compiler is in every rustc, stable ones too; what it needs besides is
//! a C++ compiler. Reads beyond a frame are caught by the targets themselves, which put it in front of
//! a page that nobody may touch, so no sanitizer is asked for.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command::{cargo, run, which};
use crate::paths;

/// What makes LLVM count where a program has been, as libFuzzer reads it.
const COVERAGE: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    // The pass sees one module for each crate.
    "-Ccodegen-units=1",
];

/// Fuzzes one target, or all in turn, for `seconds` each. Inputs that fail are left in the target's
/// corpus, where the tests find them.
pub fn fuzz(target: Option<&str>, seconds: u32) -> Result<()> {
    let folder = paths::root().join("tests/fuzz");
    let mut targets = targets(&folder.join("corpus"))?;
    if let Some(name) = target {
        if !targets.iter().any(|target| target == name) {
            bail!("there is no fuzz target {name:?}: it must be {}", targets.join(", "));
        }
        targets = vec![name.to_owned()];
    }
    if !can_build() {
        bail!(
            "fuzzing under libFuzzer needs a C++ compiler to build it, and there is none: install \
             g++ (on Debian: `apt-get install g++`). Without it, \
             `JUMPGATE_FUZZ_INPUTS=1000000 cargo test --release --package jumpgate-tests --test fuzz` \
             tries mutated inputs, not guided by coverage"
        );
    }
    let host = crate::test::host()?;
    let built = paths::target().join("fuzz");
    let mut build = cargo();
    build
        .args(["build", "--release", "--target", &host, "--manifest-path"])
        .arg(folder.join("Cargo.toml"))
        .env("CARGO_TARGET_DIR", &built)
        .env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\u{1f}"))
        .env_remove("JUMPGATE_BPF_OBJECT")
        .env_remove("JUMPGATE_BPF_PROBE_OBJECT");
    run(&mut build, "building the fuzz targets")?;
    let fuzzer = built.join(&host).join("release/jumpgate-fuzz");
    for target in &targets {
        let (found, kept) = (built.join("corpus").join(target), folder.join("corpus").join(target));
        fs::create_dir_all(&found).with_context(|| format!("creating {}", found.display()))?;
        let mut seeds = cargo();
        seeds.args([
            "run",
            "--quiet",
            "--package",
            "jumpgate-tests",
            "--bin",
            "fuzz-seeds",
            target,
        ]);
        run(seeds.arg(&found), "writing the seeds")?;
        let mut fuzzing = Command::new(&fuzzer);
        fuzzing
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-artifact_prefix={}/", kept.display()))
            .arg("-print_final_stats=1")
            .args([&found, &kept])
            .env("JUMPGATE_FUZZ_TARGET", target);
        run(&mut fuzzing, &format!("fuzzing {target}; the input is in {}", kept.display()))?;
    }
    Ok(())
}

/// Checks the crate that libFuzzer runs. It is a workspace of its own, so nothing else does.
pub fn lint() -> Result<()> {
    let manifest = paths::root().join("tests/fuzz/Cargo.toml");
    let mut format = cargo();
    format.args(["fmt", "--check", "--manifest-path"]).arg(&manifest);
    run(&mut format, "checking the formatting of the fuzz targets")?;
    if !can_build() {
        println!("skipped: clippy for the fuzz targets: libFuzzer needs a C++ compiler");
        return Ok(());
    }
    let mut check = cargo();
    check.args(["clippy", "--locked", "--manifest-path"]).arg(&manifest);
    check.args(["--", "-Dwarnings"]).env("CARGO_TARGET_DIR", paths::target());
    check.env_remove("JUMPGATE_BPF_OBJECT").env_remove("JUMPGATE_BPF_PROBE_OBJECT");
    run(&mut check, "checking the fuzz targets")
}

/// Whether there is a C++ compiler, which libFuzzer is built with.
fn can_build() -> bool {
    ["c++", "g++", "clang++"].into_iter().any(|compiler| which(compiler).is_some())
}

/// The fuzz targets: each has a folder of kept inputs.
fn targets(corpus: &Path) -> Result<Vec<String>> {
    let doing = || format!("looking for fuzz targets in {}", corpus.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(corpus).with_context(doing)? {
        names.push(entry.with_context(doing)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
