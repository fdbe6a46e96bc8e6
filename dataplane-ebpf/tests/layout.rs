//! What is packed into the words of the tables comes out of them again.

mod property;

use dataplane_ebpf::{
    binding::{Binding, BindingRow, Seat},
    frame::Frame,
    hold::{CLASSES, HELD_MAX, HeldHeader},
    local::{EPOCH_MAX, Fence, Identity, LocalRow},
    node::{Address, NextHop, NodeRow},
    parse::Datagram,
    service::{find_seed, row_index},
    shim::{HOPS, SHIM, Shim},
    slot::{REVISION_MAX, SlotWord},
    table::{Bucket, DetailRow, Entry, Found, Location, Place, WAYS, bits_for, buckets},
    verdict::{ADMISSION_SLOTS, Admission, EGRESS_SLOTS, Egress, VERDICT_SLOTS, Verdict},
    wire_id::Key,
    word::MapWord,
};
use property::config;
use proptest::{collection::vec, prelude::*};
use std::{
    collections::HashSet,
    net::{Ipv4Addr, Ipv6Addr},
};

fn bucket() -> Bucket {
    Bucket::from_words([(); WAYS].map(|()| [MapWord::new(0), MapWord::new(0)]))
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        any::<u16>().prop_map(|cpu| Place::Local { cpu }),
        any::<u16>().prop_map(|node| Place::Remote { node }),
        any::<(u16, bool)>().prop_map(|(cpu, ours)| Place::Hold { cpu, ours }),
    ]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn an_entry_unpacks_to_what_was_packed(place in place(), epoch in 0..=EPOCH_MAX) {
        let entry = Entry { place, epoch };
        prop_assert!(entry.pack() < 1 << 48);
        prop_assert_eq!(Entry::unpack(entry.pack()), Some(entry));
    }

    #[test]
    fn a_binding_is_read_as_it_was_written_in_its_generation_and_no_other(
        bindings in vec(any::<([u8; 16], u16)>(), 1..4), generation: u16, other: u16,
    ) {
        let row = BindingRow::from_words([(); 4].map(|()| MapWord::new(0)));
        for (address, port) in bindings {
            let binding = Binding { address: Address::from_bytes(address), port };
            prop_assert!(!row.set(binding, generation));
            prop_assert_eq!(row.get(generation), Some(binding));
            prop_assert!(other == generation || row.get(other).is_none());
        }
    }

    #[test]
    fn a_seat_fits_an_entry_and_unpacks_to_what_was_packed(
        detail in 0..1_u32 << 31, generation: u16,
    ) {
        let seat = Seat { detail, generation };
        prop_assert!(seat.pack() < 1 << 48);
        prop_assert_eq!(Seat::unpack(seat.pack()), seat);
    }

    #[test]
    fn a_held_packet_keeps_what_the_client_sent_and_fits_a_record_of_little_more(
        tags in 0_usize..3, ip_length in 28_usize..HELD_MAX, forwarded: bool, hash: u64, version: u64,
        slot: u16, service: u16, ingress: u32,
    ) {
        // Behind outer headers and the shim, if another node has forwarded it.
        let ip = if forwarded { 14 + 20 + 8 + SHIM } else { 14 + 4 * tags };
        let mut frame = vec![0; ip + ip_length];
        if forwarded {
            frame[ip - SHIM..ip].copy_from_slice(
                Shim::new(2, 1, 1, 1, version, false).words().map(u64::to_ne_bytes).as_flattened(),
            );
        }
        let datagram = Datagram { ip, ip_length, ..Datagram::NONE };
        let (header, start) = HeldHeader::of(
            &Frame::new(&frame), &datagram, Key { hash, slot }, service, ingress,
        ).expect("the frame is whole");
        prop_assert_eq!(start + header.ip as usize, ip);
        prop_assert_eq!(start + header.length as usize, ip + ip_length);
        prop_assert!(header.ip >= 14 && (!forwarded || header.ip == 14));
        let length = header.length as usize;
        if let Some(&class) = CLASSES.iter().find(|&&class| class >= length) {
            prop_assert!(class <= 128 || class < 2 * length);
        } else {
            prop_assert!(length > HELD_MAX);
        }
        prop_assert_eq!(
            (header.hash, header.slot, header.service, header.ingress),
            (hash, slot, service, ingress)
        );
        let known = if forwarded { (2, version) } else { (HOPS, 0) };
        prop_assert_eq!((header.hops, header.version), known);
    }

    #[test]
    fn bits_without_a_kind_are_no_entry(bits: u64) {
        prop_assert_eq!(Entry::unpack(bits << 2), None);
    }

    #[test]
    fn a_slot_word_holds_owner_previous_revision_and_rows(
        owner: u16, previous: u16, revision in 0..=REVISION_MAX, rows: bool,
    ) {
        let word = SlotWord::new(owner, previous, revision).with_rows(rows);
        let read = SlotWord::from_bits(word.bits());
        prop_assert_eq!(
            (read.owner(), read.previous(), read.revision(), read.has_rows()),
            (owner, previous, revision, rows)
        );
        prop_assert_eq!(read.with_rows(!rows).with_rows(rows), word);
        prop_assert_eq!(word.with_rows(false), SlotWord::new(owner, previous, revision));
    }

    #[test]
    fn a_fence_is_open_below_its_deadline_only(epoch in 0..=EPOCH_MAX, deadline in 1..1_u64 << 40) {
        let fence = Fence::from_bits(Fence::new(epoch, deadline).bits());
        prop_assert_eq!((fence.epoch(), fence.deadline()), (epoch, deadline));
        prop_assert!(fence.is_open(deadline - 1));
        prop_assert!(!fence.is_open(deadline));
        prop_assert!(!Fence::SHUT.is_open(deadline));
    }

    #[test]
    fn a_deadline_too_far_is_cut_and_never_wraps(epoch in 0..=EPOCH_MAX, deadline in 1_u64 << 40..) {
        let fence = Fence::new(epoch, deadline);
        prop_assert_eq!((fence.epoch(), fence.deadline()), (epoch, (1 << 40) - 1));
    }

    #[test]
    fn the_local_row_holds_identity_fence_and_seed(
        node: u16, bucket_bits: u8, cpus: u16, epoch in 0..=EPOCH_MAX, deadline in 0..1_u64 << 40,
        exact: u64, seed: u64,
    ) {
        let row = LocalRow::empty();
        prop_assert_eq!(row.identity(), Identity::default());
        prop_assert_eq!(row.fence(), Fence::SHUT);
        let identity = Identity { node, bucket_bits, cpus };
        row.set_identity(identity);
        row.set_service_seed(seed);
        row.arm(Fence::new(epoch, deadline), exact);
        prop_assert_eq!((row.identity(), row.service_seed()), (identity, seed));
        prop_assert_eq!((row.fence(), row.exact_deadline()), (Fence::new(epoch, deadline), exact));
        row.arm(Fence::SHUT, 0);
        prop_assert_eq!((row.fence(), row.exact_deadline()), (Fence::SHUT, 0));
    }

    #[test]
    fn a_next_hop_holds_its_mac_address_and_link(mac: [u8; 6], link: u8) {
        let hop = NextHop::new(mac, link);
        prop_assert_eq!((hop.is_known(), hop.mac(), hop.link()), (true, mac, link));
        let row = NodeRow::empty();
        prop_assert!(!row.next_hop().is_known());
        row.set_next_hop(hop);
        prop_assert_eq!(row.next_hop(), hop);
    }

    #[test]
    fn a_node_arrives_on_its_interfaces_only(interfaces: [u32; 6], other: u32) {
        let mut row = NodeRow::empty();
        row.interfaces = interfaces;
        for interface in interfaces {
            prop_assert_eq!(row.arrives_on(interface), interface != 0);
        }
        prop_assert_eq!(row.arrives_on(other), other != 0 && interfaces.contains(&other));
        prop_assert!(!NodeRow::empty().arrives_on(0));
    }

    #[test]
    fn an_ipv6_address_keeps_its_bytes_and_is_no_ipv4(bytes: [u8; 16]) {
        let address = Address::from_bytes(bytes);
        prop_assert_eq!(address.bytes(), bytes);
        let v4 = Ipv6Addr::from(bytes).to_ipv4_mapped();
        prop_assert_eq!(address.v4().map(u32::to_ne_bytes), v4.map(|v4| v4.octets()));
    }

    #[test]
    fn an_ipv4_address_is_mapped_into_ipv6(octets: [u8; 4]) {
        let address = Address::from_v4(u32::from_ne_bytes(octets));
        prop_assert_eq!(address.v4(), Some(u32::from_ne_bytes(octets)));
        prop_assert_eq!(address.bytes(), Ipv4Addr::from(octets).to_ipv6_mapped().octets());
        prop_assert_eq!(address, Address::from_bytes(address.bytes()));
    }

    #[test]
    fn the_shim_on_the_wire_is_the_documented_one(
        hops in 0..HOPS, sender: u16, revision: u32, epoch: u32, version: u64, second: bool,
    ) {
        let shim = Shim::new(hops, sender, revision, epoch, version, second);
        let mut expected = vec![0x10 | second as u8, hops];
        expected.extend(sender.to_be_bytes());
        expected.extend(revision.to_be_bytes());
        expected.extend(epoch.to_be_bytes());
        expected.extend([0; 4]);
        expected.extend(version.to_be_bytes());
        expected.extend([0; 8]);
        let bytes: Vec<u8> = shim.words().iter().flat_map(|word| word.to_ne_bytes()).collect();
        prop_assert_eq!(bytes.len(), SHIM);
        prop_assert_eq!(bytes, expected);
        prop_assert!(shim.is_valid());
        prop_assert_eq!(shim.is_second_chance(), second);
        prop_assert!(!Shim::new(HOPS, sender, revision, epoch, version, second).is_valid());
    }

    #[test]
    fn a_detail_row_holds_all_64_bits_of_a_version(version: u64, generation: u16, other: u16) {
        let row = DetailRow::from_words(MapWord::new(0), MapWord::new(0));
        row.set_version(version, generation);
        prop_assert_eq!(row.version(generation), Some(version));
        prop_assert_eq!(row.version(other), (other == generation).then_some(version));
        prop_assert!(row.can_replace(version ^ 0xffff_ffff_ffff));
        prop_assert!(!row.can_replace(version ^ 1 << 48));
    }

    #[test]
    fn a_bucket_finds_each_of_its_tags_and_no_other(
        tags in prop::collection::hash_set(1..1_u64 << 47, 1..=WAYS),
        bits in 0..1_u64 << 48,
        other in 1..1_u64 << 47,
        flags: (bool, bool),
    ) {
        let bucket = bucket();
        bucket.set_second(flags.0);
        bucket.set_stash(flags.1);
        let miss = Found::Miss { second: flags.0, stash: flags.1 };
        for (at, &tag) in tags.iter().enumerate() {
            prop_assert_eq!(bucket.find(tag), miss);
            let way = bucket.free_ways().next().expect("room for four");
            prop_assert_eq!(way as usize, at);
            let _ = bucket.insert(way, tag, bits ^ at as u64);
        }
        for (at, &tag) in tags.iter().enumerate() {
            let hit = Found::Hit { bits: bits ^ at as u64, way: at as u8, generation: 1 };
            prop_assert_eq!(bucket.find(tag), hit);
        }
        prop_assert_eq!(bucket.free_ways().next().is_none(), tags.len() == WAYS);
        prop_assert!(tags.contains(&other) || bucket.find(other) == miss);
        for way in 0..tags.len() as u8 {
            bucket.remove(way);
        }
        prop_assert!(tags.iter().all(|&tag| bucket.find(tag) == miss), "flags stay, entries go");
    }

    #[test]
    fn every_key_lies_in_four_different_buckets_of_the_table(hash: u64, bits in 4..=28_u8) {
        let at = Location::of(hash, bits);
        prop_assert!(at.tag != 0 && at.tag < 1 << 47);
        prop_assert!(at.first < 1 << bits && at.second < 1 << bits && at.first != at.second);
        let [one, other] = at.stash_pair();
        prop_assert!(one != other);
        for stash in [one, other] {
            prop_assert!(stash >= 1 << bits && stash < buckets(bits));
        }
    }

    #[test]
    fn keys_with_one_first_bucket_and_tag_share_all_places(hash: u64, middle: u64) {
        // So a writer that finds a tag nowhere knows that no reader will take it for another's.
        let bits = 10;
        let free = ((1_u64 << (64 - bits)) - 1) & !((1 << 47) - 1);
        let other = hash & !free | middle & free;
        prop_assert_eq!(Location::of(hash, bits), Location::of(other, bits));
    }

    #[test]
    fn addresses_and_ports_find_a_seed_that_keeps_them_apart(
        keys in prop::collection::hash_set((any::<[u8; 16]>(), any::<u16>()), 0..60),
    ) {
        let keys: Vec<_> =
            keys.into_iter().map(|(bytes, port)| (Address::from_bytes(bytes), port)).collect();
        let seed = find_seed(keys.iter().copied()).expect("60 keys in 1,024 rows");
        let rows: HashSet<_> =
            keys.iter().map(|&(address, port)| row_index(address, port, seed)).collect();
        prop_assert_eq!(rows.len(), keys.len());
    }

    #[test]
    fn a_generation_rises_with_every_insert_and_says_when_it_wraps(start: u16, tags in vec(1..9_u64, 1..5)) {
        let bucket = Bucket::from_words(
            [(); WAYS].map(|()| [MapWord::new(start as u64), MapWord::new(0)]),
        );
        let mut generation = start;
        for tag in tags {
            generation = generation.wrapping_add(1);
            prop_assert_eq!(bucket.next_generation(0), generation);
            let insert = bucket.insert(0, tag, 5);
            prop_assert_eq!(insert.generation, generation);
            prop_assert_eq!(insert.wrapped, generation == u16::MAX);
            bucket.remove(0);
        }
    }
}

#[test]
fn a_value_of_another_generation_is_torn() {
    let tag = 77_u64;
    let words = [tag << 17 | 3, 5 << 16 | 2];
    let mut all = [(); WAYS].map(|()| [MapWord::new(0), MapWord::new(0)]);
    all[2] = words.map(MapWord::new);
    let bucket = Bucket::from_words(all);
    assert_eq!(bucket.find(tag), Found::Torn);
    assert_eq!(bucket.occupied(2), None);
}

#[test]
fn an_address_twice_has_no_seed() {
    let key = (Address::from_bytes([1; 16]), 7);
    assert_eq!(find_seed([key, key].into_iter()), None);
}

#[test]
fn a_table_for_n_sessions_is_at_most_half_full_and_no_larger_than_needed() {
    for sessions in [0, 1, 32, 33, 1_000, 1 << 16, (1 << 16) + 1, 1_000_000, 8_000_000] {
        let bits = bits_for(sessions);
        let half = |bits: u8| (WAYS as u64 / 2) << bits;
        assert!(half(bits) >= sessions, "{sessions}");
        assert!(bits == 4 || half(bits - 1) < sessions, "{sessions}");
    }
}

/// Codes and names are an interface: metrics, dashboards and documents hold them. New ones go to
/// the end.
#[test]
fn verdicts_keep_their_codes_and_names() {
    let names: Vec<_> = Verdict::ALL.iter().map(|verdict| verdict.name()).collect();
    let known = [
        "pass",
        "local",
        "new",
        "forward-slot",
        "forward-row",
        "second-chance",
        "malformed",
        "fragment",
        "extension-headers",
        "no-wire-id",
        "no-session",
        "second-chance-missed",
        "no-owner",
        "fence-shut",
        "entry-epoch",
        "entry-torn",
        "no-next-hop",
        "too-big",
        "no-headroom",
        "not-newer",
        "hop-limit",
        "shim-malformed",
        "shim-sender",
        "shim-interface",
        "shim-epoch-old",
        "shim-epoch-new",
        "shim-version-old",
        "shim-version-new",
        "placement-old",
        "not-ready",
        "no-cpu",
        "too-big-answered",
        "icmp-local",
        "icmp-forward",
        "icmp-unknown",
    ];
    assert_eq!(names[..known.len()], known);
    let unique: HashSet<_> = names.iter().collect();
    assert_eq!(unique.len(), names.len());
    assert!(names.len() <= VERDICT_SLOTS);
}

#[test]
fn admissions_keep_their_codes_and_names() {
    let names: Vec<_> = Admission::ALL.iter().map(|admission| admission.name()).collect();
    let known = [
        "delivered",
        "delivered-new",
        "wrong-cpu",
        "late",
        "not-owner",
        "no-wire-id",
        "no-service",
        "no-socket",
        "not-ready",
    ];
    assert_eq!(names[..known.len()], known);
    let unique: HashSet<_> = names.iter().collect();
    assert_eq!(unique.len(), names.len());
    assert!(names.len() <= ADMISSION_SLOTS);
}

#[test]
fn what_becomes_of_replies_keeps_its_codes_and_names() {
    let names: Vec<_> = Egress::ALL.iter().map(|egress| egress.name()).collect();
    let known = [
        "other",
        "passed",
        "shut",
        "not-owner",
        "no-session",
        "old-epoch",
        "torn",
        "no-wire-id",
        "mixed-sessions",
        "unreadable",
        "not-ready",
    ];
    assert_eq!(names[..known.len()], known);
    let unique: HashSet<_> = names.iter().collect();
    assert_eq!(unique.len(), names.len());
    assert!(names.len() <= EGRESS_SLOTS);
}

#[test]
fn the_numbers_of_a_bindings_changes_are_used_up_after_4096() {
    let row = BindingRow::from_words([(); 4].map(|()| MapWord::new(0)));
    for _ in 0..2 {
        for change in 0..4096 {
            // The first change of a generation has the number 0.
            assert_eq!(row.set(Binding::NONE, 5), change == 4095, "{change}");
        }
    }
}

#[test]
fn every_verdict_explains_itself_in_one_sentence() {
    let texts = Verdict::ALL.iter().map(|verdict| (verdict.name(), verdict.explanation()));
    let more = Admission::ALL.iter().map(|admission| (admission.name(), admission.explanation()));
    let replies = Egress::ALL.iter().map(|egress| (egress.name(), egress.explanation()));
    for (name, text) in texts.chain(more).chain(replies) {
        assert!(text.trim().ends_with('.'), "{name}: {text}");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{name}");
    }
}
