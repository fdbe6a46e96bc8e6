//! What would become of a packet, in words.

use super::{Node, Refusal, hex, probe_packet::probe_packets, unhex};
use crate::{api::Explanation, dataplane::explain::ExplainError};
use dataplane_ebpf::{
    explain::{Explained, Target, find_wire_id},
    frame::Frame,
    service::kind,
    table::{Entry, Place},
    tables::{Lookup, Tables, lookup},
    wire_id::Key,
};
use nix::net::if_::if_nametoindex;

/// How many packets one request may hold.
const PACKETS: usize = 32;

impl Node {
    /// Explains packets (hexadecimal, from their Ethernet headers on) that would arrive on an
    /// interface, the first one if none is named.
    pub fn explain(
        &mut self,
        packets: &[String],
        interface: Option<&str>,
    ) -> Result<Vec<Explanation>, Refusal> {
        if packets.len() > PACKETS {
            return Err(Refusal::TooManyPackets { most: PACKETS, got: packets.len() });
        }
        let frames: Result<Vec<_>, _> = packets
            .iter()
            .map(|packet| unhex(packet).ok_or_else(|| Refusal::NotHex(packet.clone())))
            .collect();
        let (name, ifindex) = self.attached_interface(interface)?;
        frames?.iter().map(|frame| self.explain_frame(frame, &name, ifindex)).collect()
    }

    /// Explains a packet of each wire id of a session of this node, as its protocol has it.
    pub fn explain_session(
        &mut self,
        session: &str,
        interface: Option<&str>,
    ) -> Result<Vec<Explanation>, Refusal> {
        let id = self.find_session(session)?;
        let session = &self.sessions[&id];
        let service = self.services[session.service].clone();
        let packets = probe_packets(&service, &session.wire_ids, session.client);
        let (name, ifindex) = self.attached_interface(interface)?;
        packets.iter().map(|frame| self.explain_frame(frame, &name, ifindex)).collect()
    }

    fn attached_interface(&self, name: Option<&str>) -> Result<(String, u32), Refusal> {
        let known = || self.attached.iter().map(|attached| attached.interface.as_str());
        let found = match name {
            None => known().next(),
            Some(name) => known().find(|known| *known == name),
        };
        let refusal = || Refusal::NotAttached {
            name: name.unwrap_or_default().to_owned(),
            known: known().collect::<Vec<_>>().join(", "),
        };
        let name = found.ok_or_else(refusal)?;
        let ifindex = if_nametoindex(name).map_err(|_| refusal())?;
        Ok((name.to_owned(), ifindex))
    }

    fn explain_frame(
        &mut self,
        frame: &[u8],
        interface: &str,
        ifindex: u32,
    ) -> Result<Explanation, Refusal> {
        let explained = self.dataplane.explain(frame, ifindex)?;
        let Explained { verdict, service, target, key } = explained;
        let memory = &self.dataplane.memory;
        let row = find_wire_id(&Frame::new(frame), memory);
        let service = self.services.iter().find(|known| known.index == service);
        let has_key = key.hash != 0;
        let slot = has_key.then(|| memory.slot(key.slot)).flatten();
        Ok(Explanation {
            interface: interface.to_owned(),
            service: service.map(|service| service.name.clone()),
            protocol: service.map(|service| match row {
                Some((_, row)) if row.kind == kind::CONTROL => "control port".to_owned(),
                _ => service.protocol.name().to_owned(),
            }),
            wire_id: row.filter(|_| has_key).map(|(id, _)| {
                let (bytes, length) = id.to_bytes();
                hex(&bytes[..length])
            }),
            key: has_key.then(|| format!("{:016x}", key.hash)),
            slot: has_key.then_some(key.slot),
            slot_owner: slot.map(|slot| self.node_name(slot.owner())),
            slot_previous: slot
                .filter(|slot| slot.previous() != 0)
                .map(|slot| self.node_name(slot.previous())),
            slot_revision: slot.map(|slot| slot.revision()),
            entry: has_key.then(|| self.entry(key)),
            verdict: verdict.name().to_owned(),
            reason: verdict.explanation().trim().to_owned(),
            goes: match target {
                Target::Kernel => "to the kernel of this node".to_owned(),
                Target::Nowhere => "nowhere".to_owned(),
                Target::Cpu(cpu) => format!("to CPU {cpu} of this node"),
                Target::AfXdp => "to the AF_XDP socket of the queue it arrives by".to_owned(),
                Target::Sender => "back to its sender, as the answer to it".to_owned(),
                Target::Held => "into the hold ring".to_owned(),
                Target::Node { node, ifindex } => {
                    let through = nix::net::if_::if_indextoname(ifindex);
                    let through = through.map_or_else(
                        |_| format!("interface {ifindex}"),
                        |name| name.to_string_lossy().into_owned(),
                    );
                    format!("to node {} through {through}", self.node_name(node))
                }
            },
        })
    }

    fn node_name(&self, index: u16) -> String {
        if index == 0 {
            return "nobody".to_owned();
        }
        let known = self.peers.iter().find(|peer| peer.index.get() == index);
        known.map_or_else(|| format!("number {index}"), |peer| peer.name.clone())
    }

    /// What the session table says of a key.
    fn entry(&self, key: Key) -> String {
        let memory = &self.dataplane.memory;
        let bits = memory.local_row().identity().bucket_bits;
        let Lookup::Hit { bits, detail, generation } = lookup(memory, key.hash, bits) else {
            return "none".to_owned();
        };
        let Some(Entry { place, epoch }) = Entry::unpack(bits) else {
            return "being replaced".to_owned();
        };
        let version = memory.detail(detail).and_then(|row| row.version(generation));
        let version = version.map_or_else(|| "?".to_owned(), |version| version.to_string());
        match place {
            Place::Local { cpu } => {
                format!("here, CPU {cpu}, epoch {epoch}, state_version {version}")
            }
            Place::Hold { cpu, ours } => {
                let whose = if ours { "" } else { " but not ours" };
                format!("held here{whose}, CPU {cpu}, epoch {epoch}, state_version {version}")
            }
            Place::Remote { node } => {
                format!("on node {}, state_version {version}", self.node_name(node))
            }
        }
    }
}

impl From<ExplainError> for Refusal {
    fn from(error: ExplainError) -> Self {
        Self::Explain(error.to_string())
    }
}
