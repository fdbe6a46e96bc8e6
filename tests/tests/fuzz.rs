//! Bytes of any kind: the kept corpus, and inputs made of the packets of the corpus, always the same
//! ones. `JUMPGATE_FUZZ_INPUTS` says how many, `JUMPGATE_FUZZ_SEED` which.

use std::os::fd::AsFd;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use dataplane_ebpf::verdict::Verdict;
use dataplane_user::af_xdp::{Options, Port};
use jumpgate_tests::address::Family;
use jumpgate_tests::corpus::kernel::{Kernel, with_kernel};
use jumpgate_tests::corpus::sending::{ETHERNET, Sending};
use jumpgate_tests::corpus::tables::{State, lift_limits, load, refill, remove_queueless};
use jumpgate_tests::fuzz::mutate::Mutator;
use jumpgate_tests::fuzz::seeds::{around, forwarded, packets, replies, settled};
use jumpgate_tests::fuzz::{TARGETS, corpus, inputs, seed, target};
use jumpgate_tests::require_root;

/// Inputs of each target, and of the kernel over each underlay, arriving and leaving: in every run,
/// and in a full one.
const QUICK: u64 = 20_000;
const FULL: u64 = 500_000;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Says which input it was if a target panics.
struct Naming<'a>(&'a str, &'a [u8]);

impl Drop for Naming<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input of {:?} was {}", self.0, hex(self.1));
        }
    }
}

fn mutated(name: &str) {
    let target = target(name);
    let seeds = (target.seeds)();
    let mut mutator = Mutator::new(&seeds, seed());
    // A whole configuration takes as long as dozens of packets, a client's life as several.
    let cost = match name {
        "configuration" => 20,
        "tracker" => 4,
        _ => 1,
    };
    let (count, start) = (inputs(QUICK / cost, FULL / cost), Instant::now());
    for input in &seeds {
        let _naming = Naming(name, input);
        (target.run)(input);
    }
    for _ in 0..count {
        let input = mutator.draw();
        let _naming = Naming(name, input);
        (target.run)(input);
    }
    println!("{name}: {} seeds, {count} inputs, {:?}", seeds.len(), start.elapsed());
}

#[test]
fn the_parser_reads_no_frame_beyond_its_end() {
    mutated("parser");
}

#[test]
fn dissectors_read_nothing_but_the_payload() {
    mutated("dissectors");
}

#[test]
fn every_frame_has_a_verdict_and_is_kept_or_forwarded_whole() {
    mutated("packet");
}

#[test]
fn so_has_everything_behind_right_outer_headers() {
    mutated("decapsulation");
}

#[test]
fn so_has_every_icmp_error() {
    mutated("icmp");
}

#[test]
fn every_reply_has_a_verdict() {
    mutated("egress");
}

#[test]
fn control_messages_are_read_as_they_would_be_written_or_not_at_all() {
    mutated("control");
}

#[test]
fn every_request_that_is_proven_gets_one_answer() {
    mutated("responder");
}

#[test]
fn no_answer_takes_a_client_back() {
    mutated("tracker");
}

#[test]
fn every_configuration_is_taken_or_refused_in_words() {
    mutated("configuration");
}

#[test]
fn the_kept_corpus_is_harmless() -> Result<()> {
    for target in TARGETS {
        let inputs = corpus(target.name)?;
        ensure!(!inputs.is_empty(), "no inputs are kept for {}", target.name);
        for (name, input) in inputs {
            let _naming = Naming(&name, &input);
            (target.run)(&input);
        }
    }
    Ok(())
}

/// Feeds one input to the loaded program and to userspace.
fn agree(kernel: &mut Kernel, state: &mut State, input: &[u8], is_content: bool) -> Result<()> {
    let Some((setting, rest)) = settled(input) else { return Ok(()) };
    if *state != setting.state {
        setting.state.apply(&kernel.dataplane);
        *state = setting.state;
    }
    let outer;
    let frame = if is_content {
        outer = around(kernel.family, rest);
        &outer[..]
    } else {
        rest
    };
    let ingress = kernel.interfaces[setting.interface];
    let done = kernel.agree(frame, ingress, 0, None).with_context(|| {
        let target = if is_content { "decapsulation" } else { "packet" };
        format!("{setting:?}, input of {target:?}: {}", hex(input))
    })?;
    if done.verdict == Verdict::TooBigAnswered {
        refill(&kernel.dataplane.memory);
    }
    Ok(())
}

/// The kernel and userspace on the seeds, the kept corpus and mutated packets.
fn agree_on_anything(family: Family) -> Result<()> {
    with_kernel(family, |kernel| {
        lift_limits(&mut kernel.dataplane.memory);
        remove_queueless(&mut kernel.dataplane);
        // The other interface has an AF_XDP socket too: it is the third link.
        let port = Port::bind(&Options { frames: 64, ..Options::new("in1", 0) })?;
        kernel.dataplane.add_xsk(2, 0, port.as_fd())?;
        let mut state = State::Ready;
        // For each of the two.
        let count = inputs(QUICK / 2, FULL / 2);
        for (name, seeds, is_content) in
            [("packet", packets(), false), ("decapsulation", forwarded(), true)]
        {
            let kept = corpus(name)?.into_iter().map(|(_, input)| input);
            for input in seeds.iter().cloned().chain(kept) {
                agree(kernel, &mut state, &input, is_content)?;
            }
            let mut mutator = Mutator::new(&seeds, seed() ^ family as u64);
            for _ in 0..count {
                agree(kernel, &mut state, mutator.draw(), is_content)?;
            }
        }
        Ok(())
    })
}

/// Feeds one reply to the loaded programs and to userspace, and what is behind its Ethernet header as
/// an interface without a link layer would send it.
fn agree_on_reply(sending: &mut Sending, state: &mut State, input: &[u8]) -> Result<()> {
    let Some((setting, frame)) = settled(input) else { return Ok(()) };
    if *state != setting.state {
        sending.apply(setting.state);
        *state = setting.state;
    }
    for (start, ethernet) in [(0, true), (ETHERNET, false)] {
        let Some(packet) = frame.get(start..) else { continue };
        sending
            .agree(packet, ethernet)
            .with_context(|| format!("{setting:?}, input of \"egress\": {}", hex(input)))?;
    }
    Ok(())
}

/// The programs at egress and userspace on the seeds, the kept corpus and mutated replies.
fn agree_on_any_reply(family: Family) -> Result<()> {
    let mut sending = Sending::new(load(family, [1, 1])?);
    let mut state = State::Ready;
    let (seeds, start) = (replies(), Instant::now());
    let kept = corpus("egress")?.into_iter().map(|(_, input)| input);
    for input in seeds.iter().cloned().chain(kept) {
        agree_on_reply(&mut sending, &mut state, &input)?;
    }
    let mut mutator = Mutator::new(&seeds, seed() ^ family as u64);
    for _ in 0..inputs(QUICK, FULL) {
        agree_on_reply(&mut sending, &mut state, mutator.draw())?;
    }
    println!("{} runs of the programs at egress, {:?}", sending.runs, start.elapsed());
    sending.check_counters()
}

#[test]
fn kernel_and_userspace_agree_on_any_reply_over_ipv4() -> Result<()> {
    require_root!();
    agree_on_any_reply(Family::V4)
}

#[test]
fn kernel_and_userspace_agree_on_any_reply_over_ipv6() -> Result<()> {
    require_root!();
    agree_on_any_reply(Family::V6)
}

#[test]
fn kernel_and_userspace_agree_on_anything_over_ipv4() -> Result<()> {
    require_root!();
    agree_on_anything(Family::V4)
}

#[test]
fn kernel_and_userspace_agree_on_anything_over_ipv6() -> Result<()> {
    require_root!();
    agree_on_anything(Family::V6)
}
