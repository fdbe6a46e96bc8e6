//! What happened: the table and the outcome at the end.

use std::time::Duration;

use super::text::{Paint, Style, thousands};
use crate::outcome::{Broken, Column, Episode, Product};
use crate::phase::Phase;

const LABEL: usize = 46;
const NUMBER: usize = 17;

const WIDE: usize = 48;
const NARROW: usize = 16;

/// Says of a row's number whether it should be zero.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Zero,
}

/// The two parts side by side.
pub fn table(without: &Column, with: &Column, paint: Paint) -> String {
    type Get = fn(&Column) -> u64;
    let rows: [(&str, Kind, Get); 7] = [
        ("sessions", Kind::Plain, |column| column.counts.opened),
        ("address and port changes in mid-session", Kind::Plain, |column| column.counts.rebinds),
        ("packets sent", Kind::Plain, |column| column.counts.sent),
        ("packets answered", Kind::Plain, |column| column.counts.answered),
        ("packets lost", Kind::Zero, |column| column.counts.unanswered()),
        ("sessions that ever changed node or CPU", Kind::Zero, |column| {
            column.counts.moved_sessions
        }),
        ("packets away from their session's node or CPU", Kind::Zero, |column| {
            column.counts.astray
        }),
    ];
    let title = format!("{:LABEL$}{:>NUMBER$}{:>NUMBER$}", "", "without Jumpgate", "with Jumpgate");
    let mut lines = vec![paint.paint(Style::Title, title)];
    for (label, kind, get) in rows {
        let cell = |column| {
            let number = get(column);
            let text = format!("{:>NUMBER$}", thousands(number));
            if kind == Kind::Zero { paint.zero_is_good(number, text) } else { text }
        };
        lines.push(format!("{label:LABEL$}{}{}", cell(without), cell(with)));
    }
    let none = format!("{:>NUMBER$}", "-");
    let forwarded = thousands(with.tally.forwarded());
    lines.push(format!("{:LABEL$}{none}{forwarded:>NUMBER$}", "packets forwarded between nodes"));
    let wrong = with.tally.wrong_cpu();
    let shown = paint.zero_is_good(wrong, format!("{:>NUMBER$}", thousands(wrong)));
    lines.push(format!("{:LABEL$}{none}{shown}", "packets on a wrong CPU, by the kernel's count"));
    lines.join("\n")
}

/// What was done to nodes, side by side, and the audit log.
pub fn episodes(with: &Product, paint: Paint) -> String {
    type Get = fn(&Episode) -> u64;
    let rows: [(&str, Kind, Get); 7] = [
        ("sessions that went to another node", Kind::Plain, |it| it.moved),
        ("sessions that were left behind", Kind::Zero, |it| it.left),
        ("packets sent", Kind::Plain, |it| it.sent),
        ("packets lost", Kind::Zero, Episode::lost),
        ("  sent to the lost node's sessions, not counted", Kind::Plain, |it| it.apart),
        ("packets delivered twice", Kind::Zero, |it| it.twice),
        ("packets delivered by another than the owner", Kind::Zero, |it| it.foreign),
    ];
    let names = [Phase::Drain, Phase::Return, Phase::Loss].map(Phase::name);
    let title: String = names.iter().map(|name| format!("{name:>NARROW$}")).collect();
    let mut lines = vec![paint.paint(Style::Title, format!("{:WIDE$}{title}", ""))];
    let mut add = |label: &str, cells: [String; 3]| {
        lines.push(format!("{label:WIDE$}{}", cells.concat()));
    };
    for (label, kind, get) in rows {
        add(
            label,
            with.episodes().map(|it| {
                let text = format!("{:>NARROW$}", thousands(get(it)));
                if kind == Kind::Zero { paint.zero_is_good(get(it), text) } else { text }
            }),
        );
    }
    add("longest gap of a session", with.episodes().map(|it| milliseconds(it.longest)));
    let (events, versions) = (with.audited.events, with.audited.versions);
    let log = format!("{} for {} versions", thousands(events), thousands(versions));
    let log = paint.zero_is_good(events.abs_diff(versions), log);
    lines.push(format!("events in the audit log, which was verified: {log}"));
    lines.join("\n")
}

fn milliseconds(time: Duration) -> String {
    format!("{:>NARROW$}", format!("{} ms", thousands(time.as_millis() as u64)))
}

/// Whether the promises were kept, or which were not.
pub fn outcome(with: &Product, broken: &[Broken], paint: Paint) -> String {
    if broken.is_empty() {
        let what = format!(
            ": through {} changes of address all {} sessions stayed on\n\
             their node and CPU; {} moved when their node was drained, and {} went on when\n\
             theirs was lost. No packet that had an owner was lost.",
            thousands(with.column.counts.rebinds),
            thousands(with.column.counts.opened),
            thousands(with.drain.moved),
            thousands(with.loss.moved),
        );
        return format!("{}{what}", paint.paint(Style::Good, "Promises kept"));
    }
    let mut text = paint.paint(Style::Bad, "Promises broken") + ":";
    for broken in broken {
        text.push_str(&format!("\n  - {broken}"));
    }
    let refusals = with.column.tally.refusals();
    if !refusals.is_empty() {
        let named: Vec<_> =
            refusals.iter().map(|&(name, n)| format!("{name} {}", thousands(n))).collect();
        text.push_str(&format!("\nRefused or out of place in the kernel: {}", named.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outcome_is_in_the_first_words() {
        let with = Product::default();
        assert!(outcome(&with, &[], Paint(false)).starts_with("Promises kept: "));
        let broken = outcome(&with, &[Broken::Lost(2), Broken::Moved(1)], Paint(false));
        assert_eq!(
            broken,
            "Promises broken:\n  - packets never answered: 2\n  - sessions that changed their node or CPU: 1"
        );
    }

    #[test]
    fn the_table_has_a_column_for_each_part() {
        let mut with = Column::default();
        with.counts.sent = 1234;
        let table = table(&Column::default(), &with, Paint(false));
        let sent = table.lines().find(|line| line.starts_with("packets sent")).unwrap();
        assert_eq!(sent.split_whitespace().collect::<Vec<_>>(), ["packets", "sent", "0", "1,234"]);
    }

    #[test]
    fn packets_without_an_owner_are_shown_apart() {
        let mut with = Product::default();
        (with.loss.unanswered, with.loss.apart) = (1203, 1200);
        let table = episodes(&with, Paint(false));
        let cells = |label: &str| {
            let line = table.lines().find_map(|line| line.strip_prefix(label)).unwrap();
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(cells("packets lost"), ["0", "0", "3"]);
        assert_eq!(cells("  sent to the lost node's sessions, not counted"), ["0", "0", "1,200"]);
    }
}
