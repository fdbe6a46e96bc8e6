//! Explores a model, and says what is wrong with it.

use crate::{config::Config, model::Cluster, way::Way};
use ownership::{
    store::{SessionWrite, TransferWrite},
    takeover::Strategy,
};
use stateright::{Checker, Expectation, HasDiscoveries, Model};
use std::time::Instant;

/// What was found of a model.
pub struct Explored {
    pub unique: usize,
    /// Properties that do not hold, or were never met, each with how it comes to that.
    pub wrong: Vec<(&'static str, String)>,
}

/// Explores a model to its end, or to the first thing that is wrong, breadth first: no shorter way leads to
/// what is found.
pub fn explore(config: Config, threads: usize) -> Explored {
    match config.strategy {
        Strategy::Shared => explored::<SessionWrite>(config, threads),
        Strategy::Sticky => explored::<TransferWrite>(config, threads),
    }
}

fn explored<W: Way>(config: Config, threads: usize) -> Explored {
    let begin = Instant::now();
    let name = config.name;
    let checker = Cluster::<W>::new(config)
        .checker()
        .threads(threads)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let unique = checker.unique_state_count();
    println!("{name}: {unique} states, depth {}, {:?}", checker.max_depth(), begin.elapsed());
    let discoveries = checker.discoveries();
    let mut wrong = Vec::new();
    for property in checker.model().properties() {
        match (property.expectation, discoveries.get(property.name)) {
            (Expectation::Always, Some(path)) => {
                let end = checker.model().comes_to_rest(path.last_state());
                let actions = path.clone().into_actions();
                wrong.push((property.name, format!("after {actions:?}, and in the end {end:?}")));
            }
            (Expectation::Sometimes, None) => wrong.push((property.name, "never".to_owned())),
            _ => {}
        }
    }
    Explored { unique, wrong }
}

/// Explores a model in which nothing may be wrong; gives how many states it has.
pub fn holds(config: Config, threads: usize) -> usize {
    let (name, least) = (config.name, config.least);
    let Explored { unique, wrong } = explore(config, threads);
    assert!(wrong.is_empty(), "{name}: {wrong:#?}");
    assert!(unique >= least, "{name}: {unique} states, where {least} were to be explored");
    unique
}
