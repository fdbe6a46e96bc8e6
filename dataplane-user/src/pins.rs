//! Where a node's maps and links are pinned on its bpffs.
//!
//! ```text
//! <pins.path>/<node>/links/<interface>
//! <pins.path>/<node>/links/<ifindex>:egress
//! <pins.path>/<node>/maps/v<schema>-<number>/<map>
//! ```

use crate::{config::Config, dataplane::pinned::MapFolder};
use dataplane_ebpf::abi::SCHEMA;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The folder of this node's pins.
pub fn folder(config: &Config) -> PathBuf {
    config.pins.path.join(name(&config.node))
}

/// The folder of its links.
pub fn links(config: &Config) -> PathBuf {
    folder(config).join("links")
}

/// Where the link of an interface is pinned.
pub fn path(config: &Config, interface: &str) -> PathBuf {
    links(config).join(name(interface))
}

/// The folders in which maps are pinned: one, but for the leavings of a daemon that did not come far.
pub fn map_folders(config: &Config) -> io::Result<Vec<MapFolder>> {
    Ok(entries(&folder(config).join("maps"))?.into_iter().map(MapFolder::at).collect())
}

/// A folder for new maps, which is not there yet.
pub fn new_map_folder(config: &Config) -> io::Result<MapFolder> {
    let number = |folder: &MapFolder| -> Option<u64> {
        folder.path().file_name()?.to_str()?.rsplit_once('-')?.1.parse().ok()
    };
    let last = map_folders(config)?.iter().filter_map(number).max().unwrap_or(0);
    Ok(MapFolder::at(folder(config).join("maps").join(format!("v{SCHEMA}-{}", last + 1))))
}

/// Whether any link is pinned.
pub fn has_links(config: &Config) -> io::Result<bool> {
    Ok(!entries(&links(config))?.is_empty())
}

/// Removes the folders that are empty.
pub fn tidy(config: &Config) {
    let folder = folder(config);
    for path in [folder.join("links"), folder.join("maps"), folder] {
        // What is not empty stays.
        let _ = fs::remove_dir(path);
    }
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Where, in that folder, the link of an interface's fence at egress is pinned: by its index, as
/// another interface may take its name while it is fenced. No interface's name has a colon.
pub fn egress_path(folder: &Path, ifindex: u32) -> PathBuf {
    folder.join(format!("{ifindex}:egress"))
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
