//! One look at the running demo.

use std::time::Duration;

use dataplane_ebpf::verdict::Verdict;
use jumpgate_tests::client::Counts;

use super::text::{Paint, Style, bar, thousands};
use crate::kernel::Tally;
use crate::load::Spread;
use crate::phase::Phase;

const PROGRESS_WIDTH: usize = 30;
const SESSIONS_WIDTH: usize = 12;

/// More CPUs than this are shown together.
const CPU_ROWS: u16 = 8;

/// How far the demo is, and what is to be seen.
#[derive(Debug)]
pub struct Progress<'a> {
    /// Which part is running.
    pub phase: Phase,
    /// For how long it has sent packets.
    pub elapsed: Duration,
    /// How long each part sends packets, in order.
    pub times: [Duration; 2],
    /// The nodes' names.
    pub nodes: &'a [&'a str],
    /// CPUs of each node.
    pub cpus: u16,
    /// How many clients there are.
    pub clients: u64,
    /// What the clients have seen.
    pub counts: Counts,
    /// Where sessions were answered last.
    pub spread: &'a Spread,
    /// The kernel's counters.
    pub tally: &'a Tally,
}

/// The frame, for a terminal.
pub fn lines(progress: &Progress<'_>, paint: Paint) -> Vec<String> {
    let mut lines = vec![String::new()];
    for phase in Phase::ALL {
        lines.push(phase_line(progress, phase, paint));
    }
    let Counts { sent, answered, rebinds, moved_sessions, astray, .. } = progress.counts;
    let label = |text| paint.paint(Style::Title, format!("  {text:<10}"));
    let moved = format!("{} ever moved", thousands(moved_sessions));
    let unanswered = progress.counts.unanswered();
    lines.extend([
        String::new(),
        format!(
            "{}{:>9} sent  {:>9} answered  {:>5} on their way",
            label("packets"),
            thousands(sent),
            thousands(answered),
            thousands(unanswered),
        ),
        format!(
            "{}{:>9} open  {:>9} address changes  {}",
            label("sessions"),
            thousands(progress.counts.opened),
            thousands(rebinds),
            paint.zero_is_good(moved_sessions, moved),
        ),
        format!(
            "{}{}",
            label("astray"),
            paint.zero_is_good(
                astray,
                format!(
                    "{:>9} packets on another node or CPU than their session's first",
                    thousands(astray)
                ),
            ),
        ),
        String::new(),
    ]);
    lines.extend(session_lines(progress, paint));
    lines.push(String::new());
    lines.extend(tally_lines(progress, paint));
    lines
}

fn phase_line(progress: &Progress<'_>, phase: Phase, paint: Paint) -> String {
    let total = progress.times[phase as usize];
    let (share, state) = match (phase as usize).cmp(&(progress.phase as usize)) {
        std::cmp::Ordering::Less => (1.0, "done".to_owned()),
        std::cmp::Ordering::Greater => (0.0, String::new()),
        std::cmp::Ordering::Equal => {
            let elapsed = progress.elapsed.min(total);
            let state = format!("{:.0} of {:.0} s", elapsed.as_secs_f64(), total.as_secs_f64());
            (elapsed.as_secs_f64() / total.as_secs_f64().max(0.001), state)
        }
    };
    let bar = paint.paint(Style::Bar, format!("[{}]", bar(share, PROGRESS_WIDTH)));
    let name = format!("  {:<18}", phase.name());
    let name = if phase == progress.phase { paint.paint(Style::Title, name) } else { name };
    format!("{name}{bar} {}", paint.paint(Style::Faint, state))
}

/// Sessions by node and CPU.
fn session_lines(progress: &Progress<'_>, paint: Paint) -> Vec<String> {
    let rows = if progress.cpus <= CPU_ROWS { progress.cpus } else { 1 };
    let count = |node: &str, row: u16| -> u64 {
        let on = progress
            .spread
            .iter()
            .filter(|((name, cpu), _)| name == node && (*cpu == row || progress.cpus > CPU_ROWS));
        on.map(|(_, count)| count).sum()
    };
    // Full is twice the share that each place has when sessions are spread evenly.
    let places = u64::from(rows) * progress.nodes.len() as u64;
    let full = (2 * progress.clients / places.max(1)).max(1);
    let mut title = format!("  {:<10}", "sessions");
    for node in progress.nodes {
        title.push_str(&format!("{:<1$}", format!("node {node}"), SESSIONS_WIDTH + 6));
    }
    let mut lines = vec![paint.paint(Style::Title, title.trim_end())];
    for row in 0..rows {
        let name =
            if progress.cpus > CPU_ROWS { "all CPUs".to_owned() } else { format!("CPU {row}") };
        let mut line = format!("  {name:<10}");
        for node in progress.nodes {
            let count = count(node, row);
            let length = (count as f64 / full as f64 * SESSIONS_WIDTH as f64).round() as usize;
            let length = length.min(SESSIONS_WIDTH);
            let bar = paint.paint(Style::Bar, "#".repeat(length));
            line.push_str(&format!("{count:>3} {bar}{}", " ".repeat(SESSIONS_WIDTH + 2 - length)));
        }
        lines.push(line.trim_end().to_owned());
    }
    lines
}

/// Verdicts over all nodes; always the same number of lines.
fn tally_lines(progress: &Progress<'_>, paint: Paint) -> [String; 2] {
    let tally = progress.tally;
    let title = paint.paint(Style::Title, "  verdicts  ");
    if progress.phase == Phase::Without {
        let text = "no XDP program yet: hashes of addresses and ports alone decide";
        return [format!("{title}{}", paint.paint(Style::Faint, text)), String::new()];
    }
    let named =
        |verdict: Verdict| format!("{} {}", verdict.name(), thousands(tally.verdict(verdict)));
    let refused: u64 = tally
        .refusals()
        .iter()
        .filter(|(name, _)| *name != dataplane_ebpf::verdict::Admission::WrongCpu.name())
        .map(|(_, count)| count)
        .sum();
    let wrong = tally.wrong_cpu();
    [
        format!(
            "{title}{}   {}   {}",
            named(Verdict::Local),
            named(Verdict::ForwardSlot),
            named(Verdict::New),
        ),
        format!(
            "            {}   {}",
            paint.zero_is_good(wrong, format!("wrong-cpu {}", thousands(wrong))),
            paint.zero_is_good(refused, format!("refused {}", thousands(refused))),
        ),
    ]
}

/// The same in one line, for a log.
pub fn line(progress: &Progress<'_>) -> String {
    let Counts { sent, answered, rebinds, moved_sessions, .. } = progress.counts;
    let mut line = format!(
        "{}, {:.0} of {:.0} s: {} sent, {} answered, {} address changes, {} sessions moved",
        progress.phase.name(),
        progress.elapsed.as_secs_f64(),
        progress.times[progress.phase as usize].as_secs_f64(),
        thousands(sent),
        thousands(answered),
        thousands(rebinds),
        thousands(moved_sessions),
    );
    if progress.phase == Phase::With {
        line.push_str(&format!(
            ", {} forwarded, {} on a wrong CPU",
            thousands(progress.tally.forwarded()),
            thousands(progress.tally.wrong_cpu()),
        ));
    }
    line
}
