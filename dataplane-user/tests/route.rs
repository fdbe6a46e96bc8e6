//! The decision among several nodes, each with tables of its own: whatever they hold, a packet's
//! way ends, and only an owner delivers.

use dataplane_ebpf::{
    dissect::native::{Header, TYPE_DATA, TYPE_OPEN},
    frame::Frame,
    local::{Fence, Identity},
    node::{Address, LinkRow, NextHop, NodeRow},
    service::{ENCAP_PORT, ServiceRow, find_seed, kind, protocol, row_index},
    shim::{HOPS, Shim},
    slot::SlotWord,
    table::{Entry, Place},
    verdict::Verdict,
    wire_id::{Key, mint},
    word::Word,
};
use dataplane_user::dataplane::{
    memory::Memory,
    sessions::SessionTable,
    simulate::{Simulated, XdpResult, simulate},
};
use proptest::{collection::vec, prelude::*, test_runner::RngSeed};

const NODES: u16 = 3;
const BITS: u8 = 4;
const NOW: u64 = 1_000;
const LINK: u32 = 7;
const SEED: u64 = 99;
const SLOT: u16 = 0x1234;
const VIP: [u8; 4] = [198, 51, 100, 1];
const PORT: u16 = 4_000;

/// The same cases in every run, or those that `PROPTEST_RNG_SEED` chooses.
fn config(cases: u32) -> ProptestConfig {
    let mut config = ProptestConfig { cases, failure_persistence: None, ..Default::default() };
    if matches!(config.rng_seed, RngSeed::Random) {
        config.rng_seed = RngSeed::Fixed(0x6a75_6d70);
    }
    config
}

fn v4(bytes: [u8; 4]) -> Address {
    Address::from_v4(u32::from_ne_bytes(bytes))
}

fn node_address(node: u16) -> Address {
    v4([10, 0, 0, node as u8])
}

/// What a node believes of the slot and of the session, and of the other nodes' epochs.
#[derive(Clone, Copy, Debug)]
struct Belief {
    owner: u16,
    previous: u16,
    revision: u32,
    entry: Option<(Entry, u64)>,
    fence: Fence,
    epochs: [u32; NODES as usize + 1],
}

/// The tables of a node that believes this, with one slot that matters.
fn host(node: u16, belief: &Belief, key: Key) -> Memory {
    let mut memory = Memory::anonymous(BITS).expect("a little memory");
    let service = ServiceRow {
        address: v4(VIP),
        port: PORT.to_be(),
        seed: SEED,
        service: 1,
        kind: kind::DATA,
        protocol: protocol::NATIVE,
        ..ServiceRow::EMPTY
    };
    let encap = ServiceRow {
        address: node_address(node),
        port: ENCAP_PORT.to_be(),
        kind: kind::ENCAP,
        ..ServiceRow::EMPTY
    };
    let rows = [service, encap];
    let seed = find_seed(rows.iter().map(|row| (row.address, row.port))).expect("two rows");
    for row in rows {
        memory.services.set(row_index(row.address, row.port, seed) as usize, row);
    }
    let source = node_address(node);
    memory.links.set(0, LinkRow { ifindex: LINK, mtu: 1_500, source, ..LinkRow::EMPTY });
    for other in 1..=NODES {
        let mut row = NodeRow::empty();
        row.address = node_address(other);
        row.interfaces[0] = LINK;
        row.set_epoch(belief.epochs[other as usize]);
        row.set_next_hop(NextHop::new([2, 0, 0, 0, 0, other as u8], 0));
        row.set_present(true);
        memory.nodes.set(other as usize, row);
    }
    let slot = SlotWord::new(belief.owner, belief.previous, belief.revision);
    memory.slots.get(SLOT as usize).expect("there are 65,536").store(slot.bits());
    if let Some((entry, version)) = belief.entry {
        SessionTable::new(BITS).insert(&memory, key, entry, version).expect("room for one");
    }
    for cpu in 0..2 {
        memory.cpus.set(cpu, cpu as u64);
    }
    memory.set_jiffies(NOW);
    memory.local_row().set_service_seed(seed);
    memory.local_row().arm(belief.fence, u64::MAX);
    memory.local_row().set_identity(Identity { node, bucket_bits: BITS, cpus: 2 });
    memory
}

fn session() -> ([u8; 16], Key) {
    let mut id = [0x5a; 16];
    let wire = mint(&mut id, SLOT, SEED).expect("16 bytes");
    (id, wire.key(SEED))
}

fn client_frame(opens: bool) -> Vec<u8> {
    let kind = if opens { TYPE_OPEN } else { TYPE_DATA };
    let (header, length) = Header { kind, session: session().0, owner: None }.encode();
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00, 0x45, 0];
    frame.extend((28 + length as u16).to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 203, 0, 113, 9]);
    frame.extend(VIP);
    frame.extend(40_000_u16.to_be_bytes());
    frame.extend(PORT.to_be_bytes());
    frame.extend((8 + length as u16).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(&header[..length]);
    frame
}

/// One step of a packet's way.
#[derive(Debug)]
struct Step {
    node: u16,
    verdict: Verdict,
    /// The shim it arrived with.
    shim: Option<Shim>,
}

/// How a packet's way ended.
struct Way {
    steps: Vec<Step>,
    /// The node that delivered it, and what it delivered.
    delivered: Option<(u16, Vec<u8>)>,
}

/// Lets the nodes pass a packet on until somebody keeps it.
fn travel(hosts: &[Memory], first: u16, frame: &[u8]) -> Way {
    let mut way = Way { steps: Vec::new(), delivered: None };
    let mut node = first;
    let mut frame = frame.to_vec();
    let mut shim = None;
    loop {
        assert!(way.steps.len() <= HOPS as usize, "no end: {:?}", way.steps);
        let host = &hosts[node as usize - 1];
        let Simulated { verdict, result, frame: out, .. } = simulate(&frame, LINK, host);
        way.steps.push(Step { node, verdict, shim });
        match result {
            XdpResult::Pass => panic!("a service's packet is never passed: {:?}", way.steps),
            XdpResult::Drop => return way,
            XdpResult::Redirect => {
                way.delivered = Some((node, out));
                return way;
            }
            XdpResult::Tx => {
                // The last byte of the destination's address is its node.
                node = out[33] as u16;
                shim = Frame::new(&out).read::<Shim>(42);
                frame = out;
            }
        }
    }
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        (0..2_u16).prop_map(|cpu| Place::Local { cpu }),
        (1..=NODES).prop_map(|node| Place::Remote { node }),
        (0..2_u16, any::<bool>()).prop_map(|(cpu, ours)| Place::Hold { cpu, ours }),
    ]
}

fn belief() -> impl Strategy<Value = Belief> {
    let fence = prop_oneof![
        4 => (1..4_u32).prop_map(|epoch| Fence::new(epoch, NOW + 1)),
        1 => (1..4_u32).prop_map(|epoch| Fence::new(epoch, NOW)),
    ];
    let entry = (place(), 1..4_u32, 0..5_u64)
        .prop_map(|(place, epoch, version)| (Entry { place, epoch }, version));
    (
        0..=NODES,
        0..=NODES,
        1..5_u32,
        proptest::option::of(entry),
        fence,
        prop::array::uniform4(0..4_u32),
    )
        .prop_map(|(owner, previous, revision, entry, fence, epochs)| Belief {
            owner,
            previous,
            revision,
            entry,
            fence,
            epochs,
        })
}

fn hosts(beliefs: &[Belief]) -> Vec<Memory> {
    let (_, key) = session();
    beliefs.iter().zip(1..).map(|(belief, node)| host(node, belief, key)).collect()
}

proptest! {
    #![proptest_config(config(3_000))]

    #[test]
    fn whatever_nodes_believe_a_packets_way_ends_and_only_an_owner_delivers(
        beliefs in vec(belief(), NODES as usize),
        first in 1..=NODES,
        opens: bool,
    ) {
        let frame = client_frame(opens);
        let way = travel(&hosts(&beliefs), first, &frame);
        let (last, forwards) = way.steps.split_last().expect("at least one step");
        prop_assert!(forwards.len() <= HOPS as usize);
        prop_assert!(forwards.iter().all(|step| !step.verdict.is_reject()));
        prop_assert_eq!(
            last.verdict.is_reject() || last.verdict == Verdict::Held,
            way.delivered.is_none()
        );
        // Nobody forwards again but on newer knowledge, or to give a packet its second chance.
        for step in forwards {
            let Some(shim) = step.shim else { continue };
            let belief = &beliefs[step.node as usize - 1];
            let newer_version = belief.entry.is_some_and(|(_, version)| version > shim.version.get());
            prop_assert!(match step.verdict {
                Verdict::ForwardRow => newer_version,
                Verdict::ForwardSlot => belief.revision > shim.revision.get(),
                // The previous owner by what it knows, or the owner if it is behind who has sent it here.
                Verdict::SecondChance => {
                    let is_behind = belief.revision < shim.revision.get();
                    let by_slot = shim.version.get() == 0;
                    !shim.is_second_chance() && (by_slot || !is_behind)
                }
                _ => false,
            }, "{:?}", way.steps);
        }
        if last.verdict == Verdict::Held {
            let belief = &beliefs[last.node as usize - 1];
            let (Entry { place, epoch }, version) = belief.entry.expect("held by an entry");
            prop_assert!(matches!(place, Place::Hold { .. }), "{:?}", place);
            prop_assert_eq!(epoch, belief.fence.epoch());
            if let Some(shim) = last.shim {
                prop_assert!([0, epoch].contains(&shim.epoch.get()));
                prop_assert!([0, version].contains(&shim.version.get()));
            }
        }
        let Some((node, delivered)) = way.delivered else { return Ok(()) };
        let belief = &beliefs[node as usize - 1];
        prop_assert!(belief.fence.is_open(NOW), "delivered behind the fence");
        match (last.verdict, belief.entry) {
            (Verdict::Local, Some((Entry { place, epoch }, version))) => {
                let here = matches!(place, Place::Local { .. });
                prop_assert!(here, "{:?}", place);
                prop_assert_eq!(epoch, belief.fence.epoch());
                if let Some(shim) = last.shim {
                    prop_assert!([0, epoch].contains(&shim.epoch.get()));
                    prop_assert!([0, version].contains(&shim.version.get()));
                }
            }
            (Verdict::New, None) => {
                prop_assert!(opens);
                prop_assert_eq!(belief.owner, node);
                prop_assert!(last.shim.is_none_or(|shim| shim.revision.get() <= belief.revision));
            }
            other => prop_assert!(false, "{:?}", other),
        }
        // Forwarding changes MAC addresses and nothing else.
        prop_assert_eq!(&delivered[12..], &frame[12..]);
    }

    #[test]
    fn nodes_that_agree_deliver_at_the_owner_after_one_forward_at_most(
        owner in 1..=NODES,
        first in 1..=NODES,
        revision in 1..5_u32,
        opens: bool,
        version in 1..9_u64,
    ) {
        let agreed = Belief {
            owner,
            previous: 0,
            revision,
            entry: None,
            fence: Fence::new(1, NOW + 1),
            epochs: [1; 4],
        };
        let mut beliefs = [agreed; NODES as usize];
        if !opens {
            let entry = Entry { place: Place::Local { cpu: 1 }, epoch: 1 };
            beliefs[owner as usize - 1].entry = Some((entry, version));
        }
        let way = travel(&hosts(&beliefs), first, &client_frame(opens));
        prop_assert_eq!(way.steps.len(), if first == owner { 1 } else { 2 });
        prop_assert_eq!(way.delivered.map(|(node, ..)| node), Some(owner));
    }

    #[test]
    fn a_session_that_stayed_behind_is_found_by_its_second_chance(
        (owner, previous) in (1..=NODES, 1..=NODES).prop_filter("a move", |(to, from)| to != from),
        first in 1..=NODES,
        knows: bool,
    ) {
        let agreed = Belief {
            owner,
            previous,
            revision: 2,
            entry: None,
            fence: Fence::new(1, NOW + 1),
            epochs: [1; 4],
        };
        let mut beliefs = [agreed; NODES as usize];
        if knows {
            let entry = Entry { place: Place::Local { cpu: 1 }, epoch: 1 };
            beliefs[previous as usize - 1].entry = Some((entry, 1));
        }
        let way = travel(&hosts(&beliefs), first, &client_frame(false));
        let verdict = way.steps.last().expect("at least one step").verdict;
        if knows {
            prop_assert_eq!(verdict, Verdict::Local);
            prop_assert_eq!(way.delivered.map(|(node, ..)| node), Some(previous));
        } else {
            prop_assert_eq!(verdict, Verdict::SecondChanceMissed);
        }
    }
}
