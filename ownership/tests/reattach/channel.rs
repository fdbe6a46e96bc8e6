//! A client, a network that loses, doubles, delays, reorders and forges, and the nodes. Whatever it does,
//! the client believes nothing that was not so, and gets through once the network lets it.

use crate::cluster::{Cluster, address, session};
use ownership::{
    client::{Dropped, Hint, Memory, Next, Status, Tracker},
    control::{MESSAGE_LENGTH, Message},
    model::{Input, Transport},
    reattach::{Examined, Secret},
    store::{Fault, Mismatch, Outcome},
};
use proptest::prelude::*;
use std::net::SocketAddr;

/// Where somebody between client and cluster sends from.
const RELAY: u16 = 0xfff;

/// What the network, the cluster and the client do. Numbers choose among what there is.
#[derive(Clone, Copy, Debug)]
enum Step {
    Move,
    Detach,
    Ask,
    Retry,
    /// A data packet, true or not.
    Hint {
        epoch: u32,
        ahead: i8,
    },
    /// A request arrives; its copy may still be on the way.
    Request {
        which: u8,
        is_doubled: bool,
        fate: Fate,
    },
    LoseRequest {
        which: u8,
    },
    Answer {
        which: u8,
        is_doubled: bool,
    },
    LoseAnswer {
        which: u8,
    },
    /// Somebody sends a copy of a request from his own address, and has the answer.
    Relay {
        which: u8,
    },
    /// Somebody changes a bit of a request, or of an answer, or makes one up.
    ForgeRequest {
        which: u8,
        bit: u16,
    },
    ForgeAnswer {
        which: u8,
        bit: u16,
    },
    Noise {
        seed: u8,
    },
    /// The session goes one step towards another node.
    Transfer {
        to: u8,
    },
    TakeOver {
        by: u8,
    },
    LoseTransport,
    RotateKey {
        is_given: bool,
    },
    RotateSecret,
    Retire,
    GiveKey,
    /// The client's process ends and starts again.
    Restart,
    Pass {
        milliseconds: u16,
    },
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Won,
    Lost,
    Unavailable,
    Unknown { is_written: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fate = prop_oneof![
        8 => Just(Fate::Won),
        1 => Just(Fate::Lost),
        1 => Just(Fate::Unavailable),
        1 => any::<bool>().prop_map(|is_written| Fate::Unknown { is_written }),
    ];
    let request = (any::<u8>(), prop::bool::weighted(0.3), fate)
        .prop_map(|(which, is_doubled, fate)| Step::Request { which, is_doubled, fate });
    let answer = (any::<u8>(), prop::bool::weighted(0.3))
        .prop_map(|(which, is_doubled)| Step::Answer { which, is_doubled });
    let bit = || 0..(8 * MESSAGE_LENGTH as u16);
    let step = prop_oneof![
        3 => Just(Step::Move),
        1 => Just(Step::Detach),
        1 => Just(Step::Ask),
        4 => Just(Step::Retry),
        2 => (1..12_u32, any::<i8>()).prop_map(|(epoch, ahead)| Step::Hint { epoch, ahead }),
        16 => request,
        3 => any::<u8>().prop_map(|which| Step::LoseRequest { which }),
        16 => answer,
        3 => any::<u8>().prop_map(|which| Step::LoseAnswer { which }),
        4 => any::<u8>().prop_map(|which| Step::Relay { which }),
        2 => (any::<u8>(), bit()).prop_map(|(which, bit)| Step::ForgeRequest { which, bit }),
        2 => (any::<u8>(), bit()).prop_map(|(which, bit)| Step::ForgeAnswer { which, bit }),
        1 => any::<u8>().prop_map(|seed| Step::Noise { seed }),
        4 => any::<u8>().prop_map(|to| Step::Transfer { to }),
        1 => any::<u8>().prop_map(|by| Step::TakeOver { by }),
        1 => Just(Step::LoseTransport),
        2 => any::<bool>().prop_map(|is_given| Step::RotateKey { is_given }),
        1 => Just(Step::RotateSecret),
        1 => Just(Step::Retire),
        1 => Just(Step::GiveKey),
        1 => Just(Step::Restart),
        3 => any::<u16>().prop_map(|milliseconds| Step::Pass { milliseconds }),
    ];
    prop::collection::vec(step, 0..120)
}

struct World {
    cluster: Cluster,
    client: Tracker,
    /// The client's address, counted.
    place: u16,
    requests: Vec<(Message, SocketAddr)>,
    answers: Vec<Message>,
    secrets: u16,
    /// Whether somebody has had requests answered at his own address: a statement about "the address
    /// that this came from" is about his then.
    is_relayed: bool,
}

impl World {
    fn new() -> Self {
        let cluster = Cluster::new();
        let client = cluster.client();
        Self {
            cluster,
            client,
            place: 0,
            requests: vec![],
            answers: vec![],
            secrets: 1,
            is_relayed: false,
        }
    }

    fn address(&self) -> SocketAddr {
        address(self.place)
    }

    fn send(&mut self, message: Option<Message>) {
        let from = self.address();
        self.requests.extend(message.map(|message| (message, from)));
    }

    fn pick<T: Copy>(queue: &mut Vec<T>, which: u8, is_kept: bool) -> Option<T> {
        let place = usize::from(which).checked_rem(queue.len())?;
        Some(if is_kept { queue[place] } else { queue.remove(place) })
    }

    fn deliver(&mut self, message: &Message) {
        match self.client.receive(message) {
            Ok(Next::Send(message)) => self.send(Some(message)),
            Ok(Next::Wait(_) | Next::KeyNeeded(_) | Next::Done(_)) | Err(_) => {}
        }
    }

    fn serve(&mut self, request: &Message, from: SocketAddr, fate: Fate) {
        let (outcome, is_written) = match fate {
            Fate::Won => (Outcome::Won, true),
            Fate::Lost => (Outcome::Lost(Mismatch::Row), false),
            Fate::Unavailable => (Outcome::Unavailable(Fault::Unreachable), false),
            Fate::Unknown { is_written } => (Outcome::Unknown, is_written),
        };
        let reply = self.cluster.serve_with(request, from, outcome, is_written);
        self.answers.extend(reply.map(|reply| *reply.message()));
    }

    fn give(&mut self) {
        let secret = self.cluster.secrets.current();
        self.client.give(secret.credentials(session(), self.cluster.generation()));
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Move => {
                self.place += 1;
                let message = self.client.moved();
                self.send(message);
            }
            Step::Detach => {
                let message = self.client.detach();
                self.send(message);
            }
            Step::Ask => {
                let message = self.client.ask();
                self.send(message);
            }
            Step::Retry => {
                let message = self.client.retry();
                self.send(message);
            }
            Step::Hint { epoch, ahead } => self.hint(epoch, ahead),
            Step::Request { which, is_doubled, fate } => {
                if let Some((message, from)) = Self::pick(&mut self.requests, which, is_doubled) {
                    self.serve(&message, from, fate);
                }
            }
            Step::LoseRequest { which } => drop(Self::pick(&mut self.requests, which, false)),
            Step::Answer { which, is_doubled } => {
                if let Some(message) = Self::pick(&mut self.answers, which, is_doubled) {
                    self.deliver(&message);
                }
            }
            Step::LoseAnswer { which } => drop(Self::pick(&mut self.answers, which, false)),
            Step::Relay { which } => {
                if let Some((message, _)) = Self::pick(&mut self.requests, which, true) {
                    self.is_relayed = true;
                    self.serve(&message, address(RELAY), Fate::Won);
                }
            }
            Step::ForgeRequest { which, bit } => {
                if let Some((message, from)) = Self::pick(&mut self.requests, which, true) {
                    let forged = flipped(message, bit);
                    let examined = self.cluster.examine(&forged, from);
                    assert!(!matches!(examined, Examined::Proven(_)), "{examined:?}");
                }
            }
            Step::ForgeAnswer { which, bit } => {
                if let Some(message) = Self::pick(&mut self.answers, which, true) {
                    self.must_drop(&flipped(message, bit));
                }
            }
            Step::Noise { seed } => {
                let noise: Message = std::array::from_fn(|at| seed.wrapping_mul(at as u8 ^ seed));
                self.must_drop(&noise);
                assert!(self.cluster.serve(&noise, address(RELAY)).is_none());
            }
            Step::Transfer { to } => self.cluster.step_move(to.into()),
            Step::TakeOver { by } => self.cluster.take_over(by.into()),
            Step::LoseTransport => {
                if let Some(transport) = self.cluster.transport() {
                    self.cluster.apply(Input::LoseTransport { transport }).unwrap();
                }
            }
            Step::RotateKey { is_given } => {
                if is_given {
                    let next = self.cluster.generation() + 1;
                    let secret = self.cluster.secrets.current();
                    self.client.give(secret.credentials(session(), next));
                }
                self.cluster.apply(Input::RotateKey).unwrap();
            }
            Step::RotateSecret => {
                self.secrets += 1;
                let secret = Secret::new(self.secrets, &[self.secrets as u8; 32]);
                self.cluster.secrets.rotate(secret).unwrap();
            }
            Step::Retire => self.cluster.secrets.retire(),
            Step::GiveKey => self.give(),
            Step::Restart => self.restart(),
            Step::Pass { milliseconds } => self.cluster.pass(milliseconds.into()),
        }
    }

    /// The client kept its memory when its version last changed, and only some of the nonces since.
    fn restart(&mut self) {
        let memory = self.client.memory();
        let unsaved = memory.next.get() - memory.first.get();
        let kept = Memory { next: memory.first, ..memory };
        let secret = self.cluster.secrets.current();
        let credentials = secret.credentials(session(), self.cluster.generation());
        self.client = Tracker::resumed(session(), kept.after_restart(unsaved + 3), credentials);
        let message = self.client.retry();
        self.send(message);
    }

    fn hint(&mut self, epoch: u32, ahead: i8) {
        let memory = self.client.memory();
        let version = memory.version.get().saturating_add_signed(ahead.into());
        match self.client.hint(epoch, version) {
            Hint::Ask(message) => self.send(Some(message)),
            Hint::Asked => assert!(version > memory.version.get()),
            Hint::Old => assert!(version <= memory.version.get() && epoch != memory.epoch.get()),
            Hint::Current => assert_eq!(epoch, memory.epoch.get()),
        }
        let known = self.client.memory();
        assert_eq!(known, Memory { next: known.next, ..memory }, "hints change nothing");
    }

    fn must_drop(&mut self, message: &Message) {
        let (memory, status) = (self.client.memory(), self.client.status());
        let received = self.client.receive(message);
        assert!(
            matches!(received, Err(Dropped::Unreadable(_) | Dropped::OtherSession))
                || matches!(received, Err(Dropped::Unasked | Dropped::Forged)),
            "{received:?}"
        );
        assert_eq!((self.client.memory(), self.client.status()), (memory, status));
    }

    /// What holds at any time.
    fn check(&self, before: Memory) {
        let known = self.client.memory();
        assert!(known.version >= before.version, "versions only grow");
        assert!(known.key_generation >= before.key_generation);
        assert!(known.next >= before.next && known.next >= known.first, "nonces only grow");
        if known.version == before.version {
            let unchanged = Memory { next: known.next, ..before };
            assert_eq!(known, unchanged, "one version is one state");
        }
        // It knows nothing that was not so.
        assert!(known.version <= self.cluster.version(), "nobody is ahead of the record");
        let then = &self.cluster.history[known.version.get() as usize];
        assert_eq!(known.epoch, then.owner().epoch);
        assert_eq!(known.key_generation, then.key_generation());
        assert_eq!(known.accepted, then.accepted());
        let (here, relay) = (Transport::from(self.address()), Transport::from(address(RELAY)));
        let is_relay = |bound| self.is_relayed && bound == relay;
        match self.client.status() {
            Status::Attached => {
                let bound = then.transport().expect("it was attached");
                assert!(bound == here || is_relay(bound), "{bound}");
            }
            Status::Detached => assert!(then.transport() != Some(here) || self.is_relayed),
            Status::Unsettled => {}
            Status::Closed(end) => panic!("closed without a reason: {end:?}"),
        }
        // Nobody else's address is ever bound.
        if let Some(bound) = self.cluster.transport() {
            let known = (0..=self.place).map(|place| Transport::from(address(place)));
            assert!(known.into_iter().any(|own| own == bound) || is_relay(bound), "{bound}");
        }
    }

    /// The network lets everything through, though late and more than once, and the cluster ends what
    /// it has begun.
    fn settle(&mut self) {
        while self.cluster.record.hold() != ownership::model::Hold::Active {
            self.cluster.step_move(1);
        }
        self.give();
        // Whatever the client believes, it asks.
        let message = self.client.ask();
        self.send(message);
        if self.client.status() != Status::Attached {
            let message = self.client.moved();
            self.place += 1;
            self.send(message);
        }
        for _ in 0..8 {
            self.cluster.pass(10_000);
            for (message, from) in std::mem::take(&mut self.requests) {
                self.serve(&message, from, Fate::Won);
                self.serve(&message, from, Fate::Won);
            }
            let mut answers = std::mem::take(&mut self.answers);
            answers.reverse();
            for message in answers {
                let before = self.client.memory();
                self.deliver(&message);
                self.deliver(&message);
                self.check(before);
            }
            let here = Some(Transport::from(self.address()));
            let is_told = self.client.memory().version == self.cluster.version();
            if self.client.status() == Status::Attached
                && self.cluster.transport() == here
                && is_told
                && self.requests.is_empty()
            {
                return;
            }
            let message = self.client.retry();
            self.send(message);
        }
        panic!("not attached: {:?}, {:?}", self.client, self.cluster.record);
    }
}

fn flipped(mut message: Message, bit: u16) -> Message {
    message[usize::from(bit / 8)] ^= 1 << (bit % 8);
    message
}

proptest! {
    #![proptest_config(crate::config())]

    #[test]
    fn the_client_believes_only_what_was_so_and_always_gets_through(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            let before = world.client.memory();
            world.take(step);
            world.check(before);
        }
        world.settle();
    }
}
