//! Frames of the daemon's own that go to a CPU's queue: held packets that are delivered here after
//! all, and markers.

/// What the daemon tells the program that sends such a frame, and what it tells the daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Injection {
    /// The CPU number.
    pub cpu: u64,
    /// Raised by 1 when a frame is on its way.
    pub sent: u64,
}
