use crate::control::{Credentials, KeyName};

/// The credentials that a client holds: of two generations at most, those in force and the next.
#[derive(Clone, Debug)]
pub(super) struct Keyring {
    newest: Credentials,
    older: Option<Credentials>,
}

impl Keyring {
    pub(super) fn new(credentials: Credentials) -> Self {
        Self { newest: credentials, older: None }
    }

    /// Adds credentials. They replace those of their generation, else the oldest.
    pub(super) fn give(&mut self, credentials: Credentials) {
        let generation = credentials.name().generation;
        let newest = self.newest.name().generation;
        if generation == newest {
            self.newest = credentials;
        } else if generation > newest {
            self.older = Some(std::mem::replace(&mut self.newest, credentials));
        } else {
            self.older = Some(credentials);
        }
    }

    /// Those to make a request with while a generation is in force: its own, or newer ones if it has
    /// none, as the client may not have heard of a rotation yet.
    pub(super) fn in_force(&self, generation: u32) -> Option<&Credentials> {
        [self.older.as_ref(), Some(&self.newest)]
            .into_iter()
            .flatten()
            .find(|credentials| credentials.name().generation >= generation)
    }

    pub(super) fn newest(&self) -> &Credentials {
        &self.newest
    }

    pub(super) fn named(&self, name: KeyName) -> Option<&Credentials> {
        [self.older.as_ref(), Some(&self.newest)]
            .into_iter()
            .flatten()
            .find(|credentials| credentials.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(secret: u16, generation: u32) -> Credentials {
        Credentials::new(KeyName { secret, generation }, &[1; 32], &[2; 32])
    }

    #[test]
    fn it_holds_two_generations_and_uses_the_one_in_force() {
        let mut keys = Keyring::new(credentials(1, 4));
        let name = |keys: &Keyring, generation| {
            keys.in_force(generation).map(|held| (held.name().secret, held.name().generation))
        };
        assert_eq!(
            [name(&keys, 3), name(&keys, 4), name(&keys, 5)],
            [Some((1, 4)), Some((1, 4)), None]
        );
        keys.give(credentials(1, 5));
        assert_eq!([name(&keys, 4), name(&keys, 5)], [Some((1, 4)), Some((1, 5))]);
        keys.give(credentials(2, 5));
        assert_eq!([name(&keys, 4), name(&keys, 5)], [Some((1, 4)), Some((2, 5))], "replaced");
        keys.give(credentials(2, 6));
        assert_eq!([name(&keys, 4), name(&keys, 6)], [Some((2, 5)), Some((2, 6))]);
        assert!(keys.named(KeyName { secret: 1, generation: 4 }).is_none(), "gone");
        assert!(keys.named(KeyName { secret: 2, generation: 5 }).is_some());
    }
}
