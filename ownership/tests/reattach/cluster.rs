//! One session and the nodes that may own it: the real `examine` and `decide`, with the record in the
//! test's hands.

use ownership::{
    Epoch, NodeIndex, SessionId, StateVersion,
    client::{Memory, Tracker},
    control::Message,
    model::{
        Context, Decision, FenceProof, Hold, Input, OperationId, Owner, Policy, Reason,
        SessionRecord, Time, Transport, birth, decide,
    },
    reattach::{Decided, Examined, Proven, Reply, Secret, Secrets, examine},
    store::Outcome,
};
use std::{net::SocketAddr, time::Duration};

/// The nodes. The first is in a later epoch than the others: a session's epoch may go down.
pub const NODES: [(u16, u32); 3] = [(1, 9), (2, 5), (3, 7)];

pub fn owner(place: usize) -> Owner {
    let (node, epoch) = NODES[place % NODES.len()];
    Owner { node: NodeIndex::new(node).unwrap(), epoch: Epoch::new(epoch).unwrap() }
}

pub fn address(number: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, (number >> 8) as u8], 1_000 + number))
}

pub fn session() -> SessionId {
    SessionId::new([0x5e; 16])
}

pub struct Cluster {
    pub secrets: Secrets,
    /// What the store holds.
    pub record: SessionRecord,
    /// All that it ever held, each at the place of its version.
    pub history: Vec<SessionRecord>,
    pub now: Time,
    pub policy: Policy,
    operation: u128,
}

impl Cluster {
    /// A session that the first node has opened for a client at `address(0)`.
    pub fn new() -> Self {
        let policy = Policy {
            session_ttl: Duration::from_secs(1 << 30),
            transport_loss_ttl: Duration::from_secs(1 << 29),
            recovery_window: Duration::from_secs(1 << 28),
            switch_interval: Duration::from_secs(1),
            switch_cooldown: Duration::from_millis(500),
            ..Policy::default()
        };
        let now = Time::from_millis(1_700_000_000_000);
        let context = Context { now, actor: owner(0), policy, operation: OperationId(0) };
        let record = *birth(session(), 1, &context).record();
        let secrets = Secrets::new(Secret::new(1, &[1; 32]));
        let mut cluster =
            Self { secrets, record, history: vec![record], now, policy, operation: 0 };
        cluster.apply(Input::Attach { transport: address(0).into() }).unwrap();
        cluster
    }

    /// Its client.
    pub fn client(&self) -> Tracker {
        let memory =
            Memory::opened(self.record.version(), self.record.owner().epoch, self.generation());
        let credentials = self.secrets.current().credentials(session(), self.generation());
        Tracker::opened(session(), memory, credentials)
    }

    pub fn generation(&self) -> u32 {
        self.record.key_generation()
    }

    pub fn version(&self) -> StateVersion {
        self.record.version()
    }

    pub fn transport(&self) -> Option<Transport> {
        self.record.transport()
    }

    pub fn pass(&mut self, milliseconds: u64) {
        self.now = self.now.after(Duration::from_millis(milliseconds));
    }

    pub fn context(&mut self, actor: Owner) -> Context {
        self.operation += 1;
        let operation = OperationId(self.operation);
        Context { now: self.now, actor, policy: self.policy, operation }
    }

    /// The owner decides, and its commit wins.
    pub fn apply(&mut self, input: Input) -> Result<(), Reason> {
        self.apply_as(self.record.owner(), input)
    }

    pub fn apply_as(&mut self, actor: Owner, input: Input) -> Result<(), Reason> {
        let context = self.context(actor);
        match decide(&self.record, &input, &context) {
            Decision::Reject(reason) => Err(reason),
            Decision::Commit(commit) => {
                self.write(*commit.record());
                commit.answer()
            }
        }
    }

    fn write(&mut self, record: SessionRecord) {
        assert_eq!(record.version().get(), self.history.len() as u64, "one record a version");
        self.record = record;
        self.history.push(record);
    }

    /// One step of the session's way to another node, or back.
    pub fn step_move(&mut self, to: usize) {
        let input = match self.record.hold() {
            Hold::Active => Input::Freeze { to: owner(to).node },
            Hold::Frozen { .. } if to == 0 => Input::Abort,
            Hold::Frozen { to } => {
                let place = NODES.iter().position(|(node, _)| *node == to.get()).unwrap();
                Input::HandOff { to: owner(place) }
            }
            Hold::HandedOff { .. } => Input::Resume,
        };
        let _is_refused_to_itself = self.apply(input);
    }

    /// Another node takes the session over.
    pub fn take_over(&mut self, by: usize) {
        let proof = FenceProof::new(self.record.owner());
        if owner(by).node != self.record.owner().node {
            self.apply_as(owner(by), Input::TakeOver { proof }).unwrap();
        }
    }

    /// Looks at a request, up to where a record is needed.
    pub fn examine(&self, bytes: &[u8], source: SocketAddr) -> Examined {
        examine(&self.secrets, bytes, source, self.now)
    }

    pub fn proven(&self, bytes: &[u8], source: SocketAddr) -> Proven {
        match self.examine(bytes, source) {
            Examined::Proven(proven) => proven,
            other => panic!("{other:?}"),
        }
    }

    /// The owner serves a request.
    pub fn serve(&mut self, bytes: &[u8], source: SocketAddr) -> Option<Reply> {
        self.serve_with(bytes, source, Outcome::Won, true)
    }

    /// The same, its commit having this outcome. Of an unknown one `is_written` says the truth.
    pub fn serve_with(
        &mut self,
        bytes: &[u8],
        source: SocketAddr,
        outcome: Outcome,
        is_written: bool,
    ) -> Option<Reply> {
        let proven = match self.examine(bytes, source) {
            Examined::Unreadable(_) | Examined::Unanswerable(_) => return None,
            Examined::Reply(reply) => return Some(reply),
            Examined::Proven(proven) => proven,
        };
        let context = self.context(self.record.owner());
        match proven.decide(&self.record, &context) {
            Decided::Reply(reply) => Some(reply),
            Decided::Commit(commit, uncommitted) => {
                let is_written = match outcome {
                    Outcome::Won => true,
                    Outcome::Lost(_) | Outcome::Fenced | Outcome::Unavailable(_) => false,
                    Outcome::Unknown => is_written,
                };
                if is_written {
                    self.write(*commit.record());
                }
                Some(uncommitted.settle(outcome))
            }
        }
    }

    /// A request and its answer, without anything in the way, challenges included.
    pub fn exchange(&mut self, client: &mut Tracker, mut request: Message, source: SocketAddr) {
        use ownership::client::Next;
        for _ in 0..8 {
            let reply = self.serve(&request, source).expect("an answer");
            match client.receive(reply.message()).expect("taken") {
                Next::Send(message) => request = message,
                Next::Wait(_) | Next::KeyNeeded(_) | Next::Done(_) => return,
            }
        }
        panic!("no end");
    }
}
