use super::Deciding;
use crate::{NodeIndex, Revision, placement::Applied, store::OffHomeKey};

/// What has to be written about a session's ids when it gets another owner: an id whose slot is at
/// [home](Applied::home) with the new owner is found there, any other one needs an off-home row for its slot's
/// owner to send its packets on by.
///
/// The write compares the placement that this follows from. Otherwise a slot could move meanwhile, and
/// be called empty of sessions, and its new owner would know nothing of this one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Routes {
    placement: Revision,
    off_home: Vec<OffHomeKey>,
    at_home: Vec<OffHomeKey>,
}

impl Routes {
    /// The routes of a session with these ids whose new owner is on `node`.
    pub fn new(
        node: NodeIndex,
        applied: &Applied,
        ids: impl IntoIterator<Item = OffHomeKey>,
    ) -> Self {
        let is_at_home = |key: &OffHomeKey| applied.home(key.slot) == Some(node);
        let (at_home, off_home) = ids.into_iter().partition(is_at_home);
        Self { placement: applied.revision(), off_home, at_home }
    }

    /// Writes them with a write.
    pub fn with<W: Deciding>(&self, write: W) -> W {
        let write = write.at_placement(self.placement);
        let write = self.off_home.iter().cloned().fold(write, W::off_home);
        self.at_home.iter().cloned().fold(write, W::at_home)
    }
}
