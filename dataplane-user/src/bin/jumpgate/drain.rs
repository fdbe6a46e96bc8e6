//! `jumpgate drain`, `undrain` and `handover`

use crate::output::say;
use anyhow::{Result, bail};
use clap::ValueEnum;
use dataplane_user::api::{Client, DrainHow, DrainProgress, LeftOver, MoveResult};
use std::{io::IsTerminal, thread, time::Duration};

/// How often it is asked how far a drain is.
const TICK: Duration = Duration::from_millis(200);

/// How long sessions may take to leave if nobody says so.
const DEADLINE: Duration = Duration::from_secs(600);

/// How many sessions a second are started by `--fast`.
const FAST: u32 = 1_000_000;

/// What becomes of sessions that have not left by the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Policy {
    /// They are moved without waiting for their application.
    Move,
    /// They end.
    Terminate,
}

/// How a node is drained.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// How long its sessions may take.
    pub deadline: Option<Duration>,
    /// What becomes of those that take longer.
    pub policy: Policy,
    /// Whether without pacing.
    pub fast: bool,
}

/// Drains a node.
pub fn drain(client: &mut Client, node: &str, order: Order, watch: bool) -> Result<()> {
    let Order { deadline, policy, fast } = order;
    let is_plain = deadline.is_none() && policy == Policy::Move && !fast;
    let how = (!is_plain).then(|| DrainHow {
        within_ms: deadline.unwrap_or(DEADLINE).as_millis() as u64,
        left_over: match policy {
            Policy::Move => LeftOver::Move,
            Policy::Terminate => LeftOver::Terminate,
        },
        per_second: fast.then_some(FAST),
    });
    let is_here = client.status()?.node == node;
    if watch && !is_here {
        bail!(
            "--watch follows the drain of the daemon's own node: ask the daemon of node {node:?}"
        );
    }
    client.drain(node, how)?;
    if watch {
        return follow(client);
    }
    say!("node {node:?} takes no more sessions and gives those that it has away")
}

/// Shows how far the drain is until the node is safe to stop.
fn follow(client: &mut Client) -> Result<()> {
    let is_terminal = std::io::stdout().is_terminal();
    let mut most = 0;
    let mut last = None;
    loop {
        let progress = client.drain_status()?;
        if !progress.is_draining {
            bail!("the node takes sessions again: somebody has undrained it");
        }
        most = most.max(progress.sessions);
        let line = line(&progress, most);
        if is_terminal {
            eprint!("\r\x1b[2K{line}");
        } else if last.as_ref() != Some(&line) {
            say!("{line}")?;
        }
        last = Some(line);
        if progress.is_safe_to_stop {
            if is_terminal {
                eprintln!();
            }
            return say!("safe to stop");
        }
        thread::sleep(TICK);
    }
}

fn line(progress: &DrainProgress, most: usize) -> String {
    const WIDTH: usize = 30;
    let gone = most - progress.sessions;
    let full = (gone * WIDTH).checked_div(most).unwrap_or(WIDTH);
    let bar: String = (0..WIDTH).map(|at| if at < full { '#' } else { '.' }).collect();
    let DrainProgress { under_way, handed_over, in_haste, terminated, over, slots, .. } = progress;
    let mut line = format!("[{bar}] {gone} of {most} sessions have left");
    for (count, what) in [
        (*under_way, "under way"),
        (*handed_over, "handed over"),
        (*in_haste, "in haste"),
        (*terminated, "terminated"),
        (*over, "over"),
    ] {
        if count > 0 {
            line += &format!(", {count} {what}");
        }
    }
    if progress.sessions == 0 && *slots > 0 {
        line += &format!("; {slots} slots until every node knows");
    }
    line
}

/// Lets a node take sessions again.
pub fn undrain(client: &mut Client, node: &str) -> Result<()> {
    client.undrain(node)?;
    say!("node {node:?} takes sessions again")
}

/// Moves a session.
pub fn hand_over(client: &mut Client, session: &str, to: &str) -> Result<()> {
    match client.hand_over(session, to)? {
        MoveResult::HandedOver => say!("node {to:?} owns it"),
        MoveResult::HandedOverWithoutContext => {
            say!("node {to:?} owns it; its application's last context did not go with it")
        }
        MoveResult::Stays => bail!("it stays where it is: the daemon's log says why"),
        MoveResult::Over => bail!("it is over"),
    }
}
