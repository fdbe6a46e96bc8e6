//! The daemon and its command line.

mod audit;
mod capture;
mod check;
mod client;
mod drain;
mod events;
mod explain;
mod log;
mod nodes;
mod output;
mod reload;
mod run;
mod secret;
mod sessions;
mod stats;
mod status;
mod store;
mod table;
mod verdicts;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use dataplane_user::{api::Client, config::Config, daemon::Options};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

/// Keeps every session on the node and CPU that owns it.
#[derive(Parser)]
#[command(name = "jumpgate", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Loads the data plane on this node and runs until SIGTERM or SIGINT.
    Run {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Logs the verdict of every packet: for a test network, not under load.
        #[arg(long)]
        log_packets: bool,
        /// Starts with new tables and a new epoch, whatever an earlier daemon left; all sessions of
        /// this node end.
        #[arg(long)]
        fresh: bool,
        /// Leaves program, tables and lease in the kernel when it ends, for the next daemon to take
        /// over without losing a packet.
        #[arg(long)]
        stay: bool,
    },
    /// Has the daemon read its configuration file again, as SIGHUP does: all of it is taken on without a lost
    /// packet, or nothing.
    Reload {
        #[command(flatten)]
        daemon: Daemon,
    },
    /// Checks a configuration file, and this machine against it.
    Check {
        /// The configuration file.
        file: PathBuf,
    },
    /// Shows how this node is.
    Status {
        #[command(flatten)]
        daemon: Daemon,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Lists the nodes of the cluster as this one sees them: their epochs, and when they were last heard.
    Nodes {
        #[command(flatten)]
        daemon: Daemon,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows what became of packets: every verdict, by service.
    Stats {
        #[command(flatten)]
        daemon: Daemon,
        /// Again every second, with rates.
        #[arg(long)]
        watch: bool,
        /// As JSON; with --watch one line a second.
        #[arg(long)]
        json: bool,
        /// On which CPUs, too.
        #[arg(long)]
        cpus: bool,
    },
    /// Shows refused packets, the last few hundred that the kernel told of.
    Events {
        #[command(flatten)]
        daemon: Daemon,
        /// Goes on, with those that come.
        #[arg(long)]
        follow: bool,
        /// As JSON, one line for each event.
        #[arg(long)]
        json: bool,
    },
    /// Explains what can become of a packet: the names in `stats`, the codes in the log.
    Verdicts,
    /// Says what this node would do with a packet now, and why. Nothing is sent or counted.
    Explain {
        #[command(flatten)]
        daemon: Daemon,
        /// A frame in hexadecimal, from its Ethernet header on.
        #[arg(value_name = "HEX", required_unless_present_any = ["pcap", "session"])]
        packet: Option<String>,
        /// The frames in a pcap or pcapng file.
        #[arg(long, value_name = "FILE", conflicts_with_all = ["packet", "session"])]
        pcap: Option<PathBuf>,
        /// A session of this node: a packet for each of its wire ids.
        #[arg(long, value_name = "ID", conflicts_with = "packet")]
        session: Option<String>,
        /// The interface that the packets would arrive on; the first one by default.
        #[arg(long, value_name = "NAME")]
        interface: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Writes a session's packets, with what became of each, to a pcapng file, until SIGINT.
    Capture {
        #[command(flatten)]
        daemon: Daemon,
        /// The session; this node owns it.
        session: String,
        /// The file; it must not be there yet.
        #[arg(short = 'w', long = "write", value_name = "FILE")]
        file: PathBuf,
        /// Ends after so many packets.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
        /// Ends after so many seconds.
        #[arg(long, value_name = "S")]
        seconds: Option<u64>,
    },
    /// Lets a node take no more sessions, and gives its sessions to the others without losing a packet.
    Drain {
        #[command(flatten)]
        daemon: Daemon,
        /// The node's name.
        node: String,
        /// How long its sessions may take to leave, such as `5m`; only for the node of this daemon.
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        deadline: Option<Duration>,
        /// What becomes of sessions that have not left by then.
        #[arg(long, value_enum, default_value_t = drain::Policy::Move)]
        policy: drain::Policy,
        /// Starts as many at once as it can, whatever that does to their packets' way.
        #[arg(long)]
        fast: bool,
        /// Stays, and shows how far it is, until the node is safe to stop; only for the node of this daemon.
        #[arg(long)]
        watch: bool,
    },
    /// Lets a node take sessions again: it gets its share back.
    Undrain {
        #[command(flatten)]
        daemon: Daemon,
        /// The node's name.
        node: String,
    },
    /// Moves one session of this node to another one, without losing a packet.
    Handover {
        #[command(flatten)]
        daemon: Daemon,
        /// The SessionID.
        session: String,
        /// The name of the node that is to own it.
        #[arg(long, value_name = "NODE")]
        to: String,
    },
    /// The store that nodes share.
    Store {
        #[command(subcommand)]
        what: store::What,
    },
    /// The audit log: one event for each version of everything.
    Audit {
        #[command(subcommand)]
        what: audit::What,
    },
    /// Shows a session as it stands, wherever it is.
    Session {
        #[command(flatten)]
        daemon: Daemon,
        /// The SessionID.
        session: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Lists the sessions that this node owns.
    #[command(args_conflicts_with_subcommands = true)]
    Sessions {
        #[command(subcommand)]
        order: Option<SessionsOrder>,
        #[command(flatten)]
        daemon: Daemon,
        /// At most so many.
        #[arg(long, default_value_t = 1_000)]
        limit: usize,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Is the client of a session: sends numbered packets to a service that sends them back, changes its address,
    /// attaches again, and counts what is lost.
    Client {
        #[command(flatten)]
        plan: client::Plan,
    },
    /// Lists and changes the cluster's secrets, which the keys of all clients follow from.
    Secret {
        #[command(subcommand)]
        order: secret::Order,
        /// The configuration file of this node.
        #[arg(long, value_name = "FILE", global = true)]
        config: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum SessionsOrder {
    /// Opens a session for a client, and prints what to give to it.
    Open {
        #[command(flatten)]
        daemon: Daemon,
        /// The service's name.
        service: String,
        /// The address and port that the client sends from; it may attach from elsewhere at once.
        #[arg(long, value_name = "ADDRESS:PORT")]
        client: SocketAddr,
        /// The CPU that processes it; the first one by default.
        #[arg(long)]
        cpu: Option<u32>,
        /// As JSON: the ticket that `jumpgate client` takes.
        #[arg(long)]
        json: bool,
    },
}

/// Which daemon to ask.
#[derive(Args)]
struct Daemon {
    /// Its socket. By default the one in /run/jumpgate.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Or its configuration file, which names the socket.
    #[arg(long, value_name = "FILE", conflicts_with = "socket")]
    config: Option<PathBuf>,
}

fn main() -> ExitCode {
    match execute(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<output::Closed>() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("jumpgate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> Result<()> {
    match command {
        Command::Run { config, log_packets, fresh, stay } => {
            run::run(&config, Options { log_packets, fresh, stay })
        }
        Command::Reload { daemon } => reload::reload(&mut daemon.connect()?),
        Command::Check { file } => check::check(&file),
        Command::Status { daemon, json } => status::status(&mut daemon.connect()?, json),
        Command::Nodes { daemon, json } => nodes::nodes(&mut daemon.connect()?, json),
        Command::Stats { daemon, watch, json, cpus } => {
            stats::stats(&mut daemon.connect()?, watch, json, cpus)
        }
        Command::Events { daemon, follow, json } => {
            events::events(&mut daemon.connect()?, follow, json)
        }
        Command::Verdicts => verdicts::verdicts(),
        Command::Explain { daemon, packet, pcap, session, interface, json } => {
            let what = explain::What { packet: packet.as_deref(), pcap: pcap.as_deref(), session };
            explain::explain(&mut daemon.connect()?, what, interface, json)
        }
        Command::Capture { daemon, session, file, count, seconds } => {
            let limits = capture::Limits { count, time: seconds.map(Duration::from_secs) };
            capture::capture(&mut daemon.connect()?, &session, &file, limits)
        }
        Command::Drain { daemon, node, deadline, policy, fast, watch } => drain::drain(
            &mut daemon.connect()?,
            &node,
            drain::Order { deadline, policy, fast },
            watch,
        ),
        Command::Undrain { daemon, node } => drain::undrain(&mut daemon.connect()?, &node),
        Command::Handover { daemon, session, to } => {
            drain::hand_over(&mut daemon.connect()?, &session, &to)
        }
        Command::Store { what } => store::store(what),
        Command::Audit { what } => audit::audit(what),
        Command::Session { daemon, session, json } => {
            sessions::show(&mut daemon.connect()?, &session, json)
        }
        Command::Client { plan } => client::run(&plan),
        Command::Secret { order, config } => {
            let config = config.context("name this node's configuration file with --config")?;
            secret::secret(&config, order)
        }
        Command::Sessions { order: Some(order), .. } => {
            let SessionsOrder::Open { daemon, service, client, cpu, json } = order;
            client::open(&mut daemon.connect()?, &service, client, cpu, json)
        }
        Command::Sessions { order: None, daemon, limit, json } => {
            sessions::sessions(&mut daemon.connect()?, limit, json)
        }
    }
}

impl Daemon {
    fn connect(&self) -> Result<Client> {
        let path = match (&self.socket, &self.config) {
            (Some(path), _) => path.clone(),
            (None, Some(file)) => Config::load(file)?.api.socket,
            (None, None) => only_socket(Path::new("/run/jumpgate"))?,
        };
        Ok(Client::connect(&path)?)
    }
}

/// The one socket in a folder.
fn only_socket(folder: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(folder).with_context(|| {
        format!("looking for a daemon in {}; name one with --socket or --config", folder.display())
    })?;
    let mut sockets = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "sock"));
    match (sockets.next(), sockets.next()) {
        (Some(path), None) => Ok(path),
        (None, _) => anyhow::bail!(
            "no daemon has a socket in {}; name one with --socket or --config",
            folder.display()
        ),
        (Some(_), Some(_)) => anyhow::bail!(
            "several daemons have sockets in {}; name one with --socket or --config",
            folder.display()
        ),
    }
}
