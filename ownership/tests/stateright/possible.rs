//! Which of all things can happen in a state.

use crate::{
    actions::Action,
    client::Client,
    config::{Budget, Config, Mistake},
    node::{Beat, Entry, Node, Phase, Work},
    shelf::{Delivery, index},
    sight::Sight,
    way::Way,
    world::{World, id},
};
use ownership::{client::Status, lease::Next, model::Hold, pending::Due, takeover::Strategy};

/// All that can happen in a world.
pub struct Possible<'a, W: Way> {
    config: &'a Config,
    world: &'a World<W>,
    actions: &'a mut Vec<Action>,
}

impl<'a, W: Way> Possible<'a, W> {
    pub fn collect(config: &'a Config, world: &'a World<W>, actions: &'a mut Vec<Action>) {
        let mut possible = Self { config, world, actions };
        for late in 0..world.directory.late() {
            possible.add(Action::Arrive(late));
        }
        for at in 0..world.nodes.len() {
            possible.machine(at, &world.nodes[at]);
        }
        for (session, client) in world.clients.iter().enumerate() {
            possible.client(session, client);
        }
        if world.budget.restores > 0 {
            if world.backup.is_none() {
                possible.add(Action::BackUp);
            } else if world.restorable().is_some() {
                possible.add(Action::Restore);
            }
        }
        if world.budget.ticks > 0 {
            possible.add(Action::Tick);
        }
    }

    fn sight<'s>(&'s self, at: usize, node: &'s Node<W>) -> Sight<'s, W> {
        Sight { config: self.config, world: self.world, at, node }
    }

    /// Whether leases run out.
    fn has_time(&self) -> bool {
        self.config.budget.ticks > 0 || self.world.is_ending
    }

    fn add(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Once for each thing that can become of a request.
    fn each(&mut self, action: impl Fn(Delivery) -> Action) {
        self.add(action(Delivery::Whole));
        if self.world.budget.doubts > 0 {
            self.add(action(Delivery::AnswerLost));
            self.add(action(Delivery::Late));
        }
    }

    /// The same for a request to where sessions are: a store of the node's own always answers.
    fn each_of_sessions(&mut self, action: impl Fn(Delivery) -> Action) {
        match W::STRATEGY {
            Strategy::Shared => self.each(action),
            Strategy::Sticky => self.add(action(Delivery::Whole)),
        }
    }

    fn machine(&mut self, at: usize, node: &Node<W>) {
        let Budget { crashes, reboots, ends, .. } = self.world.budget;
        let is_refused = self.sight(at, node).is_refused();
        let Some(process) = &node.process else {
            if is_refused {
                return;
            }
            if reboots > 0 && node.kernel.pinned.is_some() {
                self.add(Action::Reboot(at));
            }
            return self.add(Action::Start(at));
        };
        if crashes > 0 {
            self.add(Action::Crash(at));
        }
        if reboots > 0 {
            self.add(Action::Reboot(at));
        }
        if ends > 0 && node.is_running() {
            self.add(Action::End(at));
        }
        if is_refused {
            return;
        }
        match &process.phase {
            Phase::Registering(_) => return self.each(|delivery| Action::Register(at, delivery)),
            Phase::Resuming(resuming) if resuming.unsettled().next().is_none() => {
                self.add(Action::Resume(at));
            }
            Phase::Resuming(_) => {}
            Phase::Running(holder, beat) => {
                match beat {
                    Some(Beat::Sent(_)) => self.add(Action::BeatArrives(at)),
                    Some(Beat::Answered(_)) => self.add(Action::BeatAnswered(at)),
                    None => {}
                }
                if beat.is_some() && self.world.budget.doubts > 0 {
                    self.add(Action::BeatInDoubt(at));
                }
                match holder.next(node.clock) {
                    _ if self.config.machines[at].is_steady => {
                        if self.has_news(node) {
                            self.add(Action::BeatThrough(at));
                        }
                    }
                    Next::Look => self.add(Action::BeatLook(at)),
                    Next::Beat => self.add(Action::Beat(at)),
                    Next::Wait(_) | Next::Answer | Next::Over(_) => {}
                }
                self.nodes(at, node);
            }
        }
        for session in self.world.numbers() {
            self.session(at, node, session, &process.work[session]);
        }
    }

    /// Whether a node has applied a placement that its heartbeat does not tell of yet.
    fn has_news(&self, node: &Node<W>) -> bool {
        let told = self.world.directory.heartbeat(node.index).and_then(|row| row.applied);
        let applied = node.kernel.placed.as_ref().map(|placed| placed.row.revision);
        self.config.has_moves() && told != applied
    }

    /// What a running node does about others.
    fn nodes(&mut self, at: usize, node: &Node<W>) {
        let stands = self.world.directory.placement().map(|row| row.revision);
        let placed = node.kernel.placed.as_ref();
        let applied = placed.map(|placed| placed.row.revision);
        if stands > applied {
            self.add(Action::Apply(at));
        }
        if placed.is_some_and(|placed| placed.applied.home(0).is_none())
            && self.sight(at, node).barrier().is_some()
        {
            self.add(Action::Census(at));
        }
        if self.config.has_moves() {
            let stands = self.world.placement();
            let previous = stands.and_then(|placement| placement.slots()[0].previous);
            let may_clear = applied.is_some()
                && applied == self.world.directory.placement().map(|row| row.revision);
            if previous == Some(node.index)
                && (may_clear || self.config.mistake == Some(Mistake::ClearedBeforeBarrier))
            {
                self.add(Action::Clear(at));
            }
            if self.world.budget.plans > 0 {
                for to in self.config.nodes() {
                    self.add(Action::Plan(at, to));
                }
            }
        }
        if !self.has_time() {
            return;
        }
        if self.sight(at, node).lost_home().is_some() {
            self.add(Action::FailOver(at));
        }
        for other in self.config.nodes() {
            if self.sight(at, node).has_to_watch(index(other)) {
                self.add(Action::Watch(at, other));
            }
            if self.sight(at, node).is_silent(index(other)) {
                self.each(|delivery| Action::EndSilent(at, other, delivery));
            }
        }
    }

    fn session(&mut self, at: usize, node: &Node<W>, session: usize, work: &Work<W>) {
        let is_running = node.is_running();
        let Budget { changes, moves, aborts, births, .. } = self.world.budget;
        match work {
            Work::Copies(_) => self.add(Action::Copy(at, session)),
            Work::Waits(_) => self.add(Action::TakeIn(at, session)),
            Work::Changes(changes) => match changes.0.due() {
                Due::Look => self.add(Action::Look(at, session)),
                Due::Send | Due::Rival => {
                    self.each_of_sessions(|delivery| Action::Rival(at, session, delivery));
                }
            },
            Work::Undecided(undecided) => match undecided.due() {
                Due::Look => {
                    self.add(Action::Look(at, session));
                    if self.config.mistake == Some(Mistake::RetryOfUnknown) {
                        self.add(Action::SendAgain(at, session));
                    }
                }
                Due::Send | Due::Rival => {
                    self.each(|delivery| Action::Rival(at, session, delivery));
                }
            },
            Work::Inherited(inherited) => {
                let version = inherited.session().record.version();
                let is_decided = W::STRATEGY == Strategy::Sticky
                    && W::stands(&self.world.directory, id(session), version).is_some();
                if is_decided {
                    self.add(Action::Look(at, session));
                } else {
                    self.each(|delivery| Action::GiveUp(at, session, delivery));
                }
            }
            Work::Arrived(_) => {
                self.each_of_sessions(|delivery| Action::ResumeSession(at, session, delivery));
            }
            Work::Frozen(_) if is_running => {
                self.add(Action::Quiesce(at, session));
                if aborts > 0 {
                    self.each(|delivery| Action::GiveUp(at, session, delivery));
                }
            }
            Work::Quiesced(_) if is_running => {
                let is_awaited = self.sight(at, node).destination(session).is_some();
                if is_awaited {
                    self.each(|delivery| Action::HandOff(at, session, delivery));
                }
                if !is_awaited || aborts > 0 {
                    self.each(|delivery| Action::GiveUp(at, session, delivery));
                }
            }
            Work::Serves(..) if is_running => {
                if changes > 0 {
                    self.each_of_sessions(|delivery| Action::Change(at, session, delivery));
                }
                if moves > 0 {
                    for to in self.config.nodes() {
                        if index(to) != node.index {
                            self.each_of_sessions(|delivery| {
                                Action::Freeze(at, session, to, delivery)
                            });
                        }
                    }
                }
            }
            Work::None | Work::Elsewhere(_) => {
                self.foreign(at, node, session);
                let is_unborn = self.world.history.last(session).is_none();
                let may_mint =
                    node.kernel.placed.as_ref().is_some_and(|placed| placed.applied.may_mint(0));
                if births > 0 && is_running && is_unborn && may_mint {
                    self.each_of_sessions(|delivery| Action::Birth(at, session, delivery));
                }
            }
            Work::Frozen(_) | Work::Quiesced(_) | Work::Serves(..) | Work::Stopped => {}
        }
    }

    fn client(&mut self, session: usize, client: &Client) {
        let Budget { requests, repeats, .. } = self.world.budget;
        for answer in 0..client.answers() {
            self.add(Action::Hear(session, answer, false));
            if repeats > 0 {
                self.add(Action::Hear(session, answer, true));
            }
        }
        let mut is_waiting = client.answers() > 0;
        for (request, is_received) in client.requests() {
            let may_arrive = !is_received || repeats > 0;
            is_waiting |= !is_received;
            for at in 0..self.world.nodes.len() {
                let node = &self.world.nodes[at];
                // In the end only the owner is asked: requests are sent on to it.
                let is_asked = !self.world.is_ending
                    || matches!(node.work(session), Some(work) if !matches!(work, Work::None | Work::Elsewhere(_)));
                if may_arrive && node.is_running() && is_asked {
                    self.each_of_sessions(|delivery| Action::Serve(at, session, request, delivery));
                }
            }
        }
        let is_unsettled = client.status() == Status::Unsettled;
        if is_unsettled && (requests > 0 || self.world.is_ending && !is_waiting) {
            self.add(Action::Retry(session));
        }
        if requests > 0 {
            self.add(Action::Move(session));
        }
    }

    /// A session that a node has nothing to do with, so far.
    fn foreign(&mut self, at: usize, node: &Node<W>, session: usize) {
        let sight = self.sight(at, node);
        let arrival = sight.arrival(session);
        let would_find = sight.would_find(session);
        let is_lost = self.has_time() && node.is_running() && sight.loss(session).is_some();
        let is_dropped = self.config.mistake == Some(Mistake::RedirectDropped)
            && matches!(node.work(session), Some(Work::Elsewhere(redirect))
                if self.world.directory.inbox(redirect.to().node, id(session)).is_none());
        if let Some(arrived) = arrival {
            if arrived.is_owned() || W::STRATEGY == Strategy::Sticky {
                self.add(Action::Accept(at, session));
            }
        } else if would_find {
            self.add(Action::Find(at, session));
        }
        if is_lost {
            self.each_of_sessions(|delivery| Action::TakeOver(at, session, delivery));
        }
        if is_dropped {
            self.add(Action::Forget(at, session));
        }
        let row = self.world.directory.session(id(session));
        if self.config.mistake == Some(Mistake::ResumeBeforeHandOff)
            && row.is_some_and(|row| row.record.hold() == Hold::Frozen { to: node.index })
            && node.kernel.entries[session] != Entry::Local
        {
            self.add(Action::AcceptEarly(at, session));
        }
    }
}

impl Config {
    /// The indices of the nodes.
    pub fn nodes(&self) -> Vec<u16> {
        let mut nodes: Vec<_> = self.machines.iter().map(|machine| machine.node).collect();
        nodes.dedup();
        nodes
    }

    /// Whether slots move in this model, or sessions are made.
    pub fn has_moves(&self) -> bool {
        self.budget.plans > 0 || self.budget.births > 0
    }
}
