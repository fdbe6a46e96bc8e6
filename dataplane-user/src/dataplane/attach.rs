//! Attaching the XDP program to interfaces, and what can be in the way.

use super::Dataplane;
use aya::programs::{
    ProgramError, XdpMode,
    links::{FdLink, LinkError, PinnedLink},
    xdp::XdpLink,
};
use std::{
    io,
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
    link: Link,
}

#[derive(Debug)]
enum Link {
    /// Detached when it is dropped.
    Held(#[expect(dead_code, reason = "dropping it detaches")] XdpLink),
    Pinned(PinnedLink),
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
    /// With a `pin` (a path on a bpffs) the program stays when this process dies, and forwarding
    /// with it; a pin that is there already gets the new program in one atomic step.
    pub fn attach(
        &mut self,
        interface: &str,
        mode: Mode,
        pin: Option<&Path>,
    ) -> Result<Attached, AttachError> {
        if let Some(path) = pin
            && let Some(link) = self.adopt(interface, path)?
        {
            let mode = if mode == Mode::Skb { Mode::Skb } else { Mode::Native };
            let interface = interface.to_owned();
            return Ok(Attached { interface, mode, not_native: None, link });
        }
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
            Some(path) => Link::Pinned(pin_link(interface, link, path)?),
        };
        Ok(Attached { interface: interface.to_owned(), mode, not_native, link })
    }

    fn attach_as(&mut self, interface: &str, mode: XdpMode) -> Result<XdpLink, AttachError> {
        let other = |error| AttachError::Other(interface.to_owned(), error);
        let program = self.program("jumpgate").map_err(other)?;
        let id = program.attach(interface, mode).map_err(|error| explain(interface, error))?;
        program.take_link(id).map_err(other)
    }

    /// Puts the program into a link that an earlier process pinned; `None` if there is none, or if
    /// its interface is gone.
    fn adopt(&mut self, interface: &str, path: &Path) -> Result<Option<Link>, AttachError> {
        if !path.exists() {
            return Ok(None);
        }
        let fail = |source: Box<dyn std::error::Error + Send + Sync>| AttachError::Pin {
            interface: interface.to_owned(),
            path: path.to_owned(),
            source,
        };
        let pinned = PinnedLink::from_pin(path).map_err(|error| fail(error.into()))?;
        let link = XdpLink::try_from(FdLink::from(pinned)).map_err(|error| fail(error.into()))?;
        let program = self.program("jumpgate").map_err(|error| fail(error.into()))?;
        match program.attach_to_link(link) {
            Ok(id) => {
                // The pin is still there: only the handle changed.
                program.take_link(id).map_err(|error| fail(error.into()))?;
                let pinned = PinnedLink::from_pin(path).map_err(|error| fail(error.into()))?;
                Ok(Some(Link::Pinned(pinned)))
            }
            Err(_) => {
                std::fs::remove_file(path).map_err(|error| fail(error.into()))?;
                Ok(None)
            }
        }
    }
}

impl Attached {
    /// Takes the program off the interface.
    pub fn detach(self) -> io::Result<()> {
        match self.link {
            Link::Held(_) => Ok(()),
            Link::Pinned(pinned) => pinned.unpin().map(drop),
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
        std::fs::create_dir_all(folder).map_err(|error| fail(error.into()))?;
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
