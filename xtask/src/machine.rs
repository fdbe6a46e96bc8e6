//! The machine we are on: its packages, its rustup, and whether we may install.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::command::{output, which};
use crate::version::{OLDEST_KERNEL, OLDEST_RUST, Version, apt_candidate};

/// Refuses a kernel that cannot run the programs, before anything is built for it.
pub fn check_kernel() -> Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    match Version::parse(&release) {
        Some(version) if version < OLDEST_KERNEL => bail!(
            "Linux {} is too old: the programs need {OLDEST_KERNEL} or later; boot a newer kernel \
             (Debian 13 and Ubuntu 24.04 have one, Debian 12 has one in its backports)",
            release.trim()
        ),
        _ => Ok(()),
    }
}

/// What set-up needs to know of the machine.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// We run as root.
    pub root: bool,
    /// `sudo`, when it is there.
    pub sudo: Option<PathBuf>,
    /// The system's package manager, when it is one that we know.
    pub packages: Option<Packages>,
    /// `rustup`, when it is there.
    pub rustup: Option<PathBuf>,
    /// rustup is Debian's package, which refuses to live beside Debian's compilers.
    pub rustup_from_apt: bool,
    /// apt has read the archives' package lists; before that it knows of nothing.
    pub apt_lists: bool,
    /// The `rustc-web` that apt offers: Debian's up-to-date Rust, the one with a core for BPF.
    pub apt_rustc: Option<Version>,
}

/// A package manager whose commands we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packages {
    /// Debian and its kin.
    Apt,
    /// Fedora and its kin.
    Dnf,
    /// Arch and its kin.
    Pacman,
    /// SUSE.
    Zypper,
}

impl Packages {
    /// Every package manager that we know: its program and its install command.
    const ALL: [(Self, &str, &str); 4] = [
        (Self::Apt, "apt-get", "apt-get install --no-install-recommends"),
        (Self::Dnf, "dnf", "dnf install"),
        (Self::Pacman, "pacman", "pacman -S --needed"),
        (Self::Zypper, "zypper", "zypper install"),
    ];

    fn find() -> Option<Self> {
        Self::ALL.iter().find(|(_, program, _)| which(program).is_some()).map(|row| row.0)
    }

    /// The words that come before the package names in an install command.
    pub fn install(self) -> &'static str {
        Self::ALL.iter().find(|row| row.0 == self).map_or("", |row| row.2)
    }
}

impl Machine {
    /// Looks at the machine. Cheap enough to look again after each step of set-up.
    pub fn look() -> Self {
        let packages = Packages::find();
        let apt = packages == Some(Packages::Apt);
        let rustup_status = || output(Command::new("dpkg-query").args(["-Wf${Status}", "rustup"]));
        Self {
            root: is_root(),
            sudo: which("sudo"),
            packages,
            rustup: which("rustup"),
            rustup_from_apt: apt && rustup_status().is_some_and(|s| s.ends_with(" installed")),
            apt_lists: apt && apt_lists(),
            apt_rustc: apt.then(apt_rustc).flatten(),
        }
    }

    /// Whether apt can bring a Rust compiler that is new enough, with a core for BPF.
    pub fn apt_brings_bpf(&self) -> bool {
        let new_enough = self.apt_rustc >= Some(OLDEST_RUST);
        // Without lists nobody knows yet: set-up reads them before it decides.
        let unknown = self.packages == Some(Packages::Apt) && !self.apt_lists;
        !self.rustup_from_apt && (new_enough || unknown)
    }
}

/// Whether we run as root.
pub fn is_root() -> bool {
    // The owner of /proc/self is the effective user.
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

fn apt_lists() -> bool {
    let lists = Path::new("/var/lib/apt/lists");
    fs::read_dir(lists).is_ok_and(|entries| {
        entries.flatten().any(|e| e.file_name().to_string_lossy().contains("_Packages"))
    })
}

fn apt_rustc() -> Option<Version> {
    apt_candidate(&output(Command::new("apt-cache").args(["policy", "rustc-web"]))?)
}
