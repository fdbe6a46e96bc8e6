//! AF_XDP for applications: receiving and sending past the kernel's stack, with the checks that the
//! kernel makes for sockets.
//!
//! A service with `deliver = "af_xdp"` has its packets put into the ring of the AF_XDP socket that
//! is bound to the interface and receive queue of their arrival. A [`Port`] is such a socket. Between
//! it and the network there is neither the socket selector nor the egress program, so it does their
//! work on the same tables, which it maps for reading: a datagram is handed out only while the lease
//! holds by the exact clock and its session is this node's, and nothing is sent otherwise. The
//! counts of both are in `jumpgate stats`.
//!
//! ```no_run
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use dataplane_user::{af_xdp::{Options, Port}, api::Client};
//! use std::{path::Path, time::Duration};
//!
//! let mut daemon = Client::connect(Path::new("/run/jumpgate/a.sock"))?;
//! let mut port = Port::open(&mut daemon, &Options::new("eth0", 0))?;
//! loop {
//!     port.wait(Duration::from_secs(1))?;
//!     port.receive(|datagram, sender| {
//!         // What is refused is counted; the client asks again.
//!         let _ = sender.reply(datagram, &[datagram.payload()]);
//!     })?;
//! }
//! # }
//! ```
//!
//! `docs/applications.md` has the limits.

mod datagram;
mod given;
mod link;
mod path;
mod port;
mod registered;
mod sender;
mod socket;
mod tally;

pub use datagram::Datagram;
pub use dataplane_ebpf::xsk::Speaker;
pub use path::Path;
pub use port::{Drain, Port, PortError};
pub use sender::{SendError, Sender};
pub use socket::{Mode, OpenError, Options};
