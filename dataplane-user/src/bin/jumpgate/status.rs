//! `jumpgate status`

use crate::{
    output::say,
    table::{print, row},
};
use anyhow::Result;
use dataplane_user::{
    api::{Client, Status},
    hold::Totals,
};

/// Shows how the node is.
pub fn status(client: &mut Client, json: bool) -> Result<()> {
    let status = client.status()?;
    if json {
        say!("{}", serde_json::to_string_pretty(&status)?)?;
        return Ok(());
    }
    let Status {
        node,
        pid,
        version,
        epoch,
        fence_open_ms,
        revision,
        slots,
        sessions,
        entries,
        capacity,
        cpus,
        interfaces,
        egress,
        nodes,
        hold,
        services,
        warnings,
    } = status;
    let fence = match fence_open_ms {
        0 => "SHUT: this node delivers nothing".to_owned(),
        open => format!("open for {}.{:03} s", open / 1000, open % 1000),
    };
    say!("node {node}, jumpgate {version}, pid {pid}")?;
    say!("epoch {epoch}, fence {fence}")?;
    say!("placement revision {revision}: {slots} of 65536 slots are this node's")?;
    say!("{sessions} sessions; {entries} of {capacity} table entries in use; CPUs {cpus:?}")?;
    match hold {
        None => say!("this daemon cannot hold sessions")?,
        Some(Totals { sessions, waiting, bytes, counts, unclaimed }) => {
            let (here, away, lost) = (counts.here, counts.away, counts.lost() + unclaimed);
            say!("{sessions} sessions held, {waiting} packets of theirs ({bytes} bytes)")?;
            say!("held before: {here} delivered here, {away} to other nodes, {lost} lost")?;
        }
    }
    say!()?;
    let mut rows = vec![row(["INTERFACE", "XDP"])];
    rows.extend(interfaces.iter().map(|link| row([&link.name, &link.mode])));
    print(&rows)?;
    say!()?;
    match &egress[..] {
        [] => say!("no interface is fenced at egress")?,
        names => say!("fenced at egress: {}", names.join(", "))?,
    }
    say!()?;
    let mut rows = vec![row(["NODE", "ADDRESS", "NEXT HOP", "INTERFACE"])];
    for hop in &nodes {
        let mac = hop.mac.as_deref().unwrap_or("not known: packets for it are dropped");
        rows.push(row([&hop.node, &hop.address, mac, hop.interface.as_deref().unwrap_or("")]));
    }
    print(&rows)?;
    say!()?;
    let mut rows = vec![row(["SERVICE", "ADDRESS", "PROTOCOL", "SOCKETS ON CPUS"])];
    for service in &services {
        let sockets = match &service.sockets[..] {
            _ if service.deliver == "af_xdp" => "AF_XDP: those of the queues".to_owned(),
            [] => "none: no application has handed any over".to_owned(),
            sockets => format!("{sockets:?}"),
        };
        rows.push(row([&service.name, &service.address, &service.protocol, &sockets]));
    }
    print(&rows)?;
    for warning in &warnings {
        say!("\nwarning: {warning}")?;
    }
    Ok(())
}
