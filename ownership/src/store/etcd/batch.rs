use super::keys::Keys;
use crate::store::{
    AuditKey, AuditRow, Compared, Condition, Fault, Generation, Outcome, Row, Transaction, Write,
};
use etcd_client::{Compare, CompareOp, Txn, TxnOp};
use std::collections::{HashMap, HashSet};

/// etcd takes this many comparisons, and this many operations for either case, in one transaction
/// (`--max-txn-ops`).
const MAX_OPERATIONS: usize = 128;

/// The most bytes of keys and rows in one request; etcd takes 1.5 MiB (`--max-request-bytes`).
const MAX_BYTES: usize = 1 << 20;

/// A transaction in the bytes of the schema.
pub(super) struct Encoded {
    conditions: Vec<Asked>,
    writes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// The row that its events make, to be joined with those of others.
    audit: Vec<u8>,
    /// The generation that it begins.
    begins: Option<Generation>,
}

/// A condition, and the same about bytes.
struct Asked {
    condition: Condition,
    key: Vec<u8>,
    compared: Compared,
}

/// What stands under the keys that were asked about.
pub(super) type Found = HashMap<Vec<u8>, Option<Vec<u8>>>;

impl Encoded {
    pub(super) fn new(transaction: Transaction, keys: &Keys) -> Self {
        let Transaction { conditions, writes, entries } = transaction;
        let begins = writes.iter().find_map(|write| match write {
            Write::Put(Row::Generation(generation)) => Some(*generation),
            Write::Put(_) | Write::Delete(_) => None,
        });
        let conditions = conditions
            .into_iter()
            .map(|condition| {
                let (key, compared) = (keys.of(&condition.key()), condition.compared());
                Asked { condition, key, compared }
            })
            .collect();
        // etcd takes one write for each key, and of several the last is what stands afterwards.
        let mut last: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::with_capacity(writes.len() + 1);
        for write in writes {
            let (key, row) = match write {
                Write::Put(row) => (keys.of(&row.key()), Some(row.to_bytes())),
                Write::Delete(key) => (keys.of(&key), None),
            };
            last.retain(|(earlier, _)| *earlier != key);
            last.push((key, row));
        }
        let audit = Row::Audit(AuditRow { key: AuditKey::FIRST, entries }).to_bytes();
        Self { conditions, writes: last, audit, begins }
    }

    /// What becomes of it, by what stood there when the transaction that it was part of was not done:
    /// nothing is known if all that it asks holds.
    pub(super) fn settled(&self, found: &Found) -> Option<Outcome> {
        let failed = self.conditions.iter().find(|asked| {
            let stands = found.get(&asked.key).and_then(Option::as_deref);
            !asked.compared.holds(stands)
        })?;
        let corrupt = Outcome::Unavailable(Fault::Corrupt);
        let row = match found.get(&failed.key).and_then(Option::as_deref) {
            None => None,
            Some(bytes) => match Row::from_bytes(&failed.condition.key(), bytes) {
                Ok(row) => Some(row),
                Err(_) => return Some(corrupt),
            },
        };
        // A row whose bytes are others and that is the same yet was not written by this schema.
        Some(failed.condition.check(row.as_ref()).err().unwrap_or(corrupt))
    }

    /// Whether a row stands as it writes it.
    fn stands(&self, found: &Found) -> bool {
        self.writes.iter().any(|(key, row)| row.is_some() && found.get(key) == Some(row))
    }
}

/// Transactions that are done together: all of them or none.
#[derive(Default)]
pub(super) struct Batch<'a> {
    members: Vec<(usize, &'a Encoded)>,
    size: Size,
    written: HashSet<&'a [u8]>,
    ranges: Vec<(&'a [u8], &'a Compared)>,
}

/// How much of what a request may have it has.
#[derive(Clone, Copy, Default)]
struct Size {
    comparisons: usize,
    writes: usize,
    bytes: usize,
}

impl Size {
    fn fits(self) -> bool {
        // One write is the audit row's.
        self.comparisons <= MAX_OPERATIONS
            && self.writes < MAX_OPERATIONS
            && self.bytes <= MAX_BYTES
    }
}

impl<'a> Batch<'a> {
    /// Takes another transaction on, if the limits allow it and it can be done at the same moment as
    /// the others: whether it is done must not depend on whether they are.
    ///
    /// # Errors
    ///
    /// If not. One that an empty batch does not take is too large.
    pub(super) fn take(&mut self, place: usize, encoded: &'a Encoded) -> Result<(), ()> {
        let is_written = |key: &[u8]| self.written.contains(key);
        if encoded.conditions.iter().any(|asked| is_written(&asked.key))
            || encoded.writes.iter().any(|(key, _)| is_written(key))
        {
            return Err(());
        }
        let mut size = self.size;
        let fresh = encoded.conditions.iter().filter(|asked| !self.asks(asked));
        for asked in fresh.clone() {
            let (comparisons, bytes) = match &asked.compared {
                Compared::Absent => (1, 0),
                Compared::Equal(bytes) => (1, bytes.len()),
                Compared::Within { from, below: None } => (1, from.len()),
                Compared::Within { from, below: Some(below) } => (2, from.len() + below.len()),
            };
            size.comparisons += comparisons;
            size.bytes += bytes + (comparisons + 1) * (asked.key.len() + 16);
        }
        for (key, row) in &encoded.writes {
            size.writes += 1;
            size.bytes += key.len() + 16 + row.as_ref().map_or(0, Vec::len);
        }
        size.bytes += encoded.audit.len();
        if !size.fits() {
            return Err(());
        }
        let ranges = fresh.filter(|asked| matches!(asked.compared, Compared::Within { .. }));
        let ranges: Vec<_> = ranges.map(|asked| (asked.key.as_slice(), &asked.compared)).collect();
        self.ranges.extend(ranges);
        self.size = size;
        self.written.extend(encoded.writes.iter().map(|(key, _)| key.as_slice()));
        self.members.push((place, encoded));
        Ok(())
    }

    /// Whether it is asked already. Most of a batch ask for the same fence row.
    fn asks(&self, asked: &Asked) -> bool {
        self.ranges.iter().any(|range| *range == (&asked.key, &asked.compared))
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// The places of those that are in it.
    pub(super) fn places(&self) -> impl Iterator<Item = usize> {
        self.members.iter().map(|(place, _)| *place)
    }

    /// Takes those out whose outcome is known by what stood there.
    pub(super) fn settle(self, found: &Found, mut tell: impl FnMut(usize, Outcome)) -> Self {
        let mut left = Self::default();
        for (place, encoded) in self.members {
            match encoded.settled(found) {
                Some(outcome) => tell(place, outcome),
                // It fitted with more.
                None => {
                    let _fits = left.take(place, encoded);
                }
            }
        }
        left
    }

    /// Whether something stands there as the batch writes it: then all of it was done.
    pub(super) fn stands(&self, found: &Found) -> bool {
        self.members.iter().any(|(_, encoded)| encoded.stands(found))
    }

    /// The generation that it begins.
    pub(super) fn begins(&self) -> Option<Generation> {
        self.members.iter().find_map(|(_, encoded)| encoded.begins)
    }

    /// Whether its having been done would show in what it asks: it replaces something that it asks
    /// about.
    pub(super) fn shows(&self) -> bool {
        self.members.iter().any(|(_, encoded)| {
            encoded.conditions.iter().any(|asked| {
                matches!(asked.compared, Compared::Absent | Compared::Equal(_))
                    && encoded.writes.iter().any(|(key, _)| *key == asked.key)
            })
        })
    }

    /// Whether it has events to tell.
    fn has_events(&self) -> bool {
        self.members.iter().any(|(_, encoded)| !encoded.audit.is_empty())
    }

    /// The transaction that does it, with its events under a key of the log; if not all holds, it
    /// reads what stands there.
    pub(super) fn request(&self, audit: Vec<u8>) -> Txn {
        let mut writes: Vec<TxnOp> = self
            .members
            .iter()
            .flat_map(|(_, encoded)| &encoded.writes)
            .map(|(key, row)| match row {
                Some(row) => TxnOp::put(key.as_slice(), row.as_slice(), None),
                None => TxnOp::delete(key.as_slice(), None),
            })
            .collect();
        if self.has_events() {
            let rows: Vec<&[u8]> =
                self.members.iter().map(|(_, encoded)| encoded.audit.as_slice()).collect();
            writes.push(TxnOp::put(audit, rows.concat(), None));
        }
        self.question().and_then(writes).or_else(self.reads())
    }

    /// The transaction that asks the same and changes nothing.
    pub(super) fn probe(&self) -> Txn {
        self.question().or_else(self.reads())
    }

    fn question(&self) -> Txn {
        let mut compares = Vec::with_capacity(self.size.comparisons);
        for (key, compared) in self.asked() {
            match compared {
                Compared::Absent => {
                    compares.push(Compare::create_revision(key, CompareOp::Equal, 0))
                }
                Compared::Equal(row) => {
                    compares.push(Compare::value(key, CompareOp::Equal, row.as_slice()));
                }
                Compared::Within { from, below } => {
                    // No row has exactly these bytes: they are the beginning of one.
                    compares.push(Compare::value(key, CompareOp::Greater, from.as_slice()));
                    if let Some(below) = below {
                        compares.push(Compare::value(key, CompareOp::Less, below.as_slice()));
                    }
                }
            }
        }
        Txn::new().when(compares)
    }

    fn reads(&self) -> Vec<TxnOp> {
        self.asked_keys().into_iter().map(|key| TxnOp::get(key, None)).collect()
    }

    /// The keys that are read if not all holds, in this order.
    pub(super) fn asked_keys(&self) -> Vec<&'a [u8]> {
        let mut known = HashSet::new();
        self.asked().map(|(key, _)| key).filter(|key| known.insert(*key)).collect()
    }

    fn asked(&self) -> impl Iterator<Item = (&'a [u8], &'a Compared)> {
        let rows = self.members.iter().flat_map(|(_, encoded)| &encoded.conditions);
        let rows = rows.map(|asked| (asked.key.as_slice(), &asked.compared));
        let rows = rows.filter(|(_, compared)| !matches!(compared, Compared::Within { .. }));
        self.ranges.iter().copied().chain(rows)
    }
}
