//! What the daemon is in a node: its epoch and its lease, and those of others.

use crate::{
    config::Mistake,
    driver::{Driver, Of},
    node::{Beat, Phase, Process, Work},
    shelf::Delivery,
    sight::all_nodes,
    way::Way,
    world::{NOW, id},
};
use ownership::{
    Epoch, NodeIndex,
    lease::{Found, Holder, Registered, Registration, Resuming, Taker},
    store::{DirectoryWrite, FenceRow, Incarnation, Key, Outcome, Row},
    takeover::Strategy,
};

impl<W: Way> Driver<'_, W> {
    fn fence(&self) -> Option<FenceRow> {
        self.world.directory.fence(self.node.index).cloned()
    }

    /// A process starts: it resumes the epoch that it finds, or is to begin another.
    pub fn start(&mut self) {
        let index = self.node.index;
        let found = Found { boot: self.node.boot, pinned: self.node.kernel.pinned };
        let times = self.config.times();
        let fence = self.fence();
        let heartbeat = self.world.directory.heartbeat(index).cloned();
        let resuming = self.node.disk.record.and_then(|recorded| {
            let unsettled = self.sight().unsettled(recorded.identity);
            let (fence, heartbeat) = (fence.as_ref(), heartbeat.as_ref());
            Resuming::new(recorded, found, fence, heartbeat, times, unsettled).ok()
        });
        self.node.starts += 1;
        let incarnation = Incarnation(self.operation(Of::Registration, 0).0);
        let is_new = resuming.is_none();
        let phase = resuming.map_or_else(
            || Phase::Registering(Registration::new(index, &name(index), incarnation)),
            Phase::Resuming,
        );
        self.node.process = Some(Process {
            phase,
            takers: all_nodes(self.config).map(|node| Taker::new(node, times)).collect(),
            incarnation,
            work: self.world.numbers().map(|_| Work::None).collect(),
            accepted: vec![None; self.world.numbers().len()],
        });
        if is_new {
            self.node.disk.record = None;
        } else {
            self.begin();
        }
    }

    /// Tries to register, unless an earlier attempt turns out to be done.
    pub fn register(&mut self, delivery: Delivery) {
        let mut registration = match &self.process().phase {
            Phase::Registering(registration) => registration.clone(),
            _ => panic!("it has an epoch"),
        };
        let mut fence = self.fence();
        if self.makes(Mistake::NoIncarnationCompare)
            && let Some(fence) = &mut fence
        {
            fence.incarnation = self.process().incarnation;
        }
        let heartbeat = self.world.directory.heartbeat(self.node.index).cloned();
        if let Some(registered) = registration.found(fence.as_ref(), heartbeat.as_ref()) {
            return self.registered(registered);
        }
        let (clock, drawn) = (self.node.clock, self.drawn_epoch());
        let operation =
            self.operation(Of::Registration, drawn.map_or(1, |drawn| drawn.get().into()));
        let before = self.fence();
        let write = registration.attempt(before.as_ref(), drawn, clock, NOW, operation);
        let outcome = self.send(write.expect("its own name, and epochs enough"), delivery);
        match registration.answered(outcome) {
            Some(registered) => self.registered(registered),
            None => self.process().phase = Phase::Registering(registration),
        }
    }

    fn drawn_epoch(&self) -> Option<Epoch> {
        match self.world.directory.tables().get(&Key::Epochs) {
            Some(Row::Epochs(epoch)) => Some(*epoch),
            _ => None,
        }
    }

    fn registered(&mut self, registered: Registered) {
        let identity = registered.identity();
        let holder = Holder::new(registered, self.config.times());
        self.node.kernel.deadline = holder.deadline().unwrap_or_default();
        self.node.pin(identity);
        self.process().phase = Phase::Running(holder, None);
        if W::STRATEGY == Strategy::Sticky {
            let before = self.world.own[self.at].fence(self.node.index).cloned();
            let row =
                FenceRow { incarnation: identity.incarnation, ..self.fence().expect("its row") };
            let copy = DirectoryWrite::copy_fence(before.as_ref(), &row).expect("a later epoch");
            assert!(self.send_own(copy).is_won(), "nobody else writes there");
        }
        self.begin();
    }

    /// A process with an epoch looks about.
    fn begin(&mut self) {
        self.node.kernel.placed = None;
        self.apply();
    }

    /// The moving sessions are in order: the epoch goes on.
    pub fn resume(&mut self) {
        let phase = &mut self.process().phase;
        if let Phase::Resuming(resuming) = phase
            && let Ok(holder) = resuming.clone().resume()
        {
            *phase = Phase::Running(holder, None);
        }
    }

    /// Takes note of sessions that a commit has put in order.
    pub fn settle(&mut self) {
        let Some(process) = &mut self.node.process else { return };
        if let Phase::Resuming(resuming) = &mut process.phase {
            for (session, work) in process.work.iter().enumerate() {
                let is_settled = matches!(
                    work,
                    Work::None | Work::Serves(..) | Work::Elsewhere(_) | Work::Stopped
                );
                if is_settled {
                    resuming.settled(id(session));
                }
            }
        }
    }

    fn holder(&mut self) -> (&mut Holder, &mut Option<Beat>) {
        match &mut self.node.process.as_mut().expect("it runs").phase {
            Phase::Running(holder, beat) => (holder, beat),
            Phase::Registering(_) | Phase::Resuming(_) => panic!("it has no lease"),
        }
    }

    /// A heartbeat is sent.
    pub fn beat(&mut self) {
        let count = self.world.directory.heartbeat(self.node.index).map_or(0, |row| row.count);
        let (clock, operation) = (self.node.clock, self.operation(Of::Beat, count));
        let applied = self.node.kernel.placed.as_ref().map(|placed| placed.row.revision);
        let (holder, beat) = self.holder();
        *beat = holder.beat(clock, applied, operation).map(Beat::Sent);
    }

    /// A heartbeat is sent, and arrives, and its answer too.
    pub fn beat_through(&mut self) {
        self.beat();
        self.beat_arrives();
        self.beat_answered();
    }

    /// It arrives.
    pub fn beat_arrives(&mut self) {
        if let Some(Beat::Sent(write)) = self.holder().1.take() {
            let outcome = self.send(write, Delivery::Whole);
            *self.holder().1 = Some(Beat::Answered(outcome));
        }
    }

    /// Its answer arrives.
    pub fn beat_answered(&mut self) {
        if let Some(Beat::Answered(outcome)) = self.holder().1.take() {
            self.beat_came_to(outcome);
        }
    }

    /// Nobody waits for its answer any longer. It may still arrive.
    pub fn beat_in_doubt(&mut self) {
        if let Some(beat) = self.holder().1.take() {
            if let Beat::Sent(write) = beat {
                let _unknown = self.send(write, Delivery::Late);
            }
            self.beat_came_to(Outcome::Unknown);
        }
    }

    fn beat_came_to(&mut self, outcome: Outcome) {
        let answered = self.holder().0.answered(outcome);
        self.arm(outcome.is_won());
        if answered.is_err() {
            self.node.stop();
        }
    }

    /// The heartbeat is looked for.
    pub fn beat_look(&mut self) {
        let heartbeat = self.world.directory.heartbeat(self.node.index).cloned();
        let found = self.holder().0.found(heartbeat.as_ref());
        self.arm(false);
        if found.is_err() {
            self.node.stop();
        }
    }

    fn arm(&mut self, is_answer: bool) {
        let mut deadline = self.holder().0.deadline().unwrap_or_default();
        if is_answer && self.makes(Mistake::DeadlineFromAnswer) {
            deadline = self.node.clock.after(self.config.times().lease());
        }
        self.node.kernel.deadline = deadline;
    }

    /// Deletes a row of the directory that is of no use any more. Whether that is done or not matters to
    /// nobody, unless it is because the epoch is over; gives whether that goes on.
    pub fn tidies(&mut self, write: DirectoryWrite) -> bool {
        let is_over = self.send(write, Delivery::Whole) == Outcome::Fenced;
        if is_over {
            self.over();
        }
        !is_over
    }

    /// Somebody said that the epoch is over.
    pub fn over(&mut self) {
        if let Phase::Running(holder, _) = &mut self.process().phase {
            holder.fenced();
        }
        self.node.stop();
    }

    pub fn taker(&mut self, node: NodeIndex) -> &mut Taker {
        let takers = &mut self.process().takers;
        takers.iter_mut().find(|taker| taker.node() == node).expect("one for each")
    }

    /// Looks how another node is.
    pub fn watch(&mut self, node: NodeIndex) {
        let fence = self.world.directory.fence(node).cloned();
        let heartbeat = self.world.directory.heartbeat(node).cloned();
        let clock = self.node.clock;
        self.taker(node).saw(fence.as_ref(), heartbeat.as_ref(), clock);
        self.saw();
    }

    pub fn end_silent(&mut self, node: NodeIndex, delivery: Delivery) {
        let epoch = self.world.directory.fence(node).map_or(0, |fence| fence.epoch.get());
        let (attempt, clock) = (self.attempt(Of::Fence, epoch.into()), self.node.clock);
        if let Some(write) = self.taker(node).fence(clock, attempt) {
            let outcome = self.send(write, delivery);
            self.taker(node).answered(outcome);
            if outcome == Outcome::Fenced {
                self.over();
            }
        }
    }
}

pub fn name(node: NodeIndex) -> String {
    format!("node {node}")
}
