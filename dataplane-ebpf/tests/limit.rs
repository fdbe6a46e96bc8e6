//! Token buckets: never more than the burst and the rate, on any number of CPUs.

mod property;

use dataplane_ebpf::{
    limit::{LIMITS, Limit, index},
    node::Address,
    service::kind,
    word::{MapWord, Word},
};
use proptest::{collection::vec, prelude::*, sample::select};
use std::{
    collections::{BTreeMap, HashSet},
    net::Ipv6Addr,
    sync::{
        Barrier,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// Ticks at 100, 250, 300 and 1,000 Hz, in nanoseconds.
const TICKS: [u64; 4] = [10_000_000, 4_000_000, 3_333_333, 1_000_000];

fn v4(bytes: [u8; 4]) -> Address {
    Address::from_v4(u32::from_ne_bytes(bytes))
}

fn v6(text: &str) -> Address {
    Address::from_bytes(text.parse::<Ipv6Addr>().unwrap().octets())
}

#[test]
fn a_bucket_that_was_never_used_holds_a_whole_burst() {
    for start in [0, 1, 4_294_892_296, 1 << 40] {
        let word = MapWord::new(0);
        let limit = Limit::new(100, 7, Duration::from_millis(4));
        let taken = (0..20).filter(|_| limit.take(&word, start)).count();
        // At the start of time a bucket is as full as ever.
        assert_eq!(taken, 7, "at {start}");
    }
}

#[test]
fn it_fills_at_its_rate_and_no_further_than_the_burst() {
    let word = MapWord::new(0);
    // One packet for every 10 ticks.
    let limit = Limit::new(25, 3, Duration::from_millis(4));
    let burst = |at| (0..10).filter(|_| limit.take(&word, at)).count();
    assert_eq!(burst(1_000), 3);
    assert_eq!(burst(1_009), 0);
    assert_eq!(burst(1_010), 1);
    assert_eq!(burst(1_030), 2);
    assert_eq!(burst(1_000_000), 3);
}

#[test]
fn neighbours_share_a_bucket_and_others_do_not() {
    let same = |one, other| index(one, 77, kind::DATA) == index(other, 77, kind::DATA);
    assert!(same(v4([203, 0, 113, 1]), v4([203, 0, 113, 254])));
    assert!(!same(v4([203, 0, 113, 1]), v4([203, 0, 112, 1])));
    assert!(same(v6("2001:db8:0:100::1"), v6("2001:db8:0:1ff::2")), "one /56");
    assert!(!same(v6("2001:db8:0:100::1"), v6("2001:db8:0:200::1")));
    let client = v4([203, 0, 113, 1]);
    let place = index(client, 77, kind::DATA);
    assert_ne!(place, index(client, 78, kind::DATA), "another service");
    assert_ne!(place, index(client, 77, kind::CONTROL), "another port");
}

#[test]
fn prefixes_spread_over_all_buckets() {
    for seed in [0, 1, 0x5d0f_3a9c_41e7_b286] {
        let mut seen = HashSet::new();
        for number in 0..LIMITS as u32 {
            let [_, a, b, c] = number.to_be_bytes();
            let place = index(v4([10 + a, b, c, 1]), seed, kind::DATA);
            assert!((place as usize) < LIMITS);
            seen.insert(place);
        }
        // Thrown at random, 63 % of the buckets would be hit.
        assert!(seen.len() > LIMITS / 2, "{} with seed {seed:x}", seen.len());
    }
}

#[test]
fn packets_on_many_cpus_at_once_take_no_more_than_there_is() {
    const BURST: u32 = 1_000;
    let word = MapWord::new(0);
    let limit = Limit::new(1, BURST, Duration::from_millis(4));
    let taken = AtomicU64::new(0);
    let start = Barrier::new(4);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                start.wait();
                let mine = (0..BURST * 4).filter(|_| limit.take(&word, 5_000_000)).count();
                taken.fetch_add(mine as u64, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(taken.into_inner(), BURST.into());
    assert!(word.load() > 0);
}

proptest! {
    #![proptest_config(property::config())]

    #[test]
    fn over_any_time_no_more_than_the_burst_and_the_rate_pass(
        rate in 1..1_000_000_u32,
        burst in 1..200_u32,
        tick in select(&TICKS[..]),
        start in 0..1_u64 << 41,
        steps in vec(0..5_u64, 1..400),
    ) {
        let tick = Duration::from_nanos(tick);
        let limit = Limit::new(rate, burst, tick);
        let word = MapWord::new(0);
        let mut now = start;
        let mut passed: BTreeMap<u64, u64> = BTreeMap::new();
        for step in steps {
            now += step;
            // More than the rate, and more than the burst.
            for _ in 0..burst / 2 + 1 {
                if limit.take(&word, now) {
                    *passed.entry(now).or_default() += 1;
                }
            }
        }
        for &from in passed.keys() {
            let mut sum = 0;
            for (&to, &count) in passed.range(from..) {
                sum += count;
                let seconds = tick.as_secs_f64() * (to - from) as f64;
                let most = f64::from(burst) + f64::from(rate) * seconds;
                prop_assert!(sum as f64 <= most + 1e-6, "{} in {} s of {}", sum, seconds, most);
            }
        }
    }

    #[test]
    fn whoever_keeps_just_below_the_rate_is_never_refused(
        rate in 1..100_000_u32,
        tick in select(&TICKS[..]),
        start in 0..1_u64 << 41,
        gaps in vec(0..3_u64, 1..200),
    ) {
        let tick = Duration::from_nanos(tick);
        // A tick's worth at once, as jiffies tell no packets of one tick apart. The interval is
        // rounded up, at worst by less than a percent.
        let each = (f64::from(rate) * tick.as_secs_f64() * 0.99).floor() as u32;
        let limit = Limit::new(rate, each.max(1), tick);
        let word = MapWord::new(0);
        let mut now = start;
        for gap in gaps {
            now += 1 + gap;
            for _ in 0..each {
                prop_assert!(limit.take(&word, now), "at {} of {}", now, start);
            }
        }
    }
}
