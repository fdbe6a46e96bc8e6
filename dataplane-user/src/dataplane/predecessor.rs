//! The program of an earlier daemon, which applications' sockets may still hold.

use super::{fence::FenceKeeper, pinned::MapFolder, region::Region};
use aya::{
    maps::{MapData, MapError},
    programs::{ProgramError, loaded_programs},
};
use dataplane_ebpf::local::LocalRow;
use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};
use thiserror::Error;

/// Why a predecessor's fence could not be shut.
#[derive(Debug, Error)]
pub enum PredecessorError {
    /// Looking at its program failed; that takes CAP_SYS_ADMIN.
    #[error("looking at the program failed")]
    Program(#[from] ProgramError),
    /// Opening its map failed; that takes CAP_SYS_ADMIN.
    #[error("opening the program's map failed")]
    Map(#[from] MapError),
    /// Mapping its fence failed.
    #[error("mapping the program's fence failed")]
    Memory(#[from] io::Error),
}

/// Shuts the fence of the XDP program with this id, so that the selector that shares its maps
/// delivers nothing more; returns whether there was one. Its routing goes on.
///
/// Not if it is `ours`, the `LOCAL` map with this id.
pub fn shut_fence(program: u32, ours: Option<u32>) -> Result<bool, PredecessorError> {
    for info in loaded_programs() {
        let info = info?;
        if info.id() != program {
            continue;
        }
        for id in info.map_ids()?.into_iter().flatten() {
            let map = MapData::from_id(id)?;
            let info = map.info()?;
            let is_fence = info.name_as_str() == Some("LOCAL")
                && info.value_size() as usize == size_of::<LocalRow>();
            if is_fence {
                if ours != Some(id) {
                    shut(map.fd().as_fd())?;
                }
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Shuts the fence that is pinned in a folder, if one is.
pub fn shut_pinned(folder: &MapFolder) -> io::Result<()> {
    let Ok((map, info)) = folder.open("LOCAL") else {
        return Ok(());
    };
    if info.value_size as usize == size_of::<LocalRow>() { shut(map.as_fd()) } else { Ok(()) }
}

fn shut(map: BorrowedFd<'_>) -> io::Result<()> {
    let local: Region<LocalRow> = Region::of_map(map, 1)?;
    FenceKeeper::shut(local.get(0).expect("one row"));
    Ok(())
}
