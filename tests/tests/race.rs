//! The session table's writer against the kernel's reader, for real: one thread lets a program look
//! an id up millions of times, another inserts, changes and removes that id and others that fight
//! with it for the same places.
//!
//! An id whose last byte is `n` only ever leads to node `n + 1`, at epoch `n + 1`, with a version
//! whose upper half is `n + 1`; whatever else the program finds is a mixture. `JUMPGATE_FULL=1`
//! races for a minute.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::programs::{TestRun, TestRunOptions};
use dataplane_ebpf::dissect::native::{Header, TYPE_DATA};
use dataplane_ebpf::local::Identity;
use dataplane_ebpf::table::{Bucket, Entry, Location, Place, WAYS, bits_for};
use dataplane_ebpf::tables::Tables;
use dataplane_ebpf::wire_id::{Key, WireId};
use dataplane_ebpf::word::MapWord;
use dataplane_user::dataplane::grace::grace_period;
use dataplane_user::dataplane::memory::Memory;
use dataplane_user::dataplane::object::Object;
use dataplane_user::dataplane::probe::Probe;
use dataplane_user::dataplane::sessions::SessionTable;
use dataplane_user::dataplane::{Dataplane, LoadOptions};
use jumpgate_tests::require_root;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// The hash seed of the ids.
const SEED: u64 = 7;

/// More ids than their four buckets have ways: some must wait until another goes.
const IDS: u8 = 20;

/// Look-ups in one run of the program: about 50 ms.
const REPEAT: u32 = 1_000_000;

/// Where the probe program keeps its numbers; see `bpf/probe.rs`.
const COUNTS: usize = 4;
const PROBE_SEED: usize = 3;

/// What the program found.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    hits: u64,
    misses: u64,
    torn: u64,
    mixed: u64,
}

/// An id and where it leads.
#[derive(Clone, Copy)]
struct Contender {
    id: [u8; 16],
    key: Key,
}

impl Contender {
    /// The number that marks everything that belongs to it.
    fn mark(self) -> u16 {
        u16::from(self.id[15]) + 1
    }

    fn entry(self) -> Entry {
        Entry { place: Place::Remote { node: self.mark() }, epoch: self.mark().into() }
    }

    fn version(self, count: u32) -> u64 {
        u64::from(self.mark()) << 32 | u64::from(count)
    }

    /// A frame that names it, as the probe program expects it: behind Ethernet, IPv4 and UDP.
    fn frame(self) -> Vec<u8> {
        let (header, length) = Header { kind: TYPE_DATA, session: self.id, owner: None }.encode();
        let mut frame = vec![0; 14 + 20 + 8];
        frame.extend(&header[..length]);
        frame
    }
}

/// Ids that share their first bucket, and so fight for its ways.
fn contenders(bits: u8) -> Vec<Contender> {
    let contender = |number: u8| {
        (0_u32..).find_map(|tail| {
            let mut id = [0x5a; 16];
            id[4..8].copy_from_slice(&tail.to_ne_bytes());
            id[15] = number;
            let key = WireId::from_bytes(&id)?.key(SEED);
            (Location::of(key.hash, bits).first == 3).then_some(Contender { id, key })
        })
    };
    (0..IDS).map(|number| contender(number).expect("one in sixteen")).collect()
}

struct Race {
    dataplane: Dataplane,
    memory: Memory,
    sessions: SessionTable,
    probe: Probe,
    contenders: Vec<Contender>,
}

impl Race {
    fn new() -> Result<Self> {
        let mut dataplane = Dataplane::load(LoadOptions {
            object: Object::Probe,
            sessions: 1,
            cpus: vec![0],
            queue: 192,
            bindings: false,
            hold_ring: 4096,
            log_packets: false,
        })
        .context("loading the probe programs")?;
        let bits = bits_for(1);
        let identity = Identity { node: 1, bucket_bits: bits, cpus: 1 };
        dataplane.memory.local_row().set_identity(identity);
        // The tables go to the writer's thread, the programs stay with the reader's.
        let memory = std::mem::replace(&mut dataplane.memory, Memory::anonymous(bits)?);
        let mut probe = dataplane.probe.take().context("not the probe object")?;
        let mut row = [0; 8];
        row[PROBE_SEED] = SEED;
        probe.set(row);
        let sessions = SessionTable::new(bits);
        Ok(Self { dataplane, memory, sessions, probe, contenders: contenders(bits) })
    }

    /// Looks ids up, one after another, while `write` is called again and again beside it. Ends
    /// when `enough` says so after a round. Returns what was found, and how often each looked.
    fn run(
        &mut self,
        mut write: impl FnMut(&mut Memory, &mut SessionTable) + Send,
        enough: impl Fn(Counts) -> ControlFlow<()>,
    ) -> Result<(Counts, u64, u64)> {
        let Self { dataplane, memory, sessions, probe, contenders } = self;
        let program = dataplane.program("table_race")?;
        let counts = || {
            let [hits, misses, torn, mixed] = probe.get()[COUNTS..] else { unreachable!() };
            Counts { hits, misses, torn, mixed }
        };
        let over = AtomicBool::new(false);
        let over = &over;
        thread::scope(|scope| {
            let writer = scope.spawn(move || {
                let mut writes = 0_u64;
                while !over.load(Ordering::Relaxed) {
                    write(memory, sessions);
                    writes += 1;
                }
                writes
            });
            let read = || -> Result<u64> {
                let mut looks = 0;
                for contender in contenders.iter().cycle() {
                    let frame = contender.frame();
                    let ran = program.test_run(TestRunOptions {
                        data_in: Some(&frame),
                        repeat: REPEAT,
                        ..TestRunOptions::default()
                    })?;
                    ensure!(ran.return_value == 1, "the program returned {}", ran.return_value);
                    looks += u64::from(REPEAT);
                    if enough(counts()).is_break() {
                        break;
                    }
                }
                Ok(looks)
            };
            let looks = read();
            over.store(true, Ordering::Relaxed);
            let writes = writer.join().expect("the writer does not panic");
            Ok((counts(), looks?, writes))
        })
    }
}

fn duration() -> Duration {
    match std::env::var_os("JUMPGATE_FULL") {
        Some(_) => Duration::from_secs(60),
        None => Duration::from_secs(3),
    }
}

#[test]
fn a_reader_in_the_kernel_never_sees_a_mixture_of_two_sessions() -> Result<()> {
    require_root!();
    let mut race = Race::new()?;
    let contenders = race.contenders.clone();
    let mut random = SmallRng::seed_from_u64(1);
    let mut count = 0_u32;
    let [mut inserted, mut refused, mut updated, mut removed] = [0_u64; 4];
    let end = Instant::now() + duration();
    let write = |memory: &mut Memory, sessions: &mut SessionTable| {
        let contender = contenders[random.random_range(0..contenders.len())];
        count = count.wrapping_add(1);
        let (entry, version) = (contender.entry(), contender.version(count));
        match random.random_range(0..4) {
            0 | 1 => match sessions.insert(memory, contender.key, entry, version) {
                Ok(()) => inserted += 1,
                Err(_) => refused += 1,
            },
            2 => updated += u64::from(sessions.update(memory, contender.key, entry, version)),
            _ => removed += u64::from(sessions.remove(memory, contender.key)),
        }
    };
    let (counts, looks, writes) = race.run(write, |_| match Instant::now() < end {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(()),
    })?;
    println!("{looks} look-ups, {writes} writes: {counts:?}");
    println!("{inserted} inserted, {refused} refused, {updated} updated, {removed} removed");
    let Counts { hits, misses, torn, mixed } = counts;
    ensure!(mixed == 0, "{counts:?}");
    ensure!(hits > 0 && misses > 0, "{counts:?}");
    ensure!(hits + misses + torn == looks, "every look-up is counted: {looks}, {counts:?}");
    ensure!(inserted > 1_000 && updated > 1_000 && removed > 1_000, "the writer hardly wrote");
    Ok(())
}

/// Two ids take turns in one way as fast as the words can be stored: here the generations are
/// what tells a reader that the words it took do not belong together.
#[test]
fn words_of_two_sessions_in_turn_are_a_counted_miss() -> Result<()> {
    require_root!();
    let mut race = Race::new()?;
    race.contenders.truncate(2);
    let bits = bits_for(1);
    let turns = race.contenders.clone();
    let write = |memory: &mut Memory, _: &mut SessionTable| {
        for contender in &turns {
            let at = Location::of(contender.key.hash, bits);
            let bucket = memory.bucket(at.first).expect("within the table");
            let detail = memory.detail(at.first * WAYS as u32).expect("within the table");
            bucket.remove(0);
            detail.set_version(contender.version(1), bucket.next_generation(0));
            if bucket.insert(0, at.tag, contender.entry().pack()).wrapped {
                grace_period().expect("every kernel has a way");
            }
        }
    };
    let soon = Instant::now() + duration() / 3;
    let late = soon + Duration::from_secs(10);
    let (counts, looks, writes) = race.run(write, |counts| {
        let now = Instant::now();
        if now >= late || (now >= soon && counts.torn > 0) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    println!("{looks} look-ups, {writes} turns: {counts:?}");
    let Counts { hits, misses, torn, mixed } = counts;
    ensure!(mixed == 0, "{counts:?}");
    ensure!(hits > 0 && misses > 0, "{counts:?}");
    ensure!(torn > 0 || one_cpu()?, "no look-up fell between two words: {counts:?}");
    ensure!(hits + misses + torn == looks, "every look-up is counted: {looks}, {counts:?}");
    Ok(())
}

fn one_cpu() -> Result<bool> {
    Ok(thread::available_parallelism()?.get() == 1)
}

/// The race can be lost: a writer that gives a way to another id without a new generation is
/// caught.
#[test]
fn a_writer_that_forgets_the_generation_is_caught() -> Result<()> {
    require_root!();
    if one_cpu()? {
        println!("skipped: there is no race on one CPU");
        return Ok(());
    }
    let mut race = Race::new()?;
    race.contenders.truncate(2);
    let bits = bits_for(1);
    let [one, other] = [race.contenders[0], race.contenders[1]];
    let line = |contender: Contender| {
        let tag = Location::of(contender.key.hash, bits).tag;
        let way = [MapWord::new(tag << 17 | 1), MapWord::new(contender.entry().pack() << 16 | 1)];
        let empty = || [MapWord::new(0), MapWord::new(0)];
        const { assert!(WAYS == 4) };
        Bucket::from_words([way, empty(), empty(), empty()])
    };
    let write = |memory: &mut Memory, _: &mut SessionTable| {
        for contender in [one, other] {
            let first = Location::of(contender.key.hash, bits).first;
            memory.sessions.set(first as usize, line(contender));
        }
    };
    let end = Instant::now() + Duration::from_secs(10);
    let (counts, looks, writes) = race.run(write, |counts| {
        if counts.mixed > 0 || Instant::now() >= end {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    println!("{looks} look-ups, {writes} writes: {counts:?}");
    ensure!(counts.mixed > 0, "the program does not notice mixtures: {counts:?}");
    Ok(())
}
