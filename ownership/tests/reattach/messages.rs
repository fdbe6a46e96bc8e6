//! The messages as bytes, whatever is in them.

use hmac::{Hmac, KeyInit, Mac};
use ownership::{
    Epoch, SessionId, StateVersion,
    control::{
        Answer, AnswerKey, Ask, BadMessage, Cookie, InReplyTo, KeyName, MESSAGE_LENGTH, Message,
        Request, RequestKey, Snapshot, Tag,
    },
    model::{Accepted, Nonce, Reason},
};
use proptest::prelude::*;
use sha2::Sha256;

fn request() -> impl Strategy<Value = Request> {
    let key = (any::<u16>(), any::<u32>())
        .prop_map(|(secret, generation)| KeyName { secret, generation });
    let ask = prop::sample::select(Ask::ALL.to_vec());
    (ask, any::<[u8; 16]>(), key, any::<(u64, u64)>(), any::<[u8; Cookie::LENGTH]>()).prop_map(
        |(ask, session, key, (version, nonce), cookie)| Request {
            ask,
            session: SessionId::new(session),
            key,
            version: StateVersion::new(version),
            nonce: Nonce::new(nonce),
            cookie: zerocopy::transmute!(cookie),
        },
    )
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    let accepted = prop::option::of(any::<(u64, u64)>().prop_map(|(version, nonce)| Accepted {
        version: StateVersion::new(version),
        nonce: Nonce::new(nonce),
    }));
    (any::<u64>(), 1..1_u32 << 24, any::<u32>(), accepted, any::<bool>()).prop_map(
        |(version, epoch, key_generation, accepted, is_bound)| Snapshot {
            version: StateVersion::new(version),
            epoch: Epoch::new(epoch).expect("in range"),
            key_generation,
            accepted,
            is_bound,
        },
    )
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        any::<[u8; Cookie::LENGTH]>()
            .prop_map(|cookie| Answer::Challenge(zerocopy::transmute!(cookie))),
        snapshot().prop_map(Answer::Ack),
        snapshot().prop_map(Answer::State),
        (1..u16::MAX, prop::option::of(snapshot()))
            .prop_map(|(code, snapshot)| Answer::Reject { code, snapshot }),
        Just(Answer::Pending),
    ]
}

fn reply_to() -> impl Strategy<Value = InReplyTo> {
    any::<([u8; 16], u64, [u8; 16])>().prop_map(|(session, nonce, tag)| InReplyTo {
        session: SessionId::new(session),
        nonce: Nonce::new(nonce),
        tag,
    })
}

fn flipped(mut message: Message, bit: usize) -> Message {
    message[bit / 8] ^= 1 << (bit % 8);
    message
}

proptest! {
    #![proptest_config(crate::config())]

    #[test]
    fn a_request_is_read_as_it_was_made(request in request(), key in any::<[u8; 32]>()) {
        let key = RequestKey::new(&key);
        let message = request.seal(&key);
        let read = Request::parse(&message).unwrap();
        prop_assert_eq!(*read.claim(), request);
        prop_assert!(read.is_proven(&key));
        prop_assert!(!read.is_proven(&RequestKey::new(&[0; 32])));
    }

    #[test]
    fn an_answer_is_read_as_it_was_made(
        answer in answer(), to in reply_to(), key in any::<[u8; 32]>(),
    ) {
        let key = AnswerKey::new(&key);
        let message = answer.seal(&to, &key);
        let read = Answer::parse(&message).unwrap();
        prop_assert_eq!((read.session(), read.nonce()), (to.session, to.nonce));
        prop_assert_eq!(read.verify(&key, &to.tag), Some(answer));
        prop_assert_eq!(read.verify(&AnswerKey::new(&[0; 32]), &to.tag), None);
        prop_assert_eq!(read.verify(&key, &[0; 16]), None, "an answer to another request");
    }

    #[test]
    fn a_bit_that_changes_is_noticed(
        request in request(), answer in answer(), to in reply_to(), bit in 0..8 * MESSAGE_LENGTH,
    ) {
        let (request_key, answer_key) = (RequestKey::new(&[1; 32]), AnswerKey::new(&[2; 32]));
        let message = flipped(request.seal(&request_key), bit);
        let is_proven = Request::parse(&message).is_ok_and(|read| read.is_proven(&request_key));
        prop_assert!(!is_proven);
        let message = flipped(answer.seal(&to, &answer_key), bit);
        let verified = Answer::parse(&message).ok().and_then(|read| read.verify(&answer_key, &to.tag));
        prop_assert_eq!(verified, None);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if bytes.len() != MESSAGE_LENGTH {
            let refused = BadMessage::Length(bytes.len());
            prop_assert_eq!(Request::parse(&bytes).err(), Some(refused));
            prop_assert_eq!(Answer::parse(&bytes).err(), Some(refused));
        }
    }

    /// One message has one form: whatever is read would be written the same.
    #[test]
    fn what_is_read_has_one_form(
        request in request(), answer in answer(), to in reply_to(),
        changes in prop::collection::vec((0..MESSAGE_LENGTH, any::<u8>()), 1..4),
    ) {
        let key = RequestKey::new(&[1; 32]);
        let mut message = request.seal(&key);
        changes.iter().for_each(|(at, byte)| message[*at] = *byte);
        if let Ok(read) = Request::parse(&message) {
            prop_assert_eq!(&read.claim().seal(&key)[..72], &message[..72]);
        }
        let key = AnswerKey::new(&[1; 32]);
        let mut message = answer.seal(&to, &key);
        changes.iter().for_each(|(at, byte)| message[*at] = *byte);
        let message = tagged(message, &[1; 32], &to.tag);
        if let Ok(read) = Answer::parse(&message) {
            let to = InReplyTo { session: read.session(), nonce: read.nonce(), ..to };
            let answer = read.verify(&key, &to.tag).expect("its tag is right");
            prop_assert_eq!(answer.seal(&to, &key), message);
        }
    }
}

/// The message with a right tag: HMAC-SHA-256 over it and its request's tag, the first half.
fn tagged(mut message: Message, key: &[u8; 32], request: &Tag) -> Message {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    mac.update(&message[..72]);
    mac.update(request);
    message[72..].copy_from_slice(&mac.finalize().into_bytes()[..16]);
    message
}

#[test]
fn what_is_not_of_this_version_and_direction_is_refused_by_name() {
    let key = RequestKey::new(&[1; 32]);
    let request = Request {
        ask: Ask::Query,
        session: SessionId::new([1; 16]),
        key: KeyName { secret: 1, generation: 0 },
        version: StateVersion::new(1),
        nonce: Nonce::new(1),
        cookie: Cookie::NONE,
    };
    let to = InReplyTo { session: request.session, nonce: request.nonce, tag: [0; 16] };
    let requested = request.seal(&key);
    let answered = Answer::reject(Reason::Frozen, None).seal(&to, &AnswerKey::new(&[1; 32]));
    let with = |message: &Message, at: usize, byte: u8| {
        let mut message = *message;
        message[at] = byte;
        message
    };
    let asked = |at, byte| Request::parse(&with(&requested, at, byte)).err();
    let said = |at, byte| Answer::parse(&with(&answered, at, byte)).err();
    for native in [(0, 0x10), (0, 0x23), (3, 1)] {
        assert_eq!(asked(native.0, native.1), Some(BadMessage::Header));
        assert_eq!(said(native.0, native.1), Some(BadMessage::Header));
    }
    assert_eq!(asked(1, 1), Some(BadMessage::Header), "owner fields are for answers");
    assert_eq!(said(1, 0), Some(BadMessage::Header));
    assert_eq!(asked(20, 2), Some(BadMessage::Version(2)));
    assert_eq!(said(32, 2), Some(BadMessage::Version(2)));
    for kind in [0, 5, 0x81] {
        assert_eq!(asked(21, kind), Some(BadMessage::Kind(kind)));
    }
    for kind in [0, 1, 0x80, 0x86] {
        assert_eq!(said(33, kind), Some(BadMessage::Kind(kind)));
    }
    for at in 68..72 {
        assert_eq!(asked(at, 1), Some(BadMessage::Field("padding")), "{at}");
    }
    assert_eq!(said(35, 0), Some(BadMessage::Field("reason code")));
    // A refusal without a snapshot has nothing else to say.
    for at in (24..32).chain(36..40).chain(48..72) {
        assert_eq!(said(at, 1), Some(BadMessage::Field("padding")), "{at}");
    }
    assert_eq!(said(33, 0x84), Some(BadMessage::Field("owner epoch")), "a state has an owner");
    assert_eq!(said(20, 1), Some(BadMessage::Field("owner epoch")), "higher than any epoch");
}
