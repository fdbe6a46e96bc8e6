//! What the decision reads: the maps in the kernel, their memory in userspace.

use crate::{
    binding::{Binding, BindingRow, Seat},
    local::LocalRow,
    node::{Address, LinkRow, NodeRow},
    service::{ServiceRow, row_index},
    slot::SlotWord,
    table::{Bucket, DetailRow, Found, Location, WAYS},
    word::MapWord,
};

/// The tables of a node. Every look-up is bounded; `None` means "no such row".
pub trait Tables {
    /// The node itself.
    fn local(&self) -> Option<&LocalRow>;
    /// A row of [`crate::service::SERVICE_ROWS`].
    fn service(&self, row: u32) -> Option<&ServiceRow>;
    /// The placement of a slot.
    fn slot(&self, slot: u16) -> Option<SlotWord>;
    /// A bucket of the session table or its stash.
    fn bucket(&self, bucket: u32) -> Option<&Bucket>;
    /// The detail of a way: `bucket * WAYS + way`.
    fn detail(&self, index: u32) -> Option<&DetailRow>;
    /// The client of a way, by the same index; only where a service enforces bindings.
    fn binding(&self, index: u32) -> Option<&BindingRow>;
    /// A bucket of the table of clients or its stash; of the session table's shape.
    fn clients(&self, bucket: u32) -> Option<&Bucket>;
    /// A node.
    fn node(&self, node: u16) -> Option<&NodeRow>;
    /// A link.
    fn link(&self, link: u8) -> Option<&LinkRow>;
    /// The `index`th CPU that takes new sessions.
    fn cpu(&self, index: u32) -> Option<u32>;
    /// A token bucket: one of [`crate::limit::LIMITS`].
    fn limit(&self, index: u32) -> Option<&MapWord>;
    /// The time in jiffies.
    fn jiffies(&self) -> u64;
}

/// What the session table says of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The entry, and where its detail lies.
    Hit {
        /// The 48 bits of the entry.
        bits: u64,
        /// Index of its [`DetailRow`].
        detail: u32,
        /// Its generation.
        generation: u16,
    },
    /// The entry was being rewritten.
    Torn,
    /// Not there.
    Miss,
}

/// Looks a key up: one line in the common case, four at most.
#[inline(always)]
pub fn lookup<T: Tables>(tables: &T, hash: u64, bucket_bits: u8) -> Lookup {
    lookup_in(|bucket| tables.bucket(bucket), hash, bucket_bits)
}

/// The same in a table with these buckets.
#[inline(always)]
pub fn lookup_in<'a>(
    buckets: impl Fn(u32) -> Option<&'a Bucket>,
    hash: u64,
    bucket_bits: u8,
) -> Lookup {
    let at = Location::of(hash, bucket_bits);
    let (second, stash) = match find(&buckets, at.first, at.tag) {
        Ok(found) => return found,
        Err(flags) => flags,
    };
    if second && let Ok(found) = find(&buckets, at.second, at.tag) {
        return found;
    }
    if stash {
        let [one, other] = at.stash_pair();
        if let Ok(found) = find(&buckets, one, at.tag) {
            return found;
        }
        if let Ok(found) = find(&buckets, other, at.tag) {
            return found;
        }
    }
    Lookup::Miss
}

/// The entry of the session of a service with this hash seed that a client is bound to. A client that
/// was forgotten too late, or a session that has gone meanwhile, is a miss.
#[inline(always)]
pub fn find_client<T: Tables>(tables: &T, client: Binding, seed: u64, bucket_bits: u8) -> Lookup {
    let hash = client.hash(seed);
    let Seat { detail, generation } =
        match lookup_in(|bucket| tables.clients(bucket), hash, bucket_bits) {
            Lookup::Hit { bits, .. } => Seat::unpack(bits),
            other => return other,
        };
    let bucket = tables.bucket(detail / WAYS as u32);
    match bucket.and_then(|line| line.entry((detail % WAYS as u32) as u8, generation)) {
        Some(bits) => Lookup::Hit { bits, detail, generation },
        None => Lookup::Miss,
    }
}

/// What one bucket says, or its two flags on a miss.
#[inline(always)]
fn find<'a>(
    buckets: &impl Fn(u32) -> Option<&'a Bucket>,
    bucket: u32,
    tag: u64,
) -> Result<Lookup, (bool, bool)> {
    let Some(line) = buckets(bucket) else {
        return Err((false, false));
    };
    match line.find(tag) {
        Found::Hit { bits, way, generation } => {
            let detail = bucket * WAYS as u32 + way as u32;
            Ok(Lookup::Hit { bits, detail, generation })
        }
        Found::Torn => Ok(Lookup::Torn),
        Found::Miss { second, stash } => Err((second, stash)),
    }
}

/// The service row of an address and port (network byte order).
#[inline(always)]
pub fn find_service<'a, T: Tables>(
    tables: &'a T,
    local: &LocalRow,
    address: Address,
    port: u16,
) -> Option<&'a ServiceRow> {
    let row = tables.service(row_index(address, port, local.service_seed()))?;
    row.matches(address, port).then_some(row)
}
