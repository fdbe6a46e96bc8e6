//! The loaded programs beside the decision in userspace, on the same tables.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use aya::programs::{TestRun, TestRunOptions};
use dataplane_ebpf::hold::{CLASSES, HELD_HEADER};
use dataplane_ebpf::service::SERVICES;
use dataplane_ebpf::verdict::Verdict;
use dataplane_user::af_xdp::{Options, Port};
use dataplane_user::dataplane::Dataplane;
use dataplane_user::dataplane::simulate::{Simulated, XdpResult, simulate};
use nix::net::if_::if_nametoindex;
use zerocopy::IntoBytes;

use super::Case;
use super::tables::{State, load};
use crate::address::Family;
use crate::fuzz::mutate;
use crate::links::{End, Link};
use crate::netns::Namespace;
use crate::xdp::{Attached, PASS};

/// The kernel runs a program on no less than an Ethernet header.
pub const SHORTEST: usize = 14;

/// Room for the longest frame that is made up, with encapsulation and metadata around it.
const LONGEST: usize = mutate::LONGEST + 256;

/// The loaded programs and where their packets arrive.
pub struct Kernel {
    /// The family of the underlay.
    pub family: Family,
    /// The programs and their tables.
    pub dataplane: Dataplane,
    /// The interface that packets arrive on, and another.
    pub interfaces: [u32; 2],
    /// What must have been counted since the programs were loaded.
    counted: BTreeMap<(u16, &'static str), u64>,
    /// How often the program ran.
    pub runs: u64,
    time: Duration,
}

/// What a program did.
#[derive(Debug, PartialEq, Eq)]
struct Ran {
    result: u32,
    frame: Vec<u8>,
}

impl Kernel {
    /// Runs the program once on a packet that arrives on an interface, behind as much metadata.
    fn run(&mut self, frame: &[u8], ingress: u32, metadata: usize) -> Result<Ran> {
        let mut data = vec![0xee; metadata];
        data.extend(frame);
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index,
        // egress_ifindex.
        let context = [metadata as u32, data.len() as u32, 0, ingress, 0, 0];
        let context: Vec<u8> = context.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut out = vec![0; LONGEST];
        let program = self.dataplane.program("jumpgate")?;
        let start = Instant::now();
        let ran = program.test_run(TestRunOptions {
            data_in: Some(&data),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        })?;
        self.time += start.elapsed();
        self.runs += 1;
        out.truncate(ran.data_size_out as usize);
        ensure!(out.len() >= metadata, "the program's frame is shorter than its metadata");
        Ok(Ran { result: ran.return_value, frame: out.split_off(metadata) })
    }

    /// Runs a frame both ways; fails unless both agree, but for what only the kernel can know.
    pub fn agree(
        &mut self,
        frame: &[u8],
        ingress: u32,
        metadata: usize,
        in_kernel: Option<Verdict>,
    ) -> Result<Simulated> {
        let simulated = simulate(frame, ingress, &self.dataplane.memory);
        if frame.len() < SHORTEST {
            return Ok(simulated);
        }
        let service = simulated.service;
        let verdict = in_kernel.unwrap_or(simulated.verdict);
        let ran = self.run(frame, ingress, metadata)?;
        self.expect(service, verdict)?;
        if in_kernel.is_some() {
            ensure!(ran.result == XdpResult::Drop as u32, "dropped, not {}", ran.result);
            return Ok(simulated);
        }
        self.agree_on_record(&simulated)?;
        let userspace = Ran { result: simulated.result as u32, frame: simulated.frame.clone() };
        ensure!(ran == userspace, "the kernel: {ran:02x?}\nuserspace: {userspace:02x?}");
        Ok(simulated)
    }

    /// Fails unless the hold ring got what userspace says, and nothing else.
    fn agree_on_record(&mut self, simulated: &Simulated) -> Result<()> {
        let ring = self.dataplane.hold_ring.as_mut().context("the ring was not taken")?;
        let record = ring.next().map(|record| record.to_vec());
        ensure!(ring.next().is_none(), "one packet, two records");
        let Some((header, kept)) = &simulated.held else {
            ensure!(record.is_none(), "held {record:02x?}");
            return Ok(());
        };
        let record = record.context("nothing was held")?;
        let (head, bytes) = record.split_at(HELD_HEADER);
        ensure!(head == header.as_bytes(), "head of the record: {head:02x?}, not {header:x?}");
        ensure!(CLASSES.contains(&bytes.len()), "a record of {} bytes", bytes.len());
        ensure!(bytes[..kept.len()] == kept[..], "held {bytes:02x?}, not {kept:02x?}");
        Ok(())
    }

    /// Lets the program hold copies of a frame until the ring has no room for another.
    fn fill_ring(&mut self, frame: &[u8], ingress: u32, service: u16) -> Result<()> {
        for _ in 0..100 {
            self.run(frame, ingress, 0)?;
            let mut is_full = false;
            for verdict in [Verdict::Held, Verdict::HoldFull] {
                let count = self.dataplane.counters.verdict(service, verdict)?;
                self.counted.insert((service, verdict.name()), count);
                is_full = verdict == Verdict::HoldFull && count > 0;
            }
            if is_full {
                return Ok(());
            }
        }
        bail!("the ring never gets full")
    }

    /// Takes everything out of the ring.
    fn empty_ring(&mut self) {
        while self.dataplane.hold_ring.as_mut().is_some_and(|ring| ring.next().is_some()) {}
    }

    /// Demands that one packet more was counted so.
    fn expect(&mut self, service: u16, verdict: Verdict) -> Result<()> {
        let counted = self.counted.entry((service, verdict.name())).or_default();
        *counted += 1;
        if self.dataplane.counters.verdict(service, verdict)? != *counted {
            *counted -= 1;
            bail!(
                "userspace says {verdict:?} of service {service}, the kernel {:?}",
                self.surplus()?
            );
        }
        Ok(())
    }

    /// What was counted and should not have been, or the other way round.
    fn surplus(&self) -> Result<Vec<(u16, String, i64)>> {
        let mut surplus = Vec::new();
        for service in 0..SERVICES as u16 {
            let counts = self.dataplane.counters.service(service, false)?.verdicts;
            for verdict in Verdict::ALL {
                let count = counts.get(verdict.name()).copied().unwrap_or(0);
                let known = self.counted.get(&(service, verdict.name())).copied().unwrap_or(0);
                if count != known {
                    let more = count.cast_signed() - known.cast_signed();
                    surplus.push((service, verdict.name().to_owned(), more));
                }
            }
        }
        Ok(surplus)
    }

    /// Runs a case both ways, and demands what it expects.
    pub fn try_case(&mut self, case: &Case) -> Result<Simulated> {
        case.state.apply(&self.dataplane);
        let ingress = self.interfaces[usize::from(case.elsewhere)];
        if case.state == State::RingFull {
            self.fill_ring(&case.frame, ingress, case.service)?;
        }
        let done = self.agree(&case.frame, ingress, case.metadata, case.in_kernel)?;
        self.empty_ring();
        let found = (done.verdict, done.service);
        ensure!(
            found == (case.verdict, case.service),
            "expected {:?}, got {found:?}",
            case.verdict
        );
        Ok(done)
    }
}

/// Runs `work` in a network of its own with the programs loaded for an underlay.
pub fn with_kernel(
    family: Family,
    work: impl FnOnce(&mut Kernel) -> Result<()> + Send,
) -> Result<()> {
    let namespace = Namespace::new("corpus")?;
    let mut attached = Vec::new();
    for [one, other] in [["in0", "out0"], ["in1", "out1"]] {
        Link::between(End::new(&namespace, one), End::new(&namespace, other)).create()?;
        // A veth has receive queues that a test run can name only while it runs a program.
        attached.push(Attached::new(&namespace, one, &PASS)?);
    }
    namespace.run(|| {
        let interfaces = [if_nametoindex("in0")?, if_nametoindex("in1")?];
        let mut dataplane = load(family, interfaces)?;
        let port = Port::bind(&Options { frames: 64, ..Options::new("in0", 0) })?;
        dataplane.add_xsk(0, 0, port.as_fd())?;
        let counted = BTreeMap::new();
        let mut kernel =
            Kernel { family, dataplane, interfaces, counted, runs: 0, time: Duration::ZERO };
        work(&mut kernel)?;
        let surplus = kernel.surplus()?;
        ensure!(surplus.is_empty(), "each packet has one verdict, but: {surplus:?}");
        println!("{} runs of the program, {:?} in all", kernel.runs, kernel.time);
        Ok(())
    })
}
