//! The kernel's links between programs and interfaces, as they are pinned, for what aya does not offer.

use super::bpf::{self, open_pin};
use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

/// Which links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum LinkKind {
    /// Those of XDP programs.
    Xdp = 6,
    /// Those of the fence at egress.
    Tcx = 11,
}

/// Detaches the links of a kind that are pinned in a folder, except those that `keep` wants; it is
/// given each pin's path and the index of the link's interface, 0 when that is gone. Returns the
/// paths of those detached. What is no such link stays.
pub fn sweep(
    folder: &Path,
    kind: LinkKind,
    keep: impl Fn(&Path, u32) -> bool,
) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut swept = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let Ok(link) = OpenLink::at(&path) else { continue };
        if let Some(OnInterface { ifindex, .. }) = link.on_interface(kind)?
            && !keep(&path, ifindex)
        {
            link.detach()?;
            fs::remove_file(&path)?;
            swept.push(path);
        }
    }
    Ok(swept)
}

/// Where a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OnInterface {
    /// The id of its program.
    pub(super) program: u32,
    /// The interface's index, 0 when that is gone.
    pub(super) ifindex: u32,
}

/// A pinned link, opened for what aya does not offer.
pub(super) struct OpenLink(OwnedFd);

impl OpenLink {
    pub(super) fn at(pin: &Path) -> io::Result<Self> {
        open_pin(pin).map(Self)
    }

    /// Where a link of a kind is; `None` for a link of another kind (Linux 5.9).
    pub(super) fn on_interface(&self, kind: LinkKind) -> io::Result<Option<OnInterface>> {
        /// The start of the kernel's `bpf_link_info`.
        #[derive(Clone, Copy, Default)]
        #[repr(C)]
        struct Info {
            kind: u32,
            id: u32,
            program: u32,
            _padding: u32,
            ifindex: u32,
            _rest: u32,
        }
        let mut info = Info::default();
        bpf::info(self.0.as_fd(), &mut info)?;
        let Info { program, ifindex, .. } = info;
        Ok((info.kind == kind as u32).then_some(OnInterface { program, ifindex }))
    }

    /// Takes the link off its interface at once. (Without this the kernel does so some time after
    /// the last descriptor and the pin are gone; until then the interface is busy.) Linux 5.9.
    pub(super) fn detach(&self) -> io::Result<()> {
        const BPF_LINK_DETACH: libc::c_int = 34;
        let mut fd = self.0.as_raw_fd() as u32;
        // SAFETY: BPF_LINK_DETACH takes the link's descriptor only.
        unsafe { bpf::bpf(BPF_LINK_DETACH, &mut fd) }.map(drop)
    }
}
