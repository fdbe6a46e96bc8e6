use serde::Serialize;

/// What a client has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Data packets sent.
    pub sent: u64,
    /// Those that were answered.
    pub answered: u64,
    /// Those that were not, yet: what is left of them at the end is lost.
    pub unanswered: u64,
    /// Answers to a packet that was answered already.
    pub duplicates: u64,
    /// Answers of an owner that is none any more, by their header: neither `answered` nor lost.
    pub stale: u64,
    /// Packets that are no answer to anything.
    pub strange: u64,
    /// Changes of the client's address.
    pub moves: u64,
    /// Requests to the control port.
    pub asked: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Answers from the control port that were not believed.
    pub dropped: u64,
    /// Times that the version was not above the one before. Any at all is a fault of the cluster or of ours.
    pub went_back: u64,
}
