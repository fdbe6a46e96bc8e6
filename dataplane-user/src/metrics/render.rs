//! From a snapshot to metrics.

use super::snapshot::{Service, Snapshot};
use crate::{
    api::{NodeRow, Standing, Status},
    hold,
};
use dataplane_ebpf::{
    loss::Loss,
    verdict::{Admission, Egress, Verdict},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, NoLabelSet},
    metrics::MetricType,
};
use std::{collections::BTreeMap, fmt};

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self { status, nodes, services, lost } = self;
        let mut page = Page(&mut encoder);
        page.packets(services)?;
        page.lost(lost)?;
        page.events(services)?;
        page.ownership(status)?;
        if let Some(totals) = &status.hold {
            page.hold(totals)?;
        }
        page.nodes(status, nodes)?;
        page.this(status)
    }
}

/// A sample's labels.
type Labels<'a> = &'a [(&'a str, &'a str)];

/// What is being written.
struct Page<'a, 'e>(&'a mut DescriptorEncoder<'e>);

impl Page<'_, '_> {
    fn counters<'l, N: EncodeCounterValue>(
        &mut self,
        (name, help): (&str, &str),
        samples: impl IntoIterator<Item = (Vec<(&'l str, &'l str)>, N)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in samples {
            let labels: Labels<'_> = &labels;
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn gauges<'l, N: EncodeGaugeValue>(
        &mut self,
        (name, help): (&str, &str),
        samples: impl IntoIterator<Item = (Vec<(&'l str, &'l str)>, N)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            let labels: Labels<'_> = &labels;
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: (&str, &str), value: impl EncodeGaugeValue) -> fmt::Result {
        self.gauges(name, [(Vec::new(), value)])
    }

    fn packets(&mut self, services: &[Service]) -> fmt::Result {
        let verdicts = Verdict::ALL.iter().map(|verdict| verdict.name());
        let samples = every(services, verdicts, |service| &service.counts.verdicts);
        self.counters(("packets", "Packets that arrived, by verdict"), samples)?;
        let admissions = Admission::ALL.iter().map(|admission| admission.name());
        let samples = every(services, admissions, |service| &service.counts.admissions);
        self.counters(("admissions", "Datagrams at applications' sockets"), samples)?;
        let egress = Egress::ALL.iter().map(|egress| egress.name());
        let samples = every(services, egress, |service| &service.counts.egress);
        self.counters(("egress_packets", "Packets that this node sends for services"), samples)?;
        let samples = services.iter().flat_map(|service| {
            service.counts.af_xdp.iter().map(|(reason, count)| {
                (vec![("service", &*service.name), ("reason", &**reason)], *count)
            })
        });
        self.counters(("af_xdp_packets", "Datagrams at applications' AF_XDP ports"), samples)
    }

    fn lost(&mut self, lost: &BTreeMap<String, u64>) -> fmt::Result {
        let samples = Loss::ALL.iter().map(|loss| {
            let count = lost.get(loss.name()).copied().unwrap_or(0);
            (vec![("reason", loss.name())], count)
        });
        self.counters(("lost_packets", "Packets lost after their verdict"), samples)
    }

    fn events(&mut self, services: &[Service]) -> fmt::Result {
        let samples = || {
            services.iter().flat_map(|service| {
                service.told.iter().map(|(reason, told)| {
                    let labels = vec![
                        ("service", &*service.name),
                        ("place", reason.place()),
                        ("reason", reason.name()),
                        ("class", reason.class().name()),
                    ];
                    (labels, told)
                })
            })
        };
        let told = samples().map(|(labels, told)| (labels, told.told));
        self.counters(("events", "Refused packets that events were made of"), told)?;
        let suppressed = samples().map(|(labels, told)| (labels, told.suppressed));
        self.counters(("events_suppressed", "Refused packets without an event"), suppressed)
    }

    fn ownership(&mut self, status: &Status) -> fmt::Result {
        self.gauge(("lease_margin_seconds", "Until the fence shuts; 0: it is shut"), {
            status.fence_open_ms as f64 / 1e3
        })?;
        self.gauge(("epoch", "The node's epoch"), status.epoch)?;
        self.gauge(("placement_revision", "The placement's revision"), status.revision)?;
        self.gauge(("slots", "Slots that this node owns, of 65536"), status.slots)?;
        self.gauge(("sessions", "Sessions that this node owns"), status.sessions)?;
        self.gauge(("table_entries", "Wire ids and off-home rows in the table"), status.entries)?;
        self.gauge(("table_capacity", "Wire ids that the table is made for"), status.capacity)
    }

    fn hold(&mut self, totals: &hold::Totals) -> fmt::Result {
        let hold::Totals { sessions, waiting, bytes, counts, unclaimed } = *totals;
        self.gauge(("hold_sessions", "Sessions that are held"), sessions)?;
        self.gauge(("hold_waiting_packets", "Held packets that wait"), waiting)?;
        self.gauge(("hold_waiting_bytes", "What they take of [hold] total"), bytes)?;
        let hold::Counts {
            held,
            here,
            away,
            overflow,
            too_big,
            hop_limit,
            not_newer,
            failed,
            discarded,
            late,
        } = counts;
        self.counters(("held_packets", "Packets that were held"), [(Vec::new(), held)])?;
        let outcomes = [
            ("here", here),
            ("away", away),
            ("overflow", overflow),
            ("too-big", too_big),
            ("hop-limit", hop_limit),
            ("not-newer", not_newer),
            ("failed", failed),
            ("discarded", discarded),
            ("unclaimed", unclaimed),
        ];
        let samples = outcomes.map(|(outcome, count)| (vec![("outcome", outcome)], count));
        self.counters(("released_packets", "What became of held packets"), samples)?;
        let late = [(Vec::new(), late)];
        self.counters(("released_late_packets", "Released after newer packets had gone"), late)
    }

    fn nodes(&mut self, status: &Status, nodes: &[NodeRow]) -> fmt::Result {
        let standings = nodes.iter().flat_map(|row| {
            Standing::ALL.into_iter().map(|standing| {
                let labels = vec![("peer", &*row.node), ("standing", standing.name())];
                (labels, u32::from(row.standing == standing))
            })
        });
        self.gauges(("peer_standing", "1: what the node may do by the store"), standings)?;
        let epochs = nodes.iter().filter_map(|row| Some((vec![("peer", &*row.node)], row.epoch?)));
        self.gauges(("peer_epoch", "The node's epoch by the store"), epochs)?;
        let silences = nodes
            .iter()
            .filter_map(|row| Some((vec![("peer", &*row.node)], row.silent_ms? as f64 / 1e3)));
        self.gauges(("peer_silence_seconds", "How long no heartbeat was seen"), silences)?;
        let ways = status
            .nodes
            .iter()
            .map(|hop| (vec![("peer", &*hop.node)], u32::from(hop.mac.is_some())));
        self.gauges(("peer_next_hop", "1: the way to the node is known"), ways)
    }

    fn this(&mut self, status: &Status) -> fmt::Result {
        let interfaces = status.interfaces.iter().map(|interface| {
            (vec![("interface", &*interface.name), ("mode", &*interface.mode)], 1_u32)
        });
        self.gauges(("interface", "1: the program is attached, in this mode"), interfaces)?;
        self.gauge(("egress_fences", "Interfaces that are fenced at egress"), status.egress.len())?;
        let sockets = status.services.iter().filter(|service| service.deliver == "socket");
        let sockets =
            sockets.map(|service| (vec![("service", &*service.name)], service.sockets.len()));
        self.gauges(("sockets", "CPUs for which an application has given a socket"), sockets)?;
        self.gauge(("warnings", "What somebody should look at"), status.warnings.len())?;
        let version = vec![("version", &*status.version)];
        self.gauges(("build_info", "1: the daemon's version"), [(version, 1_u32)])
    }
}

/// A sample for each service and each of these names, those with a count of 0 included.
fn every<'l>(
    services: &'l [Service],
    names: impl Iterator<Item = &'static str> + Clone + 'l,
    counts: impl Fn(&Service) -> &BTreeMap<String, u64> + Copy + 'l,
) -> impl Iterator<Item = (Vec<(&'l str, &'l str)>, u64)> {
    services.iter().flat_map(move |service| {
        names.clone().map(move |name| {
            let count = counts(service).get(name).copied().unwrap_or(0);
            (vec![("service", &*service.name), ("reason", name)], count)
        })
    })
}
