//! Jumpgate's part: nodes in this process on one embedded store, and what is done to them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dataplane_user::api::{Client as Api, DrainHow, DrainProgress, LeftOver};
use jumpgate_tests::config::Fence;
use jumpgate_tests::fleet;
use jumpgate_tests::gateway::Gateway;
use jumpgate_tests::together::Together;

use crate::ask::Ask;
use crate::kernel;
use crate::load::Load;
use crate::outcome::{Column, Episode, Product};
use crate::phase::{DRAINED, LOST, Look, PATIENCE, Phase, Stage};
use crate::view::screen::Screen;

/// Short, so that nobody waits long for a lost node's end.
const FENCE: Fence = Fence {
    lease: Duration::from_millis(2000),
    renew: Duration::from_millis(400),
    margin: Duration::from_millis(50),
};

/// How long nothing may move before the return counts as over.
const QUIET: Duration = Duration::from_secs(1);

/// How long traffic goes on after a lost node's lease, and again after it is thawed.
const AFTERWARDS: Duration = Duration::from_millis(500);

/// How many slots there are.
const SLOTS: usize = 1 << 16;

/// Daemons of one store, with the echo application on each node.
#[derive(Debug)]
pub struct Nodes<'a> {
    stage: &'a Stage<'a>,
    /// Dropped before their daemons.
    gateways: Vec<Gateway>,
    together: Together,
}

impl<'a> Nodes<'a> {
    /// Starts them, and waits until every node knows the way to all others.
    pub fn start(stage: &'a Stage<'a>) -> Result<Self> {
        let cluster = stage.cluster;
        let options = fleet::Options { fence: Some(FENCE), cpus: stage.cpus, ..Default::default() };
        let together = Together::new(cluster)?;
        let mut nodes = Self { stage, gateways: Vec::new(), together };
        for node in cluster.nodes() {
            let mut config = fleet::config(cluster, node, &options);
            for service in &mut config.services {
                service.on_loss = Some("take_over");
            }
            nodes.together.start(cluster, node, &config)?;
        }
        nodes.together.wait_for_next_hops()?;
        for node in cluster.nodes() {
            let socket = nodes.together.socket(node.name())?;
            nodes.gateways.push(fleet::gateway(cluster, node, socket, &options)?);
        }
        Ok(nodes)
    }

    /// Sessions stay; a node is drained, comes back, and another is lost. Ends the daemons.
    pub fn run(mut self, screen: &mut Screen) -> Result<Product> {
        let done = self.phases(screen);
        // Applications may wait for it.
        let _may_have_ended = self.together.thaw(LOST.1);
        self.gateways.clear();
        let mut product = done?;
        screen.note("Reading the audit log ...");
        product.audited = self.together.verify().context("the audit log")?;
        Ok(product)
    }

    fn phases(&mut self, screen: &mut Screen) -> Result<Product> {
        let mut load = Load::new(self.stage.cluster, self.stage.clients)?;
        load.open()?;
        Ok(Product {
            column: self.stay(&mut load, screen)?,
            drain: self.drain(&mut load, screen).context("the drain")?,
            comeback: self.comeback(&mut load, screen).context("the return")?,
            loss: self.loss(&mut load, screen).context("the loss")?,
            ..Product::default()
        })
    }

    fn socket(&self, node: &str) -> Result<PathBuf> {
        Ok(self.together.socket(node)?.to_owned())
    }

    fn stay(&self, load: &mut Load<'_>, screen: &mut Screen) -> Result<Column> {
        let nodes = self.stage.cluster.nodes().iter();
        let sockets = nodes.map(|node| self.socket(node.name())).collect::<Result<Vec<_>>>()?;
        let mut kernel = kernel::connect(&sockets)?;
        let time = self.stage.times[1];
        self.stage.play(Phase::With, load, screen, |_, elapsed| {
            Ok(Look { tally: kernel.glance()?, ..Look::at_time(elapsed, time) })
        })?;
        Ok(Column {
            clients: self.stage.clients.into(),
            counts: load.counts(),
            tally: kernel.read()?,
        })
    }

    fn drain(&self, load: &mut Load<'_>, screen: &mut Screen) -> Result<Episode> {
        let before = Before::of(load);
        let how = DrainHow {
            within_ms: PATIENCE.as_millis() as u64,
            left_over: LeftOver::Move,
            per_second: None,
        };
        let socket = self.socket(DRAINED)?;
        let mut order = Some(how);
        let mut progress = Ask::new(move || {
            let mut api = Api::connect(&socket)?;
            if let Some(how) = order.take() {
                api.drain(DRAINED, Some(how))?;
            }
            Ok(api.drain_status()?)
        });
        self.stage.play(Phase::Drain, load, screen, |_, _| {
            let Some(progress) = progress.glance()? else { return Ok(Look::default()) };
            let DrainProgress { sessions, handed_over, in_haste, .. } = progress;
            let gone = handed_over + in_haste;
            let all = (gone + sessions).max(1);
            Ok(Look {
                share: gone as f64 / all as f64,
                state: format!("{gone} of {all} sessions"),
                is_over: progress.is_draining && progress.is_safe_to_stop,
                tally: None,
            })
        })?;
        Ok(Episode { left: load.on(DRAINED), ..before.until_now(load) })
    }

    fn comeback(&self, load: &mut Load<'_>, screen: &mut Screen) -> Result<Episode> {
        let before = Before::of(load);
        let socket = self.socket(DRAINED)?;
        let mut is_ordered = false;
        let mut progress = Ask::new(move || {
            let mut api = Api::connect(&socket)?;
            if !is_ordered {
                api.undrain(DRAINED)?;
                is_ordered = true;
            }
            Ok((api.status()?.slots, api.drain_status()?.is_draining))
        });
        let nodes = self.stage.cluster.nodes().len();
        let share = f64::from(self.stage.clients) / nodes as f64;
        let mut last = (0, Instant::now());
        self.stage.play(Phase::Return, load, screen, |load, _| {
            let back = load.on(DRAINED);
            if back != last.0 {
                last = (back, Instant::now());
            }
            let Some((slots, is_draining)) = progress.glance()? else { return Ok(Look::default()) };
            let has_share = !is_draining && slots * 10 > SLOTS / nodes * 9;
            Ok(Look {
                share: (back as f64 / share).min(1.0),
                state: format!("{back} sessions are back"),
                is_over: has_share && back > 0 && last.1.elapsed() > QUIET,
                tally: None,
            })
        })?;
        Ok(before.until_now(load))
    }

    fn loss(&mut self, load: &mut Load<'_>, screen: &mut Screen) -> Result<Episode> {
        let before = Before::of(load);
        let others: Vec<usize> =
            (0..self.stage.cluster.nodes().len()).filter(|&node| node != LOST.0).collect();
        let frozen = Instant::now();
        self.together.freeze(LOST.1)?;
        // What it sent last was before it stood still.
        let over = Instant::now() + FENCE.lease;
        let lost = load.lose(LOST.1, frozen, over);
        self.stage.cluster.route_vips_to(&others)?;
        let mut thawed = None;
        self.stage.play(Phase::Loss, load, screen, |load, elapsed| {
            let outage = load.outage(&lost);
            let is_replaced = outage.taken_over == outage.sessions;
            if is_replaced && thawed.is_none() && Instant::now() > over + AFTERWARDS {
                self.together.thaw(LOST.1)?;
                thawed = Some(Instant::now());
            }
            Ok(Look {
                share: outage.taken_over as f64 / outage.sessions.max(1) as f64,
                state: match thawed {
                    None => format!(
                        "frozen for {:.1} s, {} of {} sessions go on",
                        elapsed.as_secs_f64(),
                        outage.taken_over,
                        outage.sessions
                    ),
                    Some(_) => "thawed".to_owned(),
                },
                is_over: thawed.is_some_and(|thawed| thawed.elapsed() > AFTERWARDS),
                tally: None,
            })
        })?;
        let ended = self.together.ended(LOST.1)?;
        ensure!(ended.is_err(), "node {} acts on in an epoch that is over", LOST.1);
        let outage = load.outage(&lost);
        Ok(Episode {
            moved: outage.taken_over,
            left: outage.sessions - outage.taken_over,
            apart: outage.unanswered,
            longest: outage.longest,
            ..before.until_now(load)
        })
    }
}

/// How things were when an episode began.
struct Before {
    nodes: Vec<Option<String>>,
    counts: jumpgate_tests::client::Counts,
}

impl Before {
    fn of(load: &mut Load<'_>) -> Self {
        load.take_longest_wait();
        Self { nodes: load.nodes(), counts: load.counts() }
    }

    fn until_now(self, load: &mut Load<'_>) -> Episode {
        let nodes = load.nodes();
        let moved = self.nodes.iter().zip(&nodes).filter(|(before, after)| before != after).count();
        Episode {
            moved: moved as u64,
            longest: load.take_longest_wait(),
            ..Episode::between(&self.counts, &load.counts())
        }
    }
}
