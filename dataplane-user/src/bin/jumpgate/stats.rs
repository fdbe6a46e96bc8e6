//! `jumpgate stats`

use crate::{
    output::say,
    table::{print, row},
};
use anyhow::Result;
use dataplane_user::{
    api::{Client, Stats},
    dataplane::counters::Counts,
};
use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

/// Shows the counters, once or every second.
pub fn stats(client: &mut Client, watch: bool, json: bool, cpus: bool) -> Result<()> {
    let mut last: Option<(Instant, Stats)> = None;
    loop {
        let now = Instant::now();
        let stats = if cpus { client.stats_by_cpu()? } else { client.stats()? };
        match (json, watch) {
            (true, true) => say!("{}", serde_json::to_string(&stats)?)?,
            (true, false) => say!("{}", serde_json::to_string_pretty(&stats)?)?,
            (false, _) => {
                if watch {
                    // Clears the terminal; the table starts in its second line.
                    say!("\x1b[2J\x1b[H")?;
                }
                show(&stats, last.as_ref().map(|(then, stats)| (now - *then, stats)))?;
            }
        }
        if !watch {
            return Ok(());
        }
        last = Some((now, stats));
        thread::sleep(Duration::from_secs(1));
    }
}

fn show(stats: &Stats, last: Option<(Duration, &Stats)>) -> Result<()> {
    let mut head = row(["SERVICE", "WHERE", "WHAT", "PACKETS"]);
    if last.is_some() {
        head.push("PER SECOND".into());
    }
    if has_cpus(stats) {
        head.push("ON CPU 0, 1, ...".into());
    }
    let mut rows = vec![head];
    for (name, counts) in &stats.services {
        let before = last.map(|(time, stats)| (time, stats.services.get(name)));
        rows.extend(service(name, counts, before));
    }
    let before = last.map(|(time, stats)| (time, Some(&stats.other)));
    rows.extend(service("-", &stats.other, before));
    let before = last.map(|(time, stats)| (time, Some(&stats.lost)));
    rows.extend(group("-", "lost", &stats.lost, &BTreeMap::new(), before));
    print(&rows)
}

static NO_CPUS: BTreeMap<String, Vec<u64>> = BTreeMap::new();

fn service(
    name: &str,
    counts: &Counts,
    last: Option<(Duration, Option<&Counts>)>,
) -> Vec<Vec<String>> {
    let groups = [
        (
            "xdp",
            &counts.verdicts,
            &counts.verdicts_by_cpu,
            last.map(|(time, last)| (time, last.map(|c| &c.verdicts))),
        ),
        (
            "socket",
            &counts.admissions,
            &counts.admissions_by_cpu,
            last.map(|(time, last)| (time, last.map(|c| &c.admissions))),
        ),
        (
            "egress",
            &counts.egress,
            &counts.egress_by_cpu,
            last.map(|(time, last)| (time, last.map(|c| &c.egress))),
        ),
        (
            "af_xdp",
            &counts.af_xdp,
            // Ports do not say on which CPU.
            &NO_CPUS,
            last.map(|(time, last)| (time, last.map(|c| &c.af_xdp))),
        ),
    ];
    let rows = groups.map(|(place, counts, by_cpu, last)| group(name, place, counts, by_cpu, last));
    rows.concat()
}

/// The counts of a service at one place.
fn group(
    name: &str,
    place: &str,
    counts: &BTreeMap<String, u64>,
    by_cpu: &BTreeMap<String, Vec<u64>>,
    last: Option<(Duration, Option<&BTreeMap<String, u64>>)>,
) -> Vec<Vec<String>> {
    let row = |(what, count): (&String, &u64)| {
        let mut cells = row([name, place, what, &count.to_string()]);
        if let Some((time, last)) = last {
            let before = last.and_then(|counts| counts.get(what)).copied().unwrap_or(0);
            let rate = count.saturating_sub(before) as f64 / time.as_secs_f64();
            cells.push(format!("{rate:.0}"));
        }
        if let Some(cpus) = by_cpu.get(what) {
            let cpus: Vec<_> = cpus.iter().map(u64::to_string).collect();
            cells.push(cpus.join(" "));
        }
        cells
    };
    counts.iter().map(row).collect()
}

fn has_cpus(stats: &Stats) -> bool {
    let all = stats.services.values().chain([&stats.other]);
    let any =
        |counts: &Counts| !counts.verdicts_by_cpu.is_empty() || !counts.egress_by_cpu.is_empty();
    all.into_iter().any(any)
}
