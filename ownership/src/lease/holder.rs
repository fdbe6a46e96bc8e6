use super::{BootTime, LeaseTimes, Registered};
use crate::{
    Revision,
    model::{OperationId, Owner},
    store::{DirectoryWrite, HeartbeatRow, Identity, Outcome},
};
use thiserror::Error;

/// A node's own lease: until when it may act, and the heartbeats that renew it.
///
/// One request is under way at a time. What is to be done next says [`Holder::next`]; the caller does
/// it, and tells what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    by: Identity,
    times: LeaseTimes,
    /// The last heartbeat that is known to have been written.
    stands: HeartbeatRow,
    /// When that one was sent.
    since: Option<BootTime>,
    /// When any was sent.
    last: Option<BootTime>,
    beat: Option<Beat>,
    over: Option<Over>,
}

/// A heartbeat whose outcome is not known yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Beat {
    write: DirectoryWrite,
    row: HeartbeatRow,
    /// When it was sent for the first time, and for the last time.
    sent: (BootTime, BootTime),
    /// Whether an earlier sending of it may still arrive.
    is_in_doubt: bool,
    due: Due,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Due {
    Answer,
    Look,
    Again,
}

/// What a holder has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Send a heartbeat: [`Holder::beat`].
    Beat,
    /// Read the node's heartbeat row: [`Holder::found`].
    Look,
    /// Wait for the answer to what was sent: [`Holder::answered`].
    Answer,
    /// Nothing before that time.
    Wait(BootTime),
    /// Nothing any more: the epoch is over.
    Over(Over),
}

/// Why an epoch is over for its holder. It must stop at once, and never go on in that epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Over {
    /// Another heartbeat stands where its own should: a clone of it is at work. To be told as a
    /// SECURITY_EVENT.
    #[error("somebody else is this node; find the clone, then start this node anew")]
    SomebodyElse,
    /// The epoch was ended: by another node, by an operator, or by a later epoch of the node.
    #[error("this node's epoch was ended; it must register anew")]
    Fenced,
}

impl Holder {
    /// The holder of a new epoch: its registration was its first heartbeat.
    pub fn new(registered: Registered, times: LeaseTimes) -> Self {
        let Registered { by, heartbeat, sent } = registered;
        Self {
            by,
            times,
            stands: heartbeat,
            since: Some(sent),
            last: Some(sent),
            beat: None,
            over: None,
        }
    }

    /// The holder of an epoch that was begun by an earlier process: it may not act before its first
    /// heartbeat.
    pub(super) fn resumed(by: Identity, stands: HeartbeatRow, times: LeaseTimes) -> Self {
        Self { by, times, stands, since: None, last: None, beat: None, over: None }
    }

    /// What the node claims to be when it writes.
    pub fn identity(&self) -> Identity {
        self.by
    }

    /// The node in its epoch.
    pub fn owner(&self) -> Owner {
        self.by.owner
    }

    /// Until when the node may act; not at all if there is none. What shuts by it, such as the
    /// kernel's fence, is to be set anew whenever this changes.
    pub fn deadline(&self) -> Option<BootTime> {
        let since = self.since.filter(|_| self.over.is_none())?;
        Some(since.after(self.times.lease()))
    }

    /// Whether the node may act now.
    pub fn is_open(&self, now: BootTime) -> bool {
        self.deadline().is_some_and(|deadline| now < deadline)
    }

    /// What is to be done.
    pub fn next(&self, now: BootTime) -> Next {
        if let Some(over) = self.over {
            return Next::Over(over);
        }
        match &self.beat {
            Some(Beat { due: Due::Answer, .. }) => Next::Answer,
            Some(Beat { due: Due::Look, .. }) => Next::Look,
            Some(Beat { due: Due::Again, .. }) => Next::Beat,
            None => match self.last.map(|last| last.after(self.times.beat())) {
                Some(due) if now < due => Next::Wait(due),
                _ => Next::Beat,
            },
        }
    }

    /// A heartbeat, to be sent at once: `now` is read before that. It says which placement the node's
    /// kernel has applied.
    ///
    /// One whose outcome is unknown is given again, unchanged: that is no second attempt, since the row
    /// tells whether any sending of it has arrived.
    ///
    /// Nothing if another request is under way or the epoch is over.
    pub fn beat(
        &mut self,
        now: BootTime,
        applied: Option<Revision>,
        operation: OperationId,
    ) -> Option<DirectoryWrite> {
        if self.over.is_some() {
            return None;
        }
        self.last = Some(now);
        match &mut self.beat {
            Some(beat) if beat.due == Due::Again => {
                (beat.due, beat.sent.1) = (Due::Answer, now);
                Some(beat.write.clone())
            }
            Some(_) => None,
            None => {
                let (write, row) = DirectoryWrite::beat(&self.stands, self.by, applied, operation);
                let (sent, due) = ((now, now), Due::Answer);
                self.beat = Some(Beat { write: write.clone(), row, sent, is_in_doubt: false, due });
                Some(write)
            }
        }
    }

    /// What came of the heartbeat that was sent.
    ///
    /// The lease runs from when it was *sent*: from when its answer came, a slow answer would
    /// lengthen it beyond what others wait for.
    ///
    /// # Errors
    ///
    /// If the epoch is over.
    pub fn answered(&mut self, outcome: Outcome) -> Result<(), Over> {
        let Some(mut beat) = self.beat.take_if(|beat| beat.due == Due::Answer) else {
            return self.over.map_or(Ok(()), Err);
        };
        match outcome {
            Outcome::Won => self.stood(beat.row, beat.sent.1),
            Outcome::Fenced => return self.end(Over::Fenced),
            // Whoever changed the row may have been the sending before.
            Outcome::Lost(_) if beat.is_in_doubt => self.look(beat),
            Outcome::Lost(_) => return self.end(Over::SomebodyElse),
            Outcome::Unavailable(_) if beat.is_in_doubt => self.look(beat),
            Outcome::Unavailable(_) => {}
            Outcome::Unknown => {
                beat.is_in_doubt = true;
                self.look(beat);
            }
        }
        Ok(())
    }

    /// What was read in the place of the node's heartbeat row.
    ///
    /// # Errors
    ///
    /// If the epoch is over.
    pub fn found(&mut self, stands: Option<&HeartbeatRow>) -> Result<(), Over> {
        let Some(mut beat) = self.beat.take_if(|beat| beat.due == Due::Look) else {
            return self.over.map_or(Ok(()), Err);
        };
        if stands == Some(&beat.row) {
            // Which sending it was, nobody knows.
            self.stood(beat.row, beat.sent.0);
        } else if stands == Some(&self.stands) {
            // That proves nothing: it may still arrive.
            beat.due = Due::Again;
            self.beat = Some(beat);
        } else {
            return self.end(Over::SomebodyElse);
        }
        Ok(())
    }

    /// Ends the epoch for its holder: somebody was told, by another write, that it is over.
    pub fn fenced(&mut self) {
        let _told = self.end(Over::Fenced);
    }

    fn stood(&mut self, row: HeartbeatRow, sent: BootTime) {
        self.stands = row;
        self.since = self.since.max(Some(sent));
    }

    fn look(&mut self, mut beat: Beat) {
        beat.due = Due::Look;
        self.beat = Some(beat);
    }

    fn end(&mut self, over: Over) -> Result<(), Over> {
        self.beat = None;
        Err(*self.over.get_or_insert(over))
    }
}
