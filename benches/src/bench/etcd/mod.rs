//! What the store costs over etcd itself: three servers on this machine, a million sessions in them,
//! and the same writes through the store and through a bare etcd client, in turns.

#[expect(dead_code, reason = "tests mistreat clusters, too")]
#[path = "../../../../ownership/tests/etcd/cluster.rs"]
mod cluster;
#[expect(dead_code, reason = "tests mistreat clusters, too")]
#[path = "../../../../ownership/tests/etcd/network.rs"]
mod network;
mod raw;

use crate::measure;
use anyhow::{Context as _, Result};
use cluster::{Cluster, Options, Programs};
use jumpgate_benches::{
    figure::{Figure, Figures},
    session::session,
};
use ownership::{
    NodeIndex, Placement, Revision, SessionId,
    model::{Context, Input, OperationId, Policy, Time, birth, decide},
    store::{
        Attempt, Directory, DirectoryWrite, Identity, Incarnation, Position, Seen, SessionWrite,
        Sessions, Store, StoredSession,
        etcd::{Etcd, EtcdConfig},
    },
};
use raw::Raw;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

const SESSIONS: u64 = 1_000_000;

/// The sessions that are written to, spread over all.
const WRITTEN: u64 = 24_000;

/// How many a caller writes at once, and how many callers there are.
const TOGETHER: usize = 240;
const CALLERS: usize = 8;

/// Callers that write one session at a time.
const SINGLE_CALLERS: usize = 64;

/// Measures it.
pub fn measure(rounds: usize, figures: &mut Figures) -> Result<()> {
    measure::use_all_cpus()?;
    let programs = Programs::find().context("there is no etcd: `cargo xtask setup` brings it")?;
    let cluster = Cluster::start(programs, 3, Options::default());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut bench = Bench::new(&cluster).await?;
        bench.fill().await?;
        let (batches, single) = (
            Form { at_once: TOGETHER, callers: CALLERS, writes: WRITTEN },
            Form { at_once: 1, callers: SINGLE_CALLERS, writes: WRITTEN / 4 },
        );
        for (name, form) in [("batch", batches), ("single", single)] {
            bench.compare(name, &form, rounds, figures).await?;
        }
        Ok(())
    })
}

/// How writes come.
struct Form {
    at_once: usize,
    callers: usize,
    writes: u64,
}

struct Bench {
    store: Arc<Etcd>,
    raw: Arc<Raw>,
    by: Identity,
    sessions: Vec<StoredSession>,
    operation: u128,
}

impl Bench {
    async fn new(cluster: &Cluster) -> Result<Self> {
        let config =
            EtcdConfig { deadline: Duration::from_secs(30), ..EtcdConfig::new(cluster.urls()) };
        let store = Etcd::open(&config, Seen::new(Position::START)).await?;
        let raw = Raw::connect(&config).await?;
        let node = NodeIndex::FIRST;
        let (now, operation) = (Time::from_millis(1_000_000), OperationId(0));
        let incarnation = Incarnation(7);
        let (write, row) =
            DirectoryWrite::register(node, "bench", None, None, incarnation, now, operation)?;
        anyhow::ensure!(store.write(write).await.is_won(), "registering");
        let by = row.identity();
        let attempt = Attempt { by, now, operation };
        let (write, _) = DirectoryWrite::place(None, &Placement::all_to(node), attempt)?;
        anyhow::ensure!(store.write(write).await.is_won(), "placing");
        anyhow::ensure!(store.placement().await?.is_some(), "the placement is there");
        let (store, raw) = (Arc::new(store), Arc::new(raw));
        Ok(Self { store, raw, by, sessions: Vec::new(), operation: 0 })
    }

    fn context(&mut self) -> Context {
        self.operation += 1;
        Context {
            now: Time::from_millis(1_000_000),
            actor: self.by.owner,
            policy: Policy::default(),
            operation: OperationId(self.operation),
        }
    }

    /// Makes the sessions.
    async fn fill(&mut self) -> Result<()> {
        let mut callers = JoinSet::new();
        for from in (0..SESSIONS).step_by(5_000) {
            let mut births = Vec::new();
            for number in from..from + 5_000 {
                let commit = birth(SessionId::new(session(number)), 1, &self.context());
                let write = SessionWrite::birth(&commit, self.by, Revision::FIRST)?;
                if number % (SESSIONS / WRITTEN) == 0 {
                    self.sessions.push(*write.after());
                }
                births.push(write);
            }
            while callers.len() >= CALLERS {
                callers.join_next().await.context("a caller")??;
            }
            let store = Arc::clone(&self.store);
            callers.spawn(async move {
                let outcomes = store.commit(births).await;
                assert!(outcomes.iter().all(|outcome| outcome.is_won()), "{outcomes:?}");
            });
        }
        callers.join_all().await;
        Ok(())
    }

    /// The next version of some sessions.
    fn writes(&mut self, count: u64) -> Result<Vec<SessionWrite>> {
        let mut writes = Vec::new();
        for at in 0..self.sessions.len().min(count as usize) {
            let (before, context) = (self.sessions[at], self.context());
            let commit = decide(&before.record, &Input::RotateKey, &context).commit();
            let write = SessionWrite::change(&before, &commit.context("legal")?, self.by)?;
            self.sessions[at] = *write.after();
            writes.push(write);
        }
        Ok(writes)
    }

    /// Rounds of the same number of writes, through the store and without it.
    async fn compare(
        &mut self,
        name: &str,
        form: &Form,
        rounds: usize,
        figures: &mut Figures,
    ) -> Result<()> {
        let (mut ours, mut ratios) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            // Whoever comes second finds things as the first has left them.
            let (through, bare) = if round % 2 == 0 {
                let through = self.through_the_store(form).await?;
                (through, self.bare(form).await?)
            } else {
                let bare = self.bare(form).await?;
                (self.through_the_store(form).await?, bare)
            };
            ours.push(through);
            ratios.push(through / bare);
        }
        figures.push(Figure::of(&format!("etcd_{name}_us"), ours));
        figures.push(Figure::of(&format!("etcd_{name}_over_raw"), ratios));
        Ok(())
    }

    /// Microseconds a write.
    async fn through_the_store(&mut self, form: &Form) -> Result<f64> {
        let mut shares: Vec<Vec<Vec<SessionWrite>>> = vec![Vec::new(); form.callers];
        let writes = self.writes(form.writes)?;
        let count = writes.len();
        for (at, batch) in writes.chunks(form.at_once).enumerate() {
            shares[at % form.callers].push(batch.to_vec());
        }
        let start = Instant::now();
        let mut callers = JoinSet::new();
        for share in shares {
            let store = Arc::clone(&self.store);
            callers.spawn(async move {
                for batch in share {
                    let outcomes = store.commit(batch).await;
                    assert!(outcomes.iter().all(|outcome| outcome.is_won()), "{outcomes:?}");
                }
            });
        }
        callers.join_all().await;
        Ok(start.elapsed().as_secs_f64() * 1e6 / count as f64)
    }

    /// The same without the store: its transactions, made beforehand.
    async fn bare(&mut self, form: &Form) -> Result<f64> {
        let mut shares: Vec<Vec<etcd_client::Txn>> = vec![Vec::new(); form.callers];
        let writes = self.writes(form.writes)?;
        let count = writes.len();
        for (at, batch) in writes.chunks(form.at_once).enumerate() {
            shares[at % form.callers].extend(self.raw.transactions(batch));
        }
        let start = Instant::now();
        let mut callers = JoinSet::new();
        for share in shares {
            let raw = Arc::clone(&self.raw);
            callers.spawn(async move {
                for transaction in share {
                    raw.send(transaction).await.expect("etcd answers");
                }
            });
        }
        callers.join_all().await;
        Ok(start.elapsed().as_secs_f64() * 1e6 / count as f64)
    }
}
