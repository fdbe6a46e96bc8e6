use crate::{
    StateVersion,
    control::{Ask, KeyName, Tag},
    model::Nonce,
};

/// A request that may still be answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) ask: Ask,
    pub(super) nonce: Nonce,
    pub(super) version: StateVersion,
    pub(super) key: KeyName,
    pub(super) tag: Tag,
    /// Which of the client's addresses it went out from, counted.
    pub(super) path: u32,
}

/// The last requests. What is older is forgotten: its answer can only repeat what answers to these say.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    last: [Option<Sent>; Self::REMEMBERED],
    place: usize,
}

impl Requests {
    const REMEMBERED: usize = 16;

    pub(super) fn add(&mut self, sent: Sent) {
        self.last[self.place] = Some(sent);
        self.place = (self.place + 1) % Self::REMEMBERED;
    }

    pub(super) fn find(&self, nonce: Nonce) -> Option<Sent> {
        self.last.iter().flatten().find(|sent| sent.nonce == nonce).copied()
    }

    /// Forgets what was sealed with keys of an earlier generation: an answer by those is worth nothing.
    pub(super) fn forget_before(&mut self, generation: u32) {
        for place in &mut self.last {
            if place.is_some_and(|sent| sent.key.generation < generation) {
                *place = None;
            }
        }
    }
}
