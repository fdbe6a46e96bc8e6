//! Callers of a store, each with sessions of its own: none of their commits is in another's way.

use crate::raw::Group;
use anyhow::{Context as _, Result};
use jumpgate_benches::session::session;
use ownership::{
    NodeIndex, Placement, Revision, SessionId,
    audit::{Event, Sink, export},
    model::{Context, Input, Nonce, OperationId, Policy, Reattach, State, Time, birth, decide},
    store::{
        Attempt, AuditRow, DirectoryWrite, Identity, Incarnation, Outcome, Row, SessionWrite,
        Sessions, Store, StoredSession, redb::Redb,
    },
};
use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{runtime::Runtime, task::JoinSet};

/// How many ask at once.
const CALLERS: usize = 256;

/// So many births are asked for at once when the store is filled.
const BIRTHS: u32 = 1024;

const NOW: Time = Time::from_millis(1_700_000_000_000);

/// Rows as they were written, by session and version.
type Written = HashMap<(SessionId, u64), [u8; StoredSession::LENGTH]>;

/// A store, and those who use it.
pub(crate) struct Callers<'r> {
    runtime: &'r Runtime,
    /// There until it is closed.
    store: Option<Arc<Redb>>,
    by: Identity,
    callers: Vec<Caller>,
}

/// One of them.
#[derive(Default)]
struct Caller {
    sessions: Vec<StoredSession>,
    random: u64,
}

impl<'r> Callers<'r> {
    /// Of the node that is registered in a store, with its sessions; if none is, registers one and gives
    /// it all slots.
    pub(crate) fn of(runtime: &'r Runtime, store: Redb) -> Result<Self> {
        let by = runtime.block_on(identity(&store))?;
        let caller = |random| Caller { sessions: Vec::new(), random };
        let callers = (1..=CALLERS as u64).map(caller).collect();
        let mut callers = Self { runtime, store: Some(Arc::new(store)), by, callers };
        // Whoever was killed here has left some.
        callers.trim(&Written::new())?;
        callers.share(callers.all()?);
        Ok(callers)
    }

    fn share(&mut self, sessions: impl IntoIterator<Item = StoredSession>) {
        for (at, session) in sessions.into_iter().enumerate() {
            self.callers[at % CALLERS].sessions.push(session);
        }
    }

    /// All sessions of the store, in the order of their ids.
    pub(crate) fn all(&self) -> Result<Vec<StoredSession>> {
        read_all(self.runtime, self.store())
    }

    /// The node that they act for.
    pub(crate) fn node(&self) -> NodeIndex {
        self.by.owner.node
    }

    /// The store. It is there but between being closed and opened again.
    pub(crate) fn store(&self) -> &Arc<Redb> {
        self.store.as_ref().expect("open")
    }

    /// Closes the store.
    pub(crate) fn close(&mut self) {
        self.store = None;
    }

    /// Goes on with a store that was closed.
    pub(crate) fn reopen(&mut self, store: Redb) {
        self.store = Some(Arc::new(store));
    }

    /// Makes so many sessions.
    pub(crate) fn fill(&mut self, sessions: u32) -> Result<()> {
        for first in (0..sessions).step_by(BIRTHS as usize) {
            let numbers = first..sessions.min(first + BIRTHS);
            let births = numbers.map(|number| {
                let commit = birth(SessionId::new(session(number.into())), 1, &context(self.by));
                SessionWrite::birth(&commit, self.by, Revision::FIRST)
            });
            let births: Vec<_> = births.collect::<Result<_, _>>()?;
            let outcomes = self.runtime.block_on(Sessions::commit(&**self.store(), births.clone()));
            outcomes.into_iter().try_for_each(won)?;
            self.share(births.iter().map(|birth| *birth.after()));
            self.trim(&Written::new())?;
        }
        Ok(())
    }

    /// All of them change sessions, so often together; how long that took, and what was written.
    pub(crate) fn round(&mut self, commits: usize) -> Result<(Duration, Vec<Group>)> {
        let (store, by) = (Arc::clone(self.store()), self.by);
        let callers = std::mem::take(&mut self.callers);
        let (took, written) = self.runtime.block_on(async {
            let (mut tasks, begun) = (JoinSet::new(), Instant::now());
            for mut caller in callers {
                let store = Arc::clone(&store);
                tasks.spawn(async move {
                    let written = caller.change(&store, by, commits / CALLERS).await?;
                    anyhow::Ok((caller, written))
                });
            }
            let done = tasks.join_all().await;
            let took = begun.elapsed();
            let mut rows = Written::new();
            for done in done {
                let (caller, written) = done?;
                self.callers.push(caller);
                let key = |row: &StoredSession| (row.record.id(), row.record.version().get());
                rows.extend(written.iter().map(|row| (key(row), row.to_bytes())));
            }
            anyhow::Ok((took, rows))
        })?;
        Ok((took, self.trim(&written)?))
    }

    /// Exports and trims what the audit log has grown by; gives it as what was written.
    fn trim(&self, written: &Written) -> Result<Vec<Group>> {
        let mut groups = Groups { written, groups: Vec::new() };
        while self.runtime.block_on(export::<Redb>(self.store(), &mut groups))? > 0 {}
        Ok(groups.groups)
    }
}

impl Caller {
    /// Changes sessions, so often; gives their rows in turn.
    async fn change(
        &mut self,
        store: &Redb,
        by: Identity,
        times: usize,
    ) -> Result<Vec<StoredSession>> {
        let mut written = Vec::with_capacity(times);
        for _ in 0..times {
            let at = self.draw();
            let write = next(&self.sessions[at], by)?;
            let after = *write.after();
            Sessions::commit(store, vec![write]).await.into_iter().try_for_each(won)?;
            self.sessions[at] = after;
            written.push(after);
        }
        Ok(written)
    }

    /// One of its sessions, at random (xorshift).
    fn draw(&mut self) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % self.sessions.len() as u64) as usize
    }
}

/// What was written, out of the audit log: a row for each group.
struct Groups<'a> {
    written: &'a Written,
    groups: Vec<Group>,
}

impl Sink for Groups<'_> {
    fn take(&mut self, rows: &[AuditRow]) -> io::Result<()> {
        if self.written.is_empty() {
            return Ok(());
        }
        for row in rows {
            let sessions = row.entries.iter().map(|entry| {
                let Event::StateChange(change) = &entry.event else {
                    return Err(io::Error::other("something else was written"));
                };
                let (id, version) = (change.session(), change.version().get());
                let row = self.written.get(&(id, version)).copied();
                Ok((id.bytes(), row.ok_or_else(|| io::Error::other("nobody wrote that"))?))
            });
            let sessions = sessions.collect::<io::Result<_>>()?;
            let audit = Row::Audit(row.clone()).to_bytes();
            self.groups.push(Group { key: row.key, sessions, audit });
        }
        Ok(())
    }
}

/// All sessions of a store.
pub(crate) fn read_all(runtime: &Runtime, store: &Redb) -> Result<Vec<StoredSession>> {
    let (mut sessions, mut after) = (Vec::new(), None);
    loop {
        let page = runtime.block_on(store.sessions(after, 1000))?;
        let Some(last) = page.last() else { return Ok(sessions) };
        after = Some(last.record.id());
        sessions.extend(page);
    }
}

/// The identity of a store's node.
async fn identity(store: &Redb) -> Result<Identity> {
    let node = NodeIndex::new(1)?;
    if let Some(row) = store.fence(node).await? {
        return Ok(row.identity());
    }
    let (incarnation, operation) = (Incarnation(1), operation());
    let (write, row) =
        DirectoryWrite::register(node, "bench", None, None, incarnation, NOW, operation)?;
    won(store.write(write).await)?;
    let by = row.identity();
    let attempt = Attempt { by, now: NOW, operation };
    let (write, _) = DirectoryWrite::place(None, &Placement::all_to(node), attempt)?;
    won(store.write(write).await)?;
    Ok(by)
}

/// What a client asks of a session: to be attached, and from then on to go to another address.
fn next(before: &StoredSession, by: Identity) -> Result<SessionWrite> {
    let version = before.record.version();
    let transport = SocketAddr::from(([192, 0, 2, 1], (version.get() % 50_000) as u16)).into();
    let input = match before.record.state() {
        State::Birth => Input::Attach { transport },
        _ => Input::Reattach(Reattach {
            version,
            nonce: Nonce::new(version.get()),
            transport,
            key_generation: 0,
        }),
    };
    let commit = decide(&before.record, &input, &context(by)).commit().context("it is legal")?;
    Ok(SessionWrite::change(before, &commit, by)?)
}

fn context(by: Identity) -> Context {
    // As often as there is time.
    let policy = Policy {
        switch_interval: Duration::ZERO,
        switch_cooldown: Duration::ZERO,
        ..Policy::default()
    };
    Context { now: NOW, actor: by.owner, policy, operation: operation() }
}

fn operation() -> OperationId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    OperationId(NEXT.fetch_add(1, Ordering::Relaxed).into())
}

fn won(outcome: Outcome) -> Result<()> {
    anyhow::ensure!(outcome.is_won(), "a commit came to {outcome:?}");
    Ok(())
}
