use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

/// Length of a key in bytes.
pub const KEY_LENGTH: usize = 32;

/// What authenticates a message: HMAC-SHA-256 (RFC 2104), of which the first 128 bits travel
/// (RFC 4868 §2.1).
pub type Tag = [u8; 16];

/// A key for HMAC-SHA-256, ready to be used: its two blocks are hashed already. Wiped when dropped.
#[derive(Clone)]
pub(crate) struct MacKey(Hmac<Sha256>);

impl MacKey {
    pub(crate) fn new(key: &[u8]) -> Self {
        Self(<Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length"))
    }

    pub(crate) fn tag(&self, parts: [&[u8]; 2]) -> Tag {
        let full = self.over(parts).finalize();
        *full.as_bytes().first_chunk().expect("32 bytes")
    }

    /// Takes the same time whatever is wrong.
    pub(crate) fn verify(&self, parts: [&[u8]; 2], tag: &Tag) -> bool {
        self.over(parts).verify_truncated_left(tag).is_ok()
    }

    fn over(&self, [first, second]: [&[u8]; 2]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(first);
        mac.update(second);
        mac
    }
}

macro_rules! direction {
    ($(#[doc = $doc:literal])+ $name:ident) => {
        $(#[doc = $doc])+
        #[derive(Clone)]
        pub struct $name(MacKey);

        impl $name {
            /// The key with these bytes.
            pub fn new(bytes: &[u8; KEY_LENGTH]) -> Self {
                Self(MacKey::new(bytes))
            }

            pub(super) fn mac(&self) -> &MacKey {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(secret)"))
            }
        }
    };
}

direction! {
    /// The key that a client proves with that a session is its own.
    RequestKey
}

direction! {
    /// The key by which a client knows that an answer is its cluster's.
    AnswerKey
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231 §4.6, test case 5: the one that truncates to 128 bits, as we do.
    #[test]
    fn a_tag_is_the_first_half_of_the_mac() {
        let key = MacKey::new(&[0x0c; 20]);
        let tag = 0xa3b6_1674_7310_0ee0_6e0c_796c_2955_552b_u128.to_be_bytes();
        assert_eq!(key.tag([b"Test With ", b"Truncation"]), tag);
        assert!(key.verify([b"Test With Truncation", b""], &tag));
        for bit in 0..128 {
            let wrong = (u128::from_be_bytes(tag) ^ 1 << bit).to_be_bytes();
            assert!(!key.verify([b"Test With Truncation", b""], &wrong), "bit {bit}");
        }
    }
}
