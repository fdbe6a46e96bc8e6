//! The compiler for BPF: a rustc with a prebuilt core (Debian's), or a rustup nightly that builds core.

use std::env;
use std::fs;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{output, succeeds, which};
use crate::machine::Machine;
use crate::paths;
use crate::version::{Compiler, OLDEST_RUST};

/// The target that the BPF programs are compiled for: little-endian BPF, as every host we support is.
pub const TARGET: &str = "bpfel-unknown-none";

/// The LLVM of Debian's `rustc-web`: what to install before there is a compiler to ask.
const DEBIAN_LLVM: u32 = 22;

/// A compiler that can produce BPF code.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// How it is called.
    pub kind: Kind,
    /// What it says of itself.
    pub compiler: Compiler,
}

/// The two kinds of compiler that can produce BPF code.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A rustc that has `core` for BPF, such as Debian's rustc-web with libstd-rust-web-dev-bpf.
    Prebuilt {
        /// The compiler.
        rustc: PathBuf,
    },
    /// A rustup nightly with rust-src: `core` is built along with the program.
    Nightly {
        /// The rustup program.
        rustup: PathBuf,
        /// The toolchain's name.
        name: String,
    },
}

/// How this machine gets a BPF compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From Debian's archive.
    Apt,
    /// From rustup.
    Rustup,
    /// Neither is there: the user has to install rustup first.
    ByHand,
}

impl Way {
    /// The way that suits `machine`; apt first, because its compiler is stable and brings core along.
    pub fn of(machine: &Machine) -> Self {
        if machine.apt_brings_bpf() {
            Self::Apt
        } else if machine.rustup.is_some() {
            Self::Rustup
        } else {
            Self::ByHand
        }
    }
}

impl Toolchain {
    /// The BPF compiler of this machine, if it has one.
    pub fn find(machine: &Machine) -> Option<Self> {
        prebuilt().or_else(|| nightly(machine).filter(|found| found.is_linkable(machine)))
    }

    /// Whether a linker can be had for this nightly. Nightlies move on to an LLVM before Debian has
    /// it; then the compiler that apt brings is the better one.
    fn is_linkable(&self, machine: &Machine) -> bool {
        !machine.apt_brings_bpf() || llvm_prefix(self.compiler.llvm).is_some()
    }

    /// `cargo build` for this compiler, without the target and what else describes the build.
    pub fn cargo_build(&self) -> Command {
        let mut command = match &self.kind {
            Kind::Prebuilt { rustc } => self.drive(crate::command::cargo(), Some(rustc)),
            Kind::Nightly { .. } => self.drive(self.program("cargo"), None),
        };
        command.arg("build");
        command
    }

    /// `cargo clippy` with the clippy of this compiler: another one's has no core for BPF.
    pub fn cargo_clippy(&self) -> Command {
        let rustc = match &self.kind {
            Kind::Prebuilt { rustc } => Some(rustc),
            Kind::Nightly { .. } => None,
        };
        let mut command = self.drive(self.program("cargo-clippy"), rustc);
        command.arg("clippy");
        command
    }

    /// The version of this compiler's clippy, or nothing when it is not there.
    pub fn clippy_version(&self) -> Option<String> {
        let version = output(self.program("cargo-clippy").arg("--version"))?;
        succeeds(self.program("clippy-driver").arg("--version")).then(|| version.trim().to_owned())
    }

    fn drive(&self, mut command: Command, rustc: Option<&PathBuf>) -> Command {
        command.env_remove("RUSTC_WRAPPER").env_remove("RUSTC_WORKSPACE_WRAPPER");
        match rustc {
            // The target is one that stable Rust does not promise to keep.
            Some(rustc) => command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1"),
            None => command.env_remove("RUSTC").env_remove("CARGO"),
        };
        command.current_dir(paths::root());
        prepend_to_path(&mut command, which("bpf-linker"));
        command
    }

    /// A program of this toolchain: beside its rustc, or run by rustup.
    fn program(&self, name: &str) -> Command {
        match &self.kind {
            Kind::Prebuilt { rustc } => Command::new(rustc.with_file_name(name)),
            Kind::Nightly { rustup, name: toolchain } => {
                let mut command = Command::new(rustup);
                command.args(["run", toolchain, name]);
                command
            }
        }
    }

    /// Arguments that `cargo` needs besides the target.
    pub fn cargo_args(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::Prebuilt { .. } => &[],
            Kind::Nightly { .. } => &["-Z", "build-std=core"],
        }
    }

    /// The compiler itself.
    pub fn rustc(&self) -> Command {
        match &self.kind {
            Kind::Prebuilt { rustc } => Command::new(rustc),
            Kind::Nightly { .. } => self.program("rustc"),
        }
    }

    /// The toolchain in a few words.
    pub fn describe(&self) -> String {
        let Compiler { release, llvm, .. } = &self.compiler;
        match &self.kind {
            Kind::Prebuilt { rustc } => {
                format!("{} {release}, LLVM {llvm}, with its own core", rustc.display())
            }
            Kind::Nightly { name, .. } => format!("rustup {name} {release}, LLVM {llvm}"),
        }
    }
}

/// The LLVM major version that bpf-linker has to be built with.
pub fn llvm_major(toolchain: Option<&Toolchain>) -> u32 {
    toolchain.map_or(DEBIAN_LLVM, |found| found.compiler.llvm)
}

/// The rustup toolchain for BPF; `JUMPGATE_NIGHTLY` chooses another than the latest nightly.
pub fn nightly_name() -> String {
    env::var("JUMPGATE_NIGHTLY").unwrap_or_else(|_| "nightly".to_owned())
}

/// Where LLVM `major` is installed with what bpf-linker needs to be compiled against it.
pub fn llvm_prefix(major: u32) -> Option<PathBuf> {
    let debian = PathBuf::from(format!("/usr/lib/llvm-{major}"));
    if debian.join("bin/llvm-config").exists() && debian.join("include/llvm-c").exists() {
        return Some(debian);
    }
    let asked = [format!("llvm-config-{major}"), "llvm-config".to_owned()];
    asked.iter().find_map(|program| {
        let version = output(Command::new(program).arg("--version"))?;
        let prefix = output(Command::new(program).arg("--prefix"))?;
        let same = version.trim().split('.').next() == Some(major.to_string().as_str());
        same.then(|| PathBuf::from(prefix.trim()))
    })
}

fn prebuilt() -> Option<Toolchain> {
    let chosen = env::var_os("JUMPGATE_BPF_RUSTC").map(PathBuf::from);
    let candidates = chosen.into_iter().chain([PathBuf::from("/usr/bin/rustc")]);
    candidates.chain(which("rustc")).find_map(|rustc| {
        let compiler = ask(Command::new(&rustc))?;
        let has_core = bpf_libraries(&rustc).is_some_and(|dir| holds_core(&dir));
        (has_core && compiler.release >= OLDEST_RUST)
            .then_some(Toolchain { kind: Kind::Prebuilt { rustc }, compiler })
    })
}

fn nightly(machine: &Machine) -> Option<Toolchain> {
    let (rustup, name) = (machine.rustup.clone()?, nightly_name());
    let rustc = || {
        let mut command = Command::new(&rustup);
        command.args(["run", &name, "rustc"]);
        command
    };
    let compiler = ask(rustc())?;
    let sysroot = output(rustc().args(["--print", "sysroot"]))?;
    let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/src/lib.rs");
    (source.exists() && compiler.release >= OLDEST_RUST)
        .then_some(Toolchain { kind: Kind::Nightly { rustup, name }, compiler })
}

fn ask(mut rustc: Command) -> Option<Compiler> {
    Compiler::parse(&output(rustc.arg("-vV"))?)
}

fn bpf_libraries(rustc: &Path) -> Option<PathBuf> {
    let dir = output(Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]))?;
    Some(PathBuf::from(dir.trim()))
}

fn holds_core(dir: &Path) -> bool {
    let is_core = |name: &str| name.starts_with("libcore-") && name.ends_with(".rlib");
    fs::read_dir(dir)
        .is_ok_and(|files| files.flatten().any(|f| is_core(&f.file_name().to_string_lossy())))
}

/// Puts the directory of `program` first on the PATH of `command`, so that rustc finds it.
fn prepend_to_path(command: &mut Command, program: Option<PathBuf>) {
    let Some(dir) = program.as_deref().and_then(Path::parent) else {
        return;
    };
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = iter::once(dir.to_path_buf()).chain(env::split_paths(&path));
    // Joining fails only for a directory with a colon in its name: then the PATH stays as it is.
    if let Ok(joined) = env::join_paths(dirs) {
        command.env("PATH", joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Version;

    fn machine(apt: Option<(u32, u32)>, rustup: bool, rustup_from_apt: bool) -> Machine {
        Machine {
            apt_rustc: apt.map(|(major, minor)| Version { major, minor }),
            rustup: rustup.then(|| PathBuf::from("rustup")),
            rustup_from_apt,
            ..Machine::default()
        }
    }

    #[test]
    fn apt_is_the_way_where_its_compiler_is_new_enough() {
        assert_eq!(Way::of(&machine(Some((1, 96)), false, false)), Way::Apt);
        assert_eq!(Way::of(&machine(Some((1, 96)), true, false)), Way::Apt);
        assert_eq!(Way::of(&machine(Some((1, 85)), true, false)), Way::Rustup);
        assert_eq!(Way::of(&machine(None, true, false)), Way::Rustup);
    }

    #[test]
    fn debians_rustup_is_not_replaced_behind_the_users_back() {
        assert_eq!(Way::of(&machine(Some((1, 96)), true, true)), Way::Rustup);
    }

    #[test]
    fn with_neither_the_user_is_told_what_to_install() {
        assert_eq!(Way::of(&machine(Some((1, 85)), false, false)), Way::ByHand);
        assert_eq!(Way::of(&machine(None, false, false)), Way::ByHand);
    }
}
