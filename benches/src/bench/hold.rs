//! What it costs to hold a packet, over delivering it by the same look-up.

use crate::{
    measure::{Rounds, run},
    node::{EPOCH, Node, Sessions},
};
use anyhow::{Context, Result};
use dataplane_ebpf::{
    table::{Entry, Place},
    verdict::Verdict,
};
use jumpgate_benches::{
    figure::{Figure, Figures},
    packet::native_frame,
    session::session,
};

/// UDP payloads behind the native header, in bytes, and how many packets of it the ring holds.
const CASES: [(usize, u32, &str); 2] =
    [(64, 64_000, "hold_64_ns"), (1_400, 10_000, "hold_1400_ns")];

/// Measures packets of both lengths.
pub fn measure(rounds: &Rounds, figures: &mut Figures) -> Result<()> {
    let mut node = Node::new(Sessions::Held(1))?;
    node.publish_one(1, Entry { place: Place::Local { cpu: 0 }, epoch: EPOCH })?;
    for (length, repeat, name) in CASES {
        let held = native_frame(session(0), length);
        let delivered = native_frame(session(1), length);
        let mut differences = Vec::with_capacity(rounds.count);
        for _ in 0..rounds.count {
            let program = node.dataplane.program("jumpgate")?;
            let without = run(program, &delivered, repeat)?;
            let with = run(program, &held, repeat)?;
            differences.push(with - without);
            let ring = node.dataplane.hold_ring.as_mut().context("the ring was not taken")?;
            let mut records = 0;
            while ring.next().is_some() {
                records += 1;
            }
            anyhow::ensure!(records == repeat, "{records} of {repeat} packets were held");
        }
        figures.push(Figure::of(name, differences));
    }
    let full = node.dataplane.counters.verdict(1, Verdict::HoldFull)?;
    anyhow::ensure!(full == 0, "{full} packets found the ring full");
    Ok(())
}
