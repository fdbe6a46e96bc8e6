//! `cargo xtask build`: the BPF objects, then the `jumpgate` binary that embeds them.

use std::path::PathBuf;

use anyhow::Result;

use crate::bpf::{self, Objects};
use crate::command::{cargo, run};
use crate::paths;

/// How the host's code is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Quick to compile.
    Dev,
    /// Quick to run.
    Release,
}

impl Profile {
    /// What a `--release` switch means.
    pub fn from_release(release: bool) -> Self {
        if release { Self::Release } else { Self::Dev }
    }

    fn args(self) -> &'static [&'static str] {
        match self {
            Self::Dev => &[],
            Self::Release => &["--release"],
        }
    }

    fn dir(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}

/// What a build left behind.
#[derive(Clone, Debug)]
pub struct Built {
    /// The BPF objects.
    pub objects: Objects,
    /// The daemon and command line, with the object inside.
    pub jumpgate: PathBuf,
}

impl Built {
    /// Tells `command` where the objects are, and the binary: as `JUMPGATE_BIN`.
    pub fn set_env<'a>(
        &self,
        command: &'a mut std::process::Command,
    ) -> &'a mut std::process::Command {
        self.objects.set_env(command).env("JUMPGATE_BIN", &self.jumpgate)
    }
}

/// Builds the BPF objects and the `jumpgate` binary.
pub fn build(profile: Profile) -> Result<Built> {
    let objects = bpf::build()?;
    let jumpgate = binary(&objects, profile, "dataplane-user", "jumpgate")?;
    Ok(Built { objects, jumpgate })
}

/// Builds one binary of the workspace, with the BPF objects at hand.
pub fn binary(objects: &Objects, profile: Profile, package: &str, bin: &str) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--package", package, "--bin", bin]).args(profile.args());
    run(objects.set_env(&mut command), &format!("building {bin}"))?;
    Ok(paths::target().join(profile.dir()).join(bin))
}
