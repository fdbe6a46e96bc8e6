//! Clients that attach again: the messages, the node's side, the client's side, and both together over
//! a network that does what it likes.

mod beliefs;
mod channel;
mod client;
mod cluster;
mod messages;
mod responder;
mod vectors;

use proptest::test_runner::{Config, RngSeed};

/// The same cases in every run; `PROPTEST_CASES` more of them, `PROPTEST_RNG_SEED` others.
fn config() -> Config {
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if matches!(config.rng_seed, RngSeed::Random) {
        config.rng_seed = RngSeed::Fixed(0x6a75_6d70);
    }
    config
}
