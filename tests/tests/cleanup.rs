//! Whatever the harness makes vanishes with the process, however that ends.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jumpgate_tests::ip::Batch;
use jumpgate_tests::links::{End, Link};
use jumpgate_tests::netns::Namespace;
use jumpgate_tests::{child, probe, require_root};
use nix::net::if_::if_nametoindex;

const PATIENCE: Duration = Duration::from_secs(10);

/// The namespace, as a path, to which the child process of a test ties a link.
const PEER: &str = "JUMPGATE_TEST_PEER";

fn has_link(namespace: &Namespace, link: &str) -> bool {
    namespace.run(|| if_nametoindex(link)).is_ok()
}

/// A veth goes with the namespace of its peer: that is how its end is seen from outside.
#[test]
fn a_namespace_vanishes_with_its_last_holder() -> Result<()> {
    require_root!();
    let [witness, held] = [Namespace::new("witness")?, Namespace::new("held")?];
    Link::between(End::new(&witness, "tie"), End::new(&held, "eth0")).create()?;
    let clone = held.clone();
    drop(held);
    ensure!(has_link(&witness, "tie"), "a clone did not hold the namespace");
    drop(clone);
    ensure!(probe::until(PATIENCE, || !has_link(&witness, "tie")), "the namespace is still there");
    Ok(())
}

#[test]
fn namespaces_and_children_vanish_when_the_process_is_killed() -> Result<()> {
    require_root!();
    let witness = Namespace::new("witness")?;
    let mut holder = Command::new(std::env::current_exe()?);
    holder
        .args(["--exact", "hold_until_killed", "--ignored", "--nocapture"])
        .env(PEER, witness.path())
        .stdout(Stdio::piped());
    let mut holder = child::spawn(holder)?;
    let output = BufReader::new(holder.stdout.take().context("stdout was piped")?);
    let sleeper = output
        .lines()
        .map_while(Result::ok)
        .find_map(|line| Some(PathBuf::from("/proc").join(line.strip_prefix("sleeper ")?)))
        .context("the child process gave up")?;
    ensure!(sleeper.exists() && has_link(&witness, "tie"));
    holder.kill()?;
    holder.wait()?;
    ensure!(probe::until(PATIENCE, || !has_link(&witness, "tie")), "the namespace is still there");
    ensure!(probe::until(PATIENCE, || !sleeper.exists()), "the grandchild is still there");
    Ok(())
}

/// Run by the test above, in a process of its own.
#[test]
#[ignore = "part of another test"]
fn hold_until_killed() -> Result<()> {
    let Some(peer) = std::env::var_os(PEER) else {
        return Ok(());
    };
    let held = Namespace::new("held")?;
    Batch::new()
        .add(format!("link add name eth0 type veth peer name tie netns {}", peer.display()))
        .run(&held)?;
    let mut sleeper = held.command("sleep");
    sleeper.arg("1000").stdout(Stdio::null());
    let mut sleeper = child::spawn(sleeper)?;
    println!("\nsleeper {}", sleeper.id());
    sleeper.wait()?;
    Ok(())
}
