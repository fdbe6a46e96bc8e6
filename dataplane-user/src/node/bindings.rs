//! Which clients sessions are bound to.
//!
//! The application says so: it is what knows that a client has proven to be the session's. Where the
//! service enforces it, packets of others are refused in the kernel, and where its replies name no
//! session they are told by the client that they go to.

use super::{Node, Refusal, Session};
use dataplane_ebpf::wire_id::Key;
use ownership::SessionId;
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

/// The sessions of each client of a service whose replies are told by it, in the order in which
/// they were bound. A row lives as long as a session is bound to the client.
///
/// A client may have several sessions; then the one that was bound last speaks for its replies.
pub(super) type Clients = BTreeMap<(usize, SocketAddr), Vec<SessionId>>;

/// An address and port that packets to a service's address can come from, and nothing else of it.
pub(super) fn checked(client: SocketAddr, service: SocketAddr) -> Result<SocketAddr, Refusal> {
    let ip = client.ip();
    let mapped = matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    if client.port() == 0 || ip.is_unspecified() || ip.is_multicast() || mapped {
        return Err(Refusal::NoClient(client));
    }
    if ip.is_ipv4() != service.is_ipv4() {
        return Err(Refusal::ClientFamily { client, service });
    }
    Ok(SocketAddr::new(ip, client.port()))
}

impl Node {
    /// Binds a session of this node, and publishes it.
    pub(super) fn set_client(
        &mut self,
        id: SessionId,
        client: Option<SocketAddr>,
    ) -> Result<(), Refusal> {
        let Session { service, client: old, .. } = self.sessions[&id];
        if client == old {
            return Ok(());
        }
        if let Some(client) = client
            && self.tells_by_client(service)
        {
            let (seed, key) = (self.services[service].seed(), self.own_key(id));
            self.dataplane.set_client(client, seed, key)?;
            self.clients.entry((service, client)).or_default().push(id);
        }
        self.leave_client(id);
        self.session_mut(id).client = client;
        for key in self.keys(id) {
            self.publish_client(id, key);
        }
        Ok(())
    }

    /// Forgets that replies to a session's client are the session's.
    pub(super) fn leave_client(&mut self, id: SessionId) {
        let Session { service, client, .. } = self.sessions[&id];
        let Some(client) = client else {
            return;
        };
        let Some(sessions) = self.clients.get_mut(&(service, client)) else {
            return;
        };
        sessions.retain(|other| *other != id);
        let next = sessions.last().copied();
        let seed = self.services[service].seed();
        match next {
            Some(next) => {
                let key = self.own_key(next);
                if let Err(error) = self.dataplane.set_client(client, seed, key) {
                    tracing::error!(%client, %error, "replies to it are told by no session");
                }
            }
            None => {
                self.clients.remove(&(service, client));
                self.dataplane.remove_client(client, seed);
            }
        }
    }

    /// Publishes a session's client for one of its wire ids.
    pub(super) fn publish_client(&self, id: SessionId, key: Key) {
        let Session { service, client, .. } = self.sessions[&id];
        if self.services[service].enforces_binding {
            let is_there = self.dataplane.set_binding(key, client);
            debug_assert!(is_there, "the wire id of a session is in the table");
        }
    }

    /// Takes over how an earlier daemon has bound the sessions. What it could not finish is as its
    /// SessionID's row says.
    pub(super) fn recover_clients(&mut self) {
        if !self.services.iter().any(|service| service.enforces_binding) {
            return;
        }
        let mut wanted = Vec::new();
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in ids {
            let service = self.sessions[&id].service;
            if !self.services[service].enforces_binding {
                continue;
            }
            let client = self.dataplane.client_of(self.own_key(id));
            self.session_mut(id).client = client;
            for key in self.keys(id) {
                if self.dataplane.client_of(key) != client {
                    self.publish_client(id, key);
                }
            }
            if let Some(client) = client
                && self.tells_by_client(service)
            {
                self.clients.entry((service, client)).or_default().push(id);
                wanted.push((client, self.services[service].seed(), self.own_key(id)));
            }
        }
        self.dataplane.recover_clients(&wanted);
    }

    /// Whether replies of a service are told by their client.
    fn tells_by_client(&self, service: usize) -> bool {
        let service = &self.services[service];
        service.enforces_binding && !service.protocol.replies_name_session()
    }

    fn own_key(&self, id: SessionId) -> Key {
        let Session { service, ref wire_ids, .. } = self.sessions[&id];
        self.key(service, &wire_ids[0]).expect("it was registered")
    }

    pub(super) fn keys(&self, id: SessionId) -> Vec<Key> {
        let Session { service, ref wire_ids, .. } = self.sessions[&id];
        let key = |bytes: &Vec<u8>| self.key(service, bytes).expect("it was registered");
        wire_ids.iter().map(key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_a_host_with_a_port() {
        let services = ["198.51.100.1:7000", "[2001:db8::2]:7000"].map(|one| one.parse().unwrap());
        for fine in ["192.0.2.1:5", "[2001:db8::1]:65535", "127.0.0.1:1"] {
            let client: SocketAddr = fine.parse().unwrap();
            let (same, other) = (client.is_ipv6() as usize, client.is_ipv4() as usize);
            assert_eq!(checked(client, services[same]).unwrap(), client);
            let refused = checked(client, services[other]);
            assert!(matches!(refused, Err(Refusal::ClientFamily { .. })), "{fine}");
        }
        for wrong in [
            "192.0.2.1:0",
            "0.0.0.0:5",
            "[::]:5",
            "224.0.0.1:5",
            "[ff02::1]:5",
            "[::ffff:1.2.3.4]:5",
        ] {
            let refused = checked(wrong.parse().unwrap(), services[0]);
            assert!(matches!(refused, Err(Refusal::NoClient(_))), "{wrong}");
        }
    }
}
