//! Grace periods by the kernel's own RCU.

use super::{super::bpf::bpf, Method};
use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// Waits for an RCU grace period, by the first way that the kernel offers: the fall-back of
/// [`grace_period`](super::grace_period).
pub fn rcu_grace_period() -> io::Result<Method> {
    if membarrier().is_ok() {
        return Ok(Method::Membarrier);
    }
    update_map_of_maps().map(|()| Method::MapOfMaps)
}

fn membarrier() -> io::Result<()> {
    const MEMBARRIER_CMD_GLOBAL: i32 = 1;
    // SAFETY: takes numbers only.
    match unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Linux uapi, `linux/bpf.h`.
const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const MAP_TYPE_ARRAY: u32 = 2;
const MAP_TYPE_ARRAY_OF_MAPS: u32 = 12;

/// The start of the attributes of BPF_MAP_CREATE.
#[derive(Default)]
#[repr(C)]
struct Create {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner_map: u32,
}

/// The attributes of BPF_MAP_UPDATE_ELEM.
#[repr(C)]
struct Update {
    map: u32,
    _padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Needs CAP_BPF.
fn update_map_of_maps() -> io::Result<()> {
    let array = Create { kind: MAP_TYPE_ARRAY, ..Create::entries(1) };
    let inner = create(array)?;
    let inner_map = inner.as_raw_fd() as u32;
    let outer = create(Create { kind: MAP_TYPE_ARRAY_OF_MAPS, inner_map, ..Create::entries(1) })?;
    let key = 0_u32;
    let mut update = Update {
        map: outer.as_raw_fd() as u32,
        _padding: 0,
        key: (&raw const key) as u64,
        value: (&raw const inner_map) as u64,
        flags: 0,
    };
    // SAFETY: the attributes are those of the command; key and value outlive the call.
    unsafe { bpf(MAP_UPDATE_ELEM, &mut update) }.map(drop)
}

impl Create {
    fn entries(max_entries: u32) -> Self {
        Self { key_size: 4, value_size: 4, max_entries, ..Self::default() }
    }
}

fn create(mut attributes: Create) -> io::Result<OwnedFd> {
    // SAFETY: the attributes are those of the command and hold no pointer.
    let fd = unsafe { bpf(MAP_CREATE, &mut attributes) }?;
    // SAFETY: the kernel has just made the descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::geteuid;

    #[test]
    fn both_ways_of_asking_the_kernel_work() {
        membarrier().unwrap();
        if geteuid().is_root() {
            update_map_of_maps().unwrap();
        }
    }
}
