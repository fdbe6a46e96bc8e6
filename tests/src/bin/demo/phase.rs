//! One part of the demo: clients send, and all that is seen is shown, until it is over.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use jumpgate_tests::topology::{Cluster, Node};

use crate::interrupt;
use crate::kernel::Tally;
use crate::load::Load;
use crate::view::frame::Progress;
use crate::view::screen::Screen;

/// How long the last answers may take; only what is unanswered then is lost.
const SETTLE: Duration = Duration::from_secs(2);

/// How often the daemons are asked.
const GLANCE: Duration = Duration::from_millis(200);

/// How long a part may take that ends by itself.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The node that is drained and comes back.
pub const DRAINED: &str = "a";

/// The node that is lost, by its place among the nodes, and its name.
pub const LOST: (usize, &str) = (2, "c");

/// Which part of the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The comparison: the router's and the kernels' hashes alone.
    Without,
    /// Sessions are steered.
    With,
    /// A node gives all its sessions to the others.
    Drain,
    /// It takes its share again.
    Return,
    /// No code of a node's runtime runs.
    Loss,
}

impl Phase {
    /// All, in order.
    pub const ALL: [Self; 5] = [Self::Without, Self::With, Self::Drain, Self::Return, Self::Loss];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Without => "without Jumpgate",
            Self::With => "with Jumpgate",
            Self::Drain => "drain of node a",
            Self::Return => "its return",
            Self::Loss => "loss of node c",
        }
    }
}

/// What stays the same in all parts.
#[derive(Debug)]
pub struct Stage<'a> {
    /// The network.
    pub cluster: &'a Cluster,
    /// CPUs of each node.
    pub cpus: u16,
    /// How many clients there are.
    pub clients: u16,
    /// How long clients send in the parts without and with Jumpgate.
    pub times: [Duration; 2],
}

/// A look at one part.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// How much of it is done, 0 to 1.
    pub share: f64,
    /// The same in words.
    pub state: String,
    /// The kernel's counters, where they are looked at.
    pub tally: Option<Tally>,
    /// Whether it is over.
    pub is_over: bool,
}

impl Look {
    /// A part that takes a set time.
    pub fn at_time(elapsed: Duration, time: Duration) -> Self {
        let elapsed = elapsed.min(time);
        Self {
            share: elapsed.as_secs_f64() / time.as_secs_f64().max(0.001),
            state: format!("{:.0} of {:.0} s", elapsed.as_secs_f64(), time.as_secs_f64()),
            tally: None,
            is_over: elapsed == time,
        }
    }
}

impl Stage<'_> {
    /// Lets clients send until `look`, given the time since the start, says that this part is over and all is
    /// answered.
    pub fn play(
        &self,
        phase: Phase,
        load: &mut Load<'_>,
        screen: &mut Screen,
        mut look: impl FnMut(&Load<'_>, Duration) -> Result<Look>,
    ) -> Result<()> {
        let start = Instant::now();
        let nodes: Vec<_> = self.cluster.nodes().iter().map(Node::name).collect();
        let mut due = screen.first();
        let mut show = |load: &Load<'_>, seen: &Look| {
            screen.show(&Progress {
                phase,
                look: seen,
                nodes: &nodes,
                cpus: self.cpus,
                clients: self.clients.into(),
                counts: load.counts(),
                spread: &load.spread(),
            });
            screen.next()
        };
        let mut seen = look(load, Duration::ZERO)?;
        let mut glance = start + GLANCE;
        let longest = PATIENCE + self.times[0] + self.times[1];
        while !seen.is_over {
            interrupt::check()?;
            load.tick()?;
            if Instant::now() >= glance {
                seen = look(load, start.elapsed())?;
                glance = Instant::now() + GLANCE;
            }
            if Instant::now() >= due {
                due = show(load, &seen);
            }
            ensure!(start.elapsed() < longest, "no end of it: {}", seen.state);
        }
        load.settle(SETTLE)?;
        let seen = Look { is_over: true, share: 1.0, ..look(load, start.elapsed())? };
        show(load, &seen);
        interrupt::check()
    }
}
