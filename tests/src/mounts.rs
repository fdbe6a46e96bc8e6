//! A mount namespace with a bpffs of its own, so that pins are private and vanish by themselves.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use crate::child;
use crate::netns::Namespace;

/// Where the private bpffs is mounted.
pub const BPFFS: &str = "/sys/fs/bpf";

/// A private mount namespace: all of the file system, but with `/sys` showing one network
/// namespace, and an empty bpffs on [`BPFFS`].
///
/// Pins survive the process that made them, as a daemon's restart needs, and vanish when the last
/// clone is dropped or this process dies.
#[derive(Clone, Debug)]
pub struct Mounts {
    file: Arc<OwnedFd>,
}

impl Mounts {
    /// Makes the mounts for processes in `namespace`.
    pub fn new(namespace: &Namespace) -> Result<Self> {
        let file = namespace
            .run(|| -> Result<File> {
                unshare(CloneFlags::CLONE_NEWNS)?;
                // Without this the mounts below would appear outside too.
                let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                mount(None::<&Path>, "/", None::<&Path>, private, None::<&Path>)
                    .context("making the mounts private")?;
                // sysfs shows the network devices of the namespace that mounted it.
                fresh("sysfs", "/sys")?;
                fresh("bpf", BPFFS)?;
                Ok(File::open("/proc/thread-self/ns/mnt")?)
            })
            .with_context(|| format!("making private mounts for {}", namespace.name()))?;
        Ok(Self { file: Arc::new(file.into()) })
    }

    /// Lets a command's process see these mounts. Its working directory becomes `/`, so its
    /// program and arguments must be absolute paths.
    pub fn enter(&self, command: &mut Command) {
        child::enter(command, Arc::clone(&self.file), CloneFlags::CLONE_NEWNS);
    }

    /// Runs `work` on a fresh thread that sees these mounts and is in `namespace`.
    pub fn run<R: Send>(&self, namespace: &Namespace, work: impl FnOnce() -> R + Send) -> R {
        namespace.run(|| {
            // A thread may enter a mount namespace only with a root of its own.
            unshare(CloneFlags::CLONE_FS).expect("unsharing the thread's root");
            setns(&*self.file, CloneFlags::CLONE_NEWNS).expect("entering the private mounts");
            work()
        })
    }
}

fn fresh(kind: &str, target: &str) -> Result<()> {
    mount(Some(kind), target, Some(kind), MsFlags::empty(), None::<&Path>)
        .with_context(|| format!("mounting {kind} on {target}"))
}
