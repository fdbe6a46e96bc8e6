//! Nodes, a placement and sessions in a store.

use ownership::{
    Epoch, NodeIndex, Placement, Revision, SessionId,
    audit::Verifier,
    baggage::Baggage,
    model::{
        Commit, Context, FenceProof, Input, OperationId, Owner, Policy, Time, Transport, birth,
        decide,
    },
    placement::Member,
    store::{
        Attempt, AuditRow, Directory, DirectoryWrite, FenceRow, Identity, Incarnation, Mismatch,
        Outcome, PlacementRow, SessionWrite, Sessions, StoredSession, WireId,
    },
};
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
};

pub const NOW: Time = Time::from_millis(1_000_000);

/// What becomes of a write whose row is another by then.
pub const LOST: Outcome = Outcome::Lost(Mismatch::Row);

/// A number that no other attempt has.
pub fn operation() -> OperationId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    OperationId(NEXT.fetch_add(1, Ordering::Relaxed).into())
}

pub fn node(number: u16) -> NodeIndex {
    NodeIndex::new(number).unwrap()
}

pub fn id(number: u32) -> SessionId {
    let mut bytes = [0xa5; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    SessionId::new(bytes)
}

pub fn transport(port: u16) -> Transport {
    SocketAddr::from(([192, 0, 2, 1], port)).into()
}

pub fn context(actor: Owner) -> Context {
    Context { now: NOW, actor, policy: Policy::default(), operation: operation() }
}

/// A wire id, and this as the application's context.
pub fn baggage(context: &[u8]) -> Baggage {
    Baggage::new(vec![WireId::new(&[7; 20]).unwrap()], context.into()).unwrap()
}

pub fn attempt(by: Identity) -> Attempt {
    Attempt { by, now: NOW, operation: operation() }
}

/// A write that registers a node in the next epoch, and the fence row it leads to.
pub async fn registration<D: Directory>(store: &D, number: u16) -> (DirectoryWrite, FenceRow) {
    let before = store.fence(node(number)).await.unwrap();
    let drawn = store.epochs().await.unwrap();
    let incarnation = Incarnation(u128::MAX - u128::from(drawn.map_or(0, Epoch::get)));
    let name = format!("node {number}");
    DirectoryWrite::register(
        node(number),
        &name,
        before.as_ref(),
        drawn,
        incarnation,
        NOW,
        operation(),
    )
    .unwrap()
}

pub async fn register<D: Directory>(store: &D, number: u16) -> FenceRow {
    let (write, row) = registration(store, number).await;
    won(store, write).await;
    row
}

/// Lets a node accept sessions, or not.
pub async fn admit<D: Directory>(store: &D, number: u16, accepts: bool) -> FenceRow {
    let before = store.fence(node(number)).await.unwrap().unwrap();
    let (write, row) = DirectoryWrite::admit(&before, accepts, attempt(before.identity())).unwrap();
    won(store, write).await;
    row
}

pub async fn won<D: Directory>(store: &D, write: DirectoryWrite) {
    assert_eq!(store.write(write).await, Outcome::Won);
}

pub fn decided(before: &StoredSession, input: Input, actor: Owner) -> Commit {
    decide(&before.record, &input, &context(actor)).commit().expect("legal")
}

pub fn changed(before: &StoredSession, input: Input, by: Identity) -> SessionWrite {
    SessionWrite::change(before, &decided(before, input, by.owner), by).unwrap()
}

/// The client attaches, or changes from one transport to none: always legal for a session that lives.
pub fn next(before: &StoredSession, by: Identity) -> SessionWrite {
    let input = match before.record.transport() {
        None if before.record.version().get() == 0 => Input::Attach { transport: transport(1) },
        None => Input::RotateKey,
        Some(transport) => Input::LoseTransport { transport },
    };
    changed(before, input, by)
}

pub fn handed_off(before: &StoredSession, by: Identity, to: Identity) -> SessionWrite {
    let commit = decided(before, Input::HandOff { to: to.owner }, by.owner);
    SessionWrite::hand_off(before, &commit, by, to, [1, 2, 3].into()).unwrap()
}

pub fn taken_over(before: &StoredSession, by: Identity) -> SessionWrite {
    let proof = FenceProof::new(before.record.owner());
    changed(before, Input::TakeOver { proof }, by)
}

/// The placement after another one: all slots to the first node.
pub fn next_placement(before: &Placement) -> Placement {
    before.next(&[Member { index: node(1), name: "node 1".into(), weight: 1 }]).unwrap()
}

/// Two nodes, and a placement that gives all slots to the first.
pub struct World<S> {
    pub store: S,
    pub one: Identity,
    pub two: Identity,
    pub placement: PlacementRow,
}

impl<S: Directory + Sessions> World<S> {
    pub async fn new(store: S) -> Self {
        let one = register(&store, 1).await.identity();
        let two = register(&store, 2).await.identity();
        let plan = Placement::all_to(node(1));
        let (write, placement) = DirectoryWrite::place(None, &plan, attempt(one)).unwrap();
        won(&store, write).await;
        Self { store, one, two, placement }
    }

    pub fn birth(&self, id: SessionId) -> SessionWrite {
        let commit = birth(id, 1, &context(self.one.owner));
        SessionWrite::birth(&commit, self.one, Revision::FIRST).unwrap()
    }

    /// A session of the first node.
    pub async fn born(&self, number: u32) -> StoredSession {
        self.won(&self.birth(id(number))).await
    }

    /// A session of the first node that is to go to the second.
    pub async fn frozen(&self, number: u32) -> StoredSession {
        let born = self.born(number).await;
        self.won(&changed(&born, Input::Freeze { to: node(2) }, self.one)).await
    }

    pub async fn commit(&self, write: &SessionWrite) -> Outcome {
        let outcomes = self.store.commit(vec![write.clone()]).await;
        assert_eq!(outcomes.len(), 1);
        outcomes[0]
    }

    pub async fn won(&self, write: &SessionWrite) -> StoredSession {
        assert_eq!(self.commit(write).await, Outcome::Won);
        *write.after()
    }

    pub async fn stands(&self, number: u32) -> Option<StoredSession> {
        self.store.get(id(number)).await.unwrap()
    }

    /// Revokes the first node.
    pub async fn fence_one(&self) {
        let before = self.store.fence(node(1)).await.unwrap().unwrap();
        won(&self.store, DirectoryWrite::fence(&before, attempt(self.two)).0).await;
    }

    pub async fn log(&self) -> Vec<AuditRow> {
        let (mut log, mut after) = (Vec::new(), None);
        loop {
            let rows = self.store.audit(after, 7).await.unwrap();
            let Some(last) = rows.last() else { return log };
            after = Some(last.key);
            log.extend(rows);
        }
    }

    /// Proves that the log is whole and leads to what the store keeps.
    pub async fn verify(&self) {
        let mut verifier = Verifier::default();
        for row in self.log().await {
            verifier.row(&row).unwrap();
        }
        verifier.whole().unwrap();
        let (mut sessions, mut after) = (Vec::new(), None);
        loop {
            let page = self.store.sessions(after, 100).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.record.id());
            sessions.extend(page);
        }
        verifier.sessions_after(sessions).unwrap();
        for row in self.store.fences().await.unwrap() {
            verifier.node_after(&row).unwrap();
        }
        verifier.placement_after(&self.store.placement().await.unwrap().unwrap()).unwrap();
    }
}
