//! What is in the way of a configuration on this machine, found before packets find it.

use crate::{config::Config, neighbours::Interfaces};

/// What works, but not as well as it could, or only for some packets.
pub fn warnings(_config: &Config, _interfaces: &Interfaces) -> Vec<String> {
    Vec::new()
}
