//! The record of a node's incarnation: what a successor of the daemon must find unchanged to go on
//! in the same epoch.

use super::{StateError, StateFolder};
use dataplane_ebpf::abi::SCHEMA;
use ownership::{
    Epoch, NodeIndex,
    lease::{BootId, IncarnationRecord},
    model::Owner,
    store::{self, Identity},
};
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
    /// What it drew for itself when it registered in that epoch, in hexadecimal.
    pub drawn: String,
    /// Whether the epoch is known to be over: nobody may go on in it.
    #[serde(default)]
    pub is_over: bool,
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
    pub fn new(identity: Identity, folder: &Path, maps: BTreeMap<String, u32>) -> io::Result<Self> {
        let Identity { owner, incarnation } = identity;
        Ok(Self {
            schema: SCHEMA,
            boot: boot_id()?,
            node: owner.node.get(),
            epoch: owner.epoch.get(),
            drawn: format!("{:032x}", incarnation.0),
            is_over: false,
            folder: folder.to_owned(),
            maps,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }

    /// What the directory must bear out before anybody goes on in this epoch; nothing if it makes no
    /// sense.
    pub fn to_record(&self) -> Option<IncarnationRecord> {
        let owner = Owner { node: NodeIndex::new(self.node).ok()?, epoch: Epoch::new(self.epoch)? };
        let incarnation = store::Incarnation(u128::from_str_radix(&self.drawn, 16).ok()?);
        let identity = Identity { owner, incarnation };
        Some(IncarnationRecord { identity, boot: parse_boot(&self.boot)? })
    }
}

/// A boot's id as a number.
fn parse_boot(text: &str) -> Option<BootId> {
    u128::from_str_radix(&text.replace('-', ""), 16).ok().map(BootId)
}

impl StateFolder {
    /// The node's incarnation, as the last daemon recorded it.
    pub fn incarnation(&self) -> Result<Recorded, StateError> {
        let Some(text) = self.read("incarnation")? else { return Ok(Recorded::Nothing) };
        let version: Result<Version, _> = serde_json::from_str(&text);
        Ok(match version {
            Ok(Version { schema }) if schema != SCHEMA => Recorded::OtherSchema(schema),
            _ => match serde_json::from_str(&text) {
                Ok(incarnation) => Recorded::Incarnation(incarnation),
                Err(error) => {
                    let path = self.file("incarnation");
                    Recorded::Garbled(format!("{}: {error}", path.display()))
                }
            },
        })
    }

    /// Records an incarnation, instead of any other.
    pub fn record(&self, incarnation: &Incarnation) -> Result<(), StateError> {
        let text = serde_json::to_string_pretty(incarnation).expect("plain data") + "\n";
        self.replace("incarnation", &text)
    }

    /// Records that the epoch of the recorded incarnation is over: no daemon goes on in it.
    pub fn end_incarnation(&self) -> Result<(), StateError> {
        match self.incarnation()? {
            Recorded::Incarnation(incarnation) => {
                self.record(&Incarnation { is_over: true, ..incarnation })
            }
            Recorded::Nothing | Recorded::OtherSchema(_) | Recorded::Garbled(_) => Ok(()),
        }
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
        Incarnation::new(identity(), Path::new("/pins"), maps).expect("a boot id")
    }

    fn identity() -> Identity {
        let owner = Owner { node: NodeIndex::new(3).expect("in range"), epoch: Epoch::FIRST };
        Identity { owner, incarnation: store::Incarnation(0x5eed) }
    }

    #[test]
    fn what_is_recorded_is_read_back_until_it_is_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateFolder::open(folder.path(), "a").expect("locked");
        assert_eq!(state.incarnation().expect("read"), Recorded::Nothing);
        state.record(&incarnation()).expect("written");
        assert_eq!(state.incarnation().expect("read"), Recorded::Incarnation(incarnation()));
        let boot = parse_boot(&boot_id().expect("a boot id")).expect("a number");
        let record = IncarnationRecord { identity: identity(), boot };
        assert_eq!(incarnation().to_record(), Some(record));
        state.end_incarnation().expect("written");
        let over = Incarnation { is_over: true, ..incarnation() };
        assert_eq!(state.incarnation().expect("read"), Recorded::Incarnation(over));
        state.forget_incarnation().expect("removed");
        state.forget_incarnation().expect("it is gone already");
        assert_eq!(state.incarnation().expect("read"), Recorded::Nothing);
        state.end_incarnation().expect("there is none");
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
