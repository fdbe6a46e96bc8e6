//! `tests/vectors/control.txt`, which a program in another language has made, against the crate.

use ownership::{
    Epoch, SessionId, StateVersion,
    control::{Answer, Ask, Cookie, Credentials, InReplyTo, KeyName, Message, Request, Snapshot},
    model::{Accepted, Nonce, Reason, Time, Transport},
    reattach::{Examined, Secret, Secrets, examine},
};
use std::{collections::BTreeMap, net::SocketAddr};

const NOW: Time = Time::from_millis(1_700_000_000_000);

struct Vectors(BTreeMap<String, Vec<u8>>);

impl Vectors {
    fn read() -> Self {
        let text = include_str!("../vectors/control.txt");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self(lines.map(line).collect())
    }

    fn get<const N: usize>(&self, name: &str) -> [u8; N] {
        self.0[name].as_slice().try_into().expect(name)
    }

    fn message(&self, name: &str) -> Message {
        self.get(name)
    }

    fn session(&self) -> SessionId {
        SessionId::new(self.get("session"))
    }

    fn secrets(&self) -> Secrets {
        let mut secrets = Secrets::new(Secret::new(1, &self.get("secret-1")));
        secrets.rotate(Secret::new(2, &self.get("secret-2"))).unwrap();
        secrets
    }

    fn credentials(&self, secret: u16, generation: u32) -> Credentials {
        Credentials::from_bytes(&self.0[&format!("credentials-{secret}-{generation}")]).unwrap()
    }

    fn cookie(&self, name: &str) -> Cookie {
        zerocopy::transmute!(self.get::<{ Cookie::LENGTH }>(name))
    }

    fn address(&self, name: &str) -> SocketAddr {
        Transport::from_bytes(self.get(name)).into()
    }
}

fn line(line: &str) -> (String, Vec<u8>) {
    let (name, digits) = line.split_once(' ').expect(line);
    assert!(digits.len() % 2 == 0, "{line}");
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect(line);
    (name.to_owned(), (0..digits.len()).step_by(2).map(byte).collect())
}

#[test]
fn keys_follow_from_the_secret() {
    let vectors = Vectors::read();
    let secrets = vectors.secrets();
    for (secret, generation) in [(1, 0), (2, 3)] {
        let derived = secrets.find(secret).unwrap().credentials(vectors.session(), generation);
        let credentials = vectors.credentials(secret, generation);
        assert_eq!(derived.bytes(), credentials.bytes());
        assert_eq!(credentials.name(), KeyName { secret, generation });
    }
}

#[test]
fn requests_are_these_bytes() {
    let vectors = Vectors::read();
    let (v4, v6) = (vectors.cookie("cookie-1-v4"), vectors.cookie("cookie-2-v6"));
    let first = KeyName { secret: 1, generation: 0 };
    let second = KeyName { secret: 2, generation: 3 };
    let end = u64::MAX;
    let cases = [
        ("reattach-request-without-cookie", Ask::Reattach, first, 7, 12, Cookie::NONE),
        ("reattach-request", Ask::Reattach, first, 7, 13, v4),
        ("state-query", Ask::Query, second, 9, 14, v6),
        ("detach", Ask::Detach, first, 7, 15, v4),
        ("close", Ask::Close, first, end, end, v4),
    ];
    for (name, ask, key, version, nonce, cookie) in cases {
        let (version, nonce) = (StateVersion::new(version), Nonce::new(nonce));
        let request = Request { ask, session: vectors.session(), key, version, nonce, cookie };
        let request_key = vectors.credentials(key.secret, key.generation).request_key();
        let message = vectors.message(name);
        assert_eq!(request.seal(&request_key), message, "{name}");
        let read = Request::parse(&message).expect(name);
        assert_eq!(*read.claim(), request, "{name}");
        assert!(read.is_proven(&request_key), "{name}");
    }
}

#[test]
fn answers_are_these_bytes() {
    let vectors = Vectors::read();
    let snapshot = |version, epoch, key_generation, accepted: Option<(u64, u64)>, is_bound| {
        let accepted = accepted.map(|(version, nonce)| Accepted {
            version: StateVersion::new(version),
            nonce: Nonce::new(nonce),
        });
        let (version, epoch) = (StateVersion::new(version), Epoch::new(epoch).unwrap());
        Snapshot { version, epoch, key_generation, accepted, is_bound }
    };
    let stale = snapshot(11, 5, 1, Some((6, 3)), false);
    let state = snapshot(9, (1 << 24) - 1, 3, None, true);
    let cases = [
        (
            "challenge",
            "reattach-request-without-cookie",
            Answer::Challenge(vectors.cookie("cookie-1-v4")),
        ),
        ("ack", "reattach-request", Answer::Ack(snapshot(8, 5, 0, Some((8, 13)), true))),
        (
            "reattach-reject-stale",
            "reattach-request",
            Answer::reject(Reason::StaleVersion, Some(stale)),
        ),
        (
            "reattach-reject-unavailable",
            "reattach-request",
            Answer::reject(Reason::StoreUnavailable, None),
        ),
        ("state", "state-query", Answer::State(state)),
        ("pending", "reattach-request", Answer::Pending),
    ];
    for (name, to, answer) in cases {
        let request = vectors.message(to);
        let unproven = Request::parse(&request).expect(to);
        let Request { session, key, nonce, .. } = *unproven.claim();
        let answer_key = vectors.credentials(key.secret, key.generation).answer_key();
        let message = vectors.message(name);
        let sealed = answer.seal(&InReplyTo { session, nonce, tag: unproven.tag() }, &answer_key);
        assert_eq!(sealed, message, "{name}");
        let read = Answer::parse(&message).expect(name);
        assert_eq!((read.session(), read.nonce()), (session, nonce), "{name}");
        assert_eq!(read.verify(&answer_key, &unproven.tag()), Some(answer), "{name}");
    }
}

#[test]
fn a_node_takes_the_requests_and_makes_the_challenge() {
    let vectors = Vectors::read();
    let secrets = vectors.secrets();
    let (v4, v6) = (vectors.address("transport-v4"), vectors.address("transport-v6"));
    let look = |name, from| examine(&secrets, &vectors.message(name), from, NOW);
    match look("reattach-request-without-cookie", v4) {
        Examined::Reply(reply) => assert_eq!(*reply.message(), vectors.message("challenge")),
        other => panic!("{other:?}"),
    }
    for (name, from) in
        [("reattach-request", v4), ("state-query", v6), ("detach", v4), ("close", v4)]
    {
        let examined = look(name, from);
        assert!(matches!(examined, Examined::Proven(_)), "{name}: {examined:?}");
    }
}

#[test]
fn the_documentation_lists_every_reason() {
    let text = include_str!("../../../docs/control-protocol.md");
    for reason in Reason::ALL {
        let row = format!("| {} | {reason} |", reason.code());
        assert!(text.contains(&row), "{row}");
    }
}
