//! One part of the demo: clients send for a while, and all that is seen is shown.

use std::time::{Duration, Instant};

use anyhow::Result;
use jumpgate_tests::topology::{Cluster, Node};

use crate::interrupt;
use crate::kernel::{Kernel, Tally};
use crate::load::Load;
use crate::outcome::Column;
use crate::view::frame::Progress;
use crate::view::screen::Screen;

/// How long the last answers may take; only what is unanswered then is lost.
const SETTLE: Duration = Duration::from_secs(2);

/// How often the kernel's counters are looked at.
const GLANCE: Duration = Duration::from_millis(200);

/// Which part of the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The comparison: the router's and the kernels' hashes alone.
    Without,
    /// Sessions are steered.
    With,
}

impl Phase {
    /// Both, in order.
    pub const ALL: [Self; 2] = [Self::Without, Self::With];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Without => "without Jumpgate",
            Self::With => "with Jumpgate",
        }
    }
}

/// What stays the same in both parts.
#[derive(Debug)]
pub struct Stage<'a> {
    /// The network.
    pub cluster: &'a Cluster,
    /// CPUs of each node.
    pub cpus: u16,
    /// How many clients there are.
    pub clients: u16,
    /// How long each part sends packets, in order.
    pub times: [Duration; 2],
}

impl Stage<'_> {
    /// Runs clients against what serves the VIPs now; `kernel` has the counters, if there are any.
    pub fn run(
        &self,
        phase: Phase,
        mut kernel: Option<Kernel>,
        screen: &mut Screen,
    ) -> Result<Column> {
        let mut load = Load::new(self.cluster, self.clients)?;
        load.open()?;
        let start = Instant::now();
        let time = self.times[phase as usize];
        let nodes: Vec<_> = self.cluster.nodes().iter().map(Node::name).collect();
        let mut due = screen.first();
        let mut tally = Tally::default();
        let mut glance = start;
        let mut show = |load: &Load<'_>, tally: &Tally| {
            screen.show(&Progress {
                phase,
                elapsed: start.elapsed().min(time),
                times: self.times,
                nodes: &nodes,
                cpus: self.cpus,
                clients: self.clients.into(),
                counts: load.counts(),
                spread: &load.spread(),
                tally,
            });
            screen.next()
        };
        while start.elapsed() < time {
            interrupt::check()?;
            load.tick()?;
            if let Some(kernel) = &mut kernel
                && Instant::now() >= glance
            {
                tally = kernel.glance()?;
                glance = Instant::now() + GLANCE;
            }
            if Instant::now() >= due {
                due = show(&load, &tally);
            }
        }
        load.settle(SETTLE)?;
        if let Some(kernel) = &mut kernel {
            tally = kernel.read()?;
        }
        show(&load, &tally);
        interrupt::check()?;
        Ok(Column { clients: self.clients.into(), counts: load.counts(), tally })
    }
}
