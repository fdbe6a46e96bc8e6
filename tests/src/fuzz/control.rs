//! Control messages: as bytes, as requests that a node gets, and as answers that a client gets. Tags
//! are made right after the bytes were mutated, or nothing behind them would ever be reached.

use std::net::SocketAddr;

use dataplane_ebpf::dissect::reply::dissect_reply;
use dataplane_ebpf::dissect::{Payload, dissect};
use dataplane_ebpf::frame::Frame;
use dataplane_ebpf::node::Address;
use dataplane_ebpf::service::{ServiceRow, kind, protocol};
use dataplane_ebpf::wire_id::WireId;
use hmac::{Hmac, KeyInit, Mac};
use ownership::client::{Dropped, Memory, Next, Status, Tracker};
use ownership::control::{
    Answer, AnswerKey, Ask, Cookie, Credentials, InReplyTo, MESSAGE_LENGTH, Message, Request,
    RequestKey, Tag,
};
use ownership::model::{
    Cause, Context, Decision, Hold, Input, Nonce, OperationId, Owner, Policy, Reattach,
    SessionRecord, Time, birth, decide,
};
use ownership::reattach::{Decided, Examined, NoRecord, Secret, Secrets, examine};
use ownership::store::{Fault, Mismatch, Outcome};
use ownership::{Epoch, NodeIndex, SessionId};
use sha2::Sha256;

/// Where a message's tag begins.
const TAGGED: usize = 72;

const SESSION: [u8; 16] = *b"a fuzzed session";
const NOW: Time = Time::from_millis(1_700_000_000_000);

fn client() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 7_000))
}

/// The message with the tag that its key and what it answers call for.
fn tagged(message: &[u8; MESSAGE_LENGTH], key: &[u8], request: &[u8]) -> Message {
    let mut message = *message;
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("keys have any length");
    mac.update(&message[..TAGGED]);
    mac.update(request);
    message[TAGGED..].copy_from_slice(&mac.finalize().into_bytes()[..16]);
    message
}

/// A control message, in either direction: what is read would be written the same, and the data plane
/// steers it as one.
pub fn messages(input: &[u8]) {
    let key = [1; 32];
    let Ok(message) = <&Message>::try_from(input) else {
        assert!(Request::parse(input).is_err() && Answer::parse(input).is_err());
        return;
    };
    let request = tagged(message, &key, &[]);
    if let Ok(read) = Request::parse(&request) {
        let request_key = RequestKey::new(&key);
        assert!(read.is_proven(&request_key));
        assert_eq!(read.claim().seal(&request_key), request);
        steered_as_control(&request, read.claim().session);
    }
    let tag: Tag = [2; 16];
    let answer = tagged(message, &key, &tag);
    if let Ok(read) = Answer::parse(&answer) {
        let answer_key = AnswerKey::new(&key);
        let to = InReplyTo { session: read.session(), nonce: read.nonce(), tag };
        let said = read.verify(&answer_key, &tag).expect("its tag is right");
        assert_eq!(said.seal(&to, &answer_key), answer);
        assert!(Request::parse(&answer).is_err(), "an answer is no request");
        steered_as_control(&answer, read.session());
    }
}

/// The data plane finds the session in a control message at a control port, in both directions, and
/// takes it for nothing else at the data port.
fn steered_as_control(message: &Message, session: SessionId) {
    let frame = Frame::new(message);
    let payload = Payload { frame: &frame, start: 0, length: message.len() };
    let service = |kind| ServiceRow { kind, protocol: protocol::NATIVE, ..ServiceRow::EMPTY };
    let (control, data) = (service(kind::CONTROL), service(kind::DATA));
    let id = WireId::from_bytes(&session.bytes());
    let found = dissect(payload, Address([1, 2]), &control);
    assert_eq!(found.map(|found| (Some(found.id), found.opens)), Some((id, false)));
    assert_eq!(dissect_reply(payload, &control), id);
    assert_eq!(dissect(payload, Address([1, 2]), &data), None);
    assert_eq!(dissect_reply(payload, &data), None);
}

fn owner(number: u16) -> Owner {
    Owner { node: NodeIndex::new(number).expect("a node"), epoch: Epoch::FIRST }
}

fn context(actor: Owner, now: Time) -> Context {
    Context { now, actor, policy: Policy::default(), operation: OperationId(1) }
}

/// A session in one of the states that there are.
fn record(which: u8) -> SessionRecord {
    let context = context(owner(1), NOW);
    let transport = client().into();
    let other = SocketAddr::from(([192, 0, 2, 9], 9)).into();
    let born = birth(SessionId::new(SESSION), 1, &context);
    let accepted = Reattach {
        version: born.record().version().next().expect("the first"),
        nonce: Nonce::new(70),
        transport: other,
        key_generation: 0,
    };
    let attach = Input::Attach { transport };
    let freeze = Input::Freeze { to: owner(2).node };
    let steps: &[Input] = match which % 8 {
        0 => &[],
        1 => &[attach],
        2 => &[attach, Input::LoseTransport { transport }],
        3 => &[attach, Input::Reattach(accepted)],
        4 => &[attach, freeze],
        5 => &[attach, freeze, Input::HandOff { to: owner(2) }],
        6 => &[attach, Input::RotateKey],
        _ => &[attach, Input::Terminate { cause: Cause::Operator }],
    };
    steps.iter().fold(*born.record(), |record, input| match decide(&record, input, &context) {
        Decision::Commit(commit) => *commit.record(),
        Decision::Reject(reason) => panic!("{input:?}: {reason}"),
    })
}

fn secrets() -> Secrets {
    Secrets::new(Secret::new(1, &[7; 32]))
}

/// The first byte is the circumstances, the rest a request. It gets a right cookie and a right tag,
/// if it can be read at all, and then one answer, whatever else it says.
pub fn responder(input: &[u8]) {
    let Some((&setting, bytes)) = input.split_first() else { return };
    let secrets = secrets();
    let as_it_is = examine(&secrets, bytes, client(), NOW);
    if let Examined::Reply(reply) = as_it_is {
        assert_eq!(reply.message().len(), bytes.len(), "never larger");
    }
    let Ok(message) = <&Message>::try_from(bytes) else { return };
    let mut message = *message;
    message[4..20].copy_from_slice(&SESSION);
    let Ok(unproven) = Request::parse(&message) else { return };
    let name = unproven.claim().key;
    let Some(secret) = secrets.find(name.secret) else { return };
    let credentials = secret.credentials(SessionId::new(SESSION), name.generation);
    let (request_key, _) = keys(&credentials);

    message[44..68].fill(0);
    let Examined::Reply(challenge) = examine(&secrets, &message, client(), NOW) else {
        panic!("without a cookie there is a challenge");
    };
    assert!(matches!(said(&challenge, &message, &credentials), Answer::Challenge(_)));
    message[44..68].copy_from_slice(&challenge.message()[48..TAGGED]);
    message[TAGGED] ^= 0x55;
    let message = tagged(&message, request_key, &[]);
    let proven = || match examine(&secrets, &message, client(), NOW) {
        Examined::Proven(proven) => proven,
        other => panic!("{other:?}"),
    };

    let record = record(setting);
    let actor = if setting & 8 == 0 { record.owner() } else { owner(3) };
    let now = if setting & 16 == 0 { 1_000 } else { 24 * 3_600_000 };
    let context = context(actor, Time::from_millis(NOW.millis() + now));
    match proven().decide(&record, &context) {
        Decided::Reply(reply) => {
            let answer = said(&reply, &message, &credentials);
            match reply.refused() {
                Some(refused) => assert!(matches!(answer, Answer::Reject { code, .. }
                    if code == refused.reason.code())),
                None => assert!(matches!(answer, Answer::State(_))),
            }
        }
        Decided::Commit(commit, uncommitted) => {
            assert_eq!(commit.record().version().get(), record.version().get() + 1);
            assert!(!record.is_terminated() && actor == record.owner());
            let outcomes = [
                Outcome::Won,
                Outcome::Lost(Mismatch::Row),
                Outcome::Fenced,
                Outcome::Unavailable(Fault::Unreachable),
                Outcome::Unknown,
            ];
            let outcome = outcomes[usize::from(setting >> 5) % outcomes.len()];
            let reply = uncommitted.settle(outcome);
            match said(&reply, &message, &credentials) {
                Answer::Ack(snapshot) => {
                    assert_eq!(outcome, Outcome::Won);
                    assert_eq!(snapshot.version, commit.record().version());
                    let is_reattach = proven().request().ask == Ask::Reattach;
                    assert!(!is_reattach || record.hold() == Hold::Active, "it is moving");
                }
                Answer::Pending => assert_eq!(outcome, Outcome::Unknown),
                Answer::Reject { .. } => assert!(reply.refused().is_some()),
                other => panic!("{other:?}"),
            }
        }
    }
    for why in [NoRecord::Unknown, NoRecord::Elsewhere, NoRecord::Unavailable, NoRecord::InDoubt] {
        said(&proven().without(why), &message, &credentials);
    }
}

/// Request key and answer key.
fn keys(credentials: &Credentials) -> (&[u8], &[u8]) {
    credentials.bytes()[6..].split_at(32)
}

/// What an answer says to whoever sent the request.
fn said(
    reply: &ownership::reattach::Reply,
    request: &Message,
    credentials: &Credentials,
) -> Answer {
    let unproven = Request::parse(request).expect("it was read before");
    let unverified = Answer::parse(reply.message()).expect("an answer");
    assert_eq!(unverified.nonce(), unproven.claim().nonce);
    unverified.verify(&credentials.answer_key(), &unproven.tag()).expect("authenticated")
}

/// How many bytes of a script make an answer: which request it is for, counted back from the last, kind, reason, epoch, version,
/// key generation, content.
const ANSWER: usize = 1 + 1 + 2 + 4 + 8 + 4 + Cookie::LENGTH;

/// A script: what a client's application and its network do. Answers say anything, and are
/// authenticated.
pub fn tracker(input: &[u8]) {
    let secret = Secret::new(1, &[7; 32]);
    let session = SessionId::new(SESSION);
    let credentials = secret.credentials(session, 0);
    let opened = Memory::opened(record(1).version(), Epoch::FIRST, 0);
    let mut client = Tracker::opened(session, opened, credentials);
    let mut sent: Vec<Message> = Vec::new();
    let mut script = input;
    while let Some((&operation, rest)) = script.split_first() {
        script = rest;
        let (before, status) = (client.memory(), client.status());
        match operation % 8 {
            0 => sent.extend(client.moved()),
            1 => sent.extend(client.detach()),
            2 => sent.extend(client.ask()),
            3 => sent.extend(client.retry()),
            4 => {
                let Some((hint, rest)) = script.split_first_chunk::<12>() else { return };
                script = rest;
                let (epoch, version) = hint.split_at(4);
                let epoch = u32::from_be_bytes(epoch.try_into().expect("4 bytes"));
                let version = u64::from_be_bytes(version.try_into().expect("8 bytes"));
                if let ownership::client::Hint::Ask(message) = client.hint(epoch, version) {
                    sent.push(message);
                }
                assert_eq!(client.memory().version, before.version, "a hint changes nothing");
                assert_eq!(client.status(), status, "a hint changes nothing");
            }
            5 => client.give(secret.credentials(session, u32::from(operation >> 3))),
            6 if operation == 6 => sent.extend(client.close()),
            _ => {
                let Some((answer, rest)) = script.split_first_chunk::<ANSWER>() else { return };
                script = rest;
                let Some(message) = authenticated(answer, &sent, &secret) else { continue };
                match client.receive(&message) {
                    Ok(Next::Send(message)) => sent.push(message),
                    Ok(Next::Wait(_) | Next::KeyNeeded(_) | Next::Done(_)) => {}
                    Err(dropped) => {
                        assert_ne!(dropped, Dropped::Forged, "its tag is right");
                        assert_eq!((client.memory(), client.status()), (before, status));
                    }
                }
            }
        }
        let after = client.memory();
        assert!(after.version >= before.version && after.next >= before.next);
        assert!(after.version > before.version || Memory { next: before.next, ..after } == before);
        if let Status::Closed(_) = status {
            assert_eq!(client.status(), status, "closed is closed");
            assert_eq!(after, before);
        }
    }
}

/// An answer with this content, to one of the requests that were sent.
fn authenticated(content: &[u8; ANSWER], sent: &[Message], secret: &Secret) -> Option<Message> {
    let back = usize::from(content[0]).checked_rem(sent.len())?;
    let request = &sent[sent.len() - 1 - back];
    let claim = *Request::parse(request).expect("a client's request").claim();
    let mut message: Message = [0; MESSAGE_LENGTH];
    message[..4].copy_from_slice(&[0x13, 1, 0, 0]);
    message[4..20].copy_from_slice(&claim.session.bytes());
    message[20..32].copy_from_slice(&content[4..16]);
    message[32..36].copy_from_slice(&[1, content[1], content[2], content[3]]);
    message[36..40].copy_from_slice(&content[16..20]);
    message[40..48].copy_from_slice(&claim.nonce.get().to_be_bytes());
    message[48..TAGGED].copy_from_slice(&content[20..]);
    let credentials = secret.credentials(claim.session, claim.key.generation);
    let (_, answer_key) = keys(&credentials);
    Some(tagged(&message, answer_key, &request[TAGGED..]))
}

/// The messages among the test vectors.
pub fn message_seeds() -> Vec<Vec<u8>> {
    let text = include_str!("../../../ownership/tests/vectors/control.txt");
    let digits = text.lines().filter_map(|line| line.split_once(' ')).map(|(_, digits)| digits);
    let byte = |digits: &str, at| u8::from_str_radix(&digits[at..at + 2], 16).expect("digits");
    digits
        .filter(|digits| digits.len() == 2 * MESSAGE_LENGTH)
        .map(|digits| (0..digits.len()).step_by(2).map(|at| byte(digits, at)).collect())
        .collect()
}

/// Requests, for a session in every state, with what each needs to be done.
pub fn request_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for message in message_seeds() {
        for setting in 0..=u8::MAX {
            if setting % 5 == 0 {
                seeds.push([&[setting], &message[..]].concat());
            }
            let version = record(setting).version().get();
            let mut message = message.clone();
            message[22..24].copy_from_slice(&1_u16.to_be_bytes());
            message[24..28].copy_from_slice(&record(setting).key_generation().to_be_bytes());
            message[28..36].copy_from_slice(&version.to_be_bytes());
            if setting % 7 == 0 {
                seeds.push([&[setting], &message[..]].concat());
            }
        }
    }
    seeds
}

/// What happens to a client that moves: a challenge, an acknowledgement, a refusal that tells of a
/// session that went on, keys of the next generation, the end.
pub fn script_seeds() -> Vec<Vec<u8>> {
    let answer = |kind: u8, reason: u8, version: u64, generation: u8, rest: [u64; 3]| {
        let epoch = if version == 0 { 0 } else { Epoch::FIRST.get() };
        let mut bytes = vec![7, 0, kind, 0, reason];
        bytes.extend(epoch.to_be_bytes());
        bytes.extend(version.to_be_bytes());
        bytes.extend([0, 0, 0, generation]);
        bytes.extend(rest.into_iter().flat_map(u64::to_be_bytes));
        bytes
    };
    let flags = |flags: u8| u64::from(flags) << 56;
    let challenge = answer(0x81, 0, 0, 0, [1, 2, 3]);
    let ack = answer(0x82, 0, 2, 0, [2, 2, flags(3)]);
    let stale = answer(0x83, 3, 5, 0, [2, 2, flags(2)]);
    let unbound = answer(0x84, 0, 6, 0, [2, 2, flags(2)]);
    let rotated = answer(0x83, 21, 7, 1, [2, 2, flags(2)]);
    let unavailable = answer(0x83, 25, 0, 0, [0; 3]);
    let pending = answer(0x85, 0, 0, 0, [0; 3]);
    let over = answer(0x83, 1, 9, 0, [2, 2, flags(2)]);
    let hint = [&[4, 0, 0, 0, 1][..], &8_u64.to_be_bytes()].concat();
    let scripts: [&[&[u8]]; 6] = [
        &[&[0], &challenge, &ack],
        &[&[0], &challenge, &[3], &stale, &[3], &unbound],
        &[&[0], &challenge, &unavailable, &pending, &[13], &rotated, &[3], &over],
        &[&hint, &unbound, &[1], &stale, &[0]],
        &[&[2], &challenge, &unbound, &ack, &[6], &over],
        &[&[6], &challenge, &answer(0x82, 0, 2, 0, [0; 3])],
    ];
    scripts.iter().map(|script| script.concat()).collect()
}
