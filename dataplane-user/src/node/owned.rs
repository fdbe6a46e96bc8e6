//! What the kernel does for sessions, as their committed records say.

use super::{
    DRAWS, NO_SESSION, Node, Refusal, Session, WIRE_IDS,
    bindings::checked,
    ids::{draw, draw_for, hex},
};
use crate::dataplane::{fence::open_for, sessions::InsertError};
use dataplane_ebpf::{
    table::{Entry, Place},
    wire_id::Key,
    wire_id_row::Registered,
};
use ownership::{NodeIndex, Placement, SessionId, StateVersion};
use rand::Rng;
use std::{
    net::SocketAddr,
    ops::Bound::{Excluded, Unbounded},
};

/// What stands in the tables for the state_version at which a node came to own a session that was made there: it is
/// no later than any at which another node can come to own it, and not 0, which says in a shim that nothing is known.
pub const FIRST_OWNED: StateVersion = StateVersion::new(1);

/// A session as it enters the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entering {
    /// The session.
    pub session: SessionId,
    /// The service's place in the configuration.
    pub service: usize,
    /// The CPU that processes it; any of those that do if it is none.
    pub cpu: Option<u32>,
    /// Its state_version.
    pub version: StateVersion,
    /// The state_version at which this node came to own it, or [`FIRST_OWNED`].
    pub owned_since: StateVersion,
    /// The client that it is bound to.
    pub client: Option<SocketAddr>,
    /// Its wire ids besides the SessionID.
    pub wire_ids: Vec<Vec<u8>>,
}

impl Node {
    /// Whether the fence is open.
    pub fn is_open(&self) -> bool {
        open_for(self.dataplane.memory.local_row()).is_some()
    }

    /// Applies a placement; `mintable` are the slots in which ids may be minted.
    pub fn apply_placement(&mut self, placement: &Placement) {
        self.dataplane.set_placement(placement);
        self.revision = placement.revision().get();
    }

    /// The slots in which ids may be minted.
    pub fn set_mintable(&mut self, slots: Vec<u16>) {
        self.slots = slots;
    }

    /// The slot of a wire id of a service.
    pub fn slot_of(&self, service: usize, bytes: &[u8]) -> Option<u16> {
        Some(self.key(service, bytes)?.slot)
    }

    /// A client that a session of the service can be bound to.
    pub fn checked_client(
        &self,
        service: usize,
        client: SocketAddr,
    ) -> Result<SocketAddr, Refusal> {
        checked(client, self.services[service].address)
    }

    /// Draws a SessionID in a slot of this node's own whose key is free. Nothing is entered.
    pub fn draw_session(&self, service: usize) -> Result<SessionId, Refusal> {
        self.check_fence()?;
        if self.slots.is_empty() {
            return Err(Refusal::NoSlots);
        }
        let seed = self.services[service].seed();
        self.draw_free(|| {
            let slot = self.slots[rand::rng().random_range(0..self.slots.len())];
            let (bytes, key) = draw(slot, seed)?;
            Ok((SessionId::new(bytes), key))
        })
    }

    /// Draws a wire id of the service's own length in the session's slot. Nothing is entered.
    pub fn draw_wire_id(&self, id: SessionId) -> Result<Vec<u8>, Refusal> {
        let Session { service, slot, .. } = *self.session_of(id)?;
        let service = &self.services[service];
        self.draw_free(|| draw_for(service.protocol, slot, service.seed()))
    }

    /// Draws an id until the table has room for its key.
    fn draw_free<T>(&self, draw: impl Fn() -> Result<(T, Key), Refusal>) -> Result<T, Refusal> {
        for _ in 0..DRAWS {
            let (id, key) = draw()?;
            match self.dataplane.check_room(key) {
                Ok(()) => return Ok(id),
                Err(InsertError::Taken) => {}
                Err(full) => return Err(full.into()),
            }
        }
        Err(InsertError::Taken.into())
    }

    /// What packets carry of a wire id that a peer chose, and its slot. Nothing is entered.
    pub fn check_wire_id(&self, id: SessionId, bytes: &[u8]) -> Result<(Vec<u8>, u16), Refusal> {
        let service = self.session_of(id)?.service;
        let (bytes, key) = self.wire_id(service, bytes)?;
        Ok((bytes, key.slot))
    }

    /// A session of this node, as it is in the tables.
    pub fn session_of(&self, id: SessionId) -> Result<&Session, Refusal> {
        self.sessions.get(&id).ok_or_else(|| Refusal::NoSession(id.to_string()))
    }

    /// Whether a session is in the tables still and on its way out.
    pub fn is_leaving(&self, id: SessionId) -> bool {
        self.sessions.contains_key(&id) && self.holds.is_being_released(id)
    }

    /// Whether a session could have one more wire id, and this one.
    pub fn check_new_wire_id(&self, id: SessionId, bytes: &[u8]) -> Result<(), Refusal> {
        self.holds.refuse(id)?;
        let session = self.session_of(id)?;
        if session.wire_ids.len() >= WIRE_IDS {
            return Err(Refusal::TooManyIds(id.to_string()));
        }
        let key = self.key_of(session.service, bytes)?;
        match self.dataplane.get(key) {
            Some((Entry { place: Place::Remote { .. }, .. }, _)) => Ok(()),
            Some(_) => Err(InsertError::Taken.into()),
            None => Ok(self.dataplane.check_room(key)?),
        }
    }

    /// Whether a session has this wire id, and it can be removed.
    pub fn check_removable(&self, id: SessionId, bytes: &[u8]) -> Result<(), Refusal> {
        self.holds.refuse(id)?;
        let others = self.session_of(id)?.wire_ids.iter().skip(1);
        match others.into_iter().any(|known| known == bytes) {
            true => Ok(()),
            false => Err(Refusal::NoWireId { session: id.to_string(), id: hex(bytes) }),
        }
    }

    /// The ids of sessions in the tables, in order, behind one of them.
    pub fn ids_after(&self, after: Option<SessionId>, limit: usize) -> Vec<SessionId> {
        let start = after.map_or(Unbounded, Excluded);
        self.sessions.range((start, Unbounded)).take(limit).map(|(id, _)| *id).collect()
    }

    /// The state_version at which this node came to own a session, as it stands in the tables.
    pub fn owned_since(&self, id: SessionId) -> Option<StateVersion> {
        let session = self.sessions.get(&id)?;
        let key = self.key(session.service, &id.bytes())?;
        self.dataplane.get(key).map(|(_, since)| StateVersion::new(since))
    }

    /// The ids of all sessions in the tables.
    pub fn session_ids(&self) -> Vec<SessionId> {
        self.sessions.keys().copied().collect()
    }

    /// Enters a session: from here on its packets are delivered here.
    ///
    /// # Errors
    ///
    /// If the tables have no place for it. It is not there then.
    pub fn enter(&mut self, entering: &Entering) -> Result<(), Refusal> {
        let Entering { session: id, service, owned_since, client, .. } = *entering;
        let cpu = self.cpu_for(entering);
        let entry = self.local_entry(cpu);
        self.note(entering, cpu);
        let keys = self.keys(id);
        let home = keys[0].hash;
        for (at, key) in keys.iter().enumerate() {
            let bytes = self.sessions[&id].wire_ids[at].clone();
            self.remove_redirect(*key);
            let version = owned_since.get();
            if let Err(error) = self.register(service, &bytes, *key, entry, version, home) {
                for key in &keys[..at] {
                    self.dataplane.remove(*key);
                }
                self.sessions.remove(&id);
                return Err(error.into());
            }
        }
        if let Some(client) = client
            && let Err(error) = self.set_client(id, Some(client))
        {
            self.leave(id);
            return Err(error);
        }
        Ok(())
    }

    /// Notes a session that is about to be in the tables.
    pub(super) fn note(&mut self, entering: &Entering, cpu: u32) {
        let Entering { session: id, service, version, ref wire_ids, .. } = *entering;
        let key = self.key(service, &id.bytes()).expect("a SessionID has a key");
        let all = std::iter::once(id.bytes().to_vec()).chain(wire_ids.iter().cloned()).collect();
        let session =
            Session { service, cpu, slot: key.slot, version, wire_ids: all, client: None };
        self.sessions.insert(id, session);
    }

    pub(super) fn cpu_for(&self, entering: &Entering) -> u32 {
        let spread = entering.session.bytes()[15] as usize % self.cpus.len();
        entering.cpu.filter(|cpu| self.cpus.contains(cpu)).unwrap_or(self.cpus[spread])
    }

    /// Removes the row of a key that leads to another node; whether there was one.
    pub(super) fn remove_redirect(&mut self, key: Key) -> bool {
        let row = self.dataplane.get(key);
        let leads_away = matches!(row, Some((Entry { place: Place::Remote { .. }, .. }, _)));
        leads_away && self.dataplane.remove(key)
    }

    /// A session of this node has another version, or is bound to another client. Whether it is held stays
    /// as it is, and so does the version in the tables, by which nodes know who has the newer word on its owner: that
    /// is the one at which this node came to own it.
    pub fn publish(&mut self, id: SessionId, version: StateVersion, client: Option<SocketAddr>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.version = version;
        if let Err(error) = self.set_client(id, client) {
            tracing::error!(session = %id, %error, "its client cannot be told by replies");
        }
    }

    /// Enters one more wire id of a session.
    pub fn enter_wire_id(&mut self, id: SessionId, bytes: &[u8]) -> Result<(), Refusal> {
        let Session { service, cpu, .. } = *self.session_of(id)?;
        let key = self.key_of(service, bytes)?;
        let own = self.key(service, &id.bytes()).expect("it was registered");
        let since = self.dataplane.get(own).map_or(0, |(_, since)| since);
        self.remove_redirect(key);
        let entry = self.local_entry(cpu);
        self.register(service, bytes, key, entry, since, own.hash)?;
        self.session_mut(id).wire_ids.push(bytes.to_vec());
        self.publish_client(id, key);
        self.capture_key(id, key);
        Ok(())
    }

    /// Takes a wire id of a session out of the tables.
    pub fn leave_wire_id(&mut self, id: SessionId, bytes: &[u8]) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.wire_ids.retain(|known| known != bytes || *known == id.bytes());
        let service = session.service;
        if let Some(key) = self.key(service, bytes).filter(|_| bytes != id.bytes()) {
            self.dataplane.remove(key);
            self.forget_captured_key(id, key);
        }
    }

    /// Takes a session out of the tables.
    pub fn leave(&mut self, id: SessionId) {
        if self.sessions.contains_key(&id) {
            self.end(id);
        }
    }

    /// Sends the packets of a session to another node that owns it, if it is in the tables and not held.
    pub fn redirect_session(&mut self, id: SessionId, to: NodeIndex, version: u64) {
        let Some(session) = self.sessions.get(&id) else { return };
        let service = session.service;
        let ids = session.wire_ids.clone();
        self.leave(id);
        for bytes in ids {
            self.redirect(service, &bytes, to, version);
        }
    }

    /// Sends packets with a wire id to another node, unless that is known better.
    pub fn redirect(&mut self, service: usize, bytes: &[u8], to: NodeIndex, version: u64) {
        let Some(key) = self.key(service, bytes) else { return };
        let place = Place::Remote { node: to.get() };
        let entry = Entry { place, epoch: self.fence.epoch().get() };
        let result = match self.dataplane.get(key) {
            None => self.register(service, bytes, key, entry, version, NO_SESSION),
            Some((Entry { place: Place::Remote { .. }, .. }, known)) if known < version => {
                self.dataplane.update(key, entry, version);
                Ok(())
            }
            Some(_) => Ok(()),
        };
        if let Err(error) = result {
            tracing::error!(%to, %error, "a wire id's packets cannot be sent on");
        }
    }

    /// Forgets that packets with a wire id go to another node.
    pub fn forget_redirect(&mut self, service: usize, bytes: &[u8]) {
        if let Some(key) = self.key(service, bytes) {
            self.remove_redirect(key);
        }
    }

    /// What a successor of this daemon must know of a session's keys, in their order.
    pub(super) fn registered_of(&self, id: SessionId) -> Vec<Registered> {
        let session = &self.sessions[&id];
        let service = self.services[session.service].index;
        let home = self.key(session.service, &id.bytes()).expect("it has a key").hash;
        let row = |bytes: &Vec<u8>| Registered::new(bytes, service, home).expect("it has a key");
        session.wire_ids.iter().map(row).collect()
    }
}
