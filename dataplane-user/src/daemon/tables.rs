//! The tables: new ones, or an earlier daemon's, with the pins that keep them.

use super::StartError;
use crate::{
    config::Config,
    dataplane::{
        Dataplane, LoadOptions, Maps,
        pinned::MapFolder,
        predecessor::shut_pinned,
        services::{Clash, rows},
    },
    node::{Registry, StateFolder, recover},
    pins,
    takeover::{self, Start},
};
use dataplane_ebpf::table::bits_for;
use ownership::SessionId;
use std::collections::BTreeSet;

/// What a node starts from.
pub(super) struct Loaded {
    pub dataplane: Dataplane,
    pub sessions: Registry,
    /// Those of them that an earlier daemon held.
    pub held: BTreeSet<SessionId>,
}

/// Makes the tables, or takes over those that are there.
pub(super) fn load_or_adopt(
    config: &Config,
    options: LoadOptions,
    start: &Start,
) -> Result<Loaded, StartError> {
    match start {
        Start::New { folder, .. } => {
            let maps = folder.as_ref().map_or(Maps::Unpinned, Maps::New);
            let mut dataplane = Dataplane::load_with(options, maps)?;
            publish_services(&mut dataplane, config)?;
            let (sessions, held) = (Registry::new(), BTreeSet::new());
            Ok(Loaded { dataplane, sessions, held })
        }
        Start::Adopt { incarnation, pinned, folder } => {
            let epoch = pinned.recorded.identity.owner.epoch;
            let mut dataplane = Dataplane::load_with(options, Maps::Adopted(folder))?;
            takeover::check(&dataplane, config)?;
            let bits = bits_for(config.sessions.capacity);
            let recovered = recover(&dataplane.memory, bits, &config.services(), epoch);
            dataplane.sessions = recovered.table;
            let (sessions, removed) = (recovered.sessions, recovered.removed);
            let version = &incarnation.version;
            tracing::info!(%epoch, sessions = sessions.len(), version, "taken over");
            if removed > 0 {
                tracing::warn!(removed, "entries of requests that were not finished are removed");
            }
            let held = recovered.held;
            Ok(Loaded { dataplane, sessions, held })
        }
    }
}

fn publish_services(dataplane: &mut Dataplane, config: &Config) -> Result<(), Clash> {
    let (seed, rows) = rows(&config.services(), config.this_node().address)?;
    dataplane.set_services(seed, &rows);
    Ok(())
}

/// A folder of pins that this daemon made; removed unless something is attached to go with it.
pub(super) struct Made(pub Option<MapFolder>);

impl Drop for Made {
    fn drop(&mut self) {
        if let Some(folder) = &self.0 {
            remove(folder);
        }
    }
}

pub(super) fn remove(folder: &MapFolder) {
    if let Err(error) = folder.remove() {
        let folder = folder.path().display();
        tracing::error!(%folder, %error, "the tables' pins are still there: remove them");
    }
}

pub(super) fn forget(state: &StateFolder) {
    if let Err(error) = state.forget_incarnation() {
        tracing::error!(%error, "the record of this incarnation is still there");
    }
}

/// Shuts the fences of earlier incarnations and forgets their tables.
pub(super) fn retire_folders(config: &Config, ours: Option<&MapFolder>) {
    let folders = pins::map_folders(config).unwrap_or_default();
    for folder in folders.iter().filter(|folder| Some(*folder) != ours) {
        if let Err(error) = shut_pinned(folder) {
            let folder = folder.path().display();
            tracing::warn!(%folder, %error, "an earlier fence could not be shut");
        }
        remove(folder);
    }
}
