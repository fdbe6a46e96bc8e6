//! Serves a client's request.

use super::{Node, commit::Changed};
use crate::{
    broken::Broken,
    sim::{Packet, Payload},
};
use ownership::{
    pending::Pending,
    reattach::{Decided, Examined, NoRecord, Proven, Reply, examine},
    store::{Directory, SessionWrite, Sessions, StoredSession},
    takeover::Strategy,
};
use std::{net::SocketAddr, rc::Rc};

impl Node {
    pub(super) async fn serve(self: Rc<Self>, packet: Packet) {
        let (Payload::Control(message), source) = (packet.payload, packet.source) else { return };
        let examined = {
            let secrets = self.machine.secrets.borrow();
            examine(&secrets, &message, source, self.machine.utc())
        };
        match examined {
            Examined::Unreadable(_) | Examined::Unanswerable(_) => {}
            Examined::Reply(reply) => self.reply(&reply, source),
            Examined::Proven(proven) => self.answer(proven, source).await,
        }
    }

    fn reply(&self, reply: &Reply, to: SocketAddr) {
        let refused = reply.refused().map(|refused| refused.reason);
        self.sim.tell("reply", (self.machine.place, to, refused));
        self.machine.send(to, Payload::Control(*reply.message()));
    }

    async fn answer(self: &Rc<Self>, proven: Proven, source: SocketAddr) {
        let session = proven.session();
        let Some(owned) = self.owned(session) else {
            let reply = self.answer_without(proven).await;
            return self.reply(&reply, source);
        };
        let acts = self.is_open() || self.is_broken(Broken::AnswersWithoutLease);
        if !acts && !owned.stored.record.is_terminated() {
            // Somebody else may have it by now.
            return self.reply(&proven.without(NoRecord::Elsewhere), source);
        }
        if owned.is_busy && !owned.is_moving {
            return self.reply(&proven.without(NoRecord::InDoubt), source);
        }
        let input = proven.input();
        let decided = proven.decide(&owned.stored.record, &self.context());
        let (commit, uncommitted) = match decided {
            Decided::Reply(reply) => return self.reply(&reply, source),
            Decided::Commit(commit, uncommitted) => (commit, uncommitted),
        };
        // A move has the turn; the client will ask again.
        let Some(turn) = self.turn(session) else { return };
        let write = match SessionWrite::change(&owned.stored, &commit, self.by()) {
            Ok(write) => write,
            Err(bad) => panic!("what was decided here can be written: {bad}"),
        };
        let first = |outcome| self.reply(&uncommitted.settle(outcome), source);
        let changed = self.commit(&turn, Pending::new(write), input, first).await;
        if let Changed::Done(done) = changed {
            self.sim.tell("served", (self.machine.place, done.after()));
        }
    }

    /// The answer about a session that this node does not own.
    async fn answer_without(&self, proven: Proven) -> Reply {
        let session = proven.session();
        if self.is_broken(Broken::DeniesEverything) {
            return proven.without(NoRecord::Unknown);
        }
        let stands = match self.sessions.get(session).await {
            Ok(stands) => stands,
            Err(_) => return proven.without(NoRecord::Unavailable),
        };
        // What was handed to this node may not have been taken in yet. Only the owner of the slot asks.
        let waits = self.may_deny(session)
            && !matches!(self.directory.inbox_of(self.machine.node, session).await, Ok(None));
        match stands {
            Some(stored) if stored.record.is_terminated() => {
                match proven.decide(&stored.record, &self.context()) {
                    Decided::Reply(reply) => reply,
                    Decided::Commit(..) => panic!("nothing follows a session's end"),
                }
            }
            stands if !waits && !self.has_owner(stands) && self.may_deny(session) => {
                proven.without(NoRecord::Unknown)
            }
            _ => proven.without(NoRecord::Elsewhere),
        }
    }

    /// Whether what the node has read proves that a session has an owner. *Sticky*: its own store's copy of what
    /// it has handed away proves nothing; whether that session still lives, the placement and off-home rows say.
    fn has_owner(&self, stands: Option<StoredSession>) -> bool {
        stands.is_some_and(|stored| match self.sim.plan.strategy {
            Strategy::Shared => true,
            Strategy::Sticky => stored.record.owner().node == self.machine.node,
        })
    }
}
