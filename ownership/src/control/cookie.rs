use super::{MacKey, Tag};
use crate::model::{Time, Transport};
use std::time::Duration;
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, byteorder::network_endian::U64,
};

/// That whoever sends it receives what is sent to an address and port: a node gave it to that address,
/// a moment ago. Nobody keeps it: any node can check it.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct Cookie {
    /// When it was given, in milliseconds since 1970.
    issued: U64,
    tag: Tag,
}

impl Cookie {
    /// Length of a cookie in bytes.
    pub const LENGTH: usize = 24;

    /// No cookie, which is never a right one.
    pub const NONE: Self = Self { issued: U64::ZERO, tag: [0; 16] };

    /// How long a cookie is good for.
    pub const LIFETIME: Duration = Duration::from_secs(60);

    /// How far the clock of the node that gave it may be ahead of that of the node that checks it.
    pub const SKEW: Duration = Duration::from_secs(10);

    pub(crate) fn mint(key: &MacKey, transport: Transport, now: Time) -> Self {
        let issued = U64::new(now.millis());
        Self { issued, tag: key.tag([&transport.bytes(), issued.as_bytes()]) }
    }

    /// The time first: the tag need not be computed for what is too old anyway.
    pub(crate) fn is_right(&self, key: &MacKey, transport: Transport, now: Time) -> bool {
        let issued = Time::from_millis(self.issued.get());
        now < issued.after(Self::LIFETIME)
            && issued <= now.after(Self::SKEW)
            && key.verify([&transport.bytes(), self.issued.as_bytes()], &self.tag)
    }
}

const _: () = assert!(size_of::<Cookie>() == Cookie::LENGTH);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn transport(text: &str) -> Transport {
        text.parse::<SocketAddr>().expect("an address").into()
    }

    #[test]
    fn a_cookie_is_for_one_address_and_port_and_for_a_minute() {
        let (key, other_key) = (MacKey::new(&[1; 32]), MacKey::new(&[2; 32]));
        let client = transport("192.0.2.1:700");
        let given = Time::from_millis(1_000_000);
        let cookie = Cookie::mint(&key, client, given);
        let check = |key, client, millis| cookie.is_right(key, client, Time::from_millis(millis));
        assert!(check(&key, client, 1_000_000));
        assert!(check(&key, transport("[::ffff:192.0.2.1]:700"), 1_059_999), "the same address");
        assert!(!check(&key, client, 1_060_000), "too old");
        assert!(check(&key, client, 990_000), "by another node's clock");
        assert!(!check(&key, client, 989_999), "from the future");
        assert!(!check(&key, transport("192.0.2.1:701"), 1_000_000), "another port");
        assert!(!check(&key, transport("192.0.2.2:700"), 1_000_000), "another address");
        assert!(!check(&other_key, client, 1_000_000), "another cluster's");
        for millis in [0, 1, 1_000_000, u64::MAX] {
            assert!(!Cookie::NONE.is_right(&key, client, Time::from_millis(millis)), "none");
        }
        let mut older = cookie;
        older.issued = U64::new(1_000_001);
        assert!(!older.is_right(&key, client, given), "the time is under the tag");
    }
}
