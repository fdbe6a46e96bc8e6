//! Which interfaces are fenced at egress, as they come and go.

use crate::{
    config::{Config, EgressInterfaces},
    dataplane::{
        Dataplane,
        bpf_link::{LinkKind, sweep},
        egress::{EgressError, Fenced},
    },
    neighbours::{Interface, Interfaces},
    pins,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

/// The loopback interface of every network namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK: u32 = 1;

/// The fenced interfaces of a node.
#[derive(Debug, Default)]
pub struct EgressFences {
    /// `None`: all but the loopback.
    wanted: Option<BTreeSet<String>>,
    /// The folder of the links' pins; `None` if nothing is pinned.
    pins: Option<PathBuf>,
    /// By index.
    fenced: BTreeMap<u32, Fenced>,
}

impl EgressFences {
    /// The fences that a configuration asks for; none is there yet.
    pub fn new(config: &Config) -> Self {
        let wanted = match &config.egress.interfaces {
            EgressInterfaces::All => None,
            EgressInterfaces::Named(names) => {
                let steered = config.interfaces.iter().map(|interface| &interface.name);
                Some(names.iter().chain(steered).cloned().collect())
            }
        };
        let pins = config.pins.enabled.then(|| pins::links(config));
        Self { wanted, pins, fenced: BTreeMap::new() }
    }

    /// The names of the fenced interfaces.
    pub fn names(&self) -> Vec<String> {
        self.fenced.values().map(|fenced| fenced.interface.name.clone()).collect()
    }

    fn wants(&self, interface: &Interface) -> bool {
        match &self.wanted {
            None => interface.ifindex != LOOPBACK,
            Some(names) => names.contains(&interface.name),
        }
    }

    fn pin(&self, ifindex: u32) -> Option<PathBuf> {
        Some(pins::egress_path(self.pins.as_deref()?, ifindex))
    }

    /// Fences what is there and wanted, and forgets what is gone.
    ///
    /// # Errors
    /// For each interface that could not be fenced; all others are.
    pub fn adjust(
        &mut self,
        dataplane: &mut Dataplane,
        interfaces: &Interfaces,
    ) -> Result<(), Vec<EgressError>> {
        let new = self.look(interfaces);
        let errors: Vec<_> =
            new.iter().filter_map(|interface| self.fence(dataplane, interface).err()).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Forgets what is gone, and returns what is there and wanted, but not fenced.
    pub(crate) fn look(&mut self, interfaces: &Interfaces) -> Vec<Interface> {
        self.forget(interfaces);
        for (ifindex, fenced) in &mut self.fenced {
            if let Some(interface) = interfaces.indexed(*ifindex) {
                fenced.interface.clone_from(interface);
            }
        }
        let wanted = interfaces.iter().filter(|interface| self.wants(interface));
        wanted.filter(|interface| !self.fenced.contains_key(&interface.ifindex)).cloned().collect()
    }

    pub(crate) fn fence(
        &mut self,
        dataplane: &mut Dataplane,
        interface: &Interface,
    ) -> Result<(), EgressError> {
        let pin = self.pin(interface.ifindex);
        match dataplane.fence_egress(interface, pin.as_deref()) {
            Ok(fenced) => {
                let is_adopted = fenced.is_adopted;
                tracing::info!(interface = interface.name, is_adopted, "fenced at egress");
                self.fenced.insert(interface.ifindex, fenced);
                Ok(())
            }
            Err(error) if error.is_gone() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Where other programs have come before the fence, or it was taken away.
    pub(crate) fn overtaken(&self) -> Vec<Interface> {
        let overtaken =
            self.fenced.values().filter(|fenced| fenced.is_overtaken().unwrap_or(false));
        overtaken.map(|fenced| fenced.interface.clone()).collect()
    }

    /// Puts the fence in front again. The one that is there goes when the new one has come.
    pub(crate) fn put_in_front(
        &mut self,
        dataplane: &mut Dataplane,
        interface: &Interface,
    ) -> Result<(), EgressError> {
        dataplane.renew_egress(interface)?;
        tracing::warn!(
            interface = interface.name,
            "another TCX program came before the fence at egress, or somebody took that away: it is \
             put in front again (`bpftool net show` lists what is there)"
        );
        self.fence(dataplane, interface)
    }

    fn forget(&mut self, interfaces: &Interfaces) {
        let is_gone = |ifindex: &u32, _: &mut Fenced| interfaces.indexed(*ifindex).is_none();
        for (_, fenced) in self.fenced.extract_if(.., is_gone) {
            let interface = fenced.interface.name.clone();
            match fenced.detach() {
                Ok(()) => tracing::info!(interface, "gone, and its fence at egress with it"),
                Err(error) => tracing::warn!(interface, %error, "the pin of its fence stays"),
            }
        }
    }

    /// Names that are wanted and not there: they are fenced when they come.
    pub fn missing(&self) -> Vec<String> {
        let names = self.names();
        self.wanted.iter().flatten().filter(|name| !names.contains(name)).cloned().collect()
    }

    /// Detaches what earlier daemons of this node left pinned and this one did not take over; comes
    /// after [`adjust`](Self::adjust), so that no interface is without a fence in between.
    pub fn sweep(&self, config: &Config, interfaces: &Interfaces) -> io::Result<Vec<PathBuf>> {
        let is_wanted = |ifindex| {
            self.fenced.contains_key(&ifindex)
                || interfaces.indexed(ifindex).is_some_and(|interface| self.wants(interface))
        };
        let keep =
            |pin: &Path, ifindex| self.pin(ifindex).as_deref() == Some(pin) && is_wanted(ifindex);
        sweep(&pins::links(config), LinkKind::Tcx, keep)
    }

    /// Takes all fences away; those that were taken over only if `adopted` is set.
    pub fn detach(&mut self, adopted: bool) {
        for (_, fenced) in std::mem::take(&mut self.fenced) {
            let interface = fenced.interface.name.clone();
            if (adopted || !fenced.is_adopted)
                && let Err(error) = fenced.detach()
            {
                tracing::error!(interface, %error, "the fence at egress is still there");
            }
        }
    }
}
