//! Attaching the fence at egress: first among an interface's TCX programs (Linux 6.6).

use super::{
    Dataplane,
    attach::{LinkKind, OnInterface, OpenLink},
};
use crate::neighbours::Interface;
use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier, TcAttachType,
    links::{FdLink, PinnedLink},
    tc::{SchedClassifierLink, TcAttachOptions},
};
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// An interface that replies leave by no longer than the lease holds; free again on drop unless it
/// is pinned.
#[derive(Debug)]
pub struct Fenced {
    /// Its name when it was attached.
    pub interface: String,
    /// Whether the link is an earlier process's.
    pub is_adopted: bool,
    link: Link,
}

#[derive(Debug)]
enum Link {
    /// Detached when it is dropped.
    Held(#[expect(dead_code, reason = "dropping it detaches")] SchedClassifierLink),
    Pinned {
        #[expect(dead_code, reason = "the program stays even if somebody removes the pin")]
        link: PinnedLink,
        path: PathBuf,
    },
}

/// Why an interface could not be fenced.
#[derive(Debug, Error)]
pub enum EgressError {
    /// The kernel refused.
    #[error(
        "attaching the fence at egress to {interface} failed (`bpftool net show dev {interface}` \
         lists what is there)"
    )]
    Attach {
        /// The interface.
        interface: String,
        /// What went wrong.
        #[source]
        source: ProgramError,
    },
    /// The pin could not be made or taken over.
    #[error(
        "pinning the fence at egress of {interface} at {} failed; the folder must be on a bpffs \
         (`jumpgate check FILE` prints the command that mounts one), or set pins.enabled = false \
         (then the fence at egress ends with the daemon)",
        path.display()
    )]
    Pin {
        /// The interface.
        interface: String,
        /// Where the pin is or should be.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl EgressError {
    /// Whether it is because the interface has gone.
    pub fn is_gone(&self) -> bool {
        let Self::Attach { source: ProgramError::SyscallError(error), .. } = self else {
            return matches!(self, Self::Attach { source: ProgramError::TcError(_), .. });
        };
        error.io_error.raw_os_error() == Some(libc::ENODEV)
    }
}

impl Dataplane {
    /// Fences an interface: its program is the first that a packet meets at egress, now.
    ///
    /// With a `pin` (a path on a bpffs) it stays when this process dies. A link that an earlier
    /// process pinned there gets the new program in one atomic step, if it is still first.
    pub fn fence_egress(
        &mut self,
        interface: &Interface,
        pin: Option<&Path>,
    ) -> Result<Fenced, EgressError> {
        let name = &interface.name;
        let program = self.egress_program(interface)?;
        let Some(path) = pin else {
            let link = Link::Held(attach(program, name)?);
            return Ok(Fenced { interface: name.clone(), is_adopted: false, link });
        };
        let fail = |source: Box<dyn std::error::Error + Send + Sync>| EgressError::Pin {
            interface: name.clone(),
            path: path.to_owned(),
            source,
        };
        let old = old_link(path).map_err(|error| fail(error.into()))?;
        let is_adopted = old.is_some();
        // Nothing can be moved within the order; and the same program is not taken twice.
        if old.is_some_and(|old| old.ifindex == interface.ifindex && is_first(&old, name)) {
            let pinned = PinnedLink::from_pin(path).map_err(|error| fail(error.into()))?;
            let link = SchedClassifierLink::try_from(FdLink::from(pinned))
                .map_err(|error| fail(error.into()))?;
            let id = program.attach_to_link(link).map_err(|error| fail(error.into()))?;
            // The pin is still there: only the handle changed.
            program.take_link(id).map_err(|error| fail(error.into()))?;
            let link = PinnedLink::from_pin(path).map_err(|error| fail(error.into()))?;
            let link = Link::Pinned { link, path: path.to_owned() };
            return Ok(Fenced { interface: name.clone(), is_adopted, link });
        }
        // The new one is there before the old one goes.
        let link = attach(program, name)?;
        if is_adopted {
            remove(path).map_err(|error| fail(error.into()))?;
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| fail(error.into()))?;
        }
        let link = FdLink::try_from(link).map_err(|error| fail(error.into()))?;
        let link = link.pin(path).map_err(|error| fail(error.into()))?;
        let link = Link::Pinned { link, path: path.to_owned() };
        Ok(Fenced { interface: name.clone(), is_adopted, link })
    }

    /// The program for an interface: those without a MAC address have no Ethernet headers.
    fn egress_program(
        &mut self,
        interface: &Interface,
    ) -> Result<&mut SchedClassifier, EgressError> {
        let name = if interface.mac.is_some() { "egress" } else { "egress_ip" };
        self.classifier(name)
            .map_err(|source| EgressError::Attach { interface: interface.name.clone(), source })
    }
}

fn attach(
    program: &mut SchedClassifier,
    interface: &str,
) -> Result<SchedClassifierLink, EgressError> {
    let fail = |source| EgressError::Attach { interface: interface.to_owned(), source };
    let first = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program.attach_with_options(interface, TcAttachType::Egress, first).map_err(fail)?;
    program.take_link(id).map_err(fail)
}

/// Whether packets meet a link before any other. Asking takes CAP_SYS_ADMIN, and whoever may not ask
/// must not believe so.
fn is_first(link: &OnInterface, interface: &str) -> bool {
    let programs = SchedClassifier::query_tcx(interface, TcAttachType::Egress);
    programs
        .is_ok_and(|(_, programs)| programs.first().is_some_and(|first| first.id() == link.program))
}

/// Where a pinned link is, if there is one.
fn old_link(path: &Path) -> io::Result<Option<OnInterface>> {
    match OpenLink::at(path) {
        Ok(link) => link.on_interface(LinkKind::Tcx),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes a pinned link off its interface at once, and its pin away.
fn remove(path: &Path) -> io::Result<()> {
    match OpenLink::at(path) {
        Ok(link) => {
            link.detach()?;
            fs::remove_file(path)
        }
        // Somebody removed the pin: then our descriptor was the last.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

impl Fenced {
    /// Lets replies pass again.
    pub fn detach(self) -> io::Result<()> {
        match self.link {
            Link::Held(_) => Ok(()),
            Link::Pinned { path, .. } => remove(&path),
        }
    }
}
