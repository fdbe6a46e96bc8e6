//! How much a node has seen of its store, kept beside it: a store that was restored from a backup is
//! recognised by that.

use crate::node::{StateError, StateFolder};
use ownership::store::{Generation, Position, Seen};

const FILE: &str = "seen";

impl StateFolder {
    /// The latest point of the store that this node has seen.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or makes no sense.
    pub fn seen(&self) -> Result<Seen, StateError> {
        let Some(text) = self.read(FILE)? else {
            return Ok(Seen::new(Position::START));
        };
        let position = text.trim_end().split_once(' ').and_then(|(generation, revision)| {
            let generation = Generation(generation.parse().ok()?);
            Some(Position { generation, revision: revision.parse().ok()? })
        });
        position.map(Seen::new).ok_or_else(|| self.garbled(FILE, "two numbers", text))
    }

    /// Keeps the latest point that was seen. It is on the disk before this returns.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn keep_seen(&self, Position { generation, revision }: Position) -> Result<(), StateError> {
        self.replace(FILE, &format!("{} {revision}\n", generation.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_was_seen_is_kept_and_what_makes_no_sense_is_refused_and_kept_too() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(folder.path(), "a").unwrap();
        assert_eq!(state.seen().unwrap().position(), Position::START);
        let position = Position { generation: Generation(2), revision: u64::MAX };
        state.keep_seen(position).unwrap();
        assert_eq!(state.seen().unwrap().position(), position);
        let file = folder.path().join("a.seen");
        fs::write(&file, "seven\n").unwrap();
        let error = state.seen().unwrap_err();
        assert!(error.to_string().contains("holds \"seven\\n\""), "{error}");
        assert_eq!(fs::read_to_string(file).unwrap(), "seven\n");
    }
}
