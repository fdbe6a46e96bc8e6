use super::Tracker;
use crate::control::{Ask, Message};

/// What the owner fields of a data packet are worth. Nobody authenticates them, so they change nothing
/// but whether the client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// From the owner, as far as the client knows.
    Current,
    /// From an owner that is none any more, or the session is over: to be dropped.
    Old,
    /// From a version that the client has not been told of, and the question about it, to be sent to
    /// the control port. It is put once: no other until this one is answered.
    Ask(Message),
    /// The same, and the question has been put.
    Asked,
}

impl Tracker {
    /// Looks at the owner epoch and the state_version in a data packet's header.
    #[must_use = "old packets are to be dropped, and questions to be sent"]
    pub fn hint(&mut self, epoch: u32, version: u64) -> Hint {
        if self.is_closed() {
            return Hint::Old;
        }
        let memory = self.memory();
        let (known, is_owner) = (memory.version.get(), memory.epoch.get() == epoch);
        if version > known {
            if self.question.is_some() {
                return Hint::Asked;
            }
            self.question = Some(memory.next);
            return self.request(Ask::Query).map_or(Hint::Asked, Hint::Ask);
        }
        // Somewhat older ones of the owner's were only overtaken.
        if is_owner { Hint::Current } else { Hint::Old }
    }
}
