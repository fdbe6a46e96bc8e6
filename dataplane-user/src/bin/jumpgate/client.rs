//! `jumpgate sessions open` and `jumpgate client`

use crate::output::say;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use dataplane_user::{
    api,
    session_client::{Client, Counts, Event, Ticket},
};
use ownership::client::{Memory, Status};
use serde_json::json;
use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    time::Duration,
};

/// How long a session may take to be as it is asked to.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long the last packets may take to come back.
const LAST: Duration = Duration::from_secs(2);

/// Between two packets.
const INTERVAL: Duration = Duration::from_millis(1);

/// What a client does.
#[derive(Debug, Args)]
pub struct Plan {
    /// The ticket, as `jumpgate sessions open --json` prints it; `-` is the standard input.
    #[arg(value_name = "FILE")]
    ticket: PathBuf,
    /// The address, or address and port, to send from at first. By default, any.
    #[arg(long, value_name = "ADDRESS", value_parser = local)]
    bind: Option<SocketAddr>,
    /// How often it changes its address; so each part of its packets comes from another one.
    #[arg(long, value_name = "N", default_value_t = 1)]
    moves: u32,
    /// The addresses to move to, one after the other; by default another port each time.
    #[arg(long, value_name = "ADDRESS", value_parser = local)]
    to: Vec<SocketAddr>,
    /// How many packets it sends from each address.
    #[arg(long, value_name = "N", default_value_t = 100)]
    packets: u32,
    /// Ends the session when it is done.
    #[arg(long)]
    close: bool,
    /// As JSON, one line for each step.
    #[arg(long)]
    json: bool,
}

fn local(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 0));
    address.or_else(|_| text.parse()).map_err(|_| "an address, or an address and port".to_owned())
}

/// Opens a session for a client, and prints its ticket.
pub fn open(
    daemon: &mut api::Client,
    service: &str,
    client: SocketAddr,
    cpu: Option<u32>,
    json: bool,
) -> Result<()> {
    let status = daemon.status()?;
    let cpu = cpu.or(status.cpus.first().copied()).context("the node has no CPUs for sessions")?;
    let opened = daemon.open_for(service, cpu, Some(client))?;
    let row = status.services.iter().find(|row| row.name == service);
    let row = row.context("the daemon has opened a session of a service that it does not show")?;
    let address: SocketAddr = row.address.parse().context("reading the service's address")?;
    let ticket = Ticket {
        session: opened.session,
        service: service.to_owned(),
        address,
        control: row.control_port.map(|port| SocketAddr::new(address.ip(), port)),
        client: Some(client),
        version: opened.version,
        epoch: opened.epoch,
        credentials: opened.credentials,
    };
    if json {
        return say!("{}", serde_json::to_string_pretty(&ticket)?);
    }
    let Ticket { session, version, epoch, .. } = &ticket;
    say!("session        {session}")?;
    say!("state_version  {version}")?;
    say!("epoch          {epoch}")?;
    let credentials = serde_json::to_value(&ticket.credentials)?;
    say!("credentials    {}", credentials.as_str().unwrap_or_default())
}

/// Is the client of a session: sends, moves, attaches again, and counts.
pub fn run(plan: &Plan) -> Result<()> {
    let text = match plan.ticket == Path::new("-") {
        true => io::read_to_string(io::stdin()),
        false => std::fs::read_to_string(&plan.ticket),
    };
    let text = text.with_context(|| format!("reading the ticket {}", plan.ticket.display()))?;
    let ticket: Ticket = serde_json::from_str(&text)
        .with_context(|| format!("{} is no ticket", plan.ticket.display()))?;
    let any = SocketAddr::new(unspecified(ticket.address), 0);
    let first = plan.bind.unwrap_or(any);
    let mut client = Client::new(&ticket, socket(first)?)?;
    let told = Told { json: plan.json };
    settle(&mut client, &told)?;
    send(&mut client, plan.packets, &told)?;
    for step in 0..plan.moves {
        ensure!(ticket.control.is_some(), "service {:?} has no control port", ticket.service);
        let next = match plan.to.is_empty() {
            true => SocketAddr::new(first.ip(), 0),
            false => plan.to[step as usize % plan.to.len()],
        };
        client.move_to(socket(next)?)?;
        told.step("moved", &json!({ "address": client.address()?.to_string() }))?;
        settle(&mut client, &told)?;
        send(&mut client, plan.packets, &told)?;
    }
    if plan.close {
        client.close()?;
        client.poll_until(PATIENCE, |client| matches!(client.status(), Status::Closed(_)))?;
        told.events(&mut client)?;
    }
    let counts = client.counts();
    told.step("done", &serde_json::to_value(counts)?)?;
    let Counts { unanswered, duplicates, went_back, .. } = counts;
    ensure!(
        (unanswered, duplicates, went_back) == (0, 0, 0),
        "{unanswered} packets were not answered, {duplicates} twice, and the version went back \
         {went_back} times"
    );
    Ok(())
}

fn unspecified(like: SocketAddr) -> IpAddr {
    match like {
        SocketAddr::V4(_) => IpAddr::from([0; 4]),
        SocketAddr::V6(_) => IpAddr::from([0; 16]),
    }
}

fn socket(address: SocketAddr) -> Result<UdpSocket> {
    UdpSocket::bind(address).with_context(|| format!("sending from {address}"))
}

/// Waits until the session is bound to the client's address.
fn settle(client: &mut Client, told: &Told) -> Result<()> {
    client.poll_until(PATIENCE, |client| {
        matches!(client.status(), Status::Attached | Status::Closed(_))
    })?;
    told.events(client)?;
    match client.status() {
        Status::Attached => Ok(()),
        Status::Closed(end) => bail!("the session is over: {end:?}"),
        Status::Unsettled | Status::Detached => {
            bail!("no node has attached the session within {} s", PATIENCE.as_secs())
        }
    }
}

fn send(client: &mut Client, packets: u32, told: &Told) -> Result<()> {
    for _ in 0..packets {
        client.send().context("sending")?;
        client.poll_until(INTERVAL, |_| false)?;
    }
    client.poll_until(LAST, |client| client.counts().unanswered == 0)?;
    told.events(client)?;
    let Counts { sent, answered, unanswered, .. } = client.counts();
    told.step("sent", &json!({ "sent": sent, "answered": answered, "unanswered": unanswered }))
}

/// What is told.
struct Told {
    json: bool,
}

impl Told {
    fn step(&self, step: &str, more: &serde_json::Value) -> Result<()> {
        if self.json {
            return say!("{}", json!({ "step": step, "value": more }));
        }
        let shown = more.as_object().into_iter().flatten();
        let shown: Vec<_> = shown
            .map(|(key, value)| match value.as_str() {
                Some(text) => format!("{key} {text}"),
                None => format!("{key} {value}"),
            })
            .collect();
        say!("{step:10} {}", shown.join(", "))
    }

    fn events(&self, client: &mut Client) -> Result<()> {
        for event in client.take_events() {
            let (step, more) = match event {
                Event::Asked => ("asked", json!({})),
                Event::Version(Memory { version, epoch, .. }) => {
                    ("version", json!({ "state_version": version.get(), "epoch": epoch.get() }))
                }
                Event::Refused(reason) => {
                    let reason = reason.map_or("unknown", |reason| reason.name());
                    ("refused", json!({ "reason": reason }))
                }
                Event::Status(Status::Closed(end)) => {
                    ("status", json!({ "status": "closed", "why": format!("{end:?}") }))
                }
                Event::Status(status) => {
                    ("status", json!({ "status": format!("{status:?}").to_lowercase() }))
                }
                Event::KeyNeeded(generation) => ("key-needed", json!({ "generation": generation })),
                Event::Hinted => ("hinted", json!({})),
            };
            self.step(step, &more)?;
        }
        Ok(())
    }
}
