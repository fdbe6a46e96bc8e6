//! ownership-model §4: of two nodes that try one reattach, one wins and the other answers
//! REATTACH_REJECT(OWNERSHIP_CONFLICT).

use crate::{
    conformance::world::{NOW, World, id, next, operation},
    fixture::{config, open, patient, shared},
};
use ownership::{
    control::{Answer, Ask, Cookie, Credentials, Message, Request},
    model::{Class, Context, Nonce, Policy, Reason, Time},
    reattach::{Decided, Examined, Refused, Reply, Secret, Secrets, examine},
    store::{Identity, Outcome, SessionWrite, Sessions, StoredSession, etcd::Etcd},
};
use std::{net::SocketAddr, time::Duration};

const ROUNDS: u16 = 1_000;

/// Longer than clients have to wait between two changes of their address.
const BETWEEN: Duration = Duration::from_secs(7);

/// A request that was sent to both nodes.
struct Asked<'a> {
    credentials: &'a Credentials,
    message: Message,
    from: SocketAddr,
    now: Time,
}

impl<'a> Asked<'a> {
    /// A valid one: with a cookie for its address, which any node gives.
    fn new(
        credentials: &'a Credentials,
        mut request: Request,
        secrets: &Secrets,
        from: SocketAddr,
        now: Time,
    ) -> Self {
        let seal = |request: Request| {
            let message = request.seal(&credentials.request_key());
            Self { credentials, message, from, now }
        };
        let first = seal(request);
        match first.examine(secrets) {
            Examined::Reply(reply) => match first.read(&reply) {
                Answer::Challenge(cookie) => request.cookie = cookie,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
        seal(request)
    }

    fn examine(&self, secrets: &Secrets) -> Examined {
        examine(secrets, &self.message, self.from, self.now)
    }

    fn read(&self, reply: &Reply) -> Answer {
        let unverified = Answer::parse(reply.message()).expect("an answer");
        let tag = Request::parse(&self.message).expect("a request").tag();
        unverified.verify(&self.credentials.answer_key(), &tag).expect("an authentic one")
    }
}

/// A node that owns the session, or believes to.
struct Node {
    store: Etcd,
    by: Identity,
    session: StoredSession,
}

impl Node {
    /// Serves a request by the session as the node knows it. Gives the session as it then is, if
    /// the node's commit has Won.
    async fn serve(&self, asked: &Asked<'_>, secrets: &Secrets) -> (Reply, Option<StoredSession>) {
        let Examined::Proven(proven) = asked.examine(secrets) else { panic!("it is valid") };
        let context = Context {
            now: asked.now,
            actor: self.by.owner,
            policy: Policy::default(),
            operation: operation(),
        };
        match proven.decide(&self.session.record, &context) {
            Decided::Reply(reply) => (reply, None),
            Decided::Commit(commit, uncommitted) => {
                let write = SessionWrite::change(&self.session, &commit, self.by).unwrap();
                let after = *write.after();
                let outcome = self.store.commit(vec![write]).await[0];
                assert!(matches!(outcome, Outcome::Won | Outcome::Lost(_)), "{outcome:?}");
                (uncommitted.settle(outcome), outcome.is_won().then_some(after))
            }
        }
    }
}

/// A clone of a node, as a copied virtual machine is, has its epoch, its incarnation and its sessions:
/// only the store can tell who was first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_that_try_one_reattach_one_wins() {
    let Some(cluster) = shared() else { return };
    let config = patient(config(cluster.urls()));
    let world = World::new(open(&config).await).await;
    let session = world.born(1).await;
    let session = world.won(&next(&session, world.one)).await;
    let mut nodes = Vec::new();
    for _ in 0..2 {
        nodes.push(Node { store: open(&config).await, by: world.one, session });
    }
    let secrets = Secrets::new(Secret::new(1, &[1; 32]));
    let credentials = secrets.current().credentials(id(1), session.record.key_generation());
    let mut wins = [0, 0];
    let mut now = NOW;
    for round in 0..ROUNDS {
        now = now.after(BETWEEN);
        let before = nodes[0].session;
        assert_eq!(nodes[1].session, before);
        let request = Request {
            ask: Ask::Reattach,
            session: id(1),
            key: credentials.name(),
            version: before.record.version(),
            nonce: Nonce::new(1 + u64::from(round)),
            cookie: Cookie::NONE,
        };
        let from = SocketAddr::from(([198, 51, 100, 1], 1_000 + round));
        let asked = Asked::new(&credentials, request, &secrets, from, now);

        let (one, other) =
            tokio::join!(nodes[0].serve(&asked, &secrets), nodes[1].serve(&asked, &secrets));
        let (winner, after, ack, reject) = match (one, other) {
            ((ack, Some(after)), (reject, None)) => (0, after, ack, reject),
            ((reject, None), (ack, Some(after))) => (1, after, ack, reject),
            ((_, one), (_, other)) => panic!("round {round}: {one:?} and {other:?}"),
        };
        wins[winner] += 1;
        match asked.read(&ack) {
            Answer::Ack(snapshot) => {
                assert_eq!(snapshot.version, before.record.version().next().unwrap());
                assert!(snapshot.is_bound);
            }
            other => panic!("round {round}: {other:?}"),
        }
        let reason = Reason::OwnershipConflict;
        assert_eq!(asked.read(&reject), Answer::reject(reason, None), "round {round}");
        let refused = Refused { session: id(1), reason, stood: None };
        assert_eq!(reject.refused(), Some(refused));
        assert_eq!(refused.class(), Class::Security);

        // What the loser reads is what the winner wrote.
        let stands = nodes[1 - winner].store.get(id(1)).await.unwrap();
        assert_eq!(stands, Some(after));
        assert_eq!(after.record.transport(), Some(from.into()));
        for node in &mut nodes {
            node.session = after;
        }
    }
    assert_eq!(wins[0] + wins[1], ROUNDS);
    let last = world.stands(1).await.unwrap().record.version().get();
    assert_eq!(last, 1 + u64::from(ROUNDS), "one version for each round");
    world.verify().await;
}
