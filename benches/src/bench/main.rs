//! What a packet costs in the kernel, over a bare XDP drop measured in the same run.
//!
//! Programs run in turns, many rounds of them; what is reported is the median of the differences
//! and their spread. Needs root.

mod bars;
mod grace;
mod hold;
mod measure;
mod node;
mod protocols;

use anyhow::{Context, Result};
use clap::Parser;
use dataplane_user::dataplane::object::Object;
use jumpgate_benches::{
    packet::{VIP, native_frame, reply, udp_frame},
    session::session,
};
use measure::{Figure, Rounds};
use node::{Node, Sessions};
use std::path::PathBuf;

/// Measures the data plane.
#[derive(Parser)]
struct Arguments {
    /// Fewer rounds: two minutes at most.
    #[arg(long)]
    quick: bool,
    /// Fail if a figure misses its bar. Only on a machine that does nothing else.
    #[arg(long)]
    check: bool,
    /// Write the figures to this file as one flat JSON object, in nanoseconds and milliseconds.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

const MILLION: u64 = 1_000_000;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    anyhow::ensure!(
        Object::Probe.bytes().is_some(),
        "built without the BPF probe programs: run `cargo xtask bench`"
    );
    let rounds = Rounds { count: if arguments.quick { 15 } else { 61 }, repeat: 200_000 };
    measure::pin_to_cpu(1)?;
    let mut figures = Vec::new();
    hot(&rounds, &mut figures)?;
    hold::measure(&rounds, &mut figures)?;
    figures.push(grace::measure()?);
    for sessions in [64_000, MILLION] {
        random(&rounds, sessions, &mut figures)?;
    }
    print(&figures);
    let missed = bars::missed(&figures);
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

/// One session: everything in the cache.
fn hot(rounds: &Rounds, figures: &mut Vec<Figure>) -> Result<()> {
    let frame = native_frame(session(0), 64);
    let mut local = Node::new(Sessions::Local(1))?;
    figures.push(local.absolute(rounds, "drop_ns", "bare_drop", &frame)?);
    figures.push(local.difference(
        rounds,
        "steer_local_hot_ns",
        "steer_undo",
        "bare_drop",
        &frame,
    )?);
    figures.push(local.difference(rounds, "fence_ns", "fence", "no_fence", &frame)?);
    for case in protocols::cases() {
        let mut node = Node::new(Sessions::Local(1))?;
        node.register(&case)?;
        figures.push(node.difference(rounds, case.name, "steer_undo", "bare_drop", &case.frame)?);
    }
    let frames = [
        ("egress_other_ns", udp_frame(VIP.port() + 9, &[0; 64])),
        // Names no session: only the node's lease counts.
        ("egress_fence_ns", udp_frame(VIP.port() + 1, &[0x40; 64])),
        ("egress_session_ns", frame.clone()),
        ("egress_bound_ns", protocols::bound().frame),
    ];
    local.register(&protocols::bound())?;
    for (name, frame) in frames {
        figures.push(local.egress(rounds, name, &reply(frame))?);
    }
    let mut remote = Node::new(Sessions::Forwarded(1))?;
    figures.push(remote.difference(
        rounds,
        "forward_base_ns",
        "adjust_head_pair",
        "bare_drop",
        &frame,
    )?);
    figures.push(remote.difference(
        rounds,
        "forward_over_base_hot_ns",
        "steer_undo",
        "adjust_head_pair",
        &frame,
    )?);
    let mut row = Node::new(Sessions::Remote(1))?;
    figures.push(row.difference(
        rounds,
        "forward_row_over_base_hot_ns",
        "steer_undo",
        "adjust_head_pair",
        &frame,
    )?);
    Ok(())
}

/// Many sessions, drawn at random: the table and the placement come from memory.
fn random(rounds: &Rounds, sessions: u64, figures: &mut Vec<Figure>) -> Result<()> {
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

fn print(figures: &[Figure]) {
    println!("{:32} {:>9} {:>9} {:>9}", "figure", "median", "lowest", "highest");
    for Figure { name, median, lowest, highest } in figures {
        println!("{name:32} {median:>9.1} {lowest:>9.1} {highest:>9.1}");
    }
}
