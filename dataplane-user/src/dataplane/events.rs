//! The event ring: which packets were refused, and how many more.

use super::object::take_map;
use aya::{
    Ebpf,
    maps::{MapData, MapError, PerCpuArray, RingBuf},
};
use dataplane_ebpf::{
    event::{Budget, BudgetWords, Event, Reason},
    service::SERVICES,
};
use std::collections::HashMap;

/// Reads the events of the programs.
pub struct EventRing {
    ring: RingBuf<MapData>,
    budgets: PerCpuArray<MapData, BudgetWords>,
    /// What each CPU had suppressed by its last event of each service and reason.
    known: HashMap<(u32, u16, Reason), u64>,
    is_new: bool,
}

/// One refused packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The packet.
    pub event: Event,
    /// Why it was refused.
    pub reason: Reason,
    /// How many of the same service and reason this CPU suppressed between its event before this one
    /// and this one.
    pub suppressed: u64,
}

/// All packets of a service that were refused for one reason, since the programs were loaded: as many
/// as the counter of that reason shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Those of which an event went into the ring.
    pub told: u64,
    /// Those of which none did.
    pub suppressed: u64,
}

impl EventRing {
    /// The ring of an object; `is_new` if nobody has told anything before.
    pub(super) fn of_maps(ebpf: &mut Ebpf, is_new: bool) -> Result<Self, MapError> {
        let mut events = Self {
            ring: RingBuf::try_from(take_map(ebpf, "EVENTS")?)?,
            budgets: PerCpuArray::try_from(take_map(ebpf, "EVENT_BUDGETS")?)?,
            known: HashMap::new(),
            is_new,
        };
        if !is_new {
            events.remember()?;
        }
        Ok(events)
    }

    /// What was suppressed under an earlier daemon was that one's to say.
    fn remember(&mut self) -> Result<(), MapError> {
        for service in 0..SERVICES as u16 {
            for reason in Reason::refusals() {
                let cpus = self.budgets.get(&Budget::index(service, reason), 0)?;
                for (cpu, &words) in (0..).zip(cpus.iter()) {
                    let Budget { suppressed, .. } = Budget::from(words);
                    if suppressed > 0 {
                        self.known.insert((cpu, service, reason), suppressed);
                    }
                }
            }
        }
        Ok(())
    }

    /// The next event; `None` if there are no more now.
    pub fn take_next(&mut self) -> Option<Refused> {
        while let Some(item) = self.ring.next() {
            let Some(event) = Event::from_bytes(&item) else { continue };
            let Some(reason) = event.reason() else { continue };
            let known = self.known.entry((event.cpu, event.service, reason)).or_default();
            let suppressed = event.suppressed.saturating_sub(*known);
            *known = event.suppressed.max(*known);
            return Some(Refused { event, reason, suppressed });
        }
        None
    }

    /// Of how many packets an earlier daemon has spoken when this event is the first of its kind.
    pub fn told_before(&self, refused: &Refused) -> Result<Told, MapError> {
        if self.is_new {
            return Ok(Told::default());
        }
        let Told { told, suppressed } = self.told(refused.event.service, refused.reason)?;
        let suppressed = suppressed.saturating_sub(refused.suppressed);
        Ok(Told { told: told.saturating_sub(1), suppressed })
    }

    /// How many packets of a service were refused for a reason.
    pub fn told(&self, service: u16, reason: Reason) -> Result<Told, MapError> {
        let mut sum = Told::default();
        for &words in self.budgets.get(&Budget::index(service, reason), 0)?.iter() {
            let Budget { told, suppressed, .. } = Budget::from(words);
            sum.told += told;
            sum.suppressed += suppressed;
        }
        Ok(sum)
    }
}
