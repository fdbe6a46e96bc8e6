//! What the keeper's thread does: takes packets out of the ring, files them, and sends those whose
//! session was released.

use super::{
    books::{Books, Fate, Lane, Way},
    deliver::{Deliverer, OnCpu},
    emit::{Away, Emitter},
    marker::Markers,
    pace::Pace,
    packet::Packet,
};
use crate::dataplane::{inject::Injector, memory::Memory};
use aya::maps::{MapData, RingBuf};
use dataplane_ebpf::hold::RECORD_MIN;
use std::time::Instant;

/// How many packets of one session are sent before it is another one's turn.
const TURN: usize = 16;

/// Records that are taken out in one go: whoever else waits for the books gets them in between.
const GO: usize = 4096;

/// Everything that the keeper's thread and its callers share.
pub(super) struct Core {
    pub(super) books: Books<Away>,
    pub(super) markers: Markers,
    pub(super) tables: Memory,
    ring: RingBuf<MapData>,
    /// The most records that the ring can hold.
    room: usize,
    injector: Injector,
    emitter: Emitter,
    deliverer: Deliverer,
    pace: Pace,
}

impl Core {
    /// `ring` is the ring and its size in bytes.
    pub(super) fn new(
        books: Books<Away>,
        tables: Memory,
        (ring, bytes): (RingBuf<MapData>, u32),
        injector: Injector,
        emitter: Emitter,
        deliverer: Deliverer,
        pace: u32,
    ) -> Self {
        Self {
            books,
            markers: Markers::default(),
            tables,
            ring,
            room: bytes as usize / RECORD_MIN,
            injector,
            emitter,
            deliverer,
            pace: Pace::new(pace, Instant::now()),
        }
    }

    /// Sends so many packets in a second from now on.
    pub(super) fn set_pace(&mut self, pace: u32) {
        self.pace = Pace::new(pace, Instant::now());
    }

    /// Files some of what is in the ring; whether there may be more.
    fn drain(&mut self) -> bool {
        at_most(GO, || self.file_one())
    }

    /// Files all that is in the ring now. What comes meanwhile may stay: it may come without end.
    pub(super) fn drain_all(&mut self) {
        at_most(self.room, || self.file_one());
    }

    /// Files the ring's oldest packet, if there is one.
    fn file_one(&mut self) -> bool {
        let Some(record) = self.ring.next() else { return false };
        let Some(packet) = Packet::read(&record) else {
            tracing::error!(length = record.len(), "a record of the hold ring makes no sense");
            return true;
        };
        if self.books.file(packet) {
            self.pace.arrived();
        }
        true
    }

    /// Files what is in the ring, sends what may be sent, and the markers whose time has come.
    /// Whether there is more in the ring.
    pub(super) fn turn(&mut self, now: Instant) -> bool {
        let more = self.drain();
        self.pace.grant(now);
        self.serve();
        self.pace.settle();
        if !self.markers.is_empty() {
            self.markers.send(now, &mut self.injector, &self.tables);
        }
        more
    }

    /// Sends packets of released sessions, some of each in turns, as far as the pace allows.
    fn serve(&mut self) {
        let lanes = self.books.lanes();
        for (index, lane) in lanes.iter().enumerate() {
            let share = self.pace.share(lanes.len() - index);
            if share == 0 {
                continue;
            }
            let _place = match lane {
                Lane::Cpu(cpu) => Some(OnCpu::enter(*cpu)),
                Lane::Away => None,
            };
            let sent = share - self.serve_lane(*lane, share);
            self.pace.spend(sent);
        }
    }

    /// Sends so many packets of one lane; returns how many there was no need or no room for.
    fn serve_lane(&mut self, lane: Lane, mut share: usize) -> usize {
        while share > 0
            && let Some((id, way)) = self.books.turn(lane)
        {
            for _ in 0..TURN {
                if share == 0 {
                    break;
                }
                let Some(packet) = self.books.front(id) else { break };
                let Some(fate) = self.send(packet, way) else { return share };
                self.books.take(id);
                self.books.enter(id, way, fate);
                share -= 1;
            }
            self.books.end_turn(lane, id);
        }
        share
    }

    /// Sends a packet; `None` if there is no room for it now.
    fn send(&self, packet: &Packet, way: Way<Away>) -> Option<Fate> {
        match way {
            Way::Wait => None,
            Way::Away(away) => self.emitter.send(packet, &away, &self.tables),
            Way::Here(_) => match self.deliverer.send(packet.ip()) {
                Ok(true) => Some(Fate::Sent),
                Ok(false) => None,
                Err(error) => {
                    tracing::debug!(%error, "a held packet was not delivered");
                    Some(Fate::Failed)
                }
            },
        }
    }
}

/// Does something so many times, as long as it succeeds; whether it always did.
fn at_most(times: usize, mut something: impl FnMut() -> bool) -> bool {
    (0..times).all(|_| something())
}

#[cfg(test)]
mod tests {
    use super::at_most;

    #[test]
    fn a_ring_that_is_filled_as_fast_as_it_is_emptied_holds_nobody_up() {
        let (mut filed, mut left) = (0, 5);
        let mut endless = || {
            filed += 1;
            true
        };
        assert!(at_most(7, &mut endless));
        assert_eq!(filed, 7);
        let mut ending = || {
            left -= 1;
            left >= 0
        };
        assert!(!at_most(7, &mut ending));
        assert_eq!(left, -1, "nobody asks again after the end");
    }
}
