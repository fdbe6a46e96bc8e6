//! The clients: a bounded, even load, and changes of address while it goes on.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use jumpgate_tests::address::Family;
use jumpgate_tests::client::{Client, Counts};
use jumpgate_tests::echo::Place;
use jumpgate_tests::fleet::PORT;
use jumpgate_tests::swarm::Swarm;
use jumpgate_tests::topology::{ClientHost, Cluster};

use crate::interrupt;

/// How often packets are sent and answers taken in.
const TICK: Duration = Duration::from_millis(5);

/// How far the schedule may lag behind the clock; what is later than that is never sent, so that a
/// stall of the machine is not followed by a burst.
const LAG: Duration = Duration::from_millis(20);

/// Packets that may be on their way: a veth's ring holds 256, and a machine that is busy with other
/// things empties it late.
const WINDOW: u64 = 100;

/// What keeps the window full for this long is not on its way any more.
const GIVEN_UP: Duration = Duration::from_secs(1);

/// Packets a second of one client, as long as all together stay below [`MOST`].
const EACH: u32 = 10;

/// Packets a second of all clients: what two busy cores carry without a loss.
const MOST: u32 = 3000;

/// How often a client that moves about takes another address. Answers to the one before it still
/// count until then.
const STAY: Duration = Duration::from_secs(1);

/// How long clients may take to open all their sessions, asking again this often.
const PATIENCE: Duration = Duration::from_secs(15);
const RETRY: Duration = Duration::from_millis(250);

/// How many sessions a place has.
pub type Spread = BTreeMap<(String, u16), u64>;

/// A node that stands still.
#[derive(Clone, Copy, Debug)]
pub struct Lost {
    frozen: Instant,
}

/// How the sessions of a lost node fare.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outage {
    /// How many it had.
    pub sessions: u64,
    /// How many another node answers by now.
    pub taken_over: u64,
    /// Packets without an answer that were sent before the first that another node has answered.
    pub unanswered: u64,
    /// The longest time from the freeze to that first packet, or to now where there is none.
    pub longest: Duration,
}

/// All clients, and when which of them does what.
#[derive(Debug)]
pub struct Load<'a> {
    hosts: &'a [ClientHost],
    swarm: Swarm,
    next_tick: Instant,
    /// Packets without an answer that are not waited for any more, and since when more than the
    /// window lack one.
    given_up: u64,
    /// Clients of whom nobody expects answers for a while.
    apart: Vec<usize>,
    full_since: Option<Instant>,
    /// Packets, and moves, that are due but for a fraction.
    due: [f64; 2],
    next_sender: usize,
    next_mover: usize,
}

impl<'a> Load<'a> {
    /// Clients on all client hosts in turn, of both families in turn.
    pub fn new(cluster: &'a Cluster, clients: u16) -> Result<Self> {
        let hosts = cluster.clients();
        let client = |n: usize| {
            let family = family(n);
            let server = SocketAddr::new(cluster.vip(family), PORT);
            Client::new(host(hosts, n).namespace(), address(hosts, n), server)
        };
        let clients = (0..clients.into()).map(client).collect::<Result<_>>()?;
        Ok(Self {
            hosts,
            swarm: Swarm::new(clients),
            next_tick: Instant::now(),
            given_up: 0,
            apart: Vec::new(),
            full_since: None,
            due: [0.0; 2],
            next_sender: 0,
            next_mover: 0,
        })
    }

    /// Opens a session for every client.
    pub fn open(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let mut closed = 0_u32;
            for client in self.swarm.clients_mut() {
                if client.session().is_some() {
                    continue;
                }
                client.send_open().context("asking for a session")?;
                closed += 1;
                if closed.is_multiple_of(20) {
                    // Applications ask the daemon for each session: no reason to flood them.
                    thread::sleep(TICK);
                }
            }
            if closed == 0 {
                return Ok(());
            }
            ensure!(
                Instant::now() < end,
                "{closed} clients got no session within {PATIENCE:?}; is the machine overloaded?"
            );
            let again = Instant::now() + RETRY;
            while Instant::now() < again
                && self.swarm.clients().iter().any(|client| client.session().is_none())
            {
                interrupt::check()?;
                self.swarm.poll(TICK)?;
            }
        }
    }

    /// Waits for the next tick; then takes in answers, lets clients move, and sends.
    pub fn tick(&mut self) -> Result<()> {
        let now = Instant::now();
        if now > self.next_tick + LAG {
            self.next_tick = now;
        }
        thread::sleep(self.next_tick.saturating_duration_since(now));
        self.next_tick += TICK;
        // Before moving: what came to the address before the last one would be gone after it.
        self.swarm.poll(Duration::ZERO)?;
        if self.window_is_full() {
            return Ok(());
        }
        let clients = self.swarm.clients().len();
        for _ in 0..self.due_now(1, movers(clients) as f64 / STAY.as_secs_f64()) {
            let index = mover(self.next_mover);
            self.next_mover = (self.next_mover + 1) % movers(clients);
            let address = address(self.hosts, index);
            self.swarm.clients_mut()[index].rebind(address)?;
        }
        for _ in 0..self.due_now(0, rate(clients).into()) {
            self.swarm.clients_mut()[self.next_sender].send();
            self.next_sender = (self.next_sender + 1) % clients;
        }
        Ok(())
    }

    fn window_is_full(&mut self) -> bool {
        let clients = self.swarm.clients();
        let apart = self.apart.iter().map(|&index| clients[index].counts().unanswered());
        let unanswered = self.swarm.counts().unanswered() - apart.sum::<u64>();
        self.given_up = self.given_up.min(unanswered);
        if unanswered - self.given_up <= WINDOW {
            self.full_since = None;
            return false;
        }
        if self.full_since.get_or_insert_with(Instant::now).elapsed() > GIVEN_UP {
            self.given_up = unanswered;
        }
        true
    }

    /// How many of a thing that happens `rate` times a second are due in this tick.
    fn due_now(&mut self, what: usize, rate: f64) -> u32 {
        self.due[what] += rate * TICK.as_secs_f64();
        let whole = self.due[what].floor();
        self.due[what] -= whole;
        whole as u32
    }

    /// Takes in what is still on its way, until all is answered or the time is up.
    pub fn settle(&mut self, limit: Duration) -> Result<()> {
        self.swarm.settle(limit).map(drop)
    }

    /// What all clients have seen.
    pub fn counts(&self) -> Counts {
        self.swarm.counts()
    }

    /// The node that answered each client last.
    pub fn nodes(&self) -> Vec<Option<String>> {
        let node = |client: &Client| client.place().map(|place| place.node.clone());
        self.swarm.clients().iter().map(node).collect()
    }

    /// How many sessions were answered last on a node.
    pub fn on(&self, node: &str) -> u64 {
        self.spread().iter().filter(|((name, _), _)| name == node).map(|(_, count)| count).sum()
    }

    /// The longest that a packet has waited for its answer since this was asked last.
    pub fn take_longest_wait(&mut self) -> Duration {
        let waits = self.swarm.clients_mut().iter_mut().map(Client::take_longest_wait);
        waits.max().unwrap_or_default()
    }

    /// A node stands still since `frozen` at the latest, and may answer nothing from `over` on: its sessions'
    /// packets are counted apart until another node has them.
    pub fn lose(&mut self, node: &str, frozen: Instant, over: Instant) -> Lost {
        let clients = self.nodes();
        let of_node = |&index: &usize| clients[index].as_deref() == Some(node);
        self.apart = (0..clients.len()).filter(of_node).collect();
        for client in self.swarm.clients_mut() {
            client.bar(node, over);
        }
        Lost { frozen }
    }

    /// How the sessions of a lost node fare.
    pub fn outage(&self, lost: &Lost) -> Outage {
        let mut outage = Outage { sessions: self.apart.len() as u64, ..Outage::default() };
        for client in self.apart.iter().map(|&index| &self.swarm.clients()[index]) {
            let arrived = client.arrived().filter(|&arrived| arrived >= lost.frozen);
            let end = arrived.unwrap_or_else(Instant::now);
            outage.taken_over += u64::from(arrived.is_some());
            outage.longest = outage.longest.max(end - lost.frozen);
            outage.unanswered += client.unanswered_within(lost.frozen, end);
        }
        outage
    }

    /// Where sessions were answered last.
    pub fn spread(&self) -> Spread {
        let mut spread = Spread::new();
        for Place { node, cpu } in self.swarm.clients().iter().filter_map(Client::place) {
            *spread.entry((node.clone(), *cpu)).or_default() += 1;
        }
        spread
    }
}

/// Packets a second of so many clients.
fn rate(clients: usize) -> u32 {
    MOST.min(EACH.saturating_mul(u32::try_from(clients).unwrap_or(u32::MAX)))
}

/// Two of three clients move about.
fn movers(clients: usize) -> usize {
    clients / 3 * 2
}

/// The client that is the `n`th to move.
fn mover(n: usize) -> usize {
    n / 2 * 3 + n % 2
}

fn family(client: usize) -> Family {
    Family::ALL[client % 2]
}

fn host(hosts: &[ClientHost], client: usize) -> &ClientHost {
    &hosts[client / 2 % hosts.len()]
}

/// Some address of the pool of a client's host. Two clients may share one, as behind a NAT.
fn address(hosts: &[ClientHost], client: usize) -> IpAddr {
    host(hosts, client).pool_address(family(client), rand::random_range(1..=254))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_bounded() {
        assert_eq!(rate(60), 600);
        assert_eq!(rate(1000), MOST);
    }

    #[test]
    fn two_of_three_clients_move() {
        let moving: Vec<_> = (0..movers(10)).map(mover).collect();
        assert_eq!(moving, [0, 1, 3, 4, 6, 7]);
    }
}
