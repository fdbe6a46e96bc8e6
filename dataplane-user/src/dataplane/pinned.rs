//! The maps of a node on its bpffs, from which a successor of the daemon takes them.

use super::{
    bpf::{self, MapInfo, map_info, open_pin},
    shape::{Owner, Shape},
};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};
use thiserror::Error;

/// A folder that holds a pin for each map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapFolder {
    path: PathBuf,
}

/// Why maps could not be pinned.
#[derive(Debug, Error)]
#[error(
    "pinning the maps in {} failed; the folder must be on a bpffs: mount one (`mount -t bpf bpf \
     /sys/fs/bpf` for the default folder; `jumpgate check FILE` prints the command for any), or \
     set pins.enabled = false (then forwarding ends with the daemon)",
    path.display()
)]
pub struct PinError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Why a pinned map cannot be taken over.
#[derive(Debug, Error)]
pub enum PinnedMapError {
    /// It is not there, or cannot be opened.
    #[error("map {name} cannot be opened at {}: {source}", path.display())]
    Missing {
        /// The map.
        name: String,
        /// Where it should be.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// It is another map than the one that was pinned.
    #[error("map {name} is not the one that was pinned there: its id is {found}, not {wanted}")]
    Other {
        /// The map.
        name: String,
        /// The id of the one that was pinned.
        wanted: u32,
        /// The id of the one that is.
        found: u32,
    },
    /// The record of the incarnation does not name it.
    #[error("map {name} is pinned, but the record of the node's state does not name it")]
    Unrecorded {
        /// The map.
        name: String,
    },
    /// It has another shape.
    #[error("map {name} {what} {found}, this daemon needs {wanted}{}", reason(name))]
    Shape {
        /// The map.
        name: String,
        /// In what the shapes differ.
        what: &'static str,
        /// How it is.
        found: u32,
        /// How it should be.
        wanted: u32,
    },
}

/// What in the configuration decides a map's size.
fn reason(map: &str) -> &'static str {
    match map {
        "SESSIONS" | "DETAILS" | "WIRE_IDS" => " (`sessions.capacity` is another one)",
        "BINDINGS" | "CLIENTS" => {
            " (`sessions.capacity` is another one, or the first service enforces bindings, or none \
             does any longer)"
        }
        "CPUS" => " (`sessions.cpus` is another list)",
        "HOLD" => " (`hold.ring` is another size)",
        _ => "",
    }
}

impl MapFolder {
    /// The folder at a path; nothing is touched.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the folder. It must be on a bpffs.
    pub fn create(&self) -> Result<(), PinError> {
        let make = || {
            // Found before folders are made where no bpffs is.
            let there = self.path.ancestors().find(|folder| folder.exists());
            let file_system = statfs(there.unwrap_or(&self.path))?.filesystem_type();
            if file_system != BPF_FS_MAGIC {
                return Err(io::Error::other("it is on another file system"));
            }
            fs::create_dir_all(&self.path)
        };
        make().map_err(|source| PinError { path: self.path.clone(), source })
    }

    /// The path of a map's pin.
    pub fn pin(&self, map: &str) -> PathBuf {
        self.path.join(map)
    }

    /// Opens a map.
    pub fn open(&self, map: &str) -> Result<(OwnedFd, MapInfo), PinnedMapError> {
        let path = self.pin(map);
        let open = || {
            let fd = open_pin(&path)?;
            let info = map_info(fd.as_fd())?;
            Ok((fd, info))
        };
        open().map_err(|source| PinnedMapError::Missing {
            name: map.to_owned(),
            path: path.clone(),
            source,
        })
    }

    /// The ids of these maps.
    pub fn ids<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<BTreeMap<String, u32>, PinnedMapError> {
        names.into_iter().map(|name| Ok((name.to_owned(), self.open(name)?.1.id))).collect()
    }

    /// Whether all maps that `wanted` shares between daemons are here, with these ids and in their
    /// shapes.
    pub fn verify(
        &self,
        wanted: &BTreeMap<String, (Owner, Shape)>,
        ids: &BTreeMap<String, u32>,
    ) -> Result<(), PinnedMapError> {
        for (name, (owner, shape)) in wanted {
            if *owner != Owner::Node {
                continue;
            }
            let (_, info) = self.open(name)?;
            if let Some((what, wanted, found)) = shape.difference(&Shape::of(&info)) {
                return Err(PinnedMapError::Shape { name: name.clone(), what, found, wanted });
            }
            let name = name.clone();
            match ids.get(&name) {
                Some(&wanted) if wanted == info.id => {}
                Some(&wanted) => {
                    return Err(PinnedMapError::Other { name, wanted, found: info.id });
                }
                None => return Err(PinnedMapError::Unrecorded { name }),
            }
        }
        Ok(())
    }

    /// How many packets a CPU's queue holds; `None` if it has none.
    pub fn queue(&self, cpu: u32) -> Result<Option<u32>, PinnedMapError> {
        let (map, _) = self.open("CPUS")?;
        match bpf::look_up(map.as_fd(), cpu) {
            // The size, and the id of a program.
            Ok(row) => Ok(row.map(|row| u32::from_ne_bytes(first_half(row)))),
            Err(source) => {
                let path = self.pin("CPUS");
                Err(PinnedMapError::Missing { name: "CPUS".to_owned(), path, source })
            }
        }
    }

    /// Removes all pins and the folder. The maps live on where programs or processes use them.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// The first of the two numbers in a row, as they lie in memory.
fn first_half(row: u64) -> [u8; 4] {
    let [a, b, c, d, ..] = row.to_ne_bytes();
    [a, b, c, d]
}
