//! What comes of something that happens.

use crate::{
    actions::Action,
    client::Client,
    config::Config,
    driver::Driver,
    node::Work,
    shelf::{Delivery, index},
    way::Way,
    world::{Backup, Kept, NOW, World},
};
use ownership::{
    model::OperationId,
    store::{Attempt, DirectoryWrite},
};
use std::{sync::Arc, time::Duration};

impl<W: Way> World<W> {
    /// The world after something has happened.
    #[must_use]
    pub fn after(&self, config: &Config, action: Action) -> Self {
        let mut world = self.clone();
        world.pay(action);
        match action {
            Action::Tick => {
                world.tick(config);
                return world;
            }
            Action::Arrive(late) => {
                let Self { directory, history, .. } = &mut world;
                history.change(|history| directory.arrive(late, history));
                return world;
            }
            Action::End(at) => {
                world.end(at);
                return world;
            }
            Action::BackUp => {
                let tables = Arc::clone(world.directory.tables());
                world.backup = Some(Backup { tables, is_restored: false });
                return world;
            }
            Action::Restore => {
                if let Some(backup) = &mut world.backup {
                    backup.is_restored = true;
                    world.directory.restore(&backup.tables);
                }
                return world;
            }
            Action::Hear(session, answer, stays) => {
                world.clients[session].change(|client| client.hears(answer, stays));
                return world;
            }
            Action::Retry(session) => {
                world.clients[session].change(Client::retries);
                return world;
            }
            Action::Move(session) => {
                world.clients[session].change(Client::moves);
                return world;
            }
            _ => {}
        }
        if let Some(at) = action.machine() {
            let mut driver = Driver::new(config, &mut world, at);
            driver.act(action);
            driver.settle();
            driver.done();
        }
        world
    }

    fn pay(&mut self, action: Action) {
        let budget = &mut self.budget;
        let spent = match action {
            Action::Tick => &mut budget.ticks,
            Action::BeatInDoubt(_) => &mut budget.doubts,
            Action::Crash(_) => &mut budget.crashes,
            Action::Reboot(_) => &mut budget.reboots,
            Action::End(_) => &mut budget.ends,
            Action::Change(..) => &mut budget.changes,
            Action::Freeze(..) => &mut budget.moves,
            Action::Birth(..) => &mut budget.births,
            Action::Plan(..) => &mut budget.plans,
            Action::Restore => &mut budget.restores,
            Action::Move(_) | Action::Retry(_) => &mut budget.requests,
            Action::Hear(_, _, true) => &mut budget.repeats,
            Action::Serve(_, session, request, _)
                if self.clients[session].requests().any(|known| known == (request, true)) =>
            {
                &mut budget.repeats
            }
            Action::GiveUp(at, session, _) => {
                let is_free = matches!(self.nodes[at].work(session), Some(Work::Inherited(_)));
                if is_free { &mut 1 } else { &mut budget.aborts }
            }
            _ => &mut 1,
        };
        *spent = spent.saturating_sub(1);
        if action.delivery().is_some_and(|delivery| delivery != Delivery::Whole) {
            budget.doubts = budget.doubts.saturating_sub(1);
        }
    }

    fn tick(&mut self, config: &Config) {
        for (node, machine) in self.nodes.iter_mut().zip(&config.machines) {
            let mut next = (**node).clone();
            next.clock = next.clock.after(Duration::from_nanos(machine.rate));
            *node = Kept::new(next);
        }
        let steady = (0..self.nodes.len()).filter(|at| config.machines[*at].is_steady);
        for at in steady.filter(|at| self.nodes[*at].is_running()).collect::<Vec<_>>() {
            let mut driver = Driver::new(config, self, at);
            driver.beat_through();
            driver.done();
        }
    }

    /// An operator ends an epoch, by way of another node.
    fn end(&mut self, at: usize) {
        let (Some(by), Some(fence)) =
            (self.nodes[at].identity(), self.directory.fence(self.nodes[at].index).cloned())
        else {
            return;
        };
        let operation = OperationId(u128::from(fence.epoch.get()) << 96);
        let attempt = Attempt { by, now: NOW, operation };
        let (write, _) = DirectoryWrite::fence(&fence, attempt);
        let Self { directory, history, .. } = self;
        let _done_or_done_before =
            history.change(|history| directory.send(write, Delivery::Whole, history));
    }
}

impl<W: Way> Driver<'_, W> {
    fn act(&mut self, action: Action) {
        match action {
            Action::Tick
            | Action::BackUp
            | Action::Restore
            | Action::Arrive(_)
            | Action::End(_)
            | Action::Hear(..)
            | Action::Retry(_)
            | Action::Move(_) => {}
            Action::Serve(_, session, request, delivery) => {
                self.serve(session, request, delivery);
            }
            Action::Start(_) => self.start(),
            Action::Register(_, delivery) => self.register(delivery),
            Action::Resume(_) => self.resume(),
            Action::BeatArrives(_) => self.beat_arrives(),
            Action::BeatAnswered(_) => self.beat_answered(),
            Action::BeatLook(_) => self.beat_look(),
            Action::Beat(_) => self.beat(),
            Action::BeatThrough(_) => self.beat_through(),
            Action::Copy(_, session) => self.copy(session),
            Action::TakeIn(_, session) => self.take_in(session),
            Action::Look(_, session) => self.look(session),
            Action::Rival(_, session, delivery) => self.rival(session, delivery),
            Action::GiveUp(_, session, delivery) => self.give_up(session, delivery),
            Action::Accept(_, session) => self.accept(session),
            Action::ResumeSession(_, session, delivery) => self.resume_session(session, delivery),
            Action::Quiesce(_, session) => self.quiesce(session),
            Action::HandOff(_, session, delivery) => self.hand_off(session, delivery),
            Action::Find(_, session) => self.find(session),
            Action::Apply(_) => self.apply(),
            Action::Census(_) => self.census(),
            Action::Watch(_, node) => self.watch(index(node)),
            Action::EndSilent(_, node, delivery) => self.end_silent(index(node), delivery),
            Action::FailOver(_) => self.fail_over(),
            Action::TakeOver(_, session, delivery) => self.take_over(session, delivery),
            Action::Clear(_) => self.clear(),
            Action::BeatInDoubt(_) => self.beat_in_doubt(),
            Action::Crash(_) => self.node.crash(),
            Action::Reboot(_) => self.node.reboot(),
            Action::Change(_, session, delivery) => self.change(session, delivery),
            Action::Freeze(_, session, to, delivery) => self.freeze(session, to, delivery),
            Action::Birth(_, session, delivery) => self.birth(session, delivery),
            Action::Plan(_, to) => self.plan(to),
            Action::SendAgain(_, session) => self.retry(session),
            Action::AcceptEarly(_, session) => self.accept_early(session),
            Action::Forget(_, session) => self.forget(session),
        }
    }
}
