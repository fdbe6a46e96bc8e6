//! Which interfaces are fenced at egress, as they come and go.

use crate::{
    config::{Config, EgressInterfaces},
    dataplane::{
        Dataplane,
        attach::{LinkKind, sweep},
        egress::{EgressError, Fenced},
    },
    neighbours::{Interface, Interfaces, LinkChanges, RESYNC},
    node::{Node, lock},
    pins,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
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
        self.fenced.values().map(|fenced| fenced.interface.clone()).collect()
    }

    fn wants(&self, interface: &Interface) -> bool {
        match &self.wanted {
            None => interface.ifindex != LOOPBACK,
            Some(names) => names.contains(&interface.name),
        }
    }

    fn pin(&self, name: &str) -> Option<PathBuf> {
        Some(pins::egress_path(self.pins.as_deref()?, name))
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
        self.forget(interfaces);
        let wanted = interfaces.iter().filter(|interface| self.wants(interface));
        let new = wanted.filter(|interface| !self.fenced.contains_key(&interface.ifindex));
        let mut errors = Vec::new();
        for interface in new.collect::<Vec<_>>() {
            let pin = self.pin(&interface.name);
            match dataplane.fence_egress(interface, pin.as_deref()) {
                Ok(fenced) => {
                    let is_adopted = fenced.is_adopted;
                    tracing::info!(interface = interface.name, is_adopted, "fenced at egress");
                    self.fenced.insert(interface.ifindex, fenced);
                }
                Err(error) if error.is_gone() => {}
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn forget(&mut self, interfaces: &Interfaces) {
        let is_gone = |ifindex: &u32, _: &mut Fenced| interfaces.indexed(*ifindex).is_none();
        for (_, fenced) in self.fenced.extract_if(.., is_gone) {
            let interface = fenced.interface.clone();
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

    /// Detaches what earlier daemons of this node left pinned and this one does not take over.
    pub fn sweep(&self, config: &Config, interfaces: &Interfaces) -> io::Result<Vec<PathBuf>> {
        let mut wanted = BTreeMap::new();
        for interface in interfaces.iter().filter(|interface| self.wants(interface)) {
            wanted.extend(self.pin(&interface.name).map(|pin| (pin, interface.ifindex)));
        }
        let keep = |pin: &Path, ifindex| wanted.get(pin) == Some(&ifindex);
        sweep(&pins::links(config), LinkKind::Tcx, keep)
    }

    /// Takes all fences away; those that were taken over only if `adopted` is set.
    pub fn detach(&mut self, adopted: bool) {
        for (_, fenced) in std::mem::take(&mut self.fenced) {
            let interface = fenced.interface.clone();
            if (adopted || !fenced.is_adopted)
                && let Err(error) = fenced.detach()
            {
                tracing::error!(interface, %error, "the fence at egress is still there");
            }
        }
    }
}

/// Fences the interfaces of a node that come, for as long as it runs: at the latest a moment after
/// the kernel has told of them.
pub async fn follow(node: Arc<Mutex<Node>>, mut links: LinkChanges) {
    loop {
        // Now and then without being told.
        if let Ok(Err(error)) = tokio::time::timeout(RESYNC, links.changed()).await {
            tracing::error!(%error, "interfaces that come are fenced at egress no longer");
            return;
        }
        match Interfaces::read().await {
            Ok(interfaces) => {
                let Node { dataplane, egress, .. } = &mut *lock(&node);
                for error in egress.adjust(dataplane, &interfaces).err().into_iter().flatten() {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::error!(%error, cause, "an interface is not fenced");
                }
            }
            Err(error) => tracing::warn!(%error, "interfaces could not be looked up; trying again"),
        }
    }
}
