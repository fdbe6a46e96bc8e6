//! Asking the loaded program what it would do with a packet.

use super::Dataplane;
use aya::programs::{ProgramError, TestRun, TestRunOptions};
use dataplane_ebpf::explain::Explained;
use thiserror::Error;

/// The shortest frame that the kernel runs a program on, in bytes: an Ethernet header.
pub const SHORTEST: usize = 14;

/// The longest that it takes for this, in bytes: what fits one page with the kernel's own data.
pub const LONGEST: usize = 3_500;

/// Why a packet could not be explained.
#[derive(Debug, Error)]
pub enum ExplainError {
    /// Too short or too long.
    #[error("a frame has {SHORTEST} to {LONGEST} bytes, from its Ethernet header on; this has {0}")]
    Length(usize),
    /// The kernel refused.
    #[error("running the program on the packet failed: {0}")]
    Program(#[from] ProgramError),
    /// It found something that this version does not know.
    #[error("the program said nothing that this daemon understands")]
    Unknown,
}

impl Dataplane {
    /// What would become of a frame that arrives on an interface of this thread's network namespace.
    /// The program must be attached there: the kernel runs no other on its queues.
    pub fn explain(&mut self, frame: &[u8], ifindex: u32) -> Result<Explained, ExplainError> {
        if !(SHORTEST..=LONGEST).contains(&frame.len()) {
            return Err(ExplainError::Length(frame.len()));
        }
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index,
        // egress_ifindex.
        let context = [0, frame.len() as u32, 0, ifindex, 0, 0];
        let context: Vec<u8> = context.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.program("explain")?.test_run(TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        })?;
        let words = *self.memory.explained.get(0).expect("one row");
        Explained::from_words(words).ok_or(ExplainError::Unknown)
    }
}
