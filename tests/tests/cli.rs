//! `jumpgate` beside a running daemon, and without one.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dataplane_user::api::{Client as Api, SessionRow, Stats, Status};
use jumpgate_tests::address::Family;
use jumpgate_tests::daemon::{Daemon, binary};
use jumpgate_tests::fleet::{self, Fleet, Options};
use jumpgate_tests::require_root;
use jumpgate_tests::topology::Cluster;

const PATIENCE: Duration = Duration::from_secs(10);
const CLIENTS: u8 = 30;

fn run(mut command: Command, arguments: &[&str]) -> Result<Output> {
    command.args(arguments).stdin(Stdio::null()).output().context("running jumpgate")
}

/// What a command prints that succeeds.
fn output(daemon: &Daemon, arguments: &[&str]) -> Result<String> {
    let socket = daemon.socket().display().to_string();
    let output = run(daemon.command()?, &[arguments, &["--socket", &socket]].concat())?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && error.is_empty(), "{arguments:?}: {error}");
    Ok(String::from_utf8(output.stdout)?)
}

/// The one line that a command says when it fails.
fn complaint(output: &Output) -> Result<String> {
    let text = String::from_utf8(output.stderr.clone())?;
    ensure!(output.status.code() == Some(1), "{:?}: {text}", output.status);
    ensure!(output.stdout.is_empty(), "{output:?}");
    let line = text.strip_suffix('\n').context("a line")?;
    let message = line.strip_prefix("jumpgate: ").context("a message")?;
    ensure!(!message.contains('\n'), "{text}");
    Ok(message.to_owned())
}

#[test]
fn status_stats_and_sessions_tell_what_the_node_does() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(2).build()?;
    let fleet = Fleet::start(&cluster, &Options::default())?;
    let mut swarm = fleet::swarm(&cluster, Family::V4, 1, CLIENTS)?;
    swarm.open(PATIENCE)?;
    swarm.send();
    ensure!(swarm.settle(PATIENCE)?, "{:?}", swarm.counts());
    let daemon = &fleet.daemons[0];

    let text = output(daemon, &["status"])?;
    let pid = daemon.id();
    for expected in [
        &*format!("node a, jumpgate 0.1.0, pid {pid}"),
        "epoch 1, fence open for ",
        "placement revision 1: ",
        "of 65536 slots are this node's",
        "CPUs [0, 1]",
        "eth0       native",
        "b     10.1.1.2",
        "echo4    198.51.100.1:7000  ",
        "native    [0, 1]",
    ] {
        ensure!(text.contains(expected), "no {expected:?} in\n{text}");
    }
    let status: Status = serde_json::from_str(&output(daemon, &["status", "--json"])?)?;
    ensure!(status.pid == pid && status.node == "a", "{status:?}");
    ensure!(status.nodes[0].mac.is_some(), "{status:?}");

    let mut sessions: Vec<SessionRow> = Vec::new();
    for daemon in &fleet.daemons {
        sessions.extend(serde_json::from_str::<Vec<_>>(&output(daemon, &["sessions", "--json"])?)?);
    }
    // A client that asked again got a second session.
    ensure!(sessions.len() >= usize::from(CLIENTS), "{sessions:?}");
    for client in swarm.clients() {
        let id = client.session().context("every client has one")?;
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let row = sessions.iter().find(|row| row.session == id).context("it is listed")?;
        ensure!(row.service == "echo4" && row.wire_ids == [id], "{row:?}");
        ensure!(client.place().is_some_and(|place| u32::from(place.cpu) == row.cpu), "{row:?}");
    }

    let stats: Stats = serde_json::from_str(&output(daemon, &["stats", "--json"])?)?;
    let counts = &stats.services["echo4"];
    let [local, new] = ["local", "new"].map(|verdict| counts.verdicts[verdict]);
    ensure!(counts.admissions["delivered"] == local, "{counts:?}");
    ensure!(counts.admissions["delivered-new"] == new, "{counts:?}");
    let text = output(daemon, &["stats"])?;
    let row = |cells: [&str; 4]| {
        text.lines().any(|line| line.split_whitespace().collect::<Vec<_>>() == cells)
    };
    ensure!(row(["SERVICE", "WHERE", "WHAT", "PACKETS"]), "{text}");
    ensure!(row(["echo4", "xdp", "local", &local.to_string()]), "{text}");
    ensure!(row(["echo4", "socket", "delivered-new", &new.to_string()]), "{text}");
    Ok(())
}

#[test]
fn sessions_come_in_pages_and_up_to_a_limit() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).build()?;
    let node = &cluster.nodes()[0];
    let config = fleet::config(&cluster, node, &Options::default());
    let daemon = Daemon::start(&cluster, node, &config)?;
    let text = output(&daemon, &["sessions"])?;
    ensure!(text.lines().count() == 1 && text.starts_with("SESSION"), "{text}");

    let mut api = Api::connect(daemon.socket())?;
    let mut opened = Vec::new();
    for number in 0..450 {
        opened.push(api.open("echo6", number % 2)?.session);
    }
    opened.sort();
    let rows: Vec<SessionRow> = serde_json::from_str(&output(&daemon, &["sessions", "--json"])?)?;
    ensure!(rows.iter().map(|row| &row.session).eq(&opened), "all, once, in order");
    let text = output(&daemon, &["sessions", "--limit", "201"])?;
    ensure!(text.lines().count() == 203, "{text}");
    ensure!(text.ends_with("the first 201; --limit shows more\n"), "{text}");
    Ok(())
}

#[test]
fn the_daemon_is_found_by_its_configuration_and_missed_in_words() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).build()?;
    let node = &cluster.nodes()[0];
    let config = fleet::config(&cluster, node, &Options::default());
    let mut daemon = Daemon::start(&cluster, node, &config)?;
    let file = daemon.config().display().to_string();
    let socket = daemon.socket().display().to_string();

    let found = run(daemon.command()?, &["status", "--config", &file])?;
    ensure!(found.status.success(), "{found:?}");
    let command = daemon.command()?;
    daemon.stop()?;
    let missed = complaint(&run(command, &["status", "--config", &file])?)?;
    ensure!(missed.starts_with(&format!("no daemon answers at {socket}: ")), "{missed}");
    ensure!(missed.contains("No such file or directory"), "{missed}");
    ensure!(missed.ends_with("is `jumpgate run` running, and may you use its socket?"), "{missed}");

    // A socket that a killed daemon left.
    let mut daemon = Daemon::start(&cluster, node, &config)?;
    let command = daemon.command()?;
    daemon.kill()?;
    ensure!(Path::new(&socket).exists());
    let missed = complaint(&run(command, &["stats", "--socket", &socket])?)?;
    ensure!(missed.contains("Connection refused"), "{missed}");
    Ok(())
}

#[test]
fn without_capabilities_the_daemon_says_what_it_needs() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).build()?;
    let node = &cluster.nodes()[0];
    let config = fleet::config(&cluster, node, &Options::default());
    let directory = cluster.scratch().join(node.name());
    std::fs::create_dir_all(&directory)?;
    let file = directory.join("jumpgate.toml");
    std::fs::write(&file, config.to_toml()?)?;

    // Still uid 0, so that all files are its own, but a root without power.
    let mut command = node.namespace().command("setpriv");
    node.mounts().enter(&mut command);
    command.args(["--bounding-set=-all", "--inh-caps=-all", "--"]).arg(binary()?);
    command.args(["run", "--config"]).arg(&file);
    let message = complaint(&run(command, &[])?)?;
    ensure!(message.contains("CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"), "{message}");
    ensure!(message.contains("run it with sudo"), "{message}");
    ensure!(!config.api.socket.exists());
    Ok(())
}

#[test]
fn a_configuration_with_mistakes_is_answered_with_lines_and_hints() -> Result<()> {
    require_root!();
    let cluster = Cluster::builder().nodes(1).build()?;
    let node = &cluster.nodes()[0];
    let config = fleet::config(&cluster, node, &Options::default());
    let file = cluster.scratch().join("wrong.toml");
    let text = config.to_toml()?.replace("hash_seed", "hash_sede");
    let line = text.lines().position(|line| line.starts_with("hash_sede")).context("the key")? + 1;
    std::fs::write(&file, text)?;
    for arguments in [vec!["check"], vec!["run", "--config"]] {
        let mut command = node.namespace().command(binary()?);
        node.mounts().enter(&mut command);
        command.args(arguments).arg(&file);
        let output = run(command, &[])?;
        let message = String::from_utf8(output.stderr)?;
        ensure!(output.status.code() == Some(1), "{message}");
        ensure!(message.contains(&format!("{line}:")), "{message}");
        ensure!(message.contains("hash_sede") && message.contains("`hash_seed`"), "{message}");
    }
    Ok(())
}
