//! Runs of many seeds, as many at a time as there are CPUs.

use crate::{broken::Broken, check::Violation, world::World};
use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

/// How many events a run had, and their hash; or what was wrong with it.
pub type Ran = Result<(u64, u64), Violation>;

/// One run.
pub fn run(seed: u64, broken: Option<Broken>) -> Ran {
    finish(&mut World::new(seed, broken, 0))
}

/// The same run, with its last events as people read them.
pub fn told(seed: u64, events: usize) -> (Ran, String) {
    let mut world = World::new(seed, None, events);
    let ran = finish(&mut world);
    let lines: Vec<_> = world.sim.trace().lines().map(str::to_owned).collect();
    (ran, lines.join("\n"))
}

fn finish(world: &mut World) -> Ran {
    catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Err(Violation::Panic(text.unwrap_or_default()))
    })
}

/// All the seeds that `is_wanted` by what came of them, in order, up to the first few. Ends early once there
/// are so many.
pub fn find(
    seeds: Range<u64>,
    broken: Option<Broken>,
    most: usize,
    is_wanted: impl Fn(&Violation) -> bool + Sync,
) -> Vec<(u64, Violation)> {
    let (next, is_enough) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let found = Mutex::new(Vec::new());
    let work = || {
        while !is_enough.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            if let Err(violation) = run(seed, broken)
                && is_wanted(&violation)
            {
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.push((seed, violation));
                is_enough.store(found.len() >= most, Ordering::Relaxed);
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_by_key(|(seed, _)| *seed);
    found
}
