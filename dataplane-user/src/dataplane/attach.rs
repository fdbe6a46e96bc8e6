//! Attaching the XDP program to interfaces, and what can be in the way.

use super::{Dataplane, bpf_link::OpenLink, predecessor::shut_fence};
use crate::neighbours::Interface;
use aya::programs::{
    ProgramError, XdpMode,
    links::{FdLink, LinkError, PinnedLink},
    xdp::XdpLink,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// How to attach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// In the driver if it can, else in the kernel's generic path.
    #[default]
    Auto,
    /// In the driver.
    Native,
    /// In the kernel's generic path: any interface, many times slower.
    Skb,
}

/// An attached interface; detached on drop unless it is pinned.
#[derive(Debug)]
pub struct Attached {
    /// Its name.
    pub interface: String,
    /// The mode that it got: native or skb.
    pub mode: Mode,
    /// Why `auto` came out as skb.
    pub not_native: Option<String>,
    /// Whether the link is an earlier process's, which forwarded with it before.
    pub is_adopted: bool,
    link: Link,
}

#[derive(Debug)]
enum Link {
    /// Detached when it is dropped.
    Held(XdpLink),
    /// An attempt to change its program has ended it: its interface has gone.
    Lost,
    Pinned {
        #[expect(dead_code, reason = "the program stays even if somebody removes the pin")]
        link: PinnedLink,
        path: PathBuf,
    },
}

/// Why the program could not be attached.
#[derive(Debug, Error)]
pub enum AttachError {
    /// No such interface.
    #[error("there is no interface {0}; `ip link` lists those of this network namespace")]
    Unknown(String),
    /// Another program is there.
    #[error(
        "another XDP program is attached to {0}; `ip link show {0}` names it, \
         `ip link set dev {0} xdp off` (`xdpgeneric off` in skb mode) removes it; if that fails, a \
         BPF link holds it: end the process that `bpftool link` shows, or remove its pin"
    )]
    Busy(String),
    /// The driver cannot do it.
    #[error(
        "the driver of {0} has no native XDP; set mode = \"skb\", or \"auto\" to fall back by \
         itself (many times slower)"
    )]
    NoNative(String),
    /// The MTU is too large for the driver's XDP.
    #[error(
        "the driver of {0} refuses XDP as it is set up, most often because its MTU is too large \
         for one page or its queues are too few; lower the MTU (`ip link set dev {0} mtu 1600`; \
         a veth takes 3506 at most, on both ends), see `dmesg`, or set mode = \"skb\""
    )]
    Refused(String, #[source] ProgramError),
    /// No privilege.
    #[error("attaching to {0} needs root or CAP_NET_ADMIN")]
    Privilege(String),
    /// The pin could not be made.
    #[error(
        "pinning the link of {interface} at {} failed; the folder must be on a bpffs: mount one \
         (`mount -t bpf bpf /sys/fs/bpf` for the default folder; `jumpgate check FILE` prints the \
         command for any), or set pins.enabled = false (then forwarding ends \
         with the daemon)",
        path.display()
    )]
    Pin {
        /// The interface.
        interface: String,
        /// Where the pin should be.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Anything else.
    #[error("attaching to {0} failed")]
    Other(String, #[source] ProgramError),
}

impl Dataplane {
    /// Attaches the program to an interface.
    ///
    /// With a `pin` (a path on a bpffs where nothing is yet) the program stays when this process
    /// dies, and forwarding with it; [`adopt`](Self::adopt) takes such a pin over.
    pub fn attach(
        &mut self,
        interface: &str,
        mode: Mode,
        pin: Option<&Path>,
    ) -> Result<Attached, AttachError> {
        let mut not_native = None;
        let (link, mode) = match mode {
            Mode::Native => (self.attach_as(interface, XdpMode::Driver)?, Mode::Native),
            Mode::Skb => (self.attach_as(interface, XdpMode::Skb)?, Mode::Skb),
            Mode::Auto => match self.attach_as(interface, XdpMode::Driver) {
                Ok(link) => (link, Mode::Native),
                Err(reason @ (AttachError::NoNative(_) | AttachError::Refused(..))) => {
                    not_native = Some(format!(
                        "{interface} runs in the kernel's generic path, many times slower: {reason}"
                    ));
                    (self.attach_as(interface, XdpMode::Skb)?, Mode::Skb)
                }
                Err(error) => return Err(error),
            },
        };
        let link = match pin {
            None => Link::Held(link),
            Some(path) => {
                Link::Pinned { link: pin_link(interface, link, path)?, path: path.to_owned() }
            }
        };
        let interface = interface.to_owned();
        Ok(Attached { interface, mode, not_native, is_adopted: false, link })
    }

    fn attach_as(&mut self, interface: &str, mode: XdpMode) -> Result<XdpLink, AttachError> {
        let other = |error| AttachError::Other(interface.to_owned(), error);
        let program = self.program("jumpgate").map_err(other)?;
        let id = program.attach(interface, mode).map_err(|error| explain(interface, error))?;
        program.take_link(id).map_err(other)
    }

    /// Puts the program, in one atomic step, into the link that an earlier process pinned; `None`
    /// if there is none. The link keeps its mode, whatever `mode` asks for.
    ///
    /// The link must be on this interface: [`super::bpf_link::sweep`] removes those that are not.
    pub fn adopt(
        &mut self,
        interface: &Interface,
        mode: Mode,
        path: &Path,
    ) -> Result<Option<Attached>, AttachError> {
        if !path.exists() {
            return Ok(None);
        }
        let name = &interface.name;
        let fail = |source: Box<dyn std::error::Error + Send + Sync>| AttachError::Pin {
            interface: name.clone(),
            path: path.to_owned(),
            source,
        };
        // Where it has tables of its own its epoch ends here, and not only for XDP: sockets still
        // have its selector.
        let ours = self.local_id();
        if let Some(Err(error)) = interface.xdp.map(|program| shut_fence(program.id, ours)) {
            tracing::warn!(
                %error,
                "the earlier daemon's fence could not be shut: sockets that applications do not \
                 hand over anew may get packets until its lease is over"
            );
        }
        let pinned = PinnedLink::from_pin(path).map_err(|error| fail(error.into()))?;
        let link = XdpLink::try_from(FdLink::from(pinned)).map_err(|error| fail(error.into()))?;
        let program = self.program("jumpgate").map_err(|error| fail(error.into()))?;
        let Ok(id) = program.attach_to_link(link) else {
            // Its interface has gone in the meantime.
            fs::remove_file(path).map_err(|error| fail(error.into()))?;
            return Ok(None);
        };
        // The pin is still there: only the handle changed.
        program.take_link(id).map_err(|error| fail(error.into()))?;
        let link = PinnedLink::from_pin(path).map_err(|error| fail(error.into()))?;
        let is_native = interface.xdp.is_none_or(|program| program.is_native);
        let not_native = (mode == Mode::Auto && !is_native).then(|| {
            format!(
                "{name} runs in the kernel's generic path, many times slower: the daemon before \
                 this one fell back to it; stop the daemon (forwarding ends) and start it again \
                 to try native XDP anew"
            )
        });
        Ok(Some(Attached {
            interface: name.clone(),
            mode: if is_native { Mode::Native } else { Mode::Skb },
            not_native,
            is_adopted: true,
            link: Link::Pinned { link, path: path.to_owned() },
        }))
    }
}

impl Dataplane {
    /// Puts another program of the object, in one atomic step, into an attached link.
    pub(super) fn replace_program(
        &mut self,
        name: &str,
        attached: &mut Attached,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let program = self.program(name)?;
        match &attached.link {
            // The pin stays, and our handle with it.
            Link::Pinned { path, .. } => {
                let link = XdpLink::try_from(FdLink::from(PinnedLink::from_pin(path)?))?;
                let id = program.attach_to_link(link)?;
                program.take_link(id)?;
            }
            Link::Held(_) | Link::Lost => {
                let replaced = match std::mem::replace(&mut attached.link, Link::Lost) {
                    Link::Held(link) => program.attach_to_link(link),
                    _ => Err(ProgramError::NotAttached),
                };
                // A link whose program could not be changed is gone: a new one takes its place, if
                // the interface is there.
                let mode = match attached.mode {
                    Mode::Skb => XdpMode::Skb,
                    Mode::Native | Mode::Auto => XdpMode::Driver,
                };
                let id = match replaced {
                    Ok(id) => id,
                    Err(_) => program.attach(&attached.interface, mode)?,
                };
                attached.link = Link::Held(program.take_link(id)?);
            }
        }
        Ok(())
    }
}

impl Attached {
    /// Takes the program off the interface.
    pub fn detach(self) -> io::Result<()> {
        match self.link {
            Link::Held(_) | Link::Lost => Ok(()),
            Link::Pinned { path, .. } => match OpenLink::at(&path) {
                Ok(link) => {
                    link.detach()?;
                    fs::remove_file(path)
                }
                // Somebody removed the pin: then our descriptor was the last.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            },
        }
    }
}

fn pin_link(interface: &str, link: XdpLink, path: &Path) -> Result<PinnedLink, AttachError> {
    let fail = |source: Box<dyn std::error::Error + Send + Sync>| AttachError::Pin {
        interface: interface.to_owned(),
        path: path.to_owned(),
        source,
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| fail(error.into()))?;
    }
    // Fails for a link made through netlink, which the kernel cannot pin.
    let link = FdLink::try_from(link).map_err(|error: LinkError| fail(error.into()))?;
    link.pin(path).map_err(|error| fail(error.into()))
}

fn explain(interface: &str, error: ProgramError) -> AttachError {
    let name = interface.to_owned();
    if matches!(error, ProgramError::UnknownInterface { .. }) {
        return AttachError::Unknown(name);
    }
    let code = match &error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    };
    match code {
        Some(libc::EBUSY | libc::EEXIST) => AttachError::Busy(name),
        Some(libc::EOPNOTSUPP) => AttachError::NoNative(name),
        Some(libc::EPERM | libc::EACCES) => AttachError::Privilege(name),
        Some(libc::ERANGE | libc::E2BIG | libc::ENOSPC | libc::ENOMEM) => {
            AttachError::Refused(name, error)
        }
        _ if matches!(error, ProgramError::XdpError(_)) => AttachError::Refused(name, error),
        _ => AttachError::Other(name, error),
    }
}
