//! When to look: after notifications, and without any every so often.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::events::{Events, Scope};
use super::resolver::Resolver;
use super::{DEBOUNCE, Error, NextHopChange, PROBE, RESYNC, RETRY, Targets, Upkeep};

/// Looks up next hops and reports their changes until nobody wants them any more.
pub(super) async fn run(
    mut resolver: Resolver,
    mut events: Events,
    mut targets: watch::Receiver<Targets>,
    changes: mpsc::Sender<NextHopChange>,
) -> Result<(), Error> {
    let mut wanted = targets.borrow_and_update().clone();
    let mut schedule = Schedule::new();
    let result = 'ended: loop {
        tokio::select! {
            () = changes.closed() => break Ok(()),
            changed = targets.changed() => {
                if changed.is_err() {
                    break Ok(());
                }
                wanted = targets.borrow_and_update().clone();
                schedule.want(Scope::Routes, Duration::ZERO);
            }
            event = events.next(&wanted.underlay) => match event {
                Ok(scope) => schedule.notified(scope),
                Err(error) => {
                    tracing::error!(%error, "next hops are no longer followed");
                    break Err(error);
                }
            },
            () = sleep_until(schedule.next()) => {
                let scope = schedule.begin();
                match resolver.look(scope, &wanted).await {
                    Ok(found) => {
                        schedule.end(&resolver);
                        for change in found {
                            if changes.send(change).await.is_err() {
                                break 'ended Ok(());
                            }
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "next hops could not be looked up; trying again");
                        schedule.want(Scope::Routes, RETRY);
                    }
                }
            }
        }
    };
    resolver.release().await;
    result
}

/// When to look next, and at what.
struct Schedule {
    /// What was asked for, and when to do it at the latest.
    wanted: Option<(Instant, Scope)>,
    resync: Instant,
    /// When to look after neighbours that do not answer or are not managed.
    tend: Option<Instant>,
    began: Instant,
    /// What the last look cost.
    cost: Duration,
}

impl Schedule {
    fn new() -> Self {
        let now = Instant::now();
        Self { wanted: None, resync: now, tend: None, began: now, cost: Duration::ZERO }
    }

    fn want(&mut self, scope: Scope, within: Duration) {
        let at = Instant::now() + within;
        self.wanted = Some(match self.wanted {
            Some((earlier, other)) => (earlier.min(at), other.max(scope)),
            None => (at, scope),
        });
    }

    fn notified(&mut self, scope: Scope) {
        self.want(scope, DEBOUNCE.max(self.cost * 4));
    }

    fn next(&self) -> Instant {
        let wanted = self.wanted.map(|(at, _)| at);
        [wanted, self.tend].into_iter().flatten().fold(self.resync, Instant::min)
    }

    /// Starts a look; says at what.
    fn begin(&mut self) -> Scope {
        self.began = Instant::now();
        let wanted = self.wanted.take();
        self.tend = None;
        if self.resync <= self.began {
            self.resync = self.began + RESYNC;
            return Scope::Routes;
        }
        wanted.map_or(Scope::Neighbours, |(_, scope)| scope)
    }

    fn end(&mut self, resolver: &Resolver) {
        let now = Instant::now();
        self.cost = now - self.began;
        self.tend = match (resolver.is_waiting(), resolver.upkeep()) {
            (true, _) => Some(now + RETRY),
            (false, Upkeep::Probes) => Some(now + PROBE),
            (false, Upkeep::Managed) => None,
        };
    }
}
