//! `cargo xtask setup`: walks the table of tools, says what is there, and gets what lacks.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::command::{cargo, quoted, run, which};
use crate::machine::{Machine, Packages};
use crate::paths;
use crate::tools::{Mend, Needed, Step, TOOLS, Tool};

/// Installs what lacks, and says what it does.
pub fn install() -> Result<()> {
    Setup::new(true).tools(TOOLS.iter())?;
    println!("setup: everything is there");
    Ok(())
}

/// Installs what lacks for building and running; says nothing when nothing lacks.
pub fn ensure_runnable() -> Result<()> {
    Setup::new(false).tools(TOOLS.iter().filter(|tool| tool.needed == Needed::Run))
}

/// The same, and what tests and benchmarks need besides.
pub fn ensure_testable() -> Result<()> {
    Setup::new(false).tools(TOOLS.iter().filter(|tool| tool.needed != Needed::Lint))
}

/// Installs nothing.
///
/// # Errors
/// When a tool lacks that `lint` needs.
pub fn require_lintable() -> Result<()> {
    let machine = Machine::look();
    let lacks = |tool: &&Tool| tool.needed != Needed::Test && (tool.present)(&machine).is_err();
    let lacking: Vec<&str> = TOOLS.iter().filter(lacks).map(|tool| tool.name).collect();
    if !lacking.is_empty() {
        bail!("lint needs {}: `cargo xtask setup` installs it", lacking.join(", "));
    }
    Ok(())
}

/// Installs nothing; reports what lacks, and the command that mends it.
///
/// # Errors
/// When something lacks.
pub fn check() -> Result<()> {
    let machine = Machine::look();
    let mut lacking = 0;
    for tool in TOOLS {
        match (tool.present)(&machine) {
            Ok(found) => say_found(tool, &found),
            Err(lack) => {
                lacking += 1;
                say_lack(tool, &lack);
                for line in shown(&machine, &(tool.mend)(&machine)) {
                    println!("         {line}");
                }
            }
        }
    }
    if lacking > 0 {
        bail!("{lacking} of {} tools lack: `cargo xtask setup` gets them", TOOLS.len());
    }
    Ok(())
}

/// One walk through the table.
struct Setup {
    machine: Machine,
    /// Report what was found too.
    verbose: bool,
    /// `apt-get update` was run: once is enough.
    updated: bool,
    /// What was left to the user.
    by_hand: Vec<&'static str>,
}

impl Setup {
    fn new(verbose: bool) -> Self {
        Self { machine: Machine::look(), verbose, updated: false, by_hand: Vec::new() }
    }

    fn tools(&mut self, tools: impl Iterator<Item = &'static Tool>) -> Result<()> {
        for tool in tools {
            self.tool(tool)?;
        }
        if !self.by_hand.is_empty() {
            bail!("set-up could not get {}: see above for what to do", self.by_hand.join(", "));
        }
        Ok(())
    }

    fn tool(&mut self, tool: &'static Tool) -> Result<()> {
        let lack = match (tool.present)(&self.machine) {
            Ok(found) => {
                if self.verbose {
                    say_found(tool, &found);
                }
                return Ok(());
            }
            Err(lack) => lack,
        };
        say_lack(tool, &lack);
        // What apt offers decides how a tool is had, so its lists come first; old ones know nothing
        // of newer compilers.
        let by_apt = self.machine.packages == Some(Packages::Apt);
        if by_apt && !self.updated && self.may_install() {
            self.update()?;
        }
        match (tool.mend)(&self.machine) {
            Mend::Steps(steps) => {
                for step in &steps {
                    self.step(step).with_context(|| format!("setting up {}", tool.name))?;
                }
            }
            Mend::ByHand(words) => {
                println!("         {words}");
                self.by_hand.push(tool.name);
                return Ok(());
            }
        }
        self.machine = Machine::look();
        let found =
            (tool.present)(&self.machine).map_err(anyhow::Error::msg).with_context(|| {
                format!("setting up {}: its steps succeeded, yet it is not usable", tool.name)
            })?;
        say_found(tool, &found);
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Apt(packages) => {
                self.apt_install(&packages.iter().map(|&p| p.to_owned()).collect::<Vec<_>>())
            }
            Step::AptLlvm(major) => self.apt_install(&[llvm_package(*major)]),
            Step::Run { env, words } => {
                println!("         $ {}", shown_run(env, words));
                run(&mut own(env, words), "running it")
            }
        }
    }

    fn apt_install(&mut self, packages: &[String]) -> Result<()> {
        if !self.updated && self.may_install() {
            self.update()?;
        }
        let options = ["install", "--no-install-recommends", "--yes"];
        let args: Vec<&str> =
            options.into_iter().chain(packages.iter().map(String::as_str)).collect();
        self.apt(&args)
    }

    fn update(&mut self) -> Result<()> {
        self.updated = true;
        let update = self.apt(&["update"]);
        self.machine = Machine::look();
        if self.machine.apt_lists {
            // One archive of several may be out of reach; the install tells whether it was needed.
            if let Err(error) = update {
                println!("         going on with the package lists that are there: {error:#}");
            }
            return Ok(());
        }
        update.context("reading the package lists: is the network there?")
    }

    /// Whether we are root, or can become it.
    fn may_install(&self) -> bool {
        self.machine.root || self.machine.sudo.is_some()
    }

    fn apt(&self, args: &[&str]) -> Result<()> {
        let shown = format!("apt-get {}", args.join(" "));
        let mut command = match (self.machine.root, &self.machine.sudo) {
            (true, _) => Command::new("env"),
            (false, Some(sudo)) => {
                let mut command = Command::new(sudo);
                command.arg("env");
                command
            }
            (false, None) => bail!(
                "you are not root, and there is no sudo on this machine. \
                 As root: `{shown}`, then `cargo xtask setup` again"
            ),
        };
        println!("         $ {}{shown}", if self.machine.root { "" } else { "sudo " });
        // Nobody answers questions here; another apt may be at work: wait for it, but not for ever.
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]);
        command
            .args(["-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"])
            .args(args)
            // Hundreds of lines of unpacking help nobody; warnings and errors go to stderr.
            .stdout(Stdio::null());
        run(&mut command, "installing packages")
    }
}

fn say_found(tool: &Tool, found: &str) {
    println!("  ok     {:<11} {}", tool.name, found.lines().next().unwrap_or_default());
}

fn say_lack(tool: &Tool, lack: &str) {
    println!("  lacks  {:<11} {lack} ({})", tool.name, tool.why);
}

/// A mend as lines that a person can paste into a shell.
fn shown(machine: &Machine, mend: &Mend) -> Vec<String> {
    let sudo = if machine.root { "" } else { "sudo " };
    // apt knows of no package before it has read the lists once.
    let update =
        if machine.apt_lists { String::new() } else { format!("{sudo}apt-get update && ") };
    let apt = |packages: &str| format!("{update}{sudo}{} {packages}", Packages::Apt.install());
    match mend {
        Mend::ByHand(words) => vec![words.clone()],
        Mend::Steps(steps) => steps
            .iter()
            .map(|step| match step {
                Step::Apt(packages) => apt(&packages.join(" ")),
                Step::AptLlvm(major) => apt(&llvm_package(*major)),
                Step::Run { env, words } => shown_run(env, words),
            })
            .collect(),
    }
}

fn llvm_package(major: u32) -> String {
    format!("llvm-{major}-dev")
}

fn shown_run(env: &[(&'static str, String)], words: &[String]) -> String {
    let env = env.iter().map(|(name, value)| format!("{name}={value} "));
    let words: Vec<String> = words.iter().map(|word| quoted(word.as_ref())).collect();
    env.collect::<String>() + &words.join(" ")
}

/// The command of a step that needs no root.
fn own(env: &[(&'static str, String)], words: &[String]) -> Command {
    // `cargo` is the cargo that runs us; set-up never mixes two.
    let mut command = match words.first().map(String::as_str) {
        Some("cargo") => cargo(),
        Some(program) => Command::new(which(program).unwrap_or_else(|| program.into())),
        None => unreachable!("a step names its program"),
    };
    command.args(&words[1..]).current_dir(paths::root());
    for (name, value) in env {
        command.env(name, value);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mend_is_shown_as_it_is_typed() {
        let mend = Mend::Steps(vec![
            Step::AptLlvm(22),
            Step::Run { env: vec![("A", "b".into())], words: vec!["cargo".into(), "x".into()] },
        ]);
        let user = Machine { apt_lists: true, ..Machine::default() };
        assert_eq!(
            shown(&user, &mend),
            ["sudo apt-get install --no-install-recommends llvm-22-dev", "A=b cargo x"]
        );
    }

    #[test]
    fn a_machine_whose_apt_has_read_no_lists_is_told_to_read_them() {
        let root = Machine { root: true, ..Machine::default() };
        assert_eq!(
            shown(&root, &Mend::Steps(vec![Step::Apt(&["ethtool"])])),
            ["apt-get update && apt-get install --no-install-recommends ethtool"]
        );
    }
}
