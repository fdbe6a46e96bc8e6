//! A frame in memory, read with a bounds check before every access.

use core::marker::PhantomData;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A linear frame: start and end in memory.
///
/// Both ends travel together as plain addresses, because the verifier accepts an access only
/// where it can see the pointer compared with the end of the packet.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    start: usize,
    end: usize,
    _bytes: PhantomData<&'a [u8]>,
}

/// Largest offset that can be read. The verifier needs a bound on every variable offset.
pub const OFFSET_MAX: usize = 0x3fff;

impl<'a> Frame<'a> {
    /// The frame in `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        let start = bytes.as_ptr() as usize;
        Self { start, end: start + bytes.len(), _bytes: PhantomData }
    }

    /// The frame between two addresses, as an XDP context gives them.
    ///
    /// # Safety
    ///
    /// The bytes from `start` to `end` are readable, and unchanged by others, for `'a`.
    #[inline(always)]
    pub unsafe fn from_raw(start: usize, end: usize) -> Self {
        Self { start, end, _bytes: PhantomData }
    }

    /// The length in bytes.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether the frame has no bytes.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The value at `offset`, or `None` if the frame ends before it does.
    #[inline(always)]
    pub fn read<T: FromBytes + Copy>(&self, offset: usize) -> Option<T> {
        if offset > OFFSET_MAX {
            return None;
        }
        let at = self.start + offset;
        if at + size_of::<T>() > self.end {
            return None;
        }
        // SAFETY: the value lies between start and end, which the constructors promise to be
        // readable, and any bytes are a valid `T`.
        Some(unsafe { (at as *const T).read_unaligned() })
    }

    /// The byte at `offset`. Its own function because the verifier wants this very comparison for
    /// one-byte reads at a variable offset.
    #[inline(always)]
    pub fn byte(&self, offset: usize) -> Option<u8> {
        self.read::<u8>(offset)
    }
}

/// A frame that can be written to.
pub struct FrameMut<'a> {
    frame: Frame<'a>,
    _bytes: PhantomData<&'a mut [u8]>,
}

impl<'a> FrameMut<'a> {
    /// The frame in `bytes`.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        let start = bytes.as_mut_ptr() as usize;
        let frame = Frame { start, end: start + bytes.len(), _bytes: PhantomData };
        Self { frame, _bytes: PhantomData }
    }

    /// The frame between two addresses, as an XDP context gives them.
    ///
    /// # Safety
    ///
    /// The bytes from `start` to `end` are readable and writable, and unused by others, for `'a`.
    #[inline(always)]
    pub unsafe fn from_raw(start: usize, end: usize) -> Self {
        Self { frame: Frame { start, end, _bytes: PhantomData }, _bytes: PhantomData }
    }

    /// The frame for reading.
    #[inline(always)]
    pub fn as_frame(&self) -> &Frame<'a> {
        &self.frame
    }

    /// Writes `value` at `offset`; `None`, and nothing is written, if the frame ends before.
    #[inline(always)]
    pub fn write<T: IntoBytes + Immutable + Copy>(
        &mut self,
        offset: usize,
        value: T,
    ) -> Option<()> {
        let at = self.frame.start + offset;
        if offset > OFFSET_MAX || at + size_of::<T>() > self.frame.end {
            return None;
        }
        // SAFETY: the value lies between start and end, which the constructors promise to be
        // writable and unused by others.
        unsafe { (at as *mut T).write_unaligned(value) };
        Some(())
    }
}
