use std::{fmt, str::FromStr};
use thiserror::Error;

/// The identity anchor of a session: 128 bits, minted by us, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; 16]);

/// Not a SessionID.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no SessionID: it takes 32 hexadecimal digits")]
pub struct BadSessionId(String);

impl SessionId {
    /// The id with these bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes as they stand in packets.
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for SessionId {
    type Err = BadSessionId;

    fn from_str(text: &str) -> Result<Self, BadSessionId> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = digits.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        match number {
            Some(number) => Ok(Self(number.to_be_bytes())),
            None => Err(BadSessionId(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let text = "00112233445566778899aabbccddeeff";
        let id: SessionId = text.parse().unwrap();
        assert_eq!(id.bytes()[..3], [0x00, 0x11, 0x22]);
        assert_eq!(id.to_string(), text);
        for bad in
            ["", "0011", "+0112233445566778899aabbccddeeff", "zz112233445566778899aabbccddeeff"]
        {
            assert!(bad.parse::<SessionId>().is_err(), "{bad}");
        }
    }
}
