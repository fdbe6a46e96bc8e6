//! The packet side of Jumpgate.
//!
//! This library holds everything that decides about a packet, and the layout of the tables it
//! decides by. It is `no_std`, allocates nothing and knows nothing of how programs are loaded. The
//! same code runs in the kernel (the binary beside it adds maps and entry points), in unit and
//! property tests, in fuzzers, in benchmarks and in userspace.
//!
//! A packet's way: [`parse`] finds the UDP datagram, [`service`] the service, [`dissect`] the wire
//! id, [`wire_id`] its slot and key, [`slot`] and [`table`] the owner; [`route`] puts them together
//! and says what to do, [`encap`] writes the head of a packet for another node, [`hold`] keeps one of
//! a session on its way, [`admit`] checks once more at the end of the queue, where a [`marker`] shows
//! that nothing is left in it, and [`egress`] checks what goes back. What routers say about a service's
//! packets is steered like them, and [`answer`] tells a client when its own were too big.
//! [`xsk`] is what AF_XDP needs besides.

#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod abi;
pub mod admit;
pub mod answer;
pub mod binding;
pub mod capture;
mod checksum;
pub mod dissect;
pub mod egress;
pub mod encap;
pub mod event;
pub mod explain;
pub mod frame;
mod headers;
pub mod hold;
mod icmp;
pub mod inject;
pub mod limit;
pub mod local;
pub mod loss;
pub mod marker;
pub mod node;
pub mod parse;
pub mod route;
pub mod service;
pub mod shim;
pub mod slot;
pub mod table;
pub mod tables;
pub mod verdict;
pub mod wire_id;
pub mod wire_id_row;
pub mod word;
pub mod xsk;
