//! Whether a daemon can take over what an earlier one left in the kernel, and what speaks against it.
//!
//! What takes part: [`pins`] says where things are pinned, [`crate::node::StateFolder`] holds the lock
//! and the record of the [`Incarnation`] that the pins must match, [`shape`] says how the maps must
//! look, [`crate::dataplane::pinned`] opens them, [`crate::dataplane::recovery`] reads the session
//! table's books out of it and [`crate::node::recover`] the sessions; `daemon/tables.rs` and
//! `daemon/attach.rs` put it together, and [`crate::dataplane::predecessor`] shuts the fences of
//! incarnations that are not taken over.

use crate::{
    config::Config,
    dataplane::{
        Dataplane, ForeignRow, LoadError, LoadOptions,
        pinned::{MapFolder, PinnedMapError},
        services::{Clash, rows},
        shape,
    },
    node::{Incarnation, Recorded, StateError, StateFolder, boot_id},
    pins,
};
use dataplane_ebpf::abi::SCHEMA;
use ownership::lease::{Found, IncarnationRecord};
use std::{io, path::PathBuf};
use thiserror::Error;

/// How a daemon starts.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one")]
pub enum Start {
    /// With new tables and in a new epoch.
    New {
        /// Where the tables are to be pinned, if they are.
        folder: Option<MapFolder>,
        /// Whether an earlier daemon's program may be at work until it is replaced.
        over_another: bool,
    },
    /// With the tables and in the epoch of an earlier daemon.
    Adopt {
        /// What that one recorded.
        incarnation: Incarnation,
        /// The same, as the store must bear it out.
        pinned: Pinned,
        /// Where its tables are pinned.
        folder: MapFolder,
    },
}

/// An incarnation whose maps are there: its own, in this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// What was recorded of it.
    pub recorded: IncarnationRecord,
    /// What was found.
    pub found: Found,
}

/// What is pinned cannot be taken over.
#[derive(Debug, Error)]
#[error(
    "the daemon before this one left its program and tables in {}, and they cannot be taken over: \
     {reason}; they are left as they are. Either undo that, or start with `jumpgate run --fresh`: \
     with new tables and a new epoch, which ends all sessions of this node",
    folder.display()
)]
pub struct Refused {
    folder: PathBuf,
    reason: Reason,
}

/// Why.
#[derive(Debug, Error)]
pub enum Reason {
    /// The layout is another one.
    #[error("their layout has version {0}, and this daemon's has version {SCHEMA}")]
    Schema(u32),
    /// Nobody says what they are.
    #[error("there is no record of them in the folder `state.path`")]
    Unrecorded,
    /// What says so cannot be read.
    #[error("the record of them cannot be read: {0}")]
    Garbled(String),
    /// The record is of another boot.
    #[error(
        "the record of them is of another boot of this machine ({0}), so it is not of these tables"
    )]
    Boot(String),
    /// The record is of an epoch that the store has never heard of.
    #[error(
        "the record of them is of epoch {recorded}, but the store has this node in {}: it is another \
         store, or was made anew", in_epoch(*.stored)
    )]
    Epoch {
        /// The record's.
        recorded: u32,
        /// The store's.
        stored: Option<u32>,
    },
    /// Pins are off.
    #[error("`pins.enabled` is false now")]
    PinsOff,
    /// Another place for pins or another file was there.
    #[error("the record of them names the folder {}, which is not there", .0.display())]
    Folder(PathBuf),
    /// A map is missing or another one.
    #[error(transparent)]
    Map(#[from] PinnedMapError),
    /// The node has another index.
    #[error("they are those of node index {found}, and this node's is {wanted}")]
    Node {
        /// The tables'.
        found: u16,
        /// The configuration's.
        wanted: u16,
    },
    /// The services have changed.
    #[error("{0}")]
    Services(String),
    /// The CPUs have changed.
    #[error("`sessions.cpus` was {found:?} and is {wanted:?} now")]
    Cpus {
        /// The tables'.
        found: Vec<u32>,
        /// The configuration's.
        wanted: Vec<u32>,
    },
    /// The queues have changed.
    #[error("`sessions.queue` was {found} for CPU {cpu} and is {wanted} now")]
    Queue {
        /// The CPU.
        cpu: u32,
        /// The kernel's; 0 if there is none.
        found: u32,
        /// The configuration's.
        wanted: u32,
    },
}

fn in_epoch(epoch: Option<u32>) -> String {
    epoch.map_or_else(|| "no epoch at all".to_owned(), |epoch| format!("epoch {epoch}"))
}

/// Why looking failed.
#[derive(Debug, Error)]
pub enum LookError {
    /// What is there cannot be taken over.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// About the node's state.
    #[error(transparent)]
    State(#[from] StateError),
    /// About the object.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// About the pins.
    #[error("looking for what an earlier daemon left in {} failed", .0.display())]
    Pins(PathBuf, #[source] io::Error),
    /// About the services.
    #[error(transparent)]
    Services(#[from] Clash),
}

/// Looks what an earlier daemon of the node left. Nothing is changed. The caller holds the node's
/// lock, so no other daemon is at work.
pub fn look(
    config: &Config,
    state: &StateFolder,
    options: &LoadOptions,
    fresh: bool,
) -> Result<Start, LookError> {
    let folder = pins::folder(config);
    let in_pins = |error| LookError::Pins(folder.clone(), error);
    let has_links = pins::has_links(config).map_err(in_pins)?;
    let folders = pins::map_folders(config).map_err(in_pins)?;
    let new = |over_another| anew(config, over_another);
    if fresh || (!has_links && folders.is_empty()) {
        return new(has_links);
    }
    let refuse = |reason: Reason| Err(refused(config, reason));
    let incarnation = match state.incarnation()? {
        Recorded::Incarnation(incarnation) => incarnation,
        // Of a daemon that never came to work: it records before it attaches.
        Recorded::Nothing if !has_links => return new(false),
        Recorded::Nothing => return refuse(Reason::Unrecorded),
        Recorded::OtherSchema(schema) => return refuse(Reason::Schema(schema)),
        Recorded::Garbled(error) => return refuse(Reason::Garbled(error)),
    };
    if !config.pins.enabled {
        return refuse(Reason::PinsOff);
    }
    if boot_id().map_err(in_pins)? != incarnation.boot {
        return refuse(Reason::Boot(incarnation.boot));
    }
    if incarnation.is_over {
        return new(has_links);
    }
    let Some(recorded) = incarnation.to_record() else {
        return refuse(Reason::Garbled("it names no incarnation of a node".to_owned()));
    };
    let Some(maps) = folders.into_iter().find(|maps| maps.path() == incarnation.folder) else {
        return refuse(Reason::Folder(incarnation.folder));
    };
    if let Err(error) = maps.verify(&shape::maps(options)?, &incarnation.maps) {
        return refuse(error.into());
    }
    if let Err(reason) = queues(&maps, options) {
        return refuse(reason);
    }
    // The boot is the recorded one, and the maps are those of the record: their ids are the same.
    let found = Found { boot: recorded.boot, pinned: Some(recorded.identity) };
    Ok(Start::Adopt { incarnation, pinned: Pinned { recorded, found }, folder: maps })
}

/// Why nothing can be taken over.
pub fn refused(config: &Config, reason: Reason) -> LookError {
    Refused { folder: pins::folder(config), reason }.into()
}

/// A start with new tables and in a new epoch; `over_another` if an earlier daemon's program may be at
/// work until it is replaced.
///
/// # Errors
///
/// If the folder of pins cannot be read.
pub fn anew(config: &Config, over_another: bool) -> Result<Start, LookError> {
    let folder = config.pins.enabled.then(|| pins::new_map_folder(config)).transpose();
    let folder = folder.map_err(|error| LookError::Pins(pins::folder(config), error))?;
    Ok(Start::New { folder, over_another })
}

/// Whether each CPU has its queue. (A queue that is set anew loses what is in it.)
fn queues(maps: &MapFolder, options: &LoadOptions) -> Result<(), Reason> {
    let wanted = options.queue;
    for &cpu in &options.cpus {
        match maps.queue(cpu)? {
            Some(found) if found == wanted => {}
            found => return Err(Reason::Queue { cpu, found: found.unwrap_or(0), wanted }),
        }
    }
    Ok(())
}

/// Whether the tables that were taken over hold what this configuration would have put there.
/// Nothing is changed.
pub fn check(dataplane: &Dataplane, config: &Config) -> Result<(), LookError> {
    let refuse = |reason: Reason| Err(refused(config, reason));
    let identity = dataplane.memory.local_row().identity();
    let wanted = config.this_node().index.get();
    if identity.node != wanted {
        return refuse(Reason::Node { found: identity.node, wanted });
    }
    let found = dataplane.cpus();
    if found != config.sessions.cpus {
        return refuse(Reason::Cpus { found, wanted: config.sessions.cpus.clone() });
    }
    let (seed, rows) = rows(&config.services(), config.this_node().address)?;
    if let Err(foreign) = dataplane.compare_services(seed, &rows) {
        return refuse(Reason::Services(describe(foreign, config)));
    }
    Ok(())
}

fn describe(foreign: ForeignRow, config: &Config) -> String {
    match foreign {
        ForeignRow::Missing(0) | ForeignRow::LeftOver(0) => {
            "this node's underlay address or `cluster.hash_seed` is another one".to_owned()
        }
        ForeignRow::Missing(index) => {
            let service = &config.services[index as usize - 1];
            format!("service {:?} was another one, or not there", service.name)
        }
        ForeignRow::LeftOver(index) => {
            format!("service number {index} was another one, or is gone from [[services]]")
        }
    }
}
