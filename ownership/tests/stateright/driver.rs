//! What the daemon is in a node: it does what the protocols say, tells them what came of it, and sets the
//! kernel by it. Here is how it sends; what it does is in `epochs.rs` and `slots.rs`, and for a session in
//! `sessions.rs`, `doubts.rs` and `moves.rs`.

use crate::{
    config::{Config, Mistake},
    node::{Node, Process},
    shelf::Delivery,
    sight::Sight,
    way::Way,
    world::{Kept, NOW, World, policy},
};
use ownership::{
    model::{Context, OperationId},
    store::{Attempt, Fault, Identity, Outcome, Seen, Transaction},
    takeover::Strategy,
};

/// One machine of a world, taken out of it while it acts.
pub struct Driver<'a, W: Way> {
    pub config: &'a Config,
    pub world: &'a mut World<W>,
    pub at: usize,
    pub node: Node<W>,
}

impl<'a, W: Way> Driver<'a, W> {
    pub fn new(config: &'a Config, world: &'a mut World<W>, at: usize) -> Self {
        let node = (*world.nodes[at]).clone();
        Self { config, world, at, node }
    }

    /// Puts the machine back.
    pub fn done(self) {
        self.world.nodes[self.at] = Kept::new(self.node);
    }

    pub fn sight(&self) -> Sight<'_, W> {
        Sight { config: self.config, world: self.world, at: self.at, node: &self.node }
    }

    pub fn process(&mut self) -> &mut Process<W> {
        self.node.process.as_mut().expect("it runs")
    }

    pub fn me(&self) -> Identity {
        self.node.identity().expect("it has an epoch")
    }

    pub fn makes(&self, mistake: Mistake) -> bool {
        self.config.mistake == Some(mistake)
    }

    /// A number that no other attempt has, of this or another process.
    pub fn operation(&self, attempt: Of, number: u64) -> OperationId {
        let process = (self.at as u128) << 120 | u128::from(self.node.starts) << 112;
        OperationId(process | (attempt as u128) << 104 | u128::from(number))
    }

    /// The circumstances of a change of a session.
    pub fn context(&self, attempt: Of, session: usize) -> Context {
        let row = self.world.session(self.at, session);
        let version = row.map_or(0, |row| row.record.version().get() + 1);
        let operation = self.operation(attempt, (session as u64) << 32 | version);
        Context { now: NOW, actor: self.me().owner, policy: policy(), operation }
    }

    pub fn attempt(&self, attempt: Of, number: u64) -> Attempt {
        Attempt { by: self.me(), now: NOW, operation: self.operation(attempt, number) }
    }

    /// Sends something to the directory.
    pub fn send(&mut self, write: impl Into<Transaction>, delivery: Delivery) -> Outcome {
        if self.sight().is_refused() {
            return Outcome::Unavailable(Fault::Older);
        }
        let World { directory, history, .. } = &mut *self.world;
        let outcome = history.change(|history| directory.send(write, delivery, history));
        self.saw();
        outcome
    }

    /// Sends something to where the sessions are; a store of the node's own answers always.
    pub fn send_session(&mut self, write: impl Into<Transaction>, delivery: Delivery) -> Outcome {
        match W::STRATEGY {
            Strategy::Shared => self.send(write, delivery),
            Strategy::Sticky => self.send_own(write),
        }
    }

    /// Sends something to the node's own store.
    pub fn send_own(&mut self, write: impl Into<Transaction>) -> Outcome {
        let World { own, history, .. } = &mut *self.world;
        history.change(|history| own[self.at].send(write, Delivery::Whole, history))
    }

    /// Takes note of how far the store is. Only models in which it goes back make states of it.
    pub fn saw(&mut self) {
        if self.config.has_restores() {
            self.node.disk.seen = Seen::new(self.world.directory.tables().position());
        }
    }
}

/// What an attempt is of.
#[derive(Clone, Copy, Debug)]
pub enum Of {
    Registration = 1,
    Beat,
    Fence,
    Placement,
    Change,
    Reattach,
    HandOff,
    Abort,
    Rival,
    End,
}
