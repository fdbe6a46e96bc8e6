use crate::{
    SessionId,
    control::{AnswerKey, Credentials, KEY_LENGTH, KeyName, MacKey, RequestKey},
};
use hkdf::Hkdf;
use sha2::Sha256;
use std::fmt;
use thiserror::Error;
use zeroize::Zeroizing;

/// Length of a cluster secret in bytes.
pub const SECRET_LENGTH: usize = 32;

/// The salt of HKDF-Extract (RFC 5869 §2.2): no key of another protocol with the same secret is one of
/// ours.
const SALT: &[u8] = b"jumpgate control 1";

/// What a key is for. All labels have one length, so no two inputs of HKDF-Expand are alike.
type Label = [u8; 8];

const REQUEST: Label = *b"request\0";
const ANSWER: Label = *b"answer\0\0";
const COOKIE: Label = *b"cookie\0\0";

/// A secret that all nodes of a cluster share: the keys of all sessions follow from it. Wiped when
/// dropped.
#[derive(Clone)]
pub struct Secret {
    number: u16,
    keys: Hkdf<Sha256>,
    cookie: MacKey,
}

impl Secret {
    /// The secret with these bytes, which must be drawn at random, and a number that no other secret
    /// of the cluster ever had.
    pub fn new(number: u16, bytes: &[u8; SECRET_LENGTH]) -> Self {
        let keys = Hkdf::new(Some(SALT), bytes);
        let cookie = MacKey::new(&*expand(&keys, &[&COOKIE]));
        Self { number, keys, cookie }
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// What the client of a session needs, for one generation of its keys.
    pub fn credentials(&self, session: SessionId, generation: u32) -> Credentials {
        let name = KeyName { secret: self.number, generation };
        let request = self.derive(REQUEST, session, generation);
        Credentials::new(name, &request, &self.derive(ANSWER, session, generation))
    }

    pub(super) fn request_key(&self, session: SessionId, generation: u32) -> RequestKey {
        RequestKey::new(&self.derive(REQUEST, session, generation))
    }

    pub(super) fn answer_key(&self, session: SessionId, generation: u32) -> AnswerKey {
        AnswerKey::new(&self.derive(ANSWER, session, generation))
    }

    pub(super) fn cookie_key(&self) -> &MacKey {
        &self.cookie
    }

    /// Two blocks of SHA-256, about 0.1 us: what it would cost to find a key among those of a million
    /// sessions, and nothing to keep or to wipe.
    fn derive(
        &self,
        label: Label,
        session: SessionId,
        generation: u32,
    ) -> Zeroizing<[u8; KEY_LENGTH]> {
        expand(&self.keys, &[&label, &session.bytes(), &generation.to_be_bytes()])
    }
}

fn expand(keys: &Hkdf<Sha256>, info: &[&[u8]]) -> Zeroizing<[u8; KEY_LENGTH]> {
    let mut key = Zeroizing::new([0; KEY_LENGTH]);
    keys.expand_multi_info(info, &mut *key).expect("HKDF gives up to 255 times as much");
    key
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("number", &self.number).finish_non_exhaustive()
    }
}

/// The cluster's live secrets: one, or two while one replaces the other.
///
/// To rotate: [`Secrets::rotate`] on every node, then rotate the key of each session and give its
/// client the [credentials](Secret::credentials) of the current secret, then [`Secrets::retire`].
/// Until that, keys of both are good; afterwards those of the old one are nobody's.
#[derive(Clone, Debug)]
pub struct Secrets {
    current: Secret,
    previous: Option<Secret>,
}

/// A secret's number is used already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("cluster secret {0} is live already: give the new one a number of its own")]
pub struct SecretNumberTaken(pub u16);

impl Secrets {
    /// One secret.
    pub fn new(current: Secret) -> Self {
        Self { current, previous: None }
    }

    /// Makes another secret the current one. What was current is good for a while longer; what was
    /// good for a while longer is not any more.
    ///
    /// # Errors
    ///
    /// If one of the live ones has its number. Nothing has changed then.
    pub fn rotate(&mut self, next: Secret) -> Result<(), SecretNumberTaken> {
        if self.find(next.number).is_some() {
            return Err(SecretNumberTaken(next.number));
        }
        self.previous = Some(std::mem::replace(&mut self.current, next));
        Ok(())
    }

    /// Ends the rotation: only the current secret is good.
    pub fn retire(&mut self) {
        self.previous = None;
    }

    /// The secret for new keys.
    pub fn current(&self) -> &Secret {
        &self.current
    }

    /// The live secret with a number.
    pub fn find(&self, number: u16) -> Option<&Secret> {
        [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .find(|secret| secret.number == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_another() {
        let (session, other) = (SessionId::new([1; 16]), SessionId::new([2; 16]));
        let secrets = [Secret::new(1, &[7; 32]), Secret::new(2, &[8; 32])];
        let mut keys = std::collections::BTreeSet::new();
        for secret in &secrets {
            for label in [REQUEST, ANSWER, COOKIE] {
                for session in [session, other] {
                    for generation in [0, 1, u32::MAX] {
                        keys.insert(*secret.derive(label, session, generation));
                    }
                }
            }
        }
        assert_eq!(keys.len(), 2 * 3 * 2 * 3);
    }

    #[test]
    fn two_secrets_are_live_at_most() {
        let mut secrets = Secrets::new(Secret::new(1, &[1; 32]));
        assert_eq!(secrets.rotate(Secret::new(1, &[2; 32])), Err(SecretNumberTaken(1)));
        secrets.rotate(Secret::new(2, &[2; 32])).unwrap();
        assert_eq!(secrets.current().number(), 2);
        assert!(secrets.find(1).is_some(), "good for a while longer");
        assert_eq!(secrets.rotate(Secret::new(1, &[3; 32])), Err(SecretNumberTaken(1)));
        secrets.rotate(Secret::new(3, &[3; 32])).unwrap();
        assert!(secrets.find(1).is_none() && secrets.find(2).is_some());
        secrets.retire();
        assert!(secrets.find(2).is_none() && secrets.find(3).is_some());
    }

    #[test]
    fn secrets_and_keys_do_not_show() {
        let secret = Secret::new(1, &[0xab; 32]);
        let credentials = secret.credentials(SessionId::new([1; 16]), 0);
        let shown = format!("{secret:?} {credentials:?} {:?}", credentials.request_key());
        let expected = "Secret { number: 1, .. } \
                        Credentials(KeyName { secret: 1, generation: 0 }) RequestKey(secret)";
        assert_eq!(shown, expected);
    }
}
