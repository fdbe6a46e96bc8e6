//! `jumpgate explain`

use crate::{
    output::say,
    table::{print, row},
};
use anyhow::{Context, Result, bail, ensure};
use dataplane_user::api::{Client, Explanation};
use pcap_file::{
    DataLink,
    pcap::PcapReader,
    pcapng::{Block, PcapNgReader},
};
use serde::Serialize;
use std::{fs, path::Path};

/// How many packets one request holds.
const PACKETS: usize = 32;

/// A packet in a capture file.
struct Packet {
    frame: Vec<u8>,
    /// Its length when it was captured, in bytes.
    length: usize,
}

/// An explanation, and whose it is.
#[derive(Serialize)]
struct Numbered {
    /// The packet's place in the file or in the list of wire ids, from 1 on.
    packet: usize,
    #[serde(flatten)]
    explanation: Explanation,
}

/// What to explain.
pub struct What<'a> {
    /// A frame in hexadecimal.
    pub packet: Option<&'a str>,
    /// A file of frames.
    pub pcap: Option<&'a Path>,
    /// A SessionID.
    pub session: Option<String>,
}

/// Says what would become of packets.
pub fn explain(
    client: &mut Client,
    what: What<'_>,
    interface: Option<String>,
    json: bool,
) -> Result<()> {
    let explanations = match what {
        What { session: Some(session), .. } => {
            number(1.., client.explain_session(session, interface)?)
        }
        What { packet: Some(packet), .. } => {
            let digits: String =
                packet.chars().filter(|c| !c.is_whitespace() && *c != ':').collect();
            number(1.., client.explain(vec![digits], interface)?)
        }
        What { pcap: Some(file), .. } => {
            let (numbers, frames): (Vec<_>, Vec<_>) = read(file)?.into_iter().unzip();
            let mut all = Vec::new();
            for frames in frames.chunks(PACKETS) {
                all.extend(client.explain(frames.to_vec(), interface.clone())?);
            }
            number(numbers, all)
        }
        _ => bail!("name a packet in hexadecimal, a file with --pcap, or a session with --session"),
    };
    if json {
        return say!("{}", serde_json::to_string_pretty(&explanations)?);
    }
    for (place, explanation) in explanations.iter().enumerate() {
        if place > 0 {
            say!()?;
        }
        show(explanation)?;
    }
    Ok(())
}

fn number(
    packets: impl IntoIterator<Item = usize>,
    explanations: Vec<Explanation>,
) -> Vec<Numbered> {
    let numbered = packets.into_iter().zip(explanations);
    numbered.map(|(packet, explanation)| Numbered { packet, explanation }).collect()
}

fn show(Numbered { packet, explanation }: &Numbered) -> Result<()> {
    let Explanation { interface, service, protocol, wire_id, key, entry, .. } = explanation;
    let Explanation { slot, slot_owner, slot_previous, slot_revision, .. } = explanation;
    let Explanation { verdict, reason, goes, .. } = explanation;
    let mut rows = vec![row([&format!("packet {packet}"), &format!("arriving on {interface}")])];
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            rows.push(row([&format!("  {name}"), &value]));
        }
    };
    let service = service.as_ref().map(|service| match protocol {
        Some(protocol) => format!("{service} ({protocol})"),
        None => service.clone(),
    });
    add("service", service);
    add("wire id", wire_id.clone());
    add("key", key.clone());
    let place = slot_owner.as_ref().map(|owner| {
        let slot = slot.map_or_else(String::new, |slot| slot.to_string());
        let revision = slot_revision.map_or_else(String::new, |r| format!(", as of revision {r}"));
        let from =
            slot_previous.as_ref().map_or_else(String::new, |n| format!(", moving from {n}"));
        format!("{slot}, of node {owner}{from}{revision}")
    });
    add("slot", place);
    add("entry", entry.clone());
    add("verdict", Some(format!("{verdict}: {reason}")));
    add("goes", Some(goes.clone()));
    print(&rows)
}

/// The frames in a capture file, in hexadecimal, and their numbers there. What it holds no more than the
/// start of is left out, as the program would take it for malformed, and said.
fn read(file: &Path) -> Result<Vec<(usize, String)>> {
    let bytes = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let is_pcapng = bytes.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]);
    let packets = if is_pcapng { read_pcapng(&bytes) } else { read_pcap(&bytes) };
    let packets = packets.with_context(|| format!("reading packets from {}", file.display()))?;
    ensure!(!packets.is_empty(), "{} holds no packet", file.display());
    let mut whole = Vec::new();
    for (number, Packet { frame, length }) in (1..).zip(packets) {
        if frame.len() < length {
            let kept = frame.len();
            eprintln!(
                "jumpgate: packet {number} is not explained: the capture kept {kept} of its {length} \
                 bytes"
            );
        } else {
            whole.push((number, frame.iter().map(|byte| format!("{byte:02x}")).collect()));
        }
    }
    ensure!(!whole.is_empty(), "{} holds no packet as a whole", file.display());
    Ok(whole)
}

fn read_pcap(bytes: &[u8]) -> Result<Vec<Packet>> {
    let mut reader = PcapReader::new(bytes)?;
    only_ethernet(reader.header().datalink)?;
    let mut packets = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet?;
        let length = packet.orig_len as usize;
        packets.push(Packet { frame: packet.data.into_owned(), length });
    }
    Ok(packets)
}

fn read_pcapng(bytes: &[u8]) -> Result<Vec<Packet>> {
    let mut reader = PcapNgReader::new(bytes)?;
    let mut packets = Vec::new();
    while let Some(block) = reader.next_block() {
        match block? {
            Block::InterfaceDescription(interface) => only_ethernet(interface.linktype)?,
            Block::EnhancedPacket(packet) => packets.push(Packet {
                frame: packet.data.into_owned(),
                length: packet.original_len as usize,
            }),
            Block::SimplePacket(packet) => packets.push(Packet {
                frame: packet.data.into_owned(),
                length: packet.original_len as usize,
            }),
            _ => {}
        }
    }
    Ok(packets)
}

fn only_ethernet(link: DataLink) -> Result<()> {
    ensure!(
        link == DataLink::ETHERNET,
        "its packets are of type {link:?}, not Ethernet: capture on one interface, not on `any`"
    );
    Ok(())
}
