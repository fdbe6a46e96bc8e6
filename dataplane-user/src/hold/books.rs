//! Who is held, and every packet of theirs: bounded queues, and an account that loses none.

use super::{
    counts::{Counts, Totals},
    packet::Packet,
};
use crate::config;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// The number of a held session in the books.
pub type Id = u64;

/// How much is held, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Of one session.
    pub per_session: usize,
    /// In all.
    pub total: usize,
}

impl Bounds {
    /// Those of a configuration.
    pub fn of(hold: &config::Hold) -> Self {
        let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
        Self { per_session: bytes(hold.per_session), total: bytes(hold.total) }
    }
}

/// What happens to a session's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way<T> {
    /// They wait.
    Wait,
    /// They go to this CPU of this node.
    Here(u32),
    /// They go to another node.
    Away(T),
}

/// What packets are sent together: those for one CPU of this node, or those for other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// To this CPU.
    Cpu(u32),
    /// To other nodes.
    Away,
}

impl<T> Way<T> {
    fn lane(&self) -> Option<Lane> {
        match self {
            Self::Wait => None,
            Self::Here(cpu) => Some(Lane::Cpu(*cpu)),
            Self::Away(_) => Some(Lane::Away),
        }
    }
}

/// What became of a packet that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was.
    Sent,
    /// Too big for the link.
    TooBig,
    /// Forwarded too often.
    HopLimit,
    /// Its sender knew better.
    NotNewer,
    /// Refused by the kernel, or not to be sent.
    Failed,
}

/// A session's packets, the oldest first.
#[derive(Debug)]
struct Queue<T> {
    packets: VecDeque<Packet>,
    bytes: usize,
    keys: Vec<u64>,
    way: Way<T>,
    /// Whether newer packets have their way already, past this queue.
    is_open: bool,
    counts: Counts,
}

impl<T> Queue<T> {
    /// The lane in which the session has turns: where its packets go, if there are any.
    fn lane(&self) -> Option<Lane> {
        if self.packets.is_empty() { None } else { self.way.lane() }
    }
}

/// Everything that is held.
#[derive(Debug)]
pub struct Books<T> {
    bounds: Bounds,
    queues: HashMap<Id, Queue<T>>,
    sessions: HashMap<u64, Id>,
    bytes: usize,
    next: Id,
    /// Sessions whose packets go somewhere, in turns; those without packets drop out.
    turns: BTreeMap<Lane, VecDeque<Id>>,
    /// Of sessions that are held no longer.
    past: Counts,
    unclaimed: u64,
}

impl<T: Copy> Books<T> {
    /// Empty books.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            queues: HashMap::new(),
            sessions: HashMap::new(),
            bytes: 0,
            next: 0,
            turns: BTreeMap::new(),
            past: Counts::default(),
            unclaimed: 0,
        }
    }

    /// Bounds what is filed from now on. What waits already stays.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// Whether no session is held.
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Begins to keep the packets with these keys, as one session's; `None` if one is held already.
    pub fn open(&mut self, keys: Vec<u64>) -> Option<Id> {
        if keys.iter().any(|key| self.sessions.contains_key(key)) {
            return None;
        }
        let id = self.next;
        self.next += 1;
        self.sessions.extend(keys.iter().map(|&key| (key, id)));
        let queue = Queue {
            packets: VecDeque::new(),
            bytes: 0,
            keys,
            way: Way::Wait,
            is_open: false,
            counts: Counts::default(),
        };
        self.queues.insert(id, queue);
        Some(id)
    }

    /// Whether a session is held.
    pub fn is_held(&self, id: Id) -> bool {
        self.queues.contains_key(&id)
    }

    /// Files a packet; says whether its session's packets go somewhere already.
    pub fn file(&mut self, packet: Packet) -> bool {
        let Some(id) = self.sessions.get(&packet.header.hash) else {
            self.unclaimed += 1;
            return false;
        };
        let queue = self.queues.get_mut(id).expect("every key has its queue");
        queue.counts.held += 1;
        let size = packet.size();
        if queue.bytes + size > self.bounds.per_session || self.bytes + size > self.bounds.total {
            queue.counts.overflow += 1;
            return false;
        }
        queue.counts.late += u64::from(queue.is_open);
        queue.bytes += size;
        self.bytes += size;
        queue.packets.push_back(packet);
        let lane = queue.way.lane();
        if let Some(lane) = lane
            && queue.packets.len() == 1
        {
            self.turns.entry(lane).or_default().push_back(*id);
        }
        lane.is_some()
    }

    /// Lets a session's packets go somewhere, or wait again.
    pub fn send(&mut self, id: Id, way: Way<T>) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let before = queue.lane();
        queue.way = way;
        let after = queue.lane();
        self.leave(before, id);
        if let Some(lane) = after {
            self.turns.entry(lane).or_default().push_back(id);
        }
    }

    /// The lanes in which somebody has a turn.
    pub fn lanes(&self) -> Vec<Lane> {
        self.turns.keys().copied().collect()
    }

    /// The session whose turn it is in a lane, and where its packets go: some are there.
    pub fn turn(&self, lane: Lane) -> Option<(Id, Way<T>)> {
        let &id = self.turns.get(&lane)?.front()?;
        Some((id, self.queues[&id].way))
    }

    /// Ends a session's turn; does nothing if it has no packets left.
    pub fn end_turn(&mut self, lane: Lane, id: Id) {
        if let Some(turns) = self.turns.get_mut(&lane)
            && turns.front() == Some(&id)
        {
            turns.rotate_left(1);
        }
    }

    /// Takes a session out of the turns of the lane that it was in. Mostly it is the first there.
    fn leave(&mut self, lane: Option<Lane>, id: Id) {
        let Some((lane, turns)) = lane.and_then(|lane| Some((lane, self.turns.get_mut(&lane)?)))
        else {
            return;
        };
        if turns.front() == Some(&id) {
            turns.pop_front();
        } else {
            turns.retain(|&other| other != id);
        }
        if turns.is_empty() {
            self.turns.remove(&lane);
        }
    }

    /// The oldest packet of a session.
    pub fn front(&self, id: Id) -> Option<&Packet> {
        self.queues.get(&id)?.packets.front()
    }

    /// Takes the oldest packet of a session.
    pub fn take(&mut self, id: Id) -> Option<Packet> {
        let queue = self.queues.get_mut(&id)?;
        let lane = queue.lane();
        let packet = queue.packets.pop_front()?;
        queue.bytes -= packet.size();
        self.bytes -= packet.size();
        if queue.packets.is_empty() {
            self.leave(lane, id);
        }
        Some(packet)
    }

    /// Enters what became of a packet that was taken out.
    pub fn enter(&mut self, id: Id, way: Way<T>, fate: Fate) {
        let counts = match self.queues.get_mut(&id) {
            Some(queue) => &mut queue.counts,
            None => &mut self.past,
        };
        let count = match (fate, way) {
            (Fate::Sent, Way::Away(_)) => &mut counts.away,
            (Fate::Sent, _) => &mut counts.here,
            (Fate::TooBig, _) => &mut counts.too_big,
            (Fate::HopLimit, _) => &mut counts.hop_limit,
            (Fate::NotNewer, _) => &mut counts.not_newer,
            (Fate::Failed, _) => &mut counts.failed,
        };
        *count += 1;
    }

    /// How many packets of a session wait.
    pub fn waiting(&self, id: Id) -> usize {
        self.queues.get(&id).map_or(0, |queue| queue.packets.len())
    }

    /// From now on newer packets of the session pass by its queue.
    pub fn pass_by(&mut self, id: Id) {
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.is_open = true;
        }
    }

    /// Ends a hold; what still waits is discarded. The session's account, or `None` if it is not
    /// held.
    pub fn close(&mut self, id: Id) -> Option<Counts> {
        let mut queue = self.queues.remove(&id)?;
        for key in &queue.keys {
            self.sessions.remove(key);
        }
        self.leave(queue.lane(), id);
        self.bytes -= queue.bytes;
        queue.counts.discarded += queue.packets.len() as u64;
        self.past += queue.counts;
        Some(queue.counts)
    }

    /// A session's account so far.
    pub fn counts(&self, id: Id) -> Counts {
        self.queues.get(&id).map_or(Counts::default(), |queue| queue.counts)
    }

    /// How it all stands.
    pub fn totals(&self) -> Totals {
        let mut counts = self.past;
        let mut waiting = 0;
        for queue in self.queues.values() {
            counts += queue.counts;
            waiting += queue.packets.len() as u64;
        }
        Totals {
            sessions: self.queues.len(),
            waiting,
            bytes: self.bytes,
            counts,
            unclaimed: self.unclaimed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane_ebpf::hold::HeldHeader;
    use proptest::prelude::*;

    const SESSIONS: u64 = 4;

    fn packet(hash: u64, number: u64, length: u16) -> Packet {
        let header = HeldHeader {
            hash,
            version: number,
            ingress: 1,
            length,
            ip: 14,
            service: 1,
            slot: 0,
            hops: 4,
            _pad: [0; 3],
        };
        Packet { header, frame: vec![0; length.into()].into() }
    }

    /// What happens to books, in any order.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// A packet of a session (or of nobody's) is filed.
        File(u64, u16),
        /// A session's packets go somewhere, or wait.
        Send(u64, Option<u32>),
        /// As many packets are sent from each lane.
        Serve(usize, Fate),
        /// Newer packets of a session pass by.
        PassBy(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let fate = prop_oneof![4 => Just(Fate::Sent), 1 => Just(Fate::Failed)];
        prop_oneof![
            8 => (0..=SESSIONS, 20..300_u16).prop_map(|(s, length)| Step::File(s, length)),
            2 => (0..SESSIONS, proptest::option::of(0..2_u32)).prop_map(|(s, way)| Step::Send(s, way)),
            3 => (1..20_usize, fate).prop_map(|(count, fate)| Step::Serve(count, fate)),
            1 => (0..SESSIONS).prop_map(Step::PassBy),
        ]
    }

    proptest! {
        #[test]
        fn no_packet_is_lost_from_the_books_and_each_session_stays_in_order(
            steps in proptest::collection::vec(step(), 1..300),
        ) {
            let bounds = Bounds { per_session: 4_000, total: 8_000 };
            let mut books = Books::<()>::new(bounds);
            let ids: Vec<_> = (0..SESSIONS).map(|s| books.open(vec![s, s + 100]).unwrap()).collect();
            prop_assert_eq!(books.open(vec![7, 100]), None, "a key of a held session");
            let (mut filed, mut strangers, mut number) = (0, 0, 0);
            let mut last = [0; SESSIONS as usize];
            for step in steps {
                match step {
                    Step::File(SESSIONS, length) => {
                        books.file(packet(99, 0, length));
                        strangers += 1;
                    }
                    Step::File(session, length) => {
                        number += 1;
                        let key = session + 100 * (number % 2);
                        books.file(packet(key, number, length));
                        filed += 1;
                    }
                    Step::Send(session, way) => {
                        let way = way.map_or(Way::Wait, |cpu| {
                            if cpu == 0 { Way::Away(()) } else { Way::Here(cpu) }
                        });
                        books.send(ids[session as usize], way);
                    }
                    Step::Serve(count, fate) => {
                        for lane in books.lanes() {
                            for _ in 0..count {
                                let Some((id, way)) = books.turn(lane) else { break };
                                prop_assert_eq!(way.lane(), Some(lane));
                                let number = books.front(id).unwrap().header.version;
                                let session = ids.iter().position(|&other| other == id).unwrap();
                                prop_assert!(number > last[session], "out of order");
                                last[session] = number;
                                books.take(id);
                                books.enter(id, way, fate);
                                books.end_turn(lane, id);
                            }
                        }
                    }
                    Step::PassBy(session) => books.pass_by(ids[session as usize]),
                }
                let Totals { waiting, bytes, counts, unclaimed, sessions } = books.totals();
                prop_assert_eq!(sessions as u64, SESSIONS);
                prop_assert!(bytes <= bounds.total);
                prop_assert_eq!(counts.held, filed);
                prop_assert_eq!(counts.held, counts.settled() + waiting);
                prop_assert_eq!(unclaimed, strangers);
            }
            let sum = ids.iter().map(|&id| books.close(id).unwrap());
            let sum = sum.fold(Counts::default(), |mut sum, counts| { sum += counts; sum });
            prop_assert_eq!(sum.held, sum.settled(), "what waited is discarded");
            let totals = books.totals();
            prop_assert_eq!((totals.waiting, totals.bytes, totals.counts), (0, 0, sum));
            prop_assert!(books.is_empty() && books.lanes().is_empty());
        }
    }

    #[test]
    fn sessions_take_turns() {
        let mut books = Books::<()>::new(Bounds { per_session: 100_000, total: 100_000 });
        let ids: Vec<_> = (0..2).map(|s| books.open(vec![s]).unwrap()).collect();
        for number in 0..3 {
            books.file(packet(0, number, 100));
            books.file(packet(1, number, 100));
        }
        assert_eq!(books.lanes(), [], "they wait");
        ids.iter().for_each(|&id| books.send(id, Way::Here(3)));
        let lane = Lane::Cpu(3);
        let mut order = Vec::new();
        while let Some((id, _)) = books.turn(lane) {
            order.push(id);
            books.take(id);
            books.end_turn(lane, id);
        }
        assert_eq!(order, [0, 1, 0, 1, 0, 1].map(|index| ids[index]));
    }
}
