//! Kinds of models. How often what happens in each is for whoever explores it to say.

use crate::{
    config::{Budget, Config, Machine},
    properties::Reached,
};
use ownership::takeover::{OnLoss, Strategy};

/// Nothing happens that nobody has to wait for.
pub const NOTHING: Budget = Budget {
    ticks: 0,
    doubts: 0,
    crashes: 0,
    reboots: 0,
    ends: 0,
    changes: 0,
    moves: 0,
    aborts: 0,
    births: 0,
    plans: 0,
    requests: 0,
    repeats: 0,
    restores: 0,
};

/// Two nodes. The clock of the first is as slow as it may be, that of the second as fast. Heartbeats come
/// through unless they are what is explored.
const TWO: [Machine; 2] = [steady(1, 9), steady(2, 11)];

/// The heartbeats of the first node are late or lost.
const FLAKY: [Machine; 2] = [Machine { node: 1, rate: 9, is_steady: false }, TWO[1]];

/// Three nodes.
const THREE: [Machine; 3] = [TWO[0], TWO[1], steady(3, 10)];

/// The second machine has the disk of the first.
const CLONED: [Machine; 3] = [steady(1, 9), steady(1, 9), TWO[1]];

const fn steady(node: u16, rate: u64) -> Machine {
    Machine { node, rate, is_steady: true }
}

fn config(name: &'static str, machines: &[Machine], strategy: Strategy, budget: Budget) -> Config {
    let on_loss = match strategy {
        Strategy::Shared => OnLoss::TakeOver,
        Strategy::Sticky => OnLoss::Deny,
    };
    Config {
        name,
        machines: machines.to_vec(),
        strategy,
        sessions: 1,
        lease: 2,
        has_clients: false,
        on_loss,
        budget,
        sample: 16,
        reaches: &[],
        least: 1,
        mistake: None,
    }
}

/// Leases: heartbeats that are late or lost, processes that end and are followed, and what becomes of the
/// sessions of a node that is lost.
pub fn lease(strategy: Strategy, on_loss: OnLoss, budget: Budget) -> Config {
    let (name, reaches): (_, &[Reached]) = match (strategy, on_loss) {
        (Strategy::Sticky, _) => ("lease, sticky", &[Reached::Returned]),
        (_, OnLoss::Deny) => ("lease, shared: deny", &[Reached::Returned]),
        (_, OnLoss::Terminate) => ("lease, shared: terminate", &[Reached::Ended]),
        (_, OnLoss::TakeOver) => {
            ("lease, shared: take over", &[Reached::TakenOver, Reached::ResumedEpoch])
        }
    };
    Config { reaches, on_loss, ..config(name, &FLAKY, strategy, budget) }
}

/// Transfers of a session, with all that can be lost or late.
pub fn transfer(strategy: Strategy, budget: Budget) -> Config {
    let reaches = &[Reached::HandedOver, Reached::Aborted, Reached::ResumedEpoch];
    let name = match strategy {
        Strategy::Shared => "transfer, shared",
        Strategy::Sticky => "transfer, sticky",
    };
    Config { reaches, ..config(name, &TWO, strategy, budget) }
}

/// Slots that move while sessions are made and moved: a node is drained.
pub fn placement(strategy: Strategy, budget: Budget) -> Config {
    let reaches = &[Reached::HandedOver, Reached::Cleared, Reached::Born];
    let name = match strategy {
        Strategy::Shared => "placement, shared",
        Strategy::Sticky => "placement, sticky",
    };
    Config { reaches, ..config(name, &THREE, strategy, budget) }
}

/// A clone of a node is started beside it.
pub fn clone(strategy: Strategy, budget: Budget) -> Config {
    let (name, reaches): (_, &[Reached]) = match strategy {
        Strategy::Shared => ("clone, shared", &[Reached::TakenOver, Reached::Returned]),
        Strategy::Sticky => ("clone, sticky", &[Reached::Returned]),
    };
    Config { reaches, ..config(name, &CLONED, strategy, budget) }
}

/// A client that changes its address while its session moves.
pub fn client(strategy: Strategy, budget: Budget) -> Config {
    let reaches = &[Reached::HandedOver, Reached::Reattached];
    let name = match strategy {
        Strategy::Shared => "client, shared",
        Strategy::Sticky => "client, sticky",
    };
    Config { has_clients: true, reaches, ..config(name, &TWO, strategy, budget) }
}

/// The store is restored from a backup.
pub fn restore(budget: Budget) -> Config {
    let reaches = &[Reached::Refused];
    Config { reaches, ..config("restore", &TWO, Strategy::Shared, budget) }
}
