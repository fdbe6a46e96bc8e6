//! Every tool that the project uses: what it is for, how it is recognised, how it is had.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::command::{cargo, output, quoted, succeeds, which};
use crate::machine::{Machine, Packages};
use crate::paths;
use crate::toolchain::{Kind, TARGET, Toolchain, Way, llvm_major, llvm_prefix, nightly_name};
use crate::version::OLDEST_RUST;

/// The bpf-linker that the project is built with.
const BPF_LINKER: &str = "0.13.0";

/// One tool: a row of [`TOOLS`].
pub struct Tool {
    /// What people call it.
    pub name: &'static str,
    /// What the project needs it for.
    pub why: &'static str,
    /// Which tasks need it.
    pub needed: Needed,
    /// What was found, or what lacks.
    pub present: fn(&Machine) -> Result<String, String>,
    /// How this machine gets it.
    pub mend: fn(&Machine) -> Mend,
}

/// Which tasks need a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needed {
    /// Building and running: what `demo` and `test` install by themselves.
    Run,
    /// Testing: what `test` installs by itself.
    Test,
    /// Checking the source: `lint`.
    Lint,
}

/// How to get a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mend {
    /// Steps that set-up takes by itself, in this order.
    Steps(Vec<Step>),
    /// What only the user can do, in words that hold the commands.
    ByHand(String),
}

/// One step of a mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Install these packages with apt, as root.
    Apt(&'static [&'static str]),
    /// Install LLVM's development files of this major version with apt, as root.
    AptLlvm(u32),
    /// Run a program of the user's own, with these variables set.
    Run {
        /// Environment variables.
        env: Vec<(&'static str, String)>,
        /// The program and its arguments.
        words: Vec<String>,
    },
}

/// The list. The order matters: a linker must match the compiler, so the compiler comes first.
#[rustfmt::skip] // A table reads as a table.
pub const TOOLS: &[Tool] = &[
    Tool { name: "cc",          why: "links every Rust program",             needed: Needed::Run,  present: has_cc,         mend: get_cc },
    Tool { name: "BPF rustc",   why: "compiles the XDP program",             needed: Needed::Run,  present: has_compiler,   mend: get_compiler },
    Tool { name: "bpf-linker",  why: "links the XDP program",                needed: Needed::Run,  present: has_linker,     mend: get_linker },
    Tool { name: "ip",          why: "the tests' and the demo's networks",   needed: Needed::Run,  present: has_ip,         mend: get_ip },
    Tool { name: "protoc",      why: "compiles gRPC protocols",              needed: Needed::Run,  present: has_protoc,     mend: get_protoc },
    Tool { name: "ethtool",     why: "turns checksum offload off on veth",   needed: Needed::Run,  present: has_ethtool,    mend: get_ethtool },
    Tool { name: "nft",         why: "cuts members of test clusters off",    needed: Needed::Test, present: has_nft,        mend: get_nft },
    Tool { name: "etcd",        why: "the tests' and benchmarks' clusters",  needed: Needed::Test, present: has_etcd,       mend: get_etcd },
    Tool { name: "rustfmt",     why: "cargo xtask lint: formatting",         needed: Needed::Lint,  present: has_rustfmt,    mend: get_rustfmt },
    Tool { name: "clippy",      why: "cargo xtask lint: the host's code",    needed: Needed::Lint,  present: has_clippy,     mend: get_clippy },
    Tool { name: "BPF clippy",  why: "cargo xtask lint: the BPF program",    needed: Needed::Lint,  present: has_bpf_clippy, mend: get_bpf_clippy },
];

fn has_cc(_: &Machine) -> Result<String, String> {
    program("cc")
}

fn get_cc(machine: &Machine) -> Mend {
    package(machine, &["gcc", "libc6-dev"], ["gcc", "gcc", "gcc"])
}

fn has_ip(_: &Machine) -> Result<String, String> {
    program("ip")
}

fn get_ip(machine: &Machine) -> Mend {
    package(machine, &["iproute2"], ["iproute", "iproute2", "iproute2"])
}

fn has_ethtool(_: &Machine) -> Result<String, String> {
    program("ethtool")
}

fn get_ethtool(machine: &Machine) -> Mend {
    package(machine, &["ethtool"], ["ethtool"; 3])
}

fn has_protoc(_: &Machine) -> Result<String, String> {
    let protoc = program("protoc")?;
    let dir = paths::target().join("protoc");
    let source = dir.join("probe.proto");
    // The types that every protocol may import come in a package of their own.
    let text = "syntax = \"proto3\";\nimport \"google/protobuf/descriptor.proto\";\n";
    let compiles = fs::create_dir_all(&dir).is_ok()
        && fs::write(&source, text).is_ok()
        && succeeds(
            Command::new(&protoc)
                .arg("-I")
                .arg(&dir)
                .arg("--descriptor_set_out=/dev/null")
                .arg(&source),
        );
    if compiles { Ok(protoc) } else { Err(format!("{protoc} finds no google/protobuf/*.proto")) }
}

fn get_protoc(machine: &Machine) -> Mend {
    let names = ["protobuf-compiler protobuf-devel", "protobuf", "protobuf-devel"];
    package(machine, &["protobuf-compiler", "libprotobuf-dev"], names)
}

fn has_nft(_: &Machine) -> Result<String, String> {
    program("nft")
}

fn get_nft(machine: &Machine) -> Mend {
    package(machine, &["nftables"], ["nftables"; 3])
}

/// The server, and the tool that restores a snapshot.
const ETCD: [&str; 2] = ["etcd", "etcdctl"];

fn has_etcd(_: &Machine) -> Result<String, String> {
    let unpacked = paths::etcd();
    let find = |name: &str| {
        let file = unpacked.join(name);
        if file.exists() { Some(file) } else { which(name) }
    };
    match ETCD.map(find) {
        [Some(server), Some(_)] => Ok(server.display().to_string()),
        _ => Err("not found".to_owned()),
    }
}

/// Unpacks Debian's packages and installs nothing: the package of the server would also start one,
/// now and at every boot.
fn get_etcd(machine: &Machine) -> Mend {
    if machine.packages != Some(Packages::Apt) {
        return Mend::ByHand("install etcd and etcdctl 3.4 or newer; none need run".to_owned());
    }
    let script = format!(
        "mkdir -p {dir} && cd {dir} && \
         apt-get -qq -o APT::Sandbox::User=root download etcd-server etcd-client && \
         for deb in *.deb; do dpkg-deb -x $deb . || exit 1; done; rm *.deb",
        dir = quoted(paths::etcd_package().as_os_str())
    );
    Mend::Steps(vec![words(&["sh", "-c", &script])])
}

fn has_compiler(machine: &Machine) -> Result<String, String> {
    Toolchain::find(machine).map(|toolchain| toolchain.describe()).ok_or_else(|| {
        format!("no rustc {OLDEST_RUST} or newer that has, or can build, core for {TARGET}")
    })
}

fn get_compiler(machine: &Machine) -> Mend {
    match Way::of(machine) {
        Way::Apt => Mend::Steps(vec![Step::Apt(&["rustc-web", "libstd-rust-web-dev-bpf"])]),
        Way::Rustup => {
            let name = nightly_name();
            let install = ["rustup", "toolchain", "install", &name, "--profile=minimal"];
            let source = ["rustup", "component", "add", "rust-src", "--toolchain", &name];
            Mend::Steps(vec![words(&install), words(&source)])
        }
        Way::ByHand => Mend::ByHand(
            "install rustup with your package manager, then run `cargo xtask setup` again: \
             it will add a nightly with rust-src"
                .to_owned(),
        ),
    }
}

fn has_linker(machine: &Machine) -> Result<String, String> {
    let linker = which("bpf-linker").ok_or("not found")?;
    let version = output(Command::new(&linker).arg("--version"))
        .ok_or_else(|| format!("{} does not start: is its LLVM gone?", linker.display()))?;
    let version = version.trim().to_owned();
    if !version.ends_with(&format!(" {BPF_LINKER}")) {
        return Err(format!("found {version}, the project is built with {BPF_LINKER}"));
    }
    match Toolchain::find(machine) {
        Some(toolchain) if !links(&toolchain, &linker) => Err(format!(
            "{version} cannot read what the BPF rustc writes (LLVM {})",
            toolchain.compiler.llvm
        )),
        _ => Ok(format!("{} {BPF_LINKER}", linker.display())),
    }
}

/// Compiles one function to bitcode with the BPF compiler and has the linker make an object of it.
/// That settles whether their LLVMs fit; the linker does not tell which LLVM it was built with.
fn links(toolchain: &Toolchain, linker: &Path) -> bool {
    let dir = paths::bpf_target().join("fit");
    let (source, bitcode, object) = (dir.join("fit.rs"), dir.join("fit.bc"), dir.join("fit.o"));
    // The host's core does: the probe is about the format of the bitcode, not about the target.
    let text = "#![no_std]\n#[unsafe(no_mangle)]\npub extern \"C\" fn fit() -> u64 { 0 }\n";
    fs::create_dir_all(&dir).is_ok()
        && fs::write(&source, text).is_ok()
        && succeeds(
            toolchain
                .rustc()
                .args(["--edition=2024", "--crate-type=lib", "--emit=llvm-bc", "-Cpanic=abort"])
                .arg("-o")
                .args([&bitcode, &source]),
        )
        && succeeds(
            Command::new(linker)
                .args(["--target=bpfel", "--emit=obj", "--export=fit", "-o"])
                .args([&object, &bitcode]),
        )
}

fn get_linker(machine: &Machine) -> Mend {
    let major = llvm_major(Toolchain::find(machine).as_ref());
    let prefix = llvm_prefix(major);
    let mut steps = Vec::new();
    if prefix.is_none() {
        if machine.packages != Some(Packages::Apt) {
            return Mend::ByHand(format!(
                "install LLVM {major} with its headers (llvm-config on the PATH), then run \
                 `cargo xtask setup` again; or `cargo binstall bpf-linker@{BPF_LINKER}`, \
                 whose ready-made binary brings an LLVM along"
            ));
        }
        steps.push(Step::AptLlvm(major));
    }
    let prefix = prefix.map_or(format!("/usr/lib/llvm-{major}"), |p| p.display().to_string());
    let feature = format!("llvm-{major}");
    let mut install = vec!["cargo", "install", "bpf-linker", "--version", BPF_LINKER];
    install.extend(["--locked", "--no-default-features", "--features", &feature]);
    if which("bpf-linker").is_some() {
        // The one that is there does not do, though cargo may think that it does.
        install.push("--force");
    }
    let words = install.into_iter().map(str::to_owned).collect();
    steps.push(Step::Run { env: vec![("LLVM_PREFIX", prefix)], words });
    Mend::Steps(steps)
}

fn has_rustfmt(_: &Machine) -> Result<String, String> {
    subcommand("fmt")
}

fn get_rustfmt(machine: &Machine) -> Mend {
    component(machine, "rustfmt", &["rustfmt-web"])
}

fn has_clippy(_: &Machine) -> Result<String, String> {
    subcommand("clippy")
}

fn get_clippy(machine: &Machine) -> Mend {
    component(machine, "clippy", &["rust-web-clippy"])
}

fn has_bpf_clippy(machine: &Machine) -> Result<String, String> {
    let toolchain = Toolchain::find(machine).ok_or("no BPF rustc to go with")?;
    toolchain.clippy_version().ok_or_else(|| "none that goes with the BPF rustc".to_owned())
}

fn get_bpf_clippy(machine: &Machine) -> Mend {
    match Toolchain::find(machine).map(|toolchain| toolchain.kind) {
        Some(Kind::Nightly { name, .. }) => {
            let add = ["rustup", "component", "add", "clippy", "--toolchain", &name];
            Mend::Steps(vec![words(&add)])
        }
        Some(Kind::Prebuilt { rustc }) if machine.packages != Some(Packages::Apt) => {
            Mend::ByHand(format!(
                "install the clippy of {} beside it, with its package manager",
                rustc.display()
            ))
        }
        _ => Mend::Steps(vec![Step::Apt(&["rust-web-clippy"])]),
    }
}

/// A program on the PATH.
fn program(name: &str) -> Result<String, String> {
    which(name).map(|file| file.display().to_string()).ok_or_else(|| "not found".to_owned())
}

/// A subcommand of the cargo in use.
fn subcommand(name: &str) -> Result<String, String> {
    output(cargo().args([name, "--version"]))
        .map(|version| version.trim().to_owned())
        .ok_or_else(|| format!("`cargo {name}` does not run"))
}

/// A component of the Rust in use, which rustup or Debian brought.
fn component(machine: &Machine, name: &str, packages: &'static [&'static str]) -> Mend {
    // rustup sets the variable for what it starts, cargo and so us included.
    if env::var_os("RUSTUP_TOOLCHAIN").is_some() {
        Mend::Steps(vec![words(&["rustup", "component", "add", name])])
    } else if machine.apt_brings_bpf() {
        Mend::Steps(vec![Step::Apt(packages)])
    } else {
        Mend::ByHand(format!("install the {name} that goes with your cargo"))
    }
}

/// A system package: apt installs it; elsewhere the user does (`names`: for dnf, pacman, zypper).
fn package(machine: &Machine, apt: &'static [&'static str], names: [&str; 3]) -> Mend {
    let name = match machine.packages {
        Some(Packages::Apt) => return Mend::Steps(vec![Step::Apt(apt)]),
        Some(Packages::Dnf) => names[0],
        Some(Packages::Pacman) => names[1],
        Some(Packages::Zypper) => names[2],
        None => return Mend::ByHand(format!("install {} with your package manager", apt[0])),
    };
    let install = machine.packages.map_or("", Packages::install);
    Mend::ByHand(format!("as root: {install} {name}"))
}

fn words(words: &[&str]) -> Step {
    let words = words.iter().map(|&word| word.to_owned()).collect();
    Step::Run { env: Vec::new(), words }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Version;

    #[test]
    fn debian_gets_its_compiler_from_apt_and_others_from_rustup() {
        let debian = Machine {
            packages: Some(Packages::Apt),
            apt_lists: true,
            apt_rustc: Some(Version { major: 1, minor: 96 }),
            ..Machine::default()
        };
        let apt = Step::Apt(&["rustc-web", "libstd-rust-web-dev-bpf"]);
        assert_eq!(get_compiler(&debian), Mend::Steps(vec![apt]));

        let other = Machine { rustup: Some("rustup".into()), ..Machine::default() };
        let Mend::Steps(steps) = get_compiler(&other) else { panic!("rustup can do it") };
        assert_eq!(steps.len(), 2);
        assert!(matches!(get_compiler(&Machine::default()), Mend::ByHand(_)));
    }

    #[test]
    fn a_package_that_we_may_not_install_comes_with_its_command() {
        let fedora = Machine { packages: Some(Packages::Dnf), ..Machine::default() };
        assert_eq!(get_ip(&fedora), Mend::ByHand("as root: dnf install iproute".to_owned()));
    }

    #[test]
    fn the_compiler_is_seen_to_before_the_tools_that_must_match_it() {
        let at = |name| TOOLS.iter().position(|tool| tool.name == name).expect("in the table");
        assert!(at("BPF rustc") < at("bpf-linker"));
        assert!(at("BPF rustc") < at("BPF clippy"));
    }
}
