//! Waiting until nothing of held sessions is in flight.

use super::{Hold, Queue};
use crate::dataplane::grace::{Method, grace_period};
use std::{
    io,
    time::{Duration, Instant},
};
use thiserror::Error;

/// Nothing is in flight: of the sessions' packets, the application has read all that it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quiet {
    /// How programs that ran were waited for.
    pub method: Method,
    /// How long that took.
    pub grace: Duration,
    /// How long it took in all.
    pub took: Duration,
    /// How many queues a marker went through.
    pub queues: usize,
}

/// Why it is not known that nothing is in flight. The sessions are still held.
#[derive(Debug, Error)]
pub enum Unquiet {
    /// Not all programs could be waited for.
    #[error("programs that may run with older entries could not be waited for")]
    Grace(#[source] io::Error),
    /// No marker could be made.
    #[error("making a marker failed")]
    Marker(#[source] io::Error),
    /// A queue of a service that the keeper was not started with.
    #[error("no address is known of {0}: start the keeper with all services")]
    NoAddress(Queue),
    /// Markers did not come back in time.
    #[error(
        "no acknowledgement of the marker within {waited:?} from: {}; the application there must \
         acknowledge every marker that it reads, and a firewall or rp_filter = 1 must not drop it",
        list(.queues)
    )]
    Unread {
        /// The queues that markers were sent through.
        queues: Vec<Queue>,
        /// How long they were waited for.
        waited: Duration,
    },
}

impl Hold {
    /// Waits until nothing of these sessions is in flight: in no program, no queue of a CPU, and no
    /// buffer of the application's sockets. Sockets that were handed over before the hold began
    /// count.
    ///
    /// # Errors
    /// When that could not be ascertained within `patience`. The sessions are still held: the caller
    /// may try again, or release them.
    pub fn quiet(&self, patience: Duration) -> Result<Quiet, Unquiet> {
        let start = Instant::now();
        let method = grace_period().map_err(Unquiet::Grace)?;
        let grace = start.elapsed();
        let mut tokens = Vec::new();
        let mut core = self.shared.core();
        for &queue in &self.queues {
            let core = &mut *core;
            let Some(&address) = self.shared.addresses.get(&(queue.service, queue.control)) else {
                core.markers.forget(&tokens, &core.tables);
                return Err(Unquiet::NoAddress(queue));
            };
            match core.markers.add(queue, address, &core.tables) {
                Ok(token) => tokens.push(token),
                Err(error) => {
                    core.markers.forget(&tokens, &core.tables);
                    return Err(Unquiet::Marker(error));
                }
            }
        }
        self.thread.unpark();
        let mut unread = core.markers.unread(&tokens);
        while !unread.is_empty() {
            let Some(left) = patience.checked_sub(start.elapsed()) else { break };
            core = self
                .shared
                .changed
                .wait_timeout(core, left)
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .0;
            unread = core.markers.unread(&tokens);
        }
        let core = &mut *core;
        core.markers.forget(&tokens, &core.tables);
        if !unread.is_empty() {
            return Err(Unquiet::Unread { queues: unread, waited: start.elapsed() });
        }
        Ok(Quiet { method, grace, took: start.elapsed(), queues: tokens.len() })
    }
}

fn list(queues: &[Queue]) -> String {
    let queues: Vec<_> = queues.iter().map(Queue::to_string).collect();
    queues.join("; ")
}
