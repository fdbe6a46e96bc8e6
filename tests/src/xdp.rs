//! Tiny XDP and TCX programs, given as instructions: the harness must not need a BPF toolchain.
//!
//! A test network needs one of them to carry anything at all. A veth takes frames that its peer
//! sends with `XDP_TX` only if it runs an XDP program itself. NAPI alone (GRO on) is not enough:
//! the frames are counted as sent and put in the ring, but stay there until other traffic polls
//! it, since `veth_xdp_flush` looks for a program (measured on Linux 6.18; frames that are
//! *redirected* to a veth do arrive with GRO alone). So the router's end of each node's link runs
//! [`PASS`].

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::net::if_::if_nametoindex;

use crate::netns::Namespace;

/// Linux uapi, `linux/bpf.h`.
const PROG_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;
const PROG_TYPE_SCHED_CLS: u32 = 3;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_TYPE_XDP: u32 = 37;
const ATTACH_TYPE_TCX_EGRESS: u32 = 47;
/// Before all others.
const BPF_F_BEFORE: u32 = 1 << 3;
/// Linux uapi, `linux/if_link.h`: in the driver, so that a veth turns its NAPI on.
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// Passes every packet: `r0 = XDP_PASS; exit`.
pub static PASS: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];

/// Lets every packet leave, whatever later programs say: `r0 = TCX_PASS; exit`.
pub static TCX_PASS: [u64; 2] = [0x0000_0000_0000_00b7, 0x95];

/// Leaves every packet to later programs: `r0 = TCX_NEXT; exit`.
pub static TCX_NEXT: [u64; 2] = [0xffff_ffff_0000_00b7, 0x95];

#[derive(Default)]
#[repr(C)]
struct LoadAttribute {
    kind: u32,
    instructions: u32,
    program: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

#[repr(C)]
struct LinkAttribute {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

/// A program on a link; dropping it detaches it.
#[derive(Debug)]
pub struct Attached {
    _link: OwnedFd,
}

impl Attached {
    /// Attaches a program, in the instruction encoding of a little-endian machine, natively.
    pub fn new(namespace: &Namespace, link: &str, program: &[u64]) -> Result<Self> {
        Self::of(namespace, link, program, (PROG_TYPE_XDP, ATTACH_TYPE_XDP, XDP_FLAGS_DRV_MODE))
            .with_context(|| format!("running an XDP program on {link} in {}", namespace.name()))
    }

    /// Attaches a TCX program that packets meet before all others when they leave.
    pub fn at_egress(namespace: &Namespace, link: &str, program: &[u64]) -> Result<Self> {
        let how = (PROG_TYPE_SCHED_CLS, ATTACH_TYPE_TCX_EGRESS, BPF_F_BEFORE);
        Self::of(namespace, link, program, how)
            .with_context(|| format!("running a TCX program on {link} in {}", namespace.name()))
    }

    /// Attaches a program of a kind, with an attach type and its flags.
    fn of(
        namespace: &Namespace,
        link: &str,
        program: &[u64],
        (kind, attach_type, flags): (u32, u32, u32),
    ) -> Result<Self> {
        namespace.run(|| {
            let interface = if_nametoindex(link).context("looking the link up")?;
            let program = load(program, kind).context("loading the program")?;
            let link = attach(&program, interface, attach_type, flags);
            Ok(Self { _link: link.context("attaching the program")? })
        })
    }
}

fn load(program: &[u64], kind: u32) -> io::Result<OwnedFd> {
    let attribute = LoadAttribute {
        kind,
        instructions: program.len() as u32,
        program: program.as_ptr().expose_provenance() as u64,
        license: c"GPL".as_ptr().expose_provenance() as u64,
        ..Default::default()
    };
    // SAFETY: PROG_LOAD takes this layout's first fields and reads zeroes beyond it; both
    // pointers are to live data of the lengths given.
    unsafe { bpf(PROG_LOAD, &attribute) }
}

fn attach(program: &OwnedFd, interface: u32, attach_type: u32, flags: u32) -> io::Result<OwnedFd> {
    let program = program.as_raw_fd() as u32;
    let attribute = LinkAttribute { program, interface, attach_type, flags };
    // SAFETY: LINK_CREATE takes this layout's first fields and reads zeroes beyond it; it holds
    // no pointers.
    unsafe { bpf(LINK_CREATE, &attribute) }
}

/// bpf(2) for a command that returns a descriptor.
///
/// # Safety
/// `A` must be the layout that the command reads, and its pointers valid.
unsafe fn bpf<A>(command: libc::c_long, attribute: &A) -> io::Result<OwnedFd> {
    // SAFETY: the size is the attribute's own; the rest is the caller's promise.
    let fd = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attribute), size_of::<A>())
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
