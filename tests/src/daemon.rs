//! `jumpgate run` on a node of a test network.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use dataplane_user::api::Client;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::config::Config;
use crate::mounts::Mounts;
use crate::netns::Namespace;
use crate::topology::{Cluster, Node};
use crate::{child, probe};

/// Names another binary than the one beside the test's own.
pub const BINARY_VARIABLE: &str = "JUMPGATE_BIN";

/// How long the daemon may take to answer, or to end.
const PATIENCE: Duration = Duration::from_secs(15);

/// How much of a log is shown.
const LOG_LINES: usize = 200;

/// A daemon that runs on a node. It is killed when this is dropped.
///
/// Its log goes to a file; when this is dropped it is printed, which the test harness shows only
/// if the test has failed.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    namespace: Namespace,
    mounts: Mounts,
    socket: PathBuf,
    sessions_socket: PathBuf,
    config: PathBuf,
    log: PathBuf,
    child: Child,
}

impl Daemon {
    /// Starts the daemon with a configuration, and waits until it answers on its Unix socket.
    ///
    /// A node's second daemon finds the pins and the state of the first, and adds to its log.
    pub fn start(cluster: &Cluster, node: &Node, config: &Config) -> Result<Self> {
        Self::start_with(cluster, node, config, &[])
    }

    /// [`Daemon::start`] with arguments besides, such as `--fresh`.
    pub fn start_with(
        cluster: &Cluster,
        node: &Node,
        config: &Config,
        arguments: &[&str],
    ) -> Result<Self> {
        Self::start_binary(&binary()?, cluster, node, config, arguments)
    }

    /// [`Daemon::start_with`] with another binary, such as another version.
    pub fn start_binary(
        binary: &Path,
        cluster: &Cluster,
        node: &Node,
        config: &Config,
        arguments: &[&str],
    ) -> Result<Self> {
        let directory = cluster.scratch().join(node.name());
        fs::create_dir_all(&directory).context("making the node's directory")?;
        let file = directory.join("jumpgate.toml");
        fs::write(&file, config.to_toml()?).context("writing the configuration")?;
        let log = directory.join("log");
        let output =
            File::options().create(true).append(true).open(&log).context("opening the log")?;
        let mut command = node.namespace().command(binary);
        command
            .args(["run", "--config"])
            .arg(&file)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("sharing the log")?)
            .stderr(output);
        node.mounts().enter(&mut command);
        let child = child::spawn(command)
            .with_context(|| format!("starting {} on node {}", binary.display(), node.name()))?;
        let mut daemon = Self {
            name: node.name().to_owned(),
            namespace: node.namespace().clone(),
            mounts: node.mounts().clone(),
            socket: config.api.socket.clone(),
            sessions_socket: config.sessions_api.socket.clone(),
            config: file,
            log,
            child,
        };
        daemon.wait_until_it_answers()?;
        Ok(daemon)
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let mut ended = None;
        let answers = probe::until(PATIENCE, || {
            ended = self.child.try_wait().ok().flatten();
            ended.is_some() || Client::connect(&self.socket).is_ok()
        });
        if let Some(status) = ended {
            bail!("the daemon of node {} ended at once: {}", self.name, describe(status));
        }
        let socket = self.socket.display();
        ensure!(answers, "the daemon of node {} does not answer on {socket}", self.name);
        Ok(())
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its Unix socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The Unix socket of its Sessions API.
    pub fn sessions_socket(&self) -> &Path {
        &self.sessions_socket
    }

    /// Its configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// What it has written to stdout and stderr.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A `jumpgate` command that sees what the daemon sees: `daemon.command()?.arg("status")`.
    pub fn command(&self) -> Result<Command> {
        let mut command = self.namespace.command(binary()?);
        self.mounts.enter(&mut command);
        Ok(command)
    }

    /// Lets it detach (or stay, as it was told) and end (SIGTERM), and waits for that.
    pub fn stop(&mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let mut ended = None;
        let _ = probe::until(PATIENCE, || {
            ended = self.child.try_wait().ok().flatten();
            ended.is_some()
        });
        let status =
            ended.with_context(|| format!("the daemon of node {} ignores SIGTERM", self.name))?;
        ensure!(status.success(), "the daemon of node {} failed: {}", self.name, describe(status));
        Ok(())
    }

    /// Freezes it (SIGSTOP), and returns when all its threads stand still.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        let stopped = probe::until(PATIENCE, || {
            self.thread_states()
                .is_ok_and(|states| !states.is_empty() && states.iter().all(|&state| state == 'T'))
        });
        ensure!(stopped, "the daemon of node {} does not stop", self.name);
        Ok(())
    }

    /// Lets a frozen daemon run again (SIGCONT).
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Ends it without warning (SIGKILL), and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().context("killing the daemon")?;
        self.child.wait().context("waiting for the daemon")?;
        Ok(())
    }

    /// Waits until it ends by itself, and demands that it says it failed.
    pub fn fail(&mut self) -> Result<()> {
        let mut ended = None;
        let _ = probe::until(PATIENCE, || {
            ended = self.child.try_wait().ok().flatten();
            ended.is_some()
        });
        let status = ended.with_context(|| format!("the daemon of node {} goes on", self.name))?;
        ensure!(!status.success(), "the daemon of node {} ended as if all were well", self.name);
        Ok(())
    }

    /// Puts another configuration in the place of the one that it was started with.
    pub fn rewrite(&self, config: &Config) -> Result<()> {
        fs::write(&self.config, config.to_toml()?).context("writing the configuration")
    }

    /// Has it read its configuration again (SIGHUP).
    pub fn hang_up(&self) -> Result<()> {
        self.signal(Signal::SIGHUP)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.child.id() as i32), signal)
            .with_context(|| format!("sending {signal} to the daemon of node {}", self.name))
    }

    fn thread_states(&self) -> Result<Vec<char>> {
        let mut states = Vec::new();
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let stat = fs::read_to_string(task?.path().join("stat"))?;
            // The state follows the command's name, which may hold any character.
            let (_, rest) = stat.rsplit_once(") ").context("reading a thread's state")?;
            states.extend(rest.chars().next());
        }
        Ok(states)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.kill();
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        println!("--- the log of node {} ---", self.name);
        for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
            println!("{line}");
        }
    }
}

/// The `jumpgate` binary: [`BINARY_VARIABLE`], or the one in the directory that this test or demo
/// was built into.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(BINARY_VARIABLE) {
        let path = PathBuf::from(path);
        return fs::canonicalize(&path)
            .with_context(|| format!("{BINARY_VARIABLE} names {}", path.display()));
    }
    let own = std::env::current_exe().context("finding this program's own path")?;
    // A test lies in `deps`, one below the directory of the binaries.
    let found = own.ancestors().skip(1).take(2).map(|parent| parent.join("jumpgate"));
    found.into_iter().find(|path| path.is_file()).with_context(|| {
        format!(
            "there is no jumpgate binary beside {}; run `cargo xtask build`, or name one in \
             {BINARY_VARIABLE}",
            own.display(),
        )
    })
}

fn describe(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("signal {signal}"),
        None => format!("status {}", status.code().unwrap_or_default()),
    }
}
