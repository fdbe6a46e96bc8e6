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
    ///
    /// The address is added up where the compiler does not look: the verifier only trusts an
    /// access through the very register that was compared, and LLVM would fold one address into
    /// another.
    #[inline(always)]
    pub fn read<T: FromBytes + Copy>(&self, offset: usize) -> Option<T> {
        if offset > OFFSET_MAX {
            return None;
        }
        let at = add(self.start, offset);
        if add(at, size_of::<T>()) > self.end {
            return None;
        }
        // SAFETY: the value lies between start and end, which the constructors promise to be
        // readable, and any bytes are a valid `T`.
        Some(unsafe { (at as *const T).read_unaligned() })
    }

    /// The eight bytes that end before `offset`, or `None` if the frame ends or starts between
    /// them.
    #[inline(always)]
    pub fn word_before(&self, offset: usize) -> Option<u64> {
        self.read(offset.checked_sub(size_of::<u64>())?)
    }
}

/// The same value, below 2^17, of which the verifier remembers nothing but that bound.
///
/// The verifier goes on with each path through the parser for as long as it can tell them apart by
/// the offsets they found, hundreds of times through all that follows. A value that was mixed with
/// `noise` (any number that it does not know) and restored tells it nothing, so paths become one.
#[inline(always)]
pub fn forget(value: usize, noise: u64) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = value;
        // SAFETY: three operations on registers.
        unsafe {
            core::arch::asm!(
                "{0} ^= {1}",
                "{0} ^= {1}",
                "{0} &= 0x1ffff",
                inout(reg) value,
                in(reg) noise,
                options(pure, nomem)
            );
        };
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        let _ = noise;
        value & 0x1ffff
    }
}

/// A sum that the compiler does not look into.
#[inline(always)]
fn add(address: usize, offset: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let mut sum = address;
        // SAFETY: one addition.
        unsafe {
            core::arch::asm!("{0} += {1}", inout(reg) sum, in(reg) offset, options(pure, nomem));
        };
        sum
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        address + offset
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
        if offset > OFFSET_MAX {
            return None;
        }
        // As in `read`.
        let at = add(self.frame.start, offset);
        if add(at, size_of::<T>()) > self.frame.end {
            return None;
        }
        // SAFETY: the value lies between start and end, which the constructors promise to be
        // writable and unused by others.
        unsafe { (at as *mut T).write_unaligned(value) };
        Some(())
    }
}
