//! Having the kernel keep neighbours resolved.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::netlink::{Care, Entry, Neighbour, Netlink};
use super::{PROBE, RETRY, Upkeep};

/// What we have asked the kernel about one neighbour. Lives as long as a node is reached by it.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    /// When the kernel was last asked to resolve it.
    at: Option<Instant>,
    /// It is managed because we said so.
    managed: bool,
    /// That it could not be asked has been logged.
    warned: bool,
}

/// Asks the kernel to resolve neighbours, and to go on with it.
pub(super) struct Carer {
    netlink: Netlink,
    upkeep: Upkeep,
    /// It is known that this kernel manages neighbours.
    proven: bool,
    asked: BTreeMap<Neighbour, Asked>,
}

impl Carer {
    pub(super) fn new(netlink: Netlink, upkeep: Upkeep) -> Self {
        Self { netlink, upkeep, proven: false, asked: BTreeMap::new() }
    }

    pub(super) fn upkeep(&self) -> Upkeep {
        self.upkeep
    }

    /// Asks for what is wanted, and lets go of what no longer is; returns whether it asked for
    /// anything.
    ///
    /// A neighbour that does not answer is asked again only every [`RETRY`], unless `at_once`.
    pub(super) async fn tend(
        &mut self,
        wanted: &BTreeSet<Neighbour>,
        entries: &BTreeMap<Neighbour, Entry>,
        at_once: bool,
    ) -> bool {
        let unwanted = self.asked.extract_if(.., |neighbour, _| !wanted.contains(neighbour));
        let unwanted: Vec<_> = unwanted.collect();
        for (neighbour, asked) in unwanted {
            self.release(neighbour, asked).await;
        }
        let mut any = false;
        for &neighbour in wanted {
            let asked = self.asked.entry(neighbour).or_default();
            let entry = entries.get(&neighbour);
            let since = asked.at.map(|at| at.elapsed());
            let is_due = |every| since.is_none_or(|since| since >= every);
            let needed = match (entry, self.upkeep) {
                (Some(entry), _) if entry.permanent => false,
                (Some(entry), Upkeep::Managed) if !entry.managed => at_once || is_due(RETRY),
                (Some(entry), Upkeep::Probes) if !entry.idle => is_due(PROBE),
                (Some(entry), _) if !entry.idle => false,
                // Unknown, or it did not answer.
                _ => at_once || is_due(RETRY),
            };
            if needed {
                any = true;
                self.ask(neighbour).await;
            }
        }
        any
    }

    /// Learns from neighbours that were asked to be managed whether this kernel can do that.
    pub(super) fn check(&mut self, entries: &BTreeMap<Neighbour, Entry>) {
        if self.proven || self.upkeep == Upkeep::Probes {
            return;
        }
        let asked = self.asked.iter().filter(|(_, asked)| asked.managed);
        let mut asked = asked
            .filter_map(|(neighbour, _)| entries.get(neighbour))
            .filter(|entry| !entry.permanent)
            .peekable();
        if asked.peek().is_none() {
            return;
        }
        if asked.any(|entry| entry.managed) {
            self.proven = true;
            return;
        }
        tracing::warn!(
            "this kernel cannot manage neighbours (Linux 5.16 can): the MAC addresses of next hops \
             are probed every {} s instead",
            PROBE.as_secs()
        );
        self.upkeep = Upkeep::Probes;
        for asked in self.asked.values_mut() {
            asked.managed = false;
        }
    }

    /// Lets go of all neighbours.
    pub(super) async fn release_all(&mut self) {
        for (neighbour, asked) in std::mem::take(&mut self.asked) {
            self.release(neighbour, asked).await;
        }
    }

    async fn ask(&mut self, neighbour: Neighbour) {
        let care = match self.upkeep {
            Upkeep::Managed => Care::Managed,
            Upkeep::Probes => Care::Once,
        };
        let result = self.netlink.resolve(neighbour, care).await;
        let asked = self.asked.entry(neighbour).or_default();
        asked.at = Some(Instant::now());
        match result {
            Ok(()) => {
                asked.managed |= care == Care::Managed;
                asked.warned = false;
            }
            Err(error) if asked.warned => tracing::debug!(%error, ?neighbour, "asked again"),
            Err(error) => {
                asked.warned = true;
                let hint = match error.errno() {
                    Some(libc::EPERM) => " (CAP_NET_ADMIN is needed)",
                    _ => "",
                };
                tracing::warn!(
                    %error,
                    "the neighbour {} on interface {} may be lost when it changes{hint}",
                    neighbour.address,
                    neighbour.ifindex,
                );
            }
        }
    }

    async fn release(&self, neighbour: Neighbour, asked: Asked) {
        if !asked.managed {
            return;
        }
        // An entry that is gone would be made again by this, for a while: no harm.
        if let Err(error) = self.netlink.resolve(neighbour, Care::Once).await {
            tracing::debug!(%error, ?neighbour, "no longer managing a neighbour");
        }
    }
}
