//! Packets with names, and what becomes of each: what the kernel's program and the decision in
//! userspace must agree on.
//!
//! [`tables`] is the node that they arrive at, [`packet`] makes frames, [`from_clients`],
//! [`from_nodes`], [`from_protocols`] and [`icmp`] are the packets, [`af_xdp`] those for a service that
//! AF_XDP sockets serve, [`replies`] what goes the other way; [`bound`] has both for services that
//! enforce bindings.

pub mod af_xdp;
pub mod bound;
pub mod from_clients;
pub mod from_nodes;
pub mod from_protocols;
pub mod icmp;
pub mod kernel;
pub mod packet;
pub mod payload;
pub mod replies;
pub mod sending;
pub mod tables;

use dataplane_ebpf::encap::{OVERHEAD_V4, OVERHEAD_V6};
use dataplane_ebpf::verdict::Verdict;

use self::tables::State;
use crate::address::Family;

/// A packet, where and when it arrives, and what becomes of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is special about it; unique in a corpus.
    pub name: String,
    /// The frame.
    pub frame: Vec<u8>,
    /// The node's condition.
    pub state: State,
    /// Whether it arrives on the interface behind which other nodes do not live.
    pub elsewhere: bool,
    /// Bytes of metadata in front of the frame, which take room from the encapsulation.
    pub metadata: usize,
    /// What is counted.
    pub verdict: Verdict,
    /// The service it is counted for; 0 if none.
    pub service: u16,
    /// What the kernel counts, where only it can know.
    pub in_kernel: Option<Verdict>,
    /// Whether it stands for its kind: cut short at every byte it must not be misread.
    pub typical: bool,
}

impl Case {
    /// A packet that arrives where it should while all is well.
    pub fn new(name: impl Into<String>, frame: Vec<u8>, service: u16, verdict: Verdict) -> Self {
        Self {
            name: name.into(),
            frame,
            state: State::Ready,
            elsewhere: false,
            metadata: 0,
            verdict,
            service,
            in_kernel: None,
            typical: false,
        }
    }

    /// The same in another condition of the node.
    #[must_use]
    pub fn when(self, state: State) -> Self {
        Self { state, ..self }
    }

    /// The same on the other interface.
    #[must_use]
    pub fn elsewhere(self) -> Self {
        Self { elsewhere: true, ..self }
    }

    /// The same, to be tried cut short too.
    #[must_use]
    pub fn typical(self) -> Self {
        Self { typical: true, ..self }
    }

    /// The same, of which the kernel knows more.
    #[must_use]
    pub fn but_in_kernel(self, verdict: Verdict) -> Self {
        Self { in_kernel: Some(verdict), ..self }
    }
}

/// What the encapsulation adds over an underlay of this family, in bytes.
pub fn overhead(family: Family) -> usize {
    match family {
        Family::V4 => OVERHEAD_V4,
        Family::V6 => OVERHEAD_V6,
    }
}

/// All packets that a node with an underlay of this family is tried with.
pub fn corpus(underlay: Family) -> Vec<Case> {
    let mut cases = Vec::new();
    for family in Family::ALL {
        cases.extend(from_clients::cases(family));
        cases.extend(bound::cases(family));
        cases.extend(bound::errors(underlay, family));
        cases.extend(from_clients::at_the_limit(family, overhead(underlay)));
        cases.extend(from_nodes::cases(underlay, family));
        cases.extend(icmp::cases(underlay, family));
        cases.extend(icmp::answers(family, overhead(underlay)));
        cases.extend(af_xdp::cases(underlay, family));
    }
    cases
}
