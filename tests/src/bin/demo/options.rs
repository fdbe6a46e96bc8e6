//! The command line, and how much of everything follows from it.

use std::time::Duration;

use clap::Parser;

/// How much of the time goes to the comparison without Jumpgate.
const COMPARISON: f64 = 0.25;

/// Shows sessions that stay on their node and CPU while their clients change address, that move without a loss
/// when their node is drained, and that go on elsewhere when it is lost.
///
/// Everything happens in network namespaces of the demo's own, which vanish with it. It exits with
/// 0 if Jumpgate's promises were kept, with 1 if not or if it could not run, with 130 if it was
/// interrupted.
#[derive(Clone, Debug, Parser)]
#[command(name = "demo", version)]
pub struct Options {
    /// Seconds of traffic before anything is done to a node: a quarter without Jumpgate, the rest with it
    /// [default: 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=3600))]
    seconds: Option<u32>,
    /// UDP clients, each with a session, half of them IPv4 and half IPv6 [default: 300]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(10..=1000))]
    clients: Option<u16>,
    /// A short run for CI: 4 of these seconds and 60 clients, unless told otherwise
    #[arg(long)]
    quick: bool,
}

impl Options {
    /// How many clients there are: 10 to 1000.
    pub fn clients(&self) -> u16 {
        self.clients.unwrap_or(if self.quick { 60 } else { 300 })
    }

    /// How long clients send without Jumpgate.
    pub fn without(&self) -> Duration {
        self.traffic().mul_f64(COMPARISON)
    }

    /// How long clients send with Jumpgate.
    pub fn with(&self) -> Duration {
        self.traffic() - self.without()
    }

    fn traffic(&self) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(if self.quick { 4 } else { 16 }).into())
    }
}
