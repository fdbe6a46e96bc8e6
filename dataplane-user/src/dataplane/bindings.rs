//! Publishing which client a session is bound to.

use super::{Dataplane, grace::grace_period, sessions::InsertError, wire_address};
use dataplane_ebpf::{
    binding::{Binding, Seat},
    tables::{Lookup, Tables, lookup},
    wire_id::Key,
};
use std::net::{Ipv6Addr, SocketAddr};

/// A client as the tables hold it; `None` is nobody.
pub fn binding(client: Option<SocketAddr>) -> Binding {
    match client {
        None => Binding::NONE,
        Some(client) => Binding { address: wire_address(client.ip()), port: client.port().to_be() },
    }
}

impl Dataplane {
    /// Binds the session in the way of a key to a client, or to nobody; `false` if the key is not
    /// there. From now on packets of others are refused, where the service enforces that.
    ///
    /// # Panics
    ///
    /// If the programs were loaded without bindings.
    pub fn set_binding(&self, key: Key, client: Option<SocketAddr>) -> bool {
        let Some(Seat { detail, generation }) = self.seat(key) else {
            return false;
        };
        let row = self.memory.binding(detail).expect("loaded with bindings");
        if row.set(binding(client), generation)
            && let Err(error) = grace_period()
        {
            // Then a packet that a program has been reading for 4,096 changes may see a mixture.
            tracing::error!(%error, "no grace period after 4,096 changes of a binding");
        }
        true
    }

    /// The client that the session in the way of a key is bound to.
    pub fn client_of(&self, key: Key) -> Option<SocketAddr> {
        let Seat { detail, generation } = self.seat(key)?;
        let Binding { address, port } = self.memory.binding(detail)?.get(generation)?;
        let address = Ipv6Addr::from(address.bytes()).to_canonical();
        (port != 0).then(|| SocketAddr::new(address, u16::from_be(port)))
    }

    /// Puts the table of clients right that an earlier daemon has left: it leads from these clients,
    /// each of a service with a hash seed, to the sessions with these keys, and from no others. Of
    /// several sessions of a client the one counts that the table leads to already, or else the
    /// first.
    pub fn recover_clients(&mut self, wanted: &[(SocketAddr, u64, Key)]) {
        let seats = wanted.iter().filter_map(|(client, seed, key)| {
            Some((binding(Some(*client)).hash(*seed), self.seat(*key)?))
        });
        let seats: Vec<_> = seats.collect();
        self.clients.recover(&self.memory, &seats);
    }

    /// Says which session the replies to a client of a service with this hash seed are of: the one
    /// in the way of `key`, which must be there.
    pub fn set_client(
        &mut self,
        client: SocketAddr,
        seed: u64,
        key: Key,
    ) -> Result<(), InsertError> {
        let seat = self.seat(key).expect("the session is in the table");
        self.clients.set(&self.memory, binding(Some(client)).hash(seed), seat)
    }

    /// Says that replies to a client are of no session.
    pub fn remove_client(&mut self, client: SocketAddr, seed: u64) {
        self.clients.remove(&self.memory, binding(Some(client)).hash(seed));
    }

    fn seat(&self, key: Key) -> Option<Seat> {
        let bits = self.memory.local_row().identity().bucket_bits;
        match lookup(&self.memory, key.hash, bits) {
            Lookup::Hit { detail, generation, .. } => Some(Seat { detail, generation }),
            Lookup::Torn | Lookup::Miss => None,
        }
    }
}
