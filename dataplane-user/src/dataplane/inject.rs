//! Frames of the daemon's own, put into the CPUs' queues by a program that runs on live frames
//! (Linux 5.18).

use super::{
    Dataplane,
    bpf::bpf,
    region::{Region, Shared},
};
use aya::{
    maps::{Map, MapError},
    programs::ProgramError,
};
use dataplane_ebpf::inject::Injection;
use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};
use thiserror::Error;

// SAFETY: plain integers; userspace touches them only while the program does not run.
unsafe impl Shared for Injection {}

/// Why nothing can be injected.
#[derive(Debug, Error)]
pub enum InjectError {
    /// About the program.
    #[error("the program that sends the daemon's own packets is not there")]
    Program(#[from] ProgramError),
    /// About its maps.
    #[error("a map of the program that sends the daemon's own packets is not there")]
    Map(#[from] MapError),
    /// About their memory.
    #[error("mapping the daemon's own packets into memory failed")]
    Memory(#[from] io::Error),
}

/// Sends frames to CPUs, one at a time: some 15 µs each. (For more than one in a run the kernel
/// waits for RCU twice.)
pub struct Injector {
    program: OwnedFd,
    injection: Region<Injection>,
}

impl Injector {
    pub(crate) fn new(dataplane: &mut Dataplane) -> Result<Self, InjectError> {
        let program = dataplane.program("inject")?.fd()?.as_fd().try_clone_to_owned()?;
        let Some(Map::Array(map)) = dataplane.ebpf.map("INJECTION") else {
            return Err(MapError::InvalidName { name: "INJECTION".to_owned() }.into());
        };
        let injection = Region::of_map(map.fd().as_fd(), 1)?;
        Ok(Self { program, injection })
    }

    /// Sends a frame to a CPU's queue, as if it had come in on the interface `ingress` of this
    /// thread's network namespace. One that finds the queue full is lost there.
    ///
    /// # Errors
    /// When there is no such interface, or no XDP program on it, or no queue for the CPU.
    pub fn send(&mut self, ingress: u32, cpu: u32, frame: &[u8]) -> io::Result<()> {
        self.injection.set(0, Injection { cpu: cpu.into(), sent: 0 });
        run_live(self.program.as_fd(), ingress, frame)?;
        match self.injection.get(0) {
            Some(Injection { sent: 1, .. }) => Ok(()),
            _ => Err(io::Error::other(format!("CPU {cpu} has no queue"))),
        }
    }
}

/// Runs a program on a frame that goes where it sends it.
fn run_live(program: BorrowedFd<'_>, ingress: u32, frame: &[u8]) -> io::Result<()> {
    const BPF_PROG_TEST_RUN: libc::c_int = 10;
    const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;
    #[repr(C)]
    struct Attributes {
        program: u32,
        result: u32,
        data_size_in: u32,
        data_size_out: u32,
        data_in: u64,
        data_out: u64,
        repeat: u32,
        duration: u32,
        ctx_size_in: u32,
        ctx_size_out: u32,
        ctx_in: u64,
        ctx_out: u64,
        flags: u32,
        cpu: u32,
        batch_size: u32,
        _padding: u32,
    }
    let length = frame.len() as u32;
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let context = [0, length, 0, ingress, 0, 0];
    let mut attributes = Attributes {
        program: program.as_raw_fd() as u32,
        result: 0,
        data_size_in: length,
        data_size_out: 0,
        data_in: frame.as_ptr() as u64,
        data_out: 0,
        repeat: 1,
        duration: 0,
        ctx_size_in: size_of_val(&context) as u32,
        ctx_size_out: 0,
        ctx_in: (&raw const context) as u64,
        ctx_out: 0,
        flags: BPF_F_TEST_XDP_LIVE_FRAMES,
        cpu: 0,
        batch_size: 1,
        _padding: 0,
    };
    // SAFETY: the attributes are those of BPF_PROG_TEST_RUN; frame and context outlive the call, and
    // nothing is written back but numbers in the attributes.
    unsafe { bpf(BPF_PROG_TEST_RUN, &mut attributes) }.map(drop)
}
