//! Where a node's links are pinned on its bpffs.

use crate::config::Config;
use std::path::{Path, PathBuf};

/// The folder of this node's pins.
pub fn folder(config: &Config) -> PathBuf {
    config.pins.path.join(name(&config.node))
}

/// Where the link of an interface is pinned.
pub fn path(config: &Config, interface: &str) -> PathBuf {
    folder(config).join(name(interface))
}

/// Where, in that folder, the link of an interface's fence at egress is pinned. No interface's name has a colon.
pub fn egress_path(folder: &Path, interface: &str) -> PathBuf {
    folder.join(name(interface) + ":egress")
}

/// A name as bpffs takes it, which allows no dots. Different names stay different.
fn name(text: &str) -> String {
    text.replace('%', "%25").replace('.', "%2e").replace('/', "%2f")
}

#[cfg(test)]
mod tests {
    use super::name;
    use std::collections::BTreeSet;

    #[test]
    fn pins_have_no_dots_and_no_two_interfaces_share_one() {
        assert_eq!(name("eth0.100"), "eth0%2e100");
        let names =
            ["eth0.1", "eth0-1", "eth0%2e1", "eth0%252e1", "eth0%1", "eth0/1", "eth01", "."];
        let pins: BTreeSet<_> = names.into_iter().map(name).collect();
        assert_eq!(pins.len(), names.len());
        assert!(pins.iter().all(|pin| !pin.contains(['.', '/'])), "{pins:?}");
    }
}
