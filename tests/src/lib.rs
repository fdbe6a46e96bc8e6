//! The network-namespace harness of Jumpgate's scenario tests and of its demo.
//!
//! [`topology`] builds a small network of namespaces: clients, a router that sprays packets over
//! the nodes, and the nodes. [`daemon`] runs `jumpgate` on a node, [`echo`] is an application that
//! says where a packet arrived, and [`client`] and [`swarm`] are the users of it.
//!
//! Nothing outlives the process, however it ends: namespaces and mounts are held by file
//! descriptors only, and every child dies with its parent. All of it needs root; a test says so
//! with [`require_root!`].

pub mod address;
pub mod child;
pub mod client;
pub mod config;
pub mod corpus;
pub mod daemon;
pub mod echo;
#[path = "../../dataplane-user/examples/echo_gateway/gateway.rs"]
pub mod echo_gateway;
pub mod fleet;
pub mod flow;
pub mod forged;
pub mod fuzz;
pub mod gateway;
pub mod http;
pub mod inbox;
pub mod ip;
pub mod links;
pub mod mounts;
pub mod netns;
pub mod offload;
pub mod path_mtu;
pub mod probe;
pub mod rig;
pub mod root;
pub mod swarm;
pub mod sysctl;
pub mod together;
pub mod topology;
pub mod wire;
pub mod xdp;
pub mod xsk;
