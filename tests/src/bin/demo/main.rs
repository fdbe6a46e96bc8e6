//! The demo: the same clients without and with Jumpgate, and what became of their sessions.
//!
//! Three nodes, a router that sprays packets over them by a hash of their 5-tuple, an echo
//! application on every CPU of every node, and clients of which two in three keep changing address
//! and port. With Jumpgate one node is then drained and comes back, and another is lost. All of it
//! lives in namespaces that vanish with this process, however it ends.

mod ask;
mod interrupt;
mod kernel;
mod load;
mod nodes;
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
use jumpgate_tests::fleet::PORT;
use jumpgate_tests::topology::Cluster;

use crate::load::Load;
use crate::nodes::Nodes;
use crate::options::Options;
use crate::outcome::{Column, Product, judge};
use crate::phase::{Look, Phase, Stage};
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
         change their address every second. All nodes run in this process, on one\n\
         embedded store.",
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
    screen.say(&format!("\n{}\n", report::table(&without, &with.column, paint)));
    screen.say(&format!("{}\n", report::episodes(&with, paint)));
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
    let mut load = Load::new(stage.cluster, stage.clients)?;
    load.open()?;
    let time = stage.times[0];
    stage.play(Phase::Without, &mut load, screen, |_, elapsed| Ok(Look::at_time(elapsed, time)))?;
    servers.into_iter().try_for_each(Server::stop)?;
    Ok(Column { clients: stage.clients.into(), counts: load.counts(), ..Column::default() })
}

/// Daemons, and the echo application that has given them its sockets.
fn with(stage: &Stage<'_>, screen: &mut Screen) -> Result<Product> {
    Nodes::start(stage).context("starting the nodes")?.run(screen)
}
