//! Explores a model, and says what is wrong with it.

use crate::{config::Config, model::Cluster, way::Way};
use ownership::{
    store::{SessionWrite, TransferWrite},
    takeover::Strategy,
};
use stateright::{Checker, Expectation, HasDiscoveries, Model};
use std::{num::NonZero, thread, time::Instant};

/// What was found of a model.
pub struct Explored {
    pub unique: usize,
    /// Properties that do not hold, or were never met, each with how it comes to that.
    pub wrong: Vec<(&'static str, String)>,
}

/// In which order states are looked at.
#[derive(Clone, Copy, Debug)]
pub enum Search {
    /// Breadth first: no shorter way leads to what is found. By one thread, so it is always the same.
    Breadth,
    /// Depth first, by all CPUs: few states are waiting at any time, so it takes little memory.
    Depth,
}

/// Explores a model to its end, or to the first thing that is wrong.
pub fn explore(config: Config, search: Search) -> Explored {
    match config.strategy {
        Strategy::Shared => explored(Cluster::<SessionWrite>::new(config), search),
        Strategy::Sticky => explored(Cluster::<TransferWrite>::new(config), search),
    }
}

fn explored<W: Way>(model: Cluster<W>, search: Search) -> Explored {
    let builder = model.checker().finish_when(HasDiscoveries::AnyFailures);
    match search {
        Search::Breadth => found(builder.spawn_bfs()),
        Search::Depth => {
            let threads = thread::available_parallelism().map_or(1, NonZero::get);
            found(builder.threads(threads).spawn_dfs())
        }
    }
}

fn found<W: Way>(checker: impl Checker<Cluster<W>>) -> Explored {
    let begin = Instant::now();
    let checker = checker.join();
    let name = checker.model().config.name;
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
pub fn holds(config: Config, search: Search) -> usize {
    let (name, least) = (config.name, config.least);
    let Explored { unique, wrong } = explore(config, search);
    assert!(wrong.is_empty(), "{name}: {wrong:#?}");
    assert!(unique >= least, "{name}: {unique} states, where {least} were to be explored");
    unique
}
