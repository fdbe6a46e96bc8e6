//! Keeps the lease, and the kernel's deadline with it.

use super::Node;
use crate::{broken::Broken, sim::Exit};
use ownership::{
    lease::{Holder, Next, Over},
    store::{Directory, Store},
};
use std::rc::Rc;

impl Node {
    pub(super) async fn keep_lease(self: Rc<Self>) {
        loop {
            let now = self.machine.now();
            let next = self.with_holder(|holder| holder.next(now));
            match next {
                Next::Wait(until) => self.machine.sleep_until(until).await,
                Next::Beat => {
                    let applied = self.placing.borrow().applied.as_ref().map(|it| it.revision());
                    let operation = self.operation();
                    let beat = self.with_holder(|holder| holder.beat(now, applied, operation));
                    let Some(write) = beat else { continue };
                    self.machine.stall().await;
                    let outcome = self.directory.write(write).await;
                    self.sim.tell("heartbeat", (self.machine.place, outcome));
                    let answered = self.with_holder(|holder| holder.answered(outcome));
                    if self.is_broken(Broken::DeadlineFromAnswer) && answered.is_ok() {
                        if outcome.is_won() {
                            let deadline = self.machine.now().after(self.sim.plan.times.lease());
                            self.machine.kernel.borrow_mut().arm(Some(deadline));
                        }
                    } else {
                        self.leased(answered);
                    }
                }
                Next::Look => match self.directory.heartbeat(self.machine.node).await {
                    Ok(row) => {
                        let found = self.with_holder(|holder| holder.found(row.as_ref()));
                        self.leased(found);
                    }
                    Err(_) => self.machine.rest(50, 300).await,
                },
                Next::Answer => self.machine.rest(10, 20).await,
                Next::Over(over) => return self.over(over),
            }
        }
    }

    fn with_holder<T>(&self, with: impl FnOnce(&mut Holder) -> T) -> T {
        with(self.holder.borrow_mut().as_mut().expect("there is one once the node has begun"))
    }

    /// Whatever came of a heartbeat, the kernel's deadline follows from it.
    pub(super) fn leased(&self, answered: Result<(), Over>) {
        let deadline = self.with_holder(|holder| holder.deadline());
        self.machine.kernel.borrow_mut().arm(deadline);
        if let Err(over) = answered {
            self.over(over);
        }
    }

    fn over(&self, over: Over) {
        self.machine.disk.incarnation.set(None);
        self.exit(match over {
            Over::SomebodyElse => Exit::SomebodyElse,
            Over::Fenced => Exit::Fenced,
        });
    }
}
