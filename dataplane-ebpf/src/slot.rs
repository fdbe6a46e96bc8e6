//! Slots: equal parts of the id space, and the placement word of each.

/// How many slots there are.
pub const SLOTS: usize = 1 << 16;

/// Who owns a slot, in one word.
///
/// Bits 0–15 owner, 16–31 previous owner, 32–62 the placement revision that last changed the
/// slot, 63 whether the session table here holds rows of this slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct SlotWord(u64);

/// Highest placement revision that a slot word and the shim can carry.
pub const REVISION_MAX: u32 = (1 << 31) - 1;

impl SlotWord {
    /// A slot that nobody owns.
    pub const UNOWNED: Self = Self(0);

    /// A slot of `owner`, moving from `previous` (0: from nobody), as of placement `revision`.
    pub const fn new(owner: u16, previous: u16, revision: u32) -> Self {
        Self(owner as u64 | (previous as u64) << 16 | ((revision & REVISION_MAX) as u64) << 32)
    }

    /// The word as stored in the `SLOTS` map.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The word for the `SLOTS` map.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The node that owns the slot; 0 if none does.
    #[inline(always)]
    pub const fn owner(self) -> u16 {
        self.0 as u16
    }

    /// The node the slot is moving from; 0 once the move is complete.
    #[inline(always)]
    pub const fn previous(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// The placement revision that last changed this slot.
    #[inline(always)]
    pub const fn revision(self) -> u32 {
        (self.0 >> 32) as u32 & REVISION_MAX
    }

    /// Whether the session table must be asked: it holds rows of this slot.
    #[inline(always)]
    pub const fn has_rows(self) -> bool {
        self.0 >> 63 != 0
    }

    /// The same placement with the rows bit set or cleared.
    pub const fn with_rows(self, rows: bool) -> Self {
        Self(self.0 & !(1 << 63) | (rows as u64) << 63)
    }
}
