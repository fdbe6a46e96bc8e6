//! The placement as bytes: its revision, then runs of slots with the same owner and previous owner.

use super::{Placement, Revision, SLOTS, SlotOwner};
use crate::NodeIndex;
use thiserror::Error;

const FORMAT: u8 = 1;
const HEAD: usize = 5;
const RUN: usize = 6;

/// Bytes that are no placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the placement is corrupt: its {0} has no meaning")]
pub struct BadPlacement(&'static str);

impl Placement {
    /// The placement as bytes; 384 KiB where no two neighbours are alike.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        bytes.extend(self.revision.get().to_be_bytes());
        for run in self.slots.chunk_by(PartialEq::eq) {
            let number = |node: Option<NodeIndex>| node.map_or(0, NodeIndex::get);
            let SlotOwner { owner, previous } = run[0];
            // A run has 1 to 65,536 slots.
            let behind_first = (run.len() - 1) as u16;
            for number in [behind_first, number(owner), number(previous)] {
                bytes.extend(number.to_be_bytes());
            }
        }
        bytes
    }

    /// The placement that has these bytes.
    ///
    /// # Errors
    ///
    /// If none has.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadPlacement> {
        let (head, runs) = bytes.split_at_checked(HEAD).ok_or(BadPlacement("length"))?;
        if head[0] != FORMAT {
            return Err(BadPlacement("format"));
        }
        let revision = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let revision = Revision::new(revision).ok_or(BadPlacement("revision"))?;
        let (runs, []) = runs.as_chunks::<RUN>() else { return Err(BadPlacement("length")) };
        let mut slots = Vec::with_capacity(SLOTS);
        for &[a, b, c, d, e, f] in runs {
            let length = usize::from(u16::from_be_bytes([a, b])) + 1;
            if slots.len() + length > SLOTS {
                return Err(BadPlacement("length"));
            }
            let slot = SlotOwner { owner: node([c, d])?, previous: node([e, f])? };
            if slots.last() == Some(&slot) {
                return Err(BadPlacement("runs"));
            }
            slots.resize(slots.len() + length, slot);
        }
        if slots.len() < SLOTS {
            return Err(BadPlacement("length"));
        }
        Ok(Self { revision, slots: slots.into() })
    }
}

fn node(bytes: [u8; 2]) -> Result<Option<NodeIndex>, BadPlacement> {
    match u16::from_be_bytes(bytes) {
        0 => Ok(None),
        number => NodeIndex::new(number).map(Some).map_err(|_| BadPlacement("owner")),
    }
}
