//! What a node shows of itself.

use super::{
    Node, Peer, Refusal, Session,
    ids::{hex, parse_session},
};
use crate::{
    api::{Interface, NextHop, ServiceStatus, SessionRow, Stats, Status},
    dataplane::{
        attach::{Attached, Mode},
        counters::Counts,
        events::Told,
        fence::open_for,
        services::Service,
    },
};
use dataplane_ebpf::{event::Reason, verdict::Admission};
use ownership::SessionId;
use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
};

/// How many bytes of sessions one answer holds, beside the last: well below what a message may.
const PAGE: usize = 96 * 1024;

impl Node {
    /// How the node is.
    pub fn status(&self) -> Status {
        let local = self.dataplane.memory.local_row();
        Status {
            node: self.name.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            epoch: self.fence.epoch().get(),
            fence_open_ms: open_for(local).map_or(0, |left| left.as_millis() as u64),
            revision: self.revision,
            slots: self.slots.len(),
            sessions: self.sessions.len(),
            entries: self.dataplane.sessions.len(),
            capacity: self.dataplane.sessions.capacity(),
            cpus: self.cpus.clone(),
            interfaces: self.attached.iter().map(interface).collect(),
            egress: self.egress.names(),
            nodes: self.peers.iter().filter(|peer| peer.index != self.index).map(hop).collect(),
            hold: self.holds.totals(),
            services: self.services.iter().map(|service| self.service(service)).collect(),
            warnings: self.warnings.clone(),
        }
    }

    fn service(&self, service: &Service) -> ServiceStatus {
        let sockets = self.dataplane.sockets(service.index, false).unwrap_or_else(|error| {
            tracing::warn!(service = service.name, %error, "its sockets could not be listed");
            Vec::new()
        });
        ServiceStatus {
            name: service.name.clone(),
            address: service.address.to_string(),
            control_port: service.control_port,
            protocol: service.protocol.name().to_owned(),
            deliver: service.delivery.name().to_owned(),
            sockets,
        }
    }

    /// The counters.
    pub fn stats(&self, by_cpu: bool) -> Result<Stats, Refusal> {
        let counters = &self.dataplane.counters;
        let mut stats = Stats { node: self.name.clone(), ..Stats::default() };
        for service in &self.services {
            stats.services.insert(service.name.clone(), counters.service(service.index, by_cpu)?);
        }
        stats.other = counters.service(0, by_cpu)?;
        stats.lost = self.lost(stats.services.values().chain([&stats.other]))?;
        Ok(stats)
    }

    /// The indices in counters, with the services' names; what belongs to none comes last, with an empty
    /// one.
    pub fn counted(&self) -> Vec<(u16, String)> {
        let services = self.services.iter().map(|service| (service.index, service.name.clone()));
        services.chain([(0, String::new())]).collect()
    }

    /// The counters of one index.
    pub fn counts(&self, index: u16) -> Result<Counts, Refusal> {
        Ok(self.dataplane.counters.service(index, false)?)
    }

    /// Of how many refused packets of one index events were made; reasons without any are left out.
    pub fn told(&self, index: u16) -> Result<Vec<(Reason, Told)>, Refusal> {
        let mut all = Vec::new();
        for reason in Reason::refusals() {
            let told = self.dataplane.events.told(index, reason)?;
            if told != Told::default() {
                all.push((reason, told));
            }
        }
        Ok(all)
    }

    /// What was lost after its verdict, if these are the counts of all indices.
    pub fn lost<'a>(
        &self,
        counts: impl Iterator<Item = &'a Counts>,
    ) -> Result<BTreeMap<String, u64>, Refusal> {
        Ok(self.dataplane.losses.read(dropped_by_selector(counts))?)
    }

    /// Up to `limit` sessions behind the id `after`, and no more than an answer holds.
    pub fn sessions(&self, after: Option<&str>, limit: usize) -> Result<Vec<SessionRow>, Refusal> {
        let start = match after {
            None => Unbounded,
            Some(text) => Excluded(parse_session(text)?),
        };
        let rows = self.sessions.range((start, Unbounded)).take(limit.min(200));
        Ok(page(rows.map(|(id, session)| self.row(*id, session))))
    }

    fn row(&self, id: SessionId, session: &Session) -> SessionRow {
        SessionRow {
            session: id.to_string(),
            service: self.services[session.service].name.clone(),
            cpu: session.cpu,
            slot: session.slot,
            version: session.version.get(),
            wire_ids: session.wire_ids.iter().map(|id| hex(id)).collect(),
            client: session.client,
        }
    }
}

/// How many datagrams the selector has dropped.
fn dropped_by_selector<'a>(all: impl Iterator<Item = &'a Counts>) -> u64 {
    let drops = Admission::ALL.iter().filter(|admission| admission.is_reject());
    let of = |counts: &Counts| -> u64 {
        drops.clone().filter_map(|drop| counts.admissions.get(drop.name())).sum()
    };
    all.map(of).sum()
}

/// The first of these rows: as many as an answer holds, and at least one.
fn page(rows: impl Iterator<Item = SessionRow>) -> Vec<SessionRow> {
    let mut room = PAGE;
    rows.take_while(|row| {
        let more = room > 0;
        // The keys and numbers around the ids take less than this.
        let ids = row.wire_ids.iter().map(|id| id.len() + 3).sum::<usize>();
        room = room.saturating_sub(220 + row.service.len() + ids);
        more
    })
    .collect()
}

fn interface(attached: &Attached) -> Interface {
    let mode = match attached.mode {
        Mode::Skb => "skb",
        Mode::Native | Mode::Auto => "native",
    };
    Interface { name: attached.interface.clone(), mode: mode.to_owned() }
}

fn hop(peer: &Peer) -> NextHop {
    let (mac, interface) = match &peer.hop {
        Some((mac, interface)) => {
            let [a, b, c, d, e, f] = mac;
            let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
            (Some(mac), Some(interface.clone()))
        }
        None => (None, None),
    };
    NextHop { node: peer.name.clone(), address: peer.address.to_string(), mac, interface }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(wire_ids: usize) -> impl Iterator<Item = SessionRow> {
        (0..200).map(move |slot| SessionRow {
            session: "01".repeat(20),
            service: "a-service-with-a-name".into(),
            cpu: u32::MAX,
            slot,
            version: u64::MAX,
            wire_ids: vec!["01".repeat(20); wire_ids],
            client: Some("[2001:db8::1234:5678:9abc:def0]:65535".parse().expect("an address")),
        })
    }

    #[test]
    fn a_page_of_sessions_is_bounded_by_bytes_too() {
        assert_eq!(page(rows(1)).len(), 200);
        let full = page(rows(32));
        assert!((50..100).contains(&full.len()), "{}", full.len());
        let message = serde_json::to_vec(&full).expect("plain data");
        assert!(message.len() < PAGE + 2_000, "{}", message.len());
        assert_eq!(page(rows(10_000)).len(), 1, "at least one, so that the next page can be asked");
        assert_eq!(page(rows(1).take(0)).len(), 0);
    }
}
