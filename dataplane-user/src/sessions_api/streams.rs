//! The streams that are open, and which sessions each owns.

use ownership::SessionId;
use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// How many streams are open at a time.
pub(super) const STREAMS: usize = 256;

/// Too many streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

/// All of them. A stream's rows live as long as it does, a session's until it is over or another node's.
#[derive(Debug, Default)]
pub(super) struct Streams(Mutex<Rows>);

#[derive(Debug, Default)]
struct Rows {
    streams: HashMap<u64, Stream>,
    owners: HashMap<SessionId, u64>,
}

#[derive(Debug)]
struct Stream {
    service: String,
    sessions: HashSet<SessionId>,
}

impl Streams {
    /// A stream begins.
    pub(super) fn begin(&self, stream: u64, service: &str) -> Result<(), TooMany> {
        let mut rows = self.rows();
        if rows.streams.len() >= STREAMS {
            return Err(TooMany);
        }
        let row = Stream { service: service.to_owned(), sessions: HashSet::new() };
        rows.streams.insert(stream, row);
        Ok(())
    }

    /// Whether a stream of this service is open.
    pub(super) fn is_open(&self, stream: u64, service: &str) -> bool {
        self.rows().streams.get(&stream).is_some_and(|row| row.service == service)
    }

    /// A session is owned by a stream from now on, and by no other; `false` if that is over.
    pub(super) fn own(&self, stream: u64, session: SessionId) -> bool {
        let mut rows = self.rows();
        if !rows.streams.contains_key(&stream) {
            return false;
        }
        if let Some(before) = rows.owners.insert(session, stream)
            && let Some(row) = rows.streams.get_mut(&before)
        {
            row.sessions.remove(&session);
        }
        if let Some(row) = rows.streams.get_mut(&stream) {
            row.sessions.insert(session);
        }
        true
    }

    /// A session is not owned by this stream any more.
    pub(super) fn disown(&self, stream: u64, session: SessionId) {
        let mut rows = self.rows();
        if rows.owners.get(&session) == Some(&stream) {
            rows.owners.remove(&session);
        }
        if let Some(row) = rows.streams.get_mut(&stream) {
            row.sessions.remove(&session);
        }
    }

    /// Whether any stream owns a session.
    pub(super) fn is_owned(&self, session: SessionId) -> bool {
        self.rows().owners.contains_key(&session)
    }

    /// A stream is over; the sessions that it owned, which nobody owns now.
    pub(super) fn end(&self, stream: u64) -> Vec<SessionId> {
        let mut rows = self.rows();
        let Some(row) = rows.streams.remove(&stream) else { return Vec::new() };
        for session in &row.sessions {
            rows.owners.remove(session);
        }
        row.sessions.into_iter().collect()
    }

    /// Nobody panics half-way through a change.
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(byte: u8) -> SessionId {
        SessionId::new([byte; 16])
    }

    #[test]
    fn a_session_has_one_owner_and_none_when_that_ends() {
        let streams = Streams::default();
        streams.begin(1, "a").expect("room");
        streams.begin(2, "a").expect("room");
        assert!(streams.own(1, session(1)) && streams.own(1, session(2)));
        assert!(streams.own(2, session(2)), "it changes hands");
        streams.disown(1, session(2));
        assert!(streams.is_owned(session(2)), "it is not the first's to disown");
        assert_eq!(streams.end(1), [session(1)]);
        assert!(!streams.is_owned(session(1)));
        assert!(!streams.own(1, session(3)), "it is over");
        streams.disown(2, session(2));
        assert!(streams.end(2).is_empty());
        assert!(streams.rows().owners.is_empty() && streams.rows().streams.is_empty());
    }

    #[test]
    fn streams_are_bounded_and_of_one_service() {
        let streams = Streams::default();
        for stream in 0..STREAMS as u64 {
            streams.begin(stream, "a").expect("room");
        }
        assert_eq!(streams.begin(u64::MAX, "a"), Err(TooMany));
        assert!(streams.is_open(3, "a") && !streams.is_open(3, "b"));
        streams.end(3);
        assert!(!streams.is_open(3, "a"));
        streams.begin(3, "b").expect("room");
    }
}
