//! The record of a node's incarnation: what a successor of the daemon must find unchanged to go on
//! in the same epoch.

use super::{StateError, StateFolder};
use dataplane_ebpf::abi::SCHEMA;
use ownership::{Epoch, NodeIndex};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// One incarnation of a node: an epoch, and the maps that it lives in.
///
/// It is of no use after the next boot, when the maps are gone; so it need not outlive a crash of
/// the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incarnation {
    /// The layout of the maps: see [`SCHEMA`].
    pub schema: u32,
    /// The boot in which the maps were made.
    pub boot: String,
    /// The node's index.
    pub node: u16,
    /// The node's epoch.
    pub epoch: u32,
    /// The placement's revision.
    pub revision: u32,
    /// The folder in which the maps are pinned.
    pub folder: PathBuf,
    /// The maps' ids, by name.
    pub maps: BTreeMap<String, u32>,
    /// The version of the daemon that wrote this.
    pub version: String,
}

/// What every version of the record has.
#[derive(Deserialize)]
struct Version {
    schema: u32,
}

/// What a state folder says of an incarnation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// There is none: no daemon runs, or is to be succeeded.
    Nothing,
    /// This one.
    Incarnation(Incarnation),
    /// One whose maps have another layout.
    OtherSchema(u32),
    /// Something that cannot be read.
    Garbled(String),
}

impl Incarnation {
    /// A new one, of this boot.
    pub fn new(
        node: NodeIndex,
        epoch: Epoch,
        revision: u32,
        folder: &Path,
        maps: BTreeMap<String, u32>,
    ) -> io::Result<Self> {
        Ok(Self {
            schema: SCHEMA,
            boot: boot_id()?,
            node: node.get(),
            epoch: epoch.get(),
            revision,
            folder: folder.to_owned(),
            maps,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }
}

impl StateFolder {
    /// The node's incarnation, as the last daemon recorded it.
    pub fn incarnation(&self) -> Result<Recorded, StateError> {
        let path = self.file("incarnation");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Recorded::Nothing),
            Err(error) => return Err(StateError::io(&path)(error)),
        };
        let version: Result<Version, _> = serde_json::from_str(&text);
        Ok(match version {
            Ok(Version { schema }) if schema != SCHEMA => Recorded::OtherSchema(schema),
            _ => match serde_json::from_str(&text) {
                Ok(incarnation) => Recorded::Incarnation(incarnation),
                Err(error) => Recorded::Garbled(format!("{}: {error}", path.display())),
            },
        })
    }

    /// Records an incarnation, instead of any other.
    pub fn record(&self, incarnation: &Incarnation) -> Result<(), StateError> {
        let text = serde_json::to_string_pretty(incarnation).expect("plain data") + "\n";
        self.replace("incarnation", &text)
    }

    /// Forgets the incarnation: no daemon goes on in its epoch.
    pub fn forget_incarnation(&self) -> Result<(), StateError> {
        let path = self.file("incarnation");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StateError::io(&path)(error))
            }
            _ => Ok(()),
        }
    }
}

/// What tells this boot of the machine from all others.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incarnation() -> Incarnation {
        let maps = [("LOCAL".to_owned(), 7)].into();
        let node = NodeIndex::new(3).expect("in range");
        Incarnation::new(node, Epoch::FIRST, 5, Path::new("/pins"), maps).expect("a boot id")
    }

    #[test]
    fn what_is_recorded_is_read_back_until_it_is_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateFolder::open(folder.path(), "a").expect("locked");
        assert_eq!(state.incarnation().expect("read"), Recorded::Nothing);
        state.record(&incarnation()).expect("written");
        assert_eq!(state.incarnation().expect("read"), Recorded::Incarnation(incarnation()));
        state.forget_incarnation().expect("removed");
        state.forget_incarnation().expect("it is gone already");
        assert_eq!(state.incarnation().expect("read"), Recorded::Nothing);
    }

    #[test]
    fn records_of_other_schemas_and_no_records_are_told_apart() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateFolder::open(folder.path(), "a").expect("locked");
        let write = |text: &str| fs::write(folder.path().join("a.incarnation"), text);
        write("{\"schema\": 4711, \"something\": \"else\"}").expect("written");
        assert_eq!(state.incarnation().expect("read"), Recorded::OtherSchema(4711));
        let bare = format!("{{\"schema\": {SCHEMA}}}");
        for text in ["", &bare, "nothing"] {
            write(text).expect("written");
            assert!(matches!(state.incarnation().expect("read"), Recorded::Garbled(_)), "{text}");
        }
    }
}
