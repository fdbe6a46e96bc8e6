//! Outcomes that nobody knows, as they happen: with members that stop, and connections that are cut.

use crate::{
    cluster::{Cluster, Options},
    conformance::world::{LOST, World, changed, id, next, transport},
    fixture::{FRESH, cluster, config, open, own_network},
    network::Network,
    this_test,
};
use ownership::{
    model::Input,
    store::{
        Fate, Fault, Outcome, SessionWrite, Sessions, StoredSession,
        etcd::{Etcd, EtcdConfig},
    },
};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Long enough for the members that are left to choose a leader.
const PATIENCE: Duration = Duration::from_secs(20);

/// A cluster, a store that is reached through one follower, and one that is reached through the other
/// members.
struct Scene {
    cluster: Cluster,
    follower: usize,
    through_follower: Etcd,
    world: World<Etcd>,
}

impl Scene {
    async fn new(network: Network) -> Option<Self> {
        let options = Options { network: Some(network), ..Options::default() };
        let cluster = cluster(3, options)?;
        let follower = cluster.follower().await;
        let mut others = cluster.urls();
        let own = others.remove(follower);
        let config = config(others);
        let world = World::new(open(&config).await).await;
        let to_follower = EtcdConfig {
            members: vec![own],
            // No other connection is to be made at the wrong time.
            compacts_every: None,
            deadline: Duration::from_secs(1),
            ..config
        };
        let through_follower = Etcd::open(&to_follower, FRESH).await.unwrap();
        Some(Self { cluster, follower, through_follower, world })
    }

    /// Sends a write to the follower, which has stopped; nothing more can be sent to it, not even that
    /// nobody waits any longer.
    async fn leave_in_doubt(&self, network: Network, write: &SessionWrite) -> Outcome {
        self.cluster.stop(self.follower);
        let send = self.through_follower.commit(vec![write.clone()]);
        let cut = async {
            sleep(Duration::from_millis(300)).await;
            network.drop_requests(self.follower);
        };
        let (outcomes, ()) = tokio::join!(send, cut);
        outcomes[0]
    }

    /// Reads through the other members, until they answer.
    async fn stands(&self) -> Option<StoredSession> {
        eventually(|| async { self.world.store.get(id(1)).await.ok() }).await
    }
}

/// Asks until there is an answer.
async fn eventually<T, A: Future<Output = Option<T>>>(ask: impl Fn() -> A) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "it takes too long");
        sleep(Duration::from_millis(20)).await;
    }
}

/// design: "A request timed out at a stopped member, a linearizable read elsewhere showed the old value,
/// and the write then took effect."
#[tokio::test]
async fn a_write_that_a_read_does_not_show_may_take_effect_afterwards() {
    let Some(network) = own_network(this_test!()) else { return };
    let Some(scene) = Scene::new(network).await else { return };
    let born = scene.world.born(1).await;
    let attach = next(&born, scene.world.one);
    assert_eq!(scene.leave_in_doubt(network, &attach).await, Outcome::Unknown);
    let stands = scene.stands().await;
    assert_eq!(stands, Some(born));
    assert_eq!(attach.fate(stands.as_ref()), Fate::Open);
    scene.cluster.go_on(scene.follower);
    eventually(|| async {
        (attach.fate(scene.stands().await.as_ref()) == Fate::Won).then_some(())
    })
    .await;
    scene.world.verify().await;
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_seen_to_be_done() {
    let Some(network) = own_network(this_test!()) else { return };
    let Some(scene) = Scene::new(network).await else { return };
    let born = scene.world.born(1).await;
    let attach = next(&born, scene.world.one);
    network.drop_answers(scene.follower);
    assert_eq!(scene.through_follower.commit(vec![attach.clone()]).await, [Outcome::Unknown]);
    // Nobody else answers the follower's callers.
    assert_eq!(scene.through_follower.get(id(1)).await, Err(Fault::Unreachable));
    assert_eq!(attach.fate(scene.stands().await.as_ref()), Fate::Won);
    scene.world.verify().await;
}

#[tokio::test]
async fn a_rival_that_has_won_keeps_a_late_write_out() {
    let Some(network) = own_network(this_test!()) else { return };
    let Some(scene) = Scene::new(network).await else { return };
    let born = scene.world.born(1).await;
    let attach =
        |port| changed(&born, Input::Attach { transport: transport(port) }, scene.world.one);
    let (late, rival) = (attach(1), attach(2));
    assert_eq!(scene.leave_in_doubt(network, &late).await, Outcome::Unknown);
    let stands = scene.world.won(&rival).await;
    assert_eq!(late.fate(Some(&stands)), Fate::Lost);
    scene.cluster.go_on(scene.follower);
    network.mend();
    // The follower has dealt with what it was sent before it answers this.
    let answer = eventually(|| async {
        match scene.through_follower.commit(vec![late.clone()]).await[0] {
            Outcome::Unavailable(_) | Outcome::Unknown => None,
            outcome => Some(outcome),
        }
    })
    .await;
    assert_eq!(answer, LOST);
    assert_eq!(scene.stands().await, Some(stands));
    scene.world.verify().await;
}

#[tokio::test]
async fn without_a_majority_nothing_is_done_and_nothing_hangs() {
    let Some(cluster) = cluster(3, Options::default()) else { return };
    let config = EtcdConfig { deadline: Duration::from_secs(1), ..config(cluster.urls()) };
    let world = World::new(open(&config).await).await;
    let born = world.born(1).await;
    cluster.stop(1);
    cluster.stop(2);
    let attach = next(&born, world.one);
    let start = Instant::now();
    let in_doubt = world.commit(&attach).await;
    assert!(matches!(in_doubt, Outcome::Unknown | Outcome::Unavailable(_)), "{in_doubt:?}");
    assert_eq!(world.store.get(id(1)).await, Err(Fault::Unreachable));
    let later = world.commit(&attach).await;
    assert!(!later.is_won());
    assert!(start.elapsed() < 3 * config.deadline + Duration::from_secs(1));
    cluster.go_on(1);
    cluster.go_on(2);
    let stands = eventually(|| async { world.store.get(id(1)).await.ok() }).await.unwrap();
    // A rival of the same version ends all doubt.
    let rival = changed(&born, Input::Attach { transport: transport(9) }, world.one);
    let outcome = eventually(|| async {
        match world.commit(&rival).await {
            Outcome::Unavailable(_) => None,
            outcome => Some(outcome),
        }
    })
    .await;
    let now = eventually(|| async { world.store.get(id(1)).await.ok() }).await.unwrap();
    match outcome {
        Outcome::Won => assert_eq!(now, *rival.after()),
        Outcome::Lost(_) => assert_eq!(now, *attach.after()),
        outcome => assert_eq!(outcome, Outcome::Unknown),
    }
    assert!(stands == born || stands == now || stands == *attach.after());
    world.verify().await;
}

#[tokio::test]
async fn a_member_that_is_killed_is_replaced_by_another() {
    let Some(mut cluster) = cluster(3, Options::default()) else { return };
    let config = config(cluster.urls());
    let world = World::new(open(&config).await).await;
    let mut stands = world.born(1).await;
    for at in 0..3 {
        cluster.kill(at);
        // What was under way at that moment may be in doubt; from then on, nothing is.
        stands = eventually(|| async {
            let write = next(&stands, world.one);
            match world.commit(&write).await {
                Outcome::Won => Some(*write.after()),
                Outcome::Unavailable(_) => None,
                Outcome::Unknown | Outcome::Lost(_) | Outcome::Fenced => {
                    world.store.get(id(1)).await.ok().flatten().filter(|now| *now != stands)
                }
            }
        })
        .await;
        cluster.run(at);
        cluster.await_health();
    }
    world.verify().await;
}
