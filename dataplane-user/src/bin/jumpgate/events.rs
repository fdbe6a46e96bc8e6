//! `jumpgate events`

use crate::{
    output::say,
    table::{print, row},
};
use anyhow::Result;
use dataplane_user::api::{Client, EventRow, EventTotal, Events};
use std::{
    thread,
    time::{Duration, SystemTime},
};

/// How often the daemon is asked for more.
const TICK: Duration = Duration::from_millis(200);

/// Shows refused packets; how many there were in all, unless it goes on.
pub fn events(client: &mut Client, follow: bool, json: bool) -> Result<()> {
    let mut after = 0;
    loop {
        let Events { events, missed, totals } = client.events(after)?;
        if missed > 0 && after > 0 {
            eprintln!("jumpgate: {missed} events came faster than they were read");
        }
        for event in &events {
            match json {
                true => say!("{}", serde_json::to_string(event)?)?,
                false => say!("{}", line(event))?,
            }
            after = event.number;
        }
        if events.is_empty() {
            if follow {
                thread::sleep(TICK);
            } else if json {
                return Ok(());
            } else {
                return show(&totals);
            }
        }
    }
}

fn line(event: &EventRow) -> String {
    let EventRow { time_ms, class, place, what, service, source, interface, cpu, .. } = event;
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(*time_ms);
    let time = humantime::format_rfc3339_millis(time);
    let mut line = format!("{time} {class} {place} {what}");
    let mut add = |what: &str, value: Option<&str>| {
        if let Some(value) = value {
            line += &format!(" {what} {value}");
        }
    };
    add("service", service.as_deref());
    add(if place == "egress" { "to" } else { "from" }, source.as_deref());
    add("on", interface.as_deref());
    add("CPU", Some(&cpu.to_string()));
    add("slot", event.slot.map(|slot| slot.to_string()).as_deref());
    if event.suppressed > 0 {
        line += &format!(" and {} more before", event.suppressed);
    }
    line
}

fn show(totals: &[EventTotal]) -> Result<()> {
    if totals.is_empty() {
        return say!("nothing was refused");
    }
    say!()?;
    let mut rows = vec![row(["SERVICE", "WHERE", "WHAT", "CLASS", "EVENTS", "MORE WITHOUT"])];
    for EventTotal { service, place, what, class, told, suppressed } in totals {
        let service = service.as_deref().unwrap_or("-");
        let (told, suppressed) = (told.to_string(), suppressed.to_string());
        rows.push(row([service, place, what, class, &told, &suppressed]));
    }
    print(&rows)
}
