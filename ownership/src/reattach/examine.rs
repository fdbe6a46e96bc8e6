use super::{Proven, Refused, Reply, Secrets, reply::Origin};
use crate::{
    control::{Answer, BadMessage, Cookie, InReplyTo, Request},
    model::{Reason, Time, Transport},
};
use std::net::SocketAddr;

/// What came of a datagram, before anything was looked up.
#[derive(Debug)]
#[must_use = "whatever it is, it is answered, refused or counted"]
pub enum Examined {
    /// No request of this protocol. To be counted; there is nobody to answer.
    Unreadable(BadMessage),
    /// It names keys of no live secret, so no answer could be authenticated. To be told and counted, of
    /// many only a few: anybody can send such, and from any address.
    Unanswerable(Refused),
    /// To be sent to where the request came from: a challenge, or the refusal of a wrong proof.
    Reply(Reply),
    /// Address and possession are proven: now the session may be looked up.
    Proven(Proven),
}

/// Checks a datagram from `source`: first the cookie, then the proof of possession.
///
/// Pure: depends on nothing but its arguments, and writes nothing. `now` is UTC by this node's clock.
pub fn examine(secrets: &Secrets, bytes: &[u8], source: SocketAddr, now: Time) -> Examined {
    let unproven = match Request::parse(bytes) {
        Ok(unproven) => unproven,
        Err(bad) => return Examined::Unreadable(bad),
    };
    let request = *unproven.claim();
    let Request { session, key: name, nonce, cookie, .. } = request;
    let Some(secret) = secrets.find(name.secret) else {
        let refused = Refused { session, reason: Reason::BadProof, stood: None };
        return Examined::Unanswerable(refused);
    };
    let transport = Transport::from(source);
    let origin = || Origin {
        transport,
        to: InReplyTo { session, nonce, tag: unproven.tag() },
        key: secret.answer_key(session, name.generation),
    };
    if !cookie.is_right(secret.cookie_key(), transport, now) {
        let cookie = Cookie::mint(secret.cookie_key(), transport, now);
        return Examined::Reply(origin().say(Answer::Challenge(cookie)));
    }
    if !unproven.is_proven(&secret.request_key(session, name.generation)) {
        return Examined::Reply(origin().refuse(Reason::BadProof, None));
    }
    Examined::Proven(Proven { request, origin: origin() })
}
