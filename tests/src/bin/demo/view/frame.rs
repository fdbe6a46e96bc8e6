//! One look at the running demo.

use dataplane_ebpf::verdict::Verdict;
use jumpgate_tests::client::Counts;

use super::text::{Paint, Style, bar, thousands};
use crate::load::Spread;
use crate::phase::{Look, Phase};

const PROGRESS_WIDTH: usize = 30;
const SESSIONS_WIDTH: usize = 12;

/// More CPUs than this are shown together.
const CPU_ROWS: u16 = 8;

/// How far the demo is, and what is to be seen.
#[derive(Debug)]
pub struct Progress<'a> {
    /// Which part is running.
    pub phase: Phase,
    /// How far it is.
    pub look: &'a Look,
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
}

/// The frame, for a terminal.
pub fn lines(progress: &Progress<'_>, paint: Paint) -> Vec<String> {
    let mut lines = vec![String::new()];
    for phase in Phase::ALL {
        lines.push(phase_line(progress, phase, paint));
    }
    let Counts { sent, answered, rebinds, moved_sessions, astray, .. } = progress.counts;
    let Counts { duplicates, stale, barred, .. } = progress.counts;
    let label = |text| paint.paint(Style::Title, format!("  {text:<10}"));
    let moved = format!("{} ever moved", thousands(moved_sessions));
    // Later they are meant to move.
    let is_quiet = matches!(progress.phase, Phase::Without | Phase::With);
    let moved = if is_quiet { paint.zero_is_good(moved_sessions, moved) } else { moved };
    let unanswered = progress.counts.unanswered();
    lines.extend([
        String::new(),
        format!(
            "{}{:>9} sent  {:>9} answered  {:>5} {}",
            label("packets"),
            thousands(sent),
            thousands(answered),
            thousands(unanswered),
            if progress.phase == Phase::Loss { "without an answer" } else { "on their way" },
        ),
        format!(
            "{}{:>9} open  {:>9} address changes  {}",
            label("sessions"),
            thousands(progress.counts.opened),
            thousands(rebinds),
            moved,
        ),
        if is_quiet {
            let text = "packets on another node or CPU than their session's first";
            let text = format!("{:>9} {text}", thousands(astray));
            format!("{}{}", label("astray"), paint.zero_is_good(astray, text))
        } else {
            let wrong = duplicates + stale + barred;
            let text = "packets delivered twice or by another than the owner";
            let text = format!("{:>9} {text}", thousands(wrong));
            format!("{}{}", label("wrong"), paint.zero_is_good(wrong, text))
        },
        String::new(),
    ]);
    lines.extend(session_lines(progress, paint));
    lines.push(String::new());
    lines.extend(tally_lines(progress, paint));
    lines
}

fn phase_line(progress: &Progress<'_>, phase: Phase, paint: Paint) -> String {
    let (share, state) = match (phase as usize).cmp(&(progress.phase as usize)) {
        std::cmp::Ordering::Less => (1.0, "done"),
        std::cmp::Ordering::Greater => (0.0, ""),
        std::cmp::Ordering::Equal => (progress.look.share, progress.look.state.as_str()),
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

/// Verdicts over all nodes, or what goes on; always the same number of lines.
fn tally_lines(progress: &Progress<'_>, paint: Paint) -> [String; 2] {
    let title = paint.paint(Style::Title, "  verdicts  ");
    let says =
        |first, second| [first, second].map(|text| paint.paint(Style::Faint, format!("  {text}")));
    match progress.phase {
        Phase::Without => {
            return says("no XDP program yet: hashes of addresses and ports alone decide", "");
        }
        Phase::With => {}
        Phase::Drain => {
            return says(
                "node a's slots go to the others; then each session's packets wait, it is",
                "handed over, and they go on there",
            );
        }
        Phase::Return => {
            return says("node a takes its share of the slots again, and the sessions follow", "");
        }
        Phase::Loss => {
            return says(
                "no code of node c runs; its kernel stops when its lease ends, and then",
                "the others take its sessions over",
            );
        }
    }
    let Some(tally) = &progress.look.tally else {
        return [title, String::new()];
    };
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
        "{}, {}: {} sent, {} answered, {} address changes, {} sessions moved",
        progress.phase.name(),
        progress.look.state,
        thousands(sent),
        thousands(answered),
        thousands(rebinds),
        thousands(moved_sessions),
    );
    if let Some(tally) = &progress.look.tally {
        line.push_str(&format!(
            ", {} forwarded, {} on a wrong CPU",
            thousands(tally.forwarded()),
            thousands(tally.wrong_cpu()),
        ));
    }
    line
}
