//! Network namespaces without a name: they live as long as somebody holds them.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns, unshare};

use crate::child;

/// A network namespace, held by an open file only.
///
/// There is no name under `/run/netns`: when the last clone, socket, thread and child in it is
/// gone, so is the namespace with its links, even after a `kill -9`.
#[derive(Clone, Debug)]
pub struct Namespace {
    name: Arc<str>,
    file: Arc<OwnedFd>,
}

impl Namespace {
    /// Makes an empty namespace; the name is for messages and need not be unique.
    pub fn new(name: &str) -> Result<Self> {
        let file = thread::scope(|scope| {
            let made = scope.spawn(|| -> Result<File> {
                unshare(CloneFlags::CLONE_NEWNET)?;
                // Not /proc/self: that is the process's first thread, in another namespace.
                Ok(File::open("/proc/thread-self/ns/net")?)
            });
            made.join().unwrap_or_else(|panic| resume_unwind(panic))
        });
        let file = file.with_context(|| {
            format!("making the network namespace {name} (needs root or CAP_SYS_ADMIN)")
        })?;
        Ok(Self { name: name.into(), file: Arc::new(file.into()) })
    }

    /// The name it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A path that names this namespace to other processes, such as `ip link set … netns PATH`.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    /// Runs `work` on a fresh thread inside the namespace and returns what it returns.
    ///
    /// A socket that it opens stays in the namespace, whichever thread uses it later.
    ///
    /// # Panics
    /// When `work` panics, or when this process may not enter the namespace.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter();
                work()
            });
            inside.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Starts a thread that lives in the namespace.
    pub fn spawn_thread<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> JoinHandle<R> {
        let namespace = self.clone();
        thread::spawn(move || {
            namespace.enter();
            work()
        })
    }

    /// A command whose process runs in the namespace, and dies with the thread that starts it.
    ///
    /// Start what is to live longer than this thread with [`child::spawn`].
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        child::enter(&mut command, Arc::clone(&self.file), CloneFlags::CLONE_NEWNET);
        child::die_with_parent(&mut command);
        command
    }

    fn enter(&self) {
        setns(&*self.file, CloneFlags::CLONE_NEWNET).unwrap_or_else(|error| {
            panic!("entering the network namespace {}: {error}", self.name)
        });
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
