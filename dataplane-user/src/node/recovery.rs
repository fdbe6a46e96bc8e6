//! The sessions of an earlier daemon of the same epoch, from what it left in the kernel.

use super::{Registry, Session, WIRE_IDS};
use crate::dataplane::{
    memory::Memory, recovery::Known, services::Service, sessions::SessionTable,
};
use dataplane_ebpf::{
    table::Place,
    tables::{Lookup, lookup},
    wire_id::WireId,
    wire_id_row::Registered,
};
use ownership::{Epoch, SessionId, StateVersion};
use std::collections::BTreeSet;

/// What an earlier daemon left.
pub struct Recovered {
    /// The writer of its table.
    pub table: SessionTable,
    /// Its sessions.
    pub sessions: Registry,
    /// Those of them that it held.
    pub held: BTreeSet<SessionId>,
    /// Table entries that belonged to nothing and were removed: of requests that the earlier daemon
    /// could not finish, or damaged.
    pub removed: usize,
}

/// Reads the table of an earlier daemon and puts it right.
///
/// A session is what has an entry for its SessionID, under this epoch; other wire ids need that one.
/// So a session that was being opened is there or not, and one that was being closed is gone.
pub fn recover(memory: &Memory, bits: u8, services: &[Service], epoch: Epoch) -> Recovered {
    let seeds: Vec<u64> = services.iter().map(Service::seed).collect();
    let place = |registered: &Registered| (registered.service as usize).checked_sub(1);
    let key = |registered: &Registered| {
        let seed = *seeds.get(place(registered)?)?;
        Some(WireId::from_bytes(registered.bytes())?.key(seed))
    };
    let mut sessions = Vec::new();
    let mut others = Vec::new();
    let mut on_hold = Vec::new();
    let keep = |known: &Known| {
        let cpu = match known.entry.place {
            Place::Local { cpu } | Place::Hold { cpu, .. } => cpu,
            // An off-home row, of whatever epoch: the session is another node's.
            Place::Remote { .. } => return true,
        };
        if known.entry.epoch != epoch.get() {
            return false;
        }
        if let Place::Hold { .. } = known.entry.place {
            on_hold.push(*known);
        }
        match (session_id(known), place(&known.registered), StateVersion::new(known.version)) {
            (Some(id), Some(service), version) => {
                let (slot, wire_ids) = (known.key.slot, vec![id.bytes().to_vec()]);
                let session =
                    Session { service, cpu: cpu.into(), slot, version, wire_ids, client: None };
                sessions.push((id, session));
            }
            _ => others.push((*known, cpu)),
        }
        true
    };
    let (mut table, mut removed) = SessionTable::recover(memory, bits, key, keep);
    // Built at once from a sorted list, which takes a fraction of so many insertions.
    let mut sessions: Registry = sessions.into_iter().collect();
    for (known, cpu) in others {
        let session = owner(memory, bits, &known).and_then(|id| sessions.get_mut(&id));
        let session = session.filter(|session| {
            session.wire_ids.len() < WIRE_IDS
                && Some(session.service) == place(&known.registered)
                && session.cpu == u32::from(cpu)
        });
        match session {
            Some(session) => session.wire_ids.push(known.registered.bytes().to_vec()),
            None => {
                table.remove(memory, known.key);
                removed += 1;
            }
        }
    }
    let held = on_hold.iter().filter_map(|known| owner(memory, bits, known));
    let held = held.filter(|id| sessions.contains_key(id)).collect();
    Recovered { table, sessions, held, removed }
}

/// The SessionID that this is, if it is one.
fn session_id(known: &Known) -> Option<SessionId> {
    let is_own = known.registered.session == known.key.hash;
    let bytes = known.registered.bytes().try_into().ok()?;
    is_own.then(|| SessionId::new(bytes))
}

/// The SessionID of the session that a wire id belongs to.
fn owner(memory: &Memory, bits: u8, known: &Known) -> Option<SessionId> {
    let hash = known.registered.session;
    let Lookup::Hit { detail, .. } = lookup(memory, hash, bits) else {
        return None;
    };
    let registered = memory.wire_ids.get(detail as usize)?.get()?;
    let is_own = registered.session == hash && registered.service == known.registered.service;
    let bytes = registered.bytes().try_into().ok()?;
    is_own.then(|| SessionId::new(bytes))
}
