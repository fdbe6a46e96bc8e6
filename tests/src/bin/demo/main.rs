//! The demo: the same clients without and with Jumpgate, and what became of their sessions.
//!
//! Three nodes, a router that sprays packets over them by a hash of their 5-tuple, an echo
//! application on every CPU of every node, and clients of which two in three keep changing address
//! and port. All of it lives in namespaces that vanish with this process, however it ends.

mod interrupt;
mod kernel;
mod load;
mod options;
mod outcome;
mod phase;
mod requirements;
mod view;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;

use anyhow::{Context, Result};
use clap::Parser;
use jumpgate_tests::echo::Server;
use jumpgate_tests::fleet::{self, Fleet, PORT};
use jumpgate_tests::topology::Cluster;

use crate::kernel::Kernel;
use crate::options::Options;
use crate::outcome::{Column, judge};
use crate::phase::{Phase, Stage};
use crate::view::report;
use crate::view::screen::Screen;
use crate::view::text::{Style, thousands};

/// Hosts that clients live on; each has a pool of addresses of its own.
const CLIENT_HOSTS: u8 = 4;

/// More CPUs than this are left to others: threads for each on three nodes would only get in
/// each other's way.
const MOST_CPUS: usize = 16;

/// What a shell says of a program that SIGINT has ended.
const INTERRUPTED: u8 = 128 + libc::SIGINT as u8;

/// How much of each daemon's log is shown when something went wrong.
const LOG_LINES: usize = 15;

fn main() -> ExitCode {
    let options = Options::parse();
    match requirements::check().and_then(|()| interrupt::catch()).and_then(|()| run(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(_) if interrupt::asked() => {
            eprintln!("\ndemo: interrupted; its namespaces, daemons and programs are gone");
            INTERRUPTED.into()
        }
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the promises were kept.
fn run(options: &Options) -> Result<bool> {
    let mut screen = Screen::new();
    let paint = screen.paint();
    let cpus = thread::available_parallelism().map_or(1, |cpus| cpus.get().min(MOST_CPUS)) as u16;
    screen.say(&format!(
        "{} three nodes with {cpus} CPUs each, a router that sprays packets over\n\
         them by 5-tuple, and {} UDP clients, IPv4 and IPv6, of which two in three\n\
         change their address every second.",
        paint.paint(Style::Title, "Jumpgate demo:"),
        thousands(options.clients().into()),
    ));
    screen.note("Building the network ...");
    let cluster =
        Cluster::builder().clients(CLIENT_HOSTS).build().context("building the network")?;
    interrupt::check()?;
    let stage = Stage {
        cluster: &cluster,
        cpus,
        clients: options.clients(),
        times: [options.without(), options.with()],
    };
    let without = without(&stage, &mut screen).context("without Jumpgate")?;
    let with = with(&stage, &mut screen).context("with Jumpgate")?;
    let broken = judge(&without, &with);
    screen.say(&format!("\n{}\n", report::table(&without, &with, paint)));
    screen.say(&report::outcome(&with, &broken, paint));
    Ok(broken.is_empty())
}

/// The echo application alone.
fn without(stage: &Stage<'_>, screen: &mut Screen) -> Result<Column> {
    let addresses: Vec<_> =
        stage.cluster.vips().iter().map(|&vip| SocketAddr::new(vip, PORT)).collect();
    let servers = stage
        .cluster
        .nodes()
        .iter()
        .map(|node| Server::start(node.namespace(), node.name(), &addresses, stage.cpus))
        .collect::<Result<Vec<_>>>()?;
    let column = stage.run(Phase::Without, None, screen)?;
    servers.into_iter().try_for_each(Server::stop)?;
    Ok(column)
}

/// Daemons, and the echo application that has given them its sockets.
fn with(stage: &Stage<'_>, screen: &mut Screen) -> Result<Column> {
    let options = fleet::Options { cpus: stage.cpus, ..fleet::Options::default() };
    let mut fleet = Fleet::start(stage.cluster, &options).context("starting the daemons")?;
    fleet.daemons.iter_mut().for_each(|daemon| daemon.keep_quiet());
    let done = Kernel::connect(&fleet)
        .and_then(|kernel| stage.run(Phase::With, Some(kernel), screen))
        .and_then(|column| {
            fleet.gateways.clear();
            fleet.daemons.iter_mut().try_for_each(|daemon| daemon.stop())?;
            Ok(column)
        });
    if done.is_err() {
        if !interrupt::asked() {
            show_logs(&fleet);
        }
        // Before the applications: they may wait for an answer of a daemon that hangs.
        for daemon in &mut fleet.daemons {
            let _ = daemon.kill();
        }
    }
    done
}

fn show_logs(fleet: &Fleet) {
    for daemon in &fleet.daemons {
        let log = daemon.log();
        let lines: Vec<_> = log.lines().collect();
        eprintln!("--- the end of the log of {} ---", daemon.config().display());
        for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
            eprintln!("{line}");
        }
    }
}
