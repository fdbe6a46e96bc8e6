//! What happened: the table and the outcome at the end.

use super::text::{Paint, Style, thousands};
use crate::outcome::{Broken, Column};

const LABEL: usize = 46;
const NUMBER: usize = 17;

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

/// Whether the promises were kept, or which were not.
pub fn outcome(with: &Column, broken: &[Broken], paint: Paint) -> String {
    if broken.is_empty() {
        let what = format!(
            ": through {} changes of address all {} sessions stayed on\ntheir node and CPU, and no packet was lost.",
            thousands(with.counts.rebinds),
            thousands(with.counts.opened),
        );
        return format!("{}{what}", paint.paint(Style::Good, "Promises kept"));
    }
    let mut text = paint.paint(Style::Bad, "Promises broken") + ":";
    for broken in broken {
        text.push_str(&format!("\n  - {broken}"));
    }
    let refusals = with.tally.refusals();
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
        let column = Column::default();
        assert!(outcome(&column, &[], Paint(false)).starts_with("Promises kept: "));
        let broken = outcome(&column, &[Broken::Lost(2), Broken::Moved(1)], Paint(false));
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
}
