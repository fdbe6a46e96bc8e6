//! Attaching the fence at egress: first among an interface's TCX programs (Linux 6.6).

use super::{
    Dataplane,
    bpf::first_at_egress,
    bpf_link::{LinkKind, OnInterface, OpenLink},
};
use crate::neighbours::Interface;
use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier, TcAttachType,
    links::{FdLink, PinnedLink},
    tc::{SchedClassifierLink, TcAttachOptions},
};
use nix::net::if_::if_nametoindex;
use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// An interface that replies leave by no longer than the lease holds; free again on drop unless it
/// is pinned.
#[derive(Debug)]
pub struct Fenced {
    /// As it was when the interfaces were last looked at.
    pub interface: Interface,
    /// Whether the link is an earlier process's.
    pub is_adopted: bool,
    /// The id of its program.
    program: u32,
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
    /// It has gone, or has another name by now.
    #[error("{0} is no longer the interface that it was; it is looked for anew at once")]
    Gone(String),
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
        matches!(self, Self::Gone(_))
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
        let id = id_of(program, interface)?;
        let fenced = |is_adopted, link| {
            let interface = interface.clone();
            Ok(Fenced { interface, is_adopted, program: id, link })
        };
        let Some(path) = pin else {
            return fenced(false, Link::Held(attach(program, interface)?));
        };
        let fail = |source: Box<dyn std::error::Error + Send + Sync>| EgressError::Pin {
            interface: name.clone(),
            path: path.to_owned(),
            source,
        };
        let old = old_link(path).map_err(|error| fail(error.into()))?;
        let is_adopted = old.is_some();
        // Nothing can be moved within the order; and the same program is not taken twice.
        if old.as_ref().is_some_and(|(_, old)| is_first(old, interface)) {
            let pinned = PinnedLink::from_pin(path).map_err(|error| fail(error.into()))?;
            let link = SchedClassifierLink::try_from(FdLink::from(pinned))
                .map_err(|error| fail(error.into()))?;
            let id = program.attach_to_link(link).map_err(|error| fail(error.into()))?;
            // The pin is still there: only the handle changed.
            program.take_link(id).map_err(|error| fail(error.into()))?;
            let link = PinnedLink::from_pin(path).map_err(|error| fail(error.into()))?;
            return fenced(is_adopted, Link::Pinned { link, path: path.to_owned() });
        }
        // The new one is there, and pinned, before the old one goes.
        let link = attach(program, interface)?;
        let link = FdLink::try_from(link).map_err(|error| fail(error.into()))?;
        pin_over(link, path).map_err(fail)?;
        if let Some((old, _)) = old {
            old.detach().map_err(|error| fail(error.into()))?;
        }
        let link = PinnedLink::from_pin(path).map_err(|error| fail(error.into()))?;
        fenced(is_adopted, Link::Pinned { link, path: path.to_owned() })
    }

    /// Loads the program for an interface anew, which takes some 50 ms. What is attached stays as it
    /// is; but the kernel takes no program twice on one interface, and cannot move one there.
    pub fn renew_egress(&mut self, interface: &Interface) -> Result<(), EgressError> {
        let renew = |program: &mut SchedClassifier| {
            program.unload()?;
            program.load()
        };
        renew(self.egress_program(interface)?)
            .map_err(|source| EgressError::Attach { interface: interface.name.clone(), source })
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

fn id_of(program: &SchedClassifier, interface: &Interface) -> Result<u32, EgressError> {
    let info = program.info();
    info.map(|info| info.id())
        .map_err(|source| EgressError::Attach { interface: interface.name.clone(), source })
}

fn attach(
    program: &mut SchedClassifier,
    interface: &Interface,
) -> Result<SchedClassifierLink, EgressError> {
    let name = &interface.name;
    let first = TcAttachOptions::TcxOrder(LinkOrder::first());
    let link = program
        .attach_with_options(name, TcAttachType::Egress, first)
        .and_then(|id| program.take_link(id));
    // It went by the name: to another interface, if that has it now.
    if !is_named_so(interface) {
        return Err(EgressError::Gone(name.clone()));
    }
    link.map_err(|source| EgressError::Attach { interface: name.clone(), source })
}

/// Whether an interface still has its name.
fn is_named_so(interface: &Interface) -> bool {
    if_nametoindex(interface.name.as_str()) == Ok(interface.ifindex)
}

/// Pins a link in the place of another, which stays attached; the pin is never missing.
fn pin_over(link: FdLink, path: &Path) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut new = OsString::from(path);
    new.push(":new");
    let new = PathBuf::from(new);
    // Of a process that died here.
    remove(&new)?;
    link.pin(&new)?;
    if let Err(error) = fs::rename(&new, path) {
        // An interface does not take the same program twice: the next attempt would fail.
        remove(&new)?;
        return Err(error.into());
    }
    Ok(())
}

/// Whether packets to an interface meet a link before any other. Who cannot ask must not believe so.
fn is_first(link: &OnInterface, interface: &Interface) -> bool {
    let first = first_at_egress(interface.ifindex).ok().flatten();
    link.ifindex == interface.ifindex && first == Some(link.program) && is_named_so(interface)
}

/// A pinned link and where it is, if there is one.
fn old_link(path: &Path) -> io::Result<Option<(OpenLink, OnInterface)>> {
    match OpenLink::at(path) {
        Ok(link) => Ok(link.on_interface(LinkKind::Tcx)?.map(|place| (link, place))),
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
    /// Whether packets meet another program first, or none at all.
    ///
    /// # Errors
    /// When the kernel does not say, as when the interface has gone.
    pub fn is_overtaken(&self) -> io::Result<bool> {
        Ok(first_at_egress(self.interface.ifindex)? != Some(self.program))
    }

    /// Lets replies pass again.
    pub fn detach(self) -> io::Result<()> {
        match self.link {
            Link::Held(_) => Ok(()),
            Link::Pinned { path, .. } => remove(&path),
        }
    }
}
