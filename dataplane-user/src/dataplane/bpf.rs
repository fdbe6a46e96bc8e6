//! bpf(2), for what aya does not offer.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

const BPF_MAP_LOOKUP_ELEM: libc::c_int = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_MAP_DELETE_ELEM: libc::c_int = 3;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_TCX_EGRESS: u32 = 47;

/// The start of the kernel's `bpf_map_info` (Linux 4.13).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct MapInfo {
    /// Its kind: `BPF_MAP_TYPE_…`.
    pub kind: u32,
    /// Its id, which no other map gets before the next boot.
    pub id: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Rows; bytes of a ring.
    pub max_entries: u32,
    /// `BPF_F_…`.
    pub flags: u32,
}

/// Opens what is pinned at a path.
pub fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        path: u64,
        fd: u32,
        flags: u32,
    }
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = Attributes { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: the attributes are those of BPF_OBJ_GET; the path ends with a zero byte and outlives
    // the call.
    let fd = unsafe { bpf(BPF_OBJ_GET, &mut attributes) }?;
    // SAFETY: the kernel has just made the descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What the kernel knows of a map. What is no map is an error.
pub fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    // Links and programs have descriptors of other kinds, and informations of other shapes.
    let kind = std::fs::read_link(format!("/proc/self/fd/{}", map.as_raw_fd()))?;
    if kind != Path::new("anon_inode:bpf-map") {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no BPF map"));
    }
    let mut found = MapInfo::default();
    info(map, &mut found)?;
    Ok(found)
}

/// Fills `found` with the start of what the kernel knows of an object, whose kind it must suit.
pub fn info<T: Copy>(object: BorrowedFd<'_>, found: &mut T) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        fd: u32,
        length: u32,
        info: u64,
    }
    let mut attributes = Attributes {
        fd: object.as_raw_fd() as u32,
        length: size_of::<T>() as u32,
        info: std::ptr::from_mut(found) as u64,
    };
    // SAFETY: the attributes are those of BPF_OBJ_GET_INFO_BY_FD; the kernel writes no more than
    // `length` bytes to `info`, and callers pass plain integers, where any bytes are valid.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes) }.map(drop)
}

/// The id of the program that packets meet first when they leave by an interface of this network
/// namespace (TCX, Linux 6.6); `None` if there is none. Takes CAP_NET_ADMIN.
pub fn first_at_egress(ifindex: u32) -> io::Result<Option<u32>> {
    #[repr(C)]
    struct Attributes {
        ifindex: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        programs: u64,
        count: u32,
        _padding: u32,
        program_flags: u64,
        links: u64,
        link_flags: u64,
        revision: u64,
    }
    let mut first = 0_u32;
    let mut attributes = Attributes {
        ifindex,
        attach_type: BPF_TCX_EGRESS,
        query_flags: 0,
        attach_flags: 0,
        programs: (&raw mut first) as u64,
        count: 1,
        _padding: 0,
        program_flags: 0,
        links: 0,
        link_flags: 0,
        revision: 0,
    };
    // SAFETY: the attributes are those of BPF_PROG_QUERY; there is room for `count` ids at
    // `programs`, and the other pointers are none.
    match unsafe { bpf(BPF_PROG_QUERY, &mut attributes) } {
        // There are more, for which there was no room.
        Err(error) if error.raw_os_error() != Some(libc::ENOSPC) => Err(error),
        _ => Ok((attributes.count > 0).then_some(first)),
    }
}

#[repr(C)]
struct Element {
    map: u32,
    _padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl Element {
    fn new(map: BorrowedFd<'_>, row: &u32, value: u64) -> Self {
        let map = map.as_raw_fd() as u32;
        Self { map, _padding: 0, key: std::ptr::from_ref(row) as u64, value, flags: 0 }
    }
}

/// Reads a row of eight bytes; `None` if it is empty.
pub fn look_up(map: BorrowedFd<'_>, row: u32) -> io::Result<Option<u64>> {
    let mut value = 0_u64;
    let mut element = Element::new(map, &row, (&raw mut value) as u64);
    // SAFETY: the attributes are those of BPF_MAP_LOOKUP_ELEM; callers pass maps whose keys have
    // four bytes and whose values have eight, and both outlive the call.
    match unsafe { bpf(BPF_MAP_LOOKUP_ELEM, &mut element) } {
        Ok(_) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a row of eight bytes.
pub fn update(map: BorrowedFd<'_>, row: u32, value: u64) -> io::Result<()> {
    let mut element = Element::new(map, &row, (&raw const value) as u64);
    // SAFETY: as above, for BPF_MAP_UPDATE_ELEM.
    unsafe { bpf(BPF_MAP_UPDATE_ELEM, &mut element) }.map(drop)
}

/// Empties a row.
pub fn delete(map: BorrowedFd<'_>, row: u32) -> io::Result<()> {
    let mut element = Element::new(map, &row, 0);
    // SAFETY: as above, for BPF_MAP_DELETE_ELEM, which reads no value.
    unsafe { bpf(BPF_MAP_DELETE_ELEM, &mut element) }.map(drop)
}

/// Calls bpf(2).
///
/// # Safety
/// The attributes must be those of the command, and their pointers must hold for it.
pub unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: the kernel reads and writes no more than the given size; the caller answers for the
    // rest.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
