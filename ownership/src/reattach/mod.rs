//! What a node does with a client's request: cookie, proof, decision, answer. Without I/O.
//!
//! [`examine`] takes the bytes of a datagram, where they came from, and the time. Cookie and proof
//! of possession are checked before anything is looked up or written, and with nothing but the cluster's [`Secrets`]: any
//! node can. What passes is [`Proven`]; with the session's record it goes through
//! [`decide`](crate::model::decide) ([`Proven::decide`]), and once the [outcome](crate::store::Outcome) of the commit is known,
//! [`Uncommitted::settle`] makes the answer:
//!
//! ```text
//! datagram -> examine -> Proven -> look up -> decide -> commit -> settle -> datagram
//!               |                    |          |
//!               v                    v          v
//!           CHALLENGE             refuse   REATTACH_REJECT, STATE
//! ```
//!
//! | what happened | answer | audit |
//! | --- | --- | --- |
//! | no cookie, an old one, or another address's | CHALLENGE | |
//! | the proof is wrong | REATTACH_REJECT(BAD_PROOF) | SECURITY_EVENT |
//! | no such live secret | none: nobody could authenticate it | SECURITY_EVENT(BAD_PROOF) |
//! | refused by `decide` | REATTACH_REJECT(its reason) | by the reason's class |
//! | the commit has Won | ACK | STATE_CHANGE, in the commit |
//! | the commit is Lost or Fenced | REATTACH_REJECT(OWNERSHIP_CONFLICT) | SECURITY_EVENT |
//! | the store is Unavailable | REATTACH_REJECT(STORE_UNAVAILABLE) | POLICY_EVENT |
//! | the outcome is Unknown | PENDING, which claims neither | |
//!
//! Only the owner vouches for a session: an answer says how it [stands](crate::control::Snapshot) only if
//! the record's owner is the one that answers, or the session is over. So a node with an old record
//! tells a client nothing that has been overtaken.
//!
//! # Example
//!
//! A client that has another address, and the session's owner. The network and the store are left out:
//!
//! ```
//! use ownership::{Epoch, NodeIndex, SessionId};
//! use ownership::client::{Memory, Next, Status, Tracker};
//! use ownership::model::{Context, Input, OperationId, Owner, Policy, Time, birth, decide};
//! use ownership::reattach::{Decided, Examined, Secret, Secrets, examine};
//! use ownership::store::Outcome;
//!
//! let (old, new) = ("192.0.2.1:700".parse()?, "198.51.100.9:4711".parse::<std::net::SocketAddr>()?);
//! let actor = Owner { node: NodeIndex::new(1)?, epoch: Epoch::FIRST };
//! let now = Time::from_millis(1_700_000_000_000);
//! let context = Context { now, actor, policy: Policy::default(), operation: OperationId(1) };
//! let secrets = Secrets::new(Secret::new(1, &[0x5e; 32]));
//!
//! // The session is opened; its application gives the client the credentials.
//! let born = birth(SessionId::new([7; 16]), 1, &context);
//! let transport = std::net::SocketAddr::into(old);
//! let attached = decide(born.record(), &Input::Attach { transport }, &context).commit().unwrap();
//! let record = *attached.record();
//! let credentials = secrets.current().credentials(record.id(), record.key_generation());
//! let memory = Memory::opened(record.version(), record.owner().epoch, record.key_generation());
//! let mut client = Tracker::opened(record.id(), memory, credentials);
//!
//! // The client has moved. Its first request has no cookie.
//! let request = client.moved().unwrap();
//! let Examined::Reply(challenge) = examine(&secrets, &request, new, now) else { panic!() };
//! let Next::Send(request) = client.receive(challenge.message())? else { panic!() };
//!
//! // The second one has, and is proven: now the record is looked up.
//! let Examined::Proven(proven) = examine(&secrets, &request, new, now) else { panic!() };
//! assert_eq!(proven.session(), record.id());
//! let Decided::Commit(commit, uncommitted) = proven.decide(&record, &context) else { panic!() };
//! assert_eq!(commit.record().transport(), Some(new.into()));
//!
//! // Committed: the outcome makes the answer.
//! let reply = uncommitted.settle(Outcome::Won);
//! assert_eq!(client.receive(reply.message())?, Next::Done(Status::Attached));
//! assert_eq!(client.memory().version, commit.record().version());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What a cookie and a proof are worth
//!
//! The cookie shows that whoever sent the request can receive at its address; the proof, which covers
//! the cookie, that the client made the request for that cookie. Somebody *between* client and
//! cluster can still relay both ways from an address of his own, as any NAT does; from then on he
//! could drop the session's packets, which he could before. He cannot read, forge or replay a message.

mod examine;
mod lookup;
mod proven;
mod reply;
mod secret;
mod settle;

pub use examine::{Examined, examine};
pub use lookup::NoRecord;
pub use proven::{Decided, Proven};
pub use reply::{Refused, Reply};
pub use secret::{SECRET_LENGTH, Secret, SecretNumberTaken, Secrets};
pub use settle::Uncommitted;
