use crate::store::{BadRow, Key, Span};

/// The keys of the schema behind the prefix of this store.
pub(super) struct Keys(Vec<u8>);

/// A range of keys, from the first up to but not including the second.
pub(super) type Range = (Vec<u8>, Vec<u8>);

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self(prefix.as_bytes().to_vec())
    }

    /// A key as etcd has it.
    pub(super) fn of(&self, key: &Key) -> Vec<u8> {
        self.with(&key.to_bytes())
    }

    /// The key that etcd has so.
    pub(super) fn read(&self, bytes: &[u8]) -> Result<Key, BadRow> {
        // What does not begin with the prefix is no key either.
        Key::from_bytes(bytes.strip_prefix(self.0.as_slice()).unwrap_or_default())
    }

    /// The rows of a span, or those behind a key.
    pub(super) fn span(&self, span: Span, after: Option<&Key>) -> Range {
        let (first, last) = span.bounds();
        let first = match after {
            Some(after) if *after >= first => self.behind(after),
            _ => self.of(&first),
        };
        (first, self.behind(&last))
    }

    /// The parts of the directory that are watched: all but transfers, sessions, what
    /// they carry, and audit rows.
    pub(super) fn watched(&self) -> [Range; 2] {
        [(b'0', b'5'), (b'6', b'8')].map(|(from, to)| (self.with(&[from]), self.with(&[to])))
    }

    /// The least key that is greater.
    fn behind(&self, key: &Key) -> Vec<u8> {
        let mut behind = self.of(key);
        behind.push(0);
        behind
    }

    fn with(&self, bytes: &[u8]) -> Vec<u8> {
        [&self.0, bytes].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NodeIndex, SessionId, StateVersion, store::AuditKey};

    #[test]
    fn what_is_watched_is_the_directory() {
        let keys = Keys::new("p/");
        let (node, session) = (NodeIndex::LAST, SessionId::new([0xff; 16]));
        let is_watched = |key: &Key| {
            let key = keys.of(key);
            keys.watched().iter().any(|(from, to)| (from..to).contains(&&key))
        };
        for key in
            [Key::Generation, Key::Heartbeat(node), Key::Placement, Key::Inbox(node, session)]
        {
            assert!(is_watched(&key), "{key:?}");
        }
        let off_home = Span::OffHome(0, u16::MAX).bounds();
        assert!(is_watched(&off_home.0) && is_watched(&off_home.1));
        let transfer = Key::Transfer(session, StateVersion::BIRTH);
        let audit = Key::Audit(AuditKey::FIRST);
        for key in [Key::Session(session), transfer, audit, Key::Baggage(session)] {
            assert!(!is_watched(&key), "{key:?}");
        }
    }

    #[test]
    fn a_page_goes_on_behind_the_last_key() {
        let keys = Keys::new("p/");
        let key = |number| Key::Fence(NodeIndex::new(number).unwrap());
        let (all, end) = keys.span(Span::Fences, None);
        assert_eq!(all, keys.of(&Key::Fence(NodeIndex::FIRST)));
        assert!(keys.of(&Key::Fence(NodeIndex::LAST)) < end);
        let (from, to) = keys.span(Span::Fences, Some(&key(7)));
        assert!(keys.of(&key(7)) < from && from < keys.of(&key(8)));
        assert_eq!(to, end);
        assert_eq!(keys.read(&keys.of(&key(7))), Ok(key(7)));
        assert!(keys.read(b"q/0").is_err());
    }
}
