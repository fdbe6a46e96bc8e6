//! The BPF objects: how they are compiled, and where they end up.

use std::env::consts::ARCH;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command::run;
use crate::machine::Machine;
use crate::paths;
use crate::toolchain::{TARGET, Toolchain};

/// The package and the binary that hold the BPF programs.
const PACKAGE: &str = "dataplane-ebpf";
const BINARY: &str = "jumpgate-bpf";

/// Compiler flags of the BPF build: BTF, for the verifier's messages and for CO-RE, is made from
/// full debug information.
const RUSTFLAGS: &[&str] = &["-Cdebuginfo=2", "-Clink-arg=--btf"];

/// LLVM features of the BPF code generator, and the first LLVM that knows each. They go to the
/// linker, which generates the code; through `-Ctarget-feature` rustc would warn at each build.
const FEATURES: &[(&str, u32)] = &[
    // Packet fields are where they are: without it each is read byte by byte.
    ("+allows-misaligned-mem-access", 22),
];

/// The two objects that other packages embed or load.
#[derive(Clone, Debug)]
pub struct Objects {
    /// The daemon's programs.
    pub daemon: PathBuf,
    /// The same and the probes: what benchmarks and the race test load.
    pub probe: PathBuf,
}

impl Objects {
    /// Tells `command`, and the build scripts and tests under it, where the objects are.
    pub fn set_env<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("JUMPGATE_BPF_OBJECT", &self.daemon)
            .env("JUMPGATE_BPF_PROBE_OBJECT", &self.probe)
    }
}

/// A variant of the BPF programs: the daemon's, or that with the probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// What the daemon embeds.
    Daemon,
    /// With `--features probe`.
    Probe,
}

impl Variant {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Daemon, Self::Probe];

    fn args(self) -> &'static [&'static str] {
        match self {
            Self::Daemon => &[],
            Self::Probe => &["--features", "probe"],
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::Daemon => "jumpgate.o",
            Self::Probe => "jumpgate-probe.o",
        }
    }
}

/// The BPF compiler, or an error that says how to get it.
pub fn toolchain() -> Result<Toolchain> {
    Toolchain::find(&Machine::look()).context(
        "building the BPF programs: this machine has no Rust compiler for BPF. \
         `cargo xtask setup` installs one; `cargo xtask setup --check` tells what lacks",
    )
}

/// Builds both objects.
pub fn build() -> Result<Objects> {
    let toolchain = toolchain()?;
    if crate::command::which("bpf-linker").is_none() {
        bail!("building the BPF programs: there is no bpf-linker. `cargo xtask setup` installs it");
    }
    Ok(Objects {
        daemon: object(&toolchain, Variant::Daemon)?,
        probe: object(&toolchain, Variant::Probe)?,
    })
}

fn object(toolchain: &Toolchain, variant: Variant) -> Result<PathBuf> {
    let mut cargo = toolchain.cargo_build();
    describe(&mut cargo, toolchain, variant);
    run(&mut cargo, "building the BPF programs")?;
    let made = paths::bpf_target().join(TARGET).join("release").join(BINARY);
    let kept = paths::bpf_target().join(variant.file());
    copy_if_changed(&made, &kept)?;
    Ok(kept)
}

/// Adds to a cargo command what describes the BPF build: package, target, flags.
pub fn describe(cargo: &mut Command, toolchain: &Toolchain, variant: Variant) {
    cargo
        .args(["--package", PACKAGE, "--bin", BINARY, "--release", "--target", TARGET])
        .args(toolchain.cargo_args())
        .args(variant.args())
        .env("CARGO_TARGET_DIR", paths::bpf_target())
        // This form keeps quotes and spaces inside a flag, and wins over the user's RUSTFLAGS.
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(toolchain.compiler.llvm, ARCH).join("\u{1f}"));
}

fn rustflags(llvm: u32, arch: &str) -> Vec<String> {
    let mut flags: Vec<String> = RUSTFLAGS.iter().map(|&flag| flag.to_owned()).collect();
    // aya-ebpf lays out the kernel's pt_regs for the host's architecture.
    flags.push(format!("--cfg=bpf_target_arch=\"{arch}\""));
    let known = FEATURES.iter().filter(|(_, since)| llvm >= *since).map(|(name, _)| *name);
    let features = known.collect::<Vec<_>>().join(",");
    if !features.is_empty() {
        flags.push(format!("-Clink-arg=--cpu-features={features}"));
    }
    flags
}

/// Copies `from` to `to` unless they are equal: whoever embeds `to` is rebuilt when it is touched.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let new =
        fs::read(from).with_context(|| format!("reading the BPF object {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    // Renaming is atomic: a build that runs at the same time embeds a whole object.
    let part = to.with_extension(OsStr::new("part"));
    fs::write(&part, new)
        .and_then(|()| fs::rename(&part, to))
        .with_context(|| format!("writing the BPF object {}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_is_asked_for_only_of_an_llvm_that_knows_it() {
        let asked = |llvm| rustflags(llvm, "x86_64").iter().any(|f| f.contains("misaligned"));
        assert!(asked(22) && asked(23) && !asked(21));
    }

    #[test]
    fn the_host_architecture_is_told_as_a_quoted_cfg() {
        let flags = rustflags(22, "aarch64");
        assert!(flags.iter().any(|flag| flag == "--cfg=bpf_target_arch=\"aarch64\""), "{flags:?}");
    }

    #[test]
    fn an_object_that_did_not_change_is_not_touched() {
        let dir = paths::target().join(format!("xtask-copy-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a folder under target");
        let (from, to) = (dir.join("from"), dir.join("to.o"));
        fs::write(&from, "one").expect("written");
        copy_if_changed(&from, &to).expect("copied");
        let before = fs::metadata(&to).and_then(|meta| meta.modified()).expect("a time");
        copy_if_changed(&from, &to).expect("left alone");
        let after = fs::metadata(&to).and_then(|meta| meta.modified()).expect("a time");
        assert_eq!(before, after);

        fs::write(&from, "two").expect("written");
        copy_if_changed(&from, &to).expect("copied");
        assert_eq!(fs::read(&to).expect("read"), b"two");
        fs::remove_dir_all(&dir).expect("removed");
    }
}
