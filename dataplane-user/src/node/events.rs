//! Refused packets as people read them: the last few hundred, and a line a second in the log.

use super::{Node, Refusal};
use crate::{
    api::{EventRow, EventTotal, Events},
    dataplane::{
        Dataplane,
        clock::{Jiffies, monotonic},
        events::{Refused, Told},
        services::Service,
    },
};
use dataplane_ebpf::{
    event::{Event, Reason},
    node::Address,
    verdict::Class,
};
use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::{Duration, SystemTime},
};

/// How many events are kept for whoever asks.
const KEPT: usize = 512;

/// How many events one answer holds.
const PAGE: usize = 256;

/// How many events are read from the ring at a time: all that it holds.
const BATCH: usize = 1024;

/// How often the log says what was refused.
const LOG: Duration = Duration::from_secs(1);

/// After how much quiet the log does not look at a reason any more, until there is an event: longer
/// than a window of the programs' budgets, so that whatever is suppressed has one shortly before it.
const QUIET: Duration = Duration::from_secs(10);

/// What was refused on this node.
pub(super) struct EventLog {
    jiffies: Jiffies,
    kept: VecDeque<EventRow>,
    next: u64,
    logged: Duration,
    /// What the log has said of each service and reason that was ever refused.
    said: BTreeMap<(u16, usize), Said>,
}

/// What the log has said of a service and reason.
struct Said {
    reason: Reason,
    /// The last event.
    last: EventRow,
    /// The packets that it has spoken of.
    told: Told,
    /// When there was an event, or something to say.
    at: Duration,
}

impl EventLog {
    pub(super) fn new(jiffies: Jiffies) -> Self {
        Self {
            jiffies,
            kept: VecDeque::with_capacity(KEPT),
            next: 1,
            logged: monotonic(),
            said: BTreeMap::new(),
        }
    }

    /// Takes what the programs have told since the last time, and logs it once a second.
    fn collect(&mut self, dataplane: &mut Dataplane, services: &[Service]) -> Result<(), Refusal> {
        let (now, unix) = (monotonic(), unix_time());
        for _ in 0..BATCH {
            let Some(refused) = dataplane.events.take_next() else { break };
            let at =
                unix.saturating_sub(now.saturating_sub(self.jiffies.time(refused.event.jiffies)));
            let row = row(&refused, self.next, at, services);
            self.next += 1;
            let key = (refused.event.service, refused.reason.slot());
            let (reason, last) = (refused.reason, row.clone());
            let told = match self.said.get(&key) {
                Some(said) => said.told,
                None => dataplane.events.told_before(&refused)?,
            };
            self.said.insert(key, Said { reason, last, told, at: now });
            if self.kept.len() == KEPT {
                self.kept.pop_front();
            }
            self.kept.push_back(row);
        }
        if now.saturating_sub(self.logged) >= LOG {
            self.logged = now;
            self.log(dataplane, now)?;
        }
        Ok(())
    }

    fn log(&mut self, dataplane: &Dataplane, now: Duration) -> Result<(), Refusal> {
        for (&(service, _), said) in &mut self.said {
            if now.saturating_sub(said.at) >= QUIET {
                continue;
            }
            let told = dataplane.events.told(service, said.reason)?;
            let suppressed = told.suppressed - said.told.suppressed;
            let packets = told.told - said.told.told + suppressed;
            if packets == 0 {
                continue;
            }
            (said.told, said.at) = (told, now);
            let EventRow { class, place, what, service, source, .. } = &said.last;
            let service = service.as_deref().unwrap_or("-");
            let source = source.as_deref().unwrap_or("-");
            match said.reason.class() {
                Class::Security => {
                    tracing::warn!(
                        class, place, what, service, packets, suppressed, source, "refused"
                    );
                }
                Class::Policy => {
                    tracing::info!(
                        class, place, what, service, packets, suppressed, source, "refused"
                    );
                }
            }
        }
        Ok(())
    }

    /// The events behind the number `after`, as many as an answer holds.
    fn page(&self, after: u64) -> (Vec<EventRow>, u64) {
        let first = self.kept.front().map_or(self.next, |row| row.number);
        let missed = first.saturating_sub(after.saturating_add(1));
        let rows = self.kept.iter().filter(|row| row.number > after).take(PAGE);
        (rows.cloned().collect(), missed)
    }
}

impl Node {
    /// Takes what the programs have told of refused packets. To be called a few times a second: the
    /// ring holds about a thousand events.
    pub fn collect_events(&mut self) -> Result<(), Refusal> {
        self.events.collect(&mut self.dataplane, &self.services)
    }

    /// The events behind the number `after` (0: all that are kept), and how many there were in all.
    pub(super) fn events_after(&mut self, after: u64) -> Result<Events, Refusal> {
        self.collect_events()?;
        let (events, missed) = self.events.page(after);
        let mut totals = Vec::new();
        let names = self.services.iter().map(|service| (service.index, Some(&*service.name)));
        for (index, name) in names.chain([(0, None)]) {
            for (reason, Told { told, suppressed }) in self.told(index)? {
                totals.push(EventTotal {
                    service: name.map(str::to_owned),
                    place: reason.place().to_owned(),
                    what: reason.name().to_owned(),
                    class: reason.class().name().to_owned(),
                    told,
                    suppressed,
                });
            }
        }
        Ok(Events { events, missed, totals })
    }
}

fn row(refused: &Refused, number: u64, time: Duration, services: &[Service]) -> EventRow {
    let Refused { event, reason, suppressed } = refused;
    let Event { ifindex, cpu, service, hash, slot, .. } = *event;
    let interface = match ifindex {
        0 => None,
        index => nix::net::if_::if_indextoname(index).ok(),
    };
    EventRow {
        number,
        time_ms: time.as_millis() as u64,
        class: reason.class().name().to_owned(),
        place: reason.place().to_owned(),
        what: reason.name().to_owned(),
        service: services.iter().find(|known| known.index == service).map(|s| s.name.clone()),
        source: source(event.source, event.port),
        interface: interface.map(|name| name.to_string_lossy().into_owned()),
        cpu,
        slot: (hash != 0).then_some(slot),
        key: (hash != 0).then(|| format!("{hash:016x}")),
        suppressed: *suppressed,
    }
}

/// An address and port (network byte order) as people write them; `None` if not known.
fn source(address: Address, port: u16) -> Option<String> {
    if address == Address([0; 2]) {
        return None;
    }
    let address = Ipv6Addr::from(address.bytes());
    let address = address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4);
    Some(SocketAddr::new(address, u16::from_be(port)).to_string())
}

fn unix_time() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
