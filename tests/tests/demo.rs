//! The demo itself, in a short form: it ends well, says so, and says what it needs when it cannot.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jumpgate_tests::{child, require_root};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

/// Any user but root.
const NOBODY: u32 = 65534;

fn demo(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.args(args);
    command
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn the_demo_keeps_its_promises() -> Result<()> {
    require_root!();
    let output = demo(&["--quick"]).output()?;
    let text = text(&output);
    ensure!(output.status.success(), "{}:\n{text}", output.status);
    ensure!(text.contains("Promises kept"), "{text}");
    let row = |name: &str| -> Result<Vec<String>> {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        Ok(line.context(text.clone())?.split_whitespace().map(str::to_owned).collect())
    };
    ensure!(row("sessions  ")? == ["60", "60"], "{text}");
    let moved = row("sessions that ever changed node or CPU")?;
    ensure!(moved[0] != "0" && moved[1] == "0", "{text}");
    for label in [
        "packets lost",
        "sessions that were left behind",
        "packets delivered twice",
        "packets delivered by another than the owner",
    ] {
        let line = text.lines().rfind(|line| line.starts_with(label)).context(text.clone())?;
        let cells: Vec<_> = line[label.len()..].split_whitespace().collect();
        ensure!(cells == ["0", "0", "0"], "{text}");
    }
    let moved = row("sessions that went to another node")?;
    ensure!(moved.len() == 3 && moved.iter().all(|moved| moved != "0"), "{text}");
    // There is nobody to look at colours.
    ensure!(!text.contains('\x1b'), "{text}");
    Ok(())
}

#[test]
fn the_demo_can_be_interrupted() -> Result<()> {
    require_root!();
    let mut command = demo(&["--clients", "10"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let demo = child::spawn(command)?;
    thread::sleep(Duration::from_secs(3));
    kill(Pid::from_raw(demo.id() as i32), Signal::SIGINT)?;
    let output = demo.wait_with_output()?;
    ensure!(output.status.code() == Some(130), "{}:\n{}", output.status, text(&output));
    ensure!(text(&output).contains("demo: interrupted"), "{}", text(&output));
    Ok(())
}

#[test]
fn without_root_the_demo_says_how_to_start_it() -> Result<()> {
    // The build's folder may be closed to others.
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let copy = folder.path().join("demo");
    fs::copy(env!("CARGO_BIN_EXE_demo"), &copy)?;
    let mut command = Command::new(copy);
    if geteuid().is_root() {
        command.uid(NOBODY);
    }
    let output = command.output()?;
    ensure!(output.status.code() == Some(1), "{}", output.status);
    ensure!(text(&output).contains("cargo xtask demo"), "{}", text(&output));
    Ok(())
}
