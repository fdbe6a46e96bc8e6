//! What a packet costs in the kernel, over a bare XDP drop measured in the same run.
//!
//! Programs run in turns, many rounds of them; what is reported is the median of the differences
//! and their spread. Needs root.

mod bars;
mod etcd;
mod grace;
mod hold;
mod measure;
mod node;
mod protocols;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use dataplane_user::dataplane::object::Object;
use jumpgate_benches::{
    figure::{Figure, Figures},
    packet::{VIP, native_frame, reply, udp_frame},
    session::session,
};
use measure::Rounds;
use node::{Node, Sessions};
use std::path::PathBuf;

/// Measures the data plane.
#[derive(Parser)]
struct Arguments {
    /// What to measure; everything if nothing is named.
    #[arg(value_enum)]
    groups: Vec<Group>,
    /// Fewer rounds: two minutes at most.
    #[arg(long)]
    quick: bool,
    /// Fail if a figure misses its bar. Only on a machine that does nothing else.
    #[arg(long, conflicts_with = "groups")]
    check: bool,
    /// Write the figures to this file as one flat JSON object, in nanoseconds and milliseconds.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Figures that are measured together.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Group {
    /// Delivery of one session's packets, everything in the cache.
    Local,
    /// The same for each protocol.
    Protocols,
    /// What this node sends.
    Egress,
    /// Forwarding of one session's packets.
    Forward,
    /// Copies into the hold ring.
    Hold,
    /// The grace period under load.
    Grace,
    /// 64,000 sessions, drawn at random.
    Many,
    /// A million sessions, drawn at random.
    Million,
    /// Commits to a million sessions in etcd, over a bare etcd client.
    Etcd,
}

const MILLION: u64 = 1_000_000;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    anyhow::ensure!(
        Object::Probe.bytes().is_some() || arguments.groups == [Group::Etcd],
        "built without the BPF probe programs: run `cargo xtask bench`"
    );
    let rounds = Rounds { count: if arguments.quick { 15 } else { 61 }, repeat: 200_000 };
    measure::pin_to_cpu(1)?;
    let groups = match &arguments.groups[..] {
        [] => Group::value_variants(),
        some => some,
    };
    let mut figures = Figures::default();
    for group in groups {
        match group {
            Group::Local => local(&rounds, &mut figures)?,
            Group::Protocols => protocols(&rounds, &mut figures)?,
            Group::Egress => egress(&rounds, &mut figures)?,
            Group::Forward => forward(&rounds, &mut figures)?,
            Group::Hold => hold::measure(&rounds, &mut figures)?,
            Group::Grace => figures.push(grace::measure()?),
            Group::Many => random(&rounds, 64_000, &mut figures)?,
            Group::Million => random(&rounds, MILLION, &mut figures)?,
            Group::Etcd => {
                etcd::measure(if arguments.quick { 5 } else { 11 }, &mut figures)?;
                measure::pin_to_cpu(1)?;
            }
        }
    }
    // Bars hold for the whole.
    let missed = if arguments.groups.is_empty() { bars::missed(&figures) } else { Vec::new() };
    for bar in &missed {
        println!("misses its bar: {bar}");
    }
    if let Some(path) = arguments.json {
        let flat: serde_json::Map<_, _> =
            figures.iter().map(|figure| (figure.name.clone(), figure.median.into())).collect();
        let text = serde_json::to_string_pretty(&flat)?;
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    anyhow::ensure!(
        !arguments.check || missed.is_empty(),
        "{} figures miss their bars",
        missed.len()
    );
    Ok(())
}

fn local(rounds: &Rounds, figures: &mut Figures) -> Result<()> {
    let frame = native_frame(session(0), 64);
    let mut node = Node::new(Sessions::Local(1))?;
    figures.push(node.absolute(rounds, "drop_ns", "bare_drop", &frame)?);
    let name = "steer_local_hot_ns";
    figures.push(node.difference(rounds, name, "steer_undo", "bare_drop", &frame)?);
    figures.push(node.difference(rounds, "fence_ns", "fence", "no_fence", &frame)?);
    Ok(())
}

fn protocols(rounds: &Rounds, figures: &mut Figures) -> Result<()> {
    for case in protocols::cases() {
        let mut node = Node::new(Sessions::Local(1))?;
        node.register(&case)?;
        figures.push(node.difference(rounds, case.name, "steer_undo", "bare_drop", &case.frame)?);
    }
    Ok(())
}

fn egress(rounds: &Rounds, figures: &mut Figures) -> Result<()> {
    let frames = [
        ("egress_other_ns", udp_frame(VIP.port() + 9, &[0; 64])),
        // Names no session: only the node's lease counts.
        ("egress_fence_ns", udp_frame(VIP.port() + 1, &[0x40; 64])),
        ("egress_session_ns", native_frame(session(0), 64)),
        ("egress_bound_ns", protocols::bound().frame),
    ];
    let mut node = Node::new(Sessions::Local(1))?;
    node.register(&protocols::bound())?;
    for (name, frame) in frames {
        figures.push(node.egress(rounds, name, &reply(frame))?);
    }
    Ok(())
}

fn forward(rounds: &Rounds, figures: &mut Figures) -> Result<()> {
    let frame = native_frame(session(0), 64);
    let (base, ours) = ("adjust_head_pair", "steer_undo");
    let mut slot = Node::new(Sessions::Forwarded(1))?;
    figures.push(slot.difference(rounds, "forward_base_ns", base, "bare_drop", &frame)?);
    figures.push(slot.difference(rounds, "forward_over_base_hot_ns", ours, base, &frame)?);
    let mut row = Node::new(Sessions::Remote(1))?;
    figures.push(row.difference(rounds, "forward_row_over_base_hot_ns", ours, base, &frame)?);
    Ok(())
}

/// Many sessions, drawn at random: the table and the placement come from memory.
fn random(rounds: &Rounds, sessions: u64, figures: &mut Figures) -> Result<()> {
    let label = if sessions >= MILLION { "1m" } else { "64k" };
    let frame = native_frame(session(0), 64);
    let mut local = Node::new(Sessions::Local(sessions))?;
    figures.push(Figure::once(format!("publish_{label}_ms"), local.publish_ms));
    let name = format!("steer_local_{label}_ns");
    figures.push(local.difference(rounds, &name, "steer_random", "draw_random", &frame)?);
    let name = format!("random_read_{label}_ns");
    figures.push(local.random_read(rounds, &name, &frame)?);
    let mut remote = Node::new(Sessions::Forwarded(sessions))?;
    let name = format!("forward_encap_{label}_ns");
    figures.push(remote.difference(rounds, &name, "steer_random", "draw_random", &frame)?);
    Ok(())
}
