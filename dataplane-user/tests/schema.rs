//! The layout of the maps, held against the one that is written down: a daemon takes over the tables
//! of every other one with the same `SCHEMA`.

use dataplane_ebpf::{
    abi::SCHEMA,
    local::{Fence, Identity, LocalRow},
    node::{Address, LinkRow, NextHop, NodeRow},
    service::{ServiceRow, row_index},
    slot::SlotWord,
    table::{Bucket, DetailRow, Entry, Location, Place, WAYS, buckets},
    wire_id::WireId,
    wire_id_row::{Registered, WireIdRow},
    word::MapWord,
};
use dataplane_user::dataplane::{
    LoadOptions,
    object::Object,
    region::Shared,
    shape::{self, Owner},
};
use std::{env, fmt::Write, fs, path::Path};

/// Where the layout is written down.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../dataplane-ebpf/abi.txt");

/// Set to write the layout down anew.
const WRITE: &str = "JUMPGATE_WRITE_ABI";

/// The bytes of a row, in hexadecimal.
fn bytes<T: Shared>(row: &T) -> String {
    let (start, length) = (std::ptr::from_ref(row).cast::<u8>(), size_of::<T>());
    // SAFETY: rows of shared memory have no padding that is not a field, so all bytes are set.
    let bytes = unsafe { std::slice::from_raw_parts(start, length) };
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Rows with all that they can hold, every part of it another one.
fn rows() -> String {
    let mut text = String::new();
    let mut add = |name: &str, what: String| writeln!(text, "{name} {what}").expect("a string");
    let address = Address::from_bytes(*b"0123456789abcdef");

    let local = LocalRow::empty();
    local.arm(Fence::new(0x00ab_cdef, 0x12_3456_789a), 0x1122_3344_5566_7788);
    local.set_identity(Identity { node: 0x0a0b, bucket_bits: 0x0c, cpus: 0x0d0e });
    local.set_service_seed(0x99aa_bbcc_ddee_ff00);
    add("LocalRow", bytes(&local));

    for (name, place) in
        [("local", Place::Local { cpu: 0x0102 }), ("remote", Place::Remote { node: 0x0304 })]
    {
        add(&format!("Entry {name}"), format!("{:x}", Entry { place, epoch: 0x00ab_cdef }.pack()));
    }
    let empty = || [0; 2].map(MapWord::new);
    let bucket: Bucket = Bucket::from_words([(); WAYS].map(|()| empty()));
    let _ = bucket.insert(2, 0x1234_5678_9abc, 0x0102_0304_0506);
    bucket.set_second(true);
    bucket.remove(1);
    add("Bucket", bytes(&bucket));
    bucket.set_stash(true);
    add("Bucket with stash", bytes(&bucket));
    let detail = DetailRow::from_words(MapWord::new(0), MapWord::new(0));
    detail.set_version(0x1122_3344_5566_7788, 0x9abc);
    add("DetailRow", bytes(&detail));
    for bits in [4, 19] {
        add(&format!("buckets {bits}"), buckets(bits).to_string());
        add(
            &format!("Location {bits}"),
            format!("{:?}", Location::of(0x0fed_cba9_8765_4321, bits)),
        );
    }
    for length in [4, 16, 20] {
        let id = WireId::from_bytes(&b"the bytes of some id"[..length]).expect("an id");
        add(&format!("key {length}"), format!("{:x?}", id.key(7)));
    }
    let row = WireIdRow::empty();
    row.set(&Registered::new(b"the bytes of some id", 63, 0x1122_3344_5566_7788).expect("an id"));
    add("WireIdRow", bytes(&row));

    add("SlotWord", format!("{:x}", SlotWord::new(1, 2, 3).with_rows(true).bits()));
    let mut node = NodeRow::empty();
    (node.address, node.interfaces) = (address, [1, 2, 3, 4, 5, 6]);
    node.set_next_hop(NextHop::new([1, 2, 3, 4, 5, 6], 7));
    node.set_epoch(0x00ab_cdef);
    node.set_present(true);
    add("NodeRow", bytes(&node));
    let link = LinkRow {
        ifindex: 0x0102_0304,
        mtu: 0x0506_0708,
        mac: [1, 2, 3, 4, 5, 6],
        source: address,
        ..LinkRow::EMPTY
    };
    add("LinkRow", bytes(&link));
    let service = ServiceRow {
        address,
        seed: 0x1122_3344_5566_7788,
        port: 0x0102,
        service: 0x0304,
        kind: 5,
        protocol: 6,
        id_offset: 7,
        id_length: 8,
        unknown_opens: 9,
        flags: 10,
        ..ServiceRow::EMPTY
    };
    add("ServiceRow", bytes(&service));
    add("row of a service", row_index(address, 0x0102, 7).to_string());
    text
}

/// The maps that daemons share; `None` if this was built without a BPF toolchain.
fn maps() -> Option<String> {
    Object::Daemon.bytes()?;
    let options = LoadOptions {
        object: Object::Daemon,
        sessions: 1000,
        cpus: vec![0],
        queue: 1,
        bindings: true,
        hold_ring: 4096,
        log_packets: false,
    };
    let mut text = String::new();
    for (name, (owner, shape)) in shape::maps(&options).expect("an object") {
        // BPF_MAP_TYPE_PROG_ARRAY
        assert_ne!(shape.kind, 3, "{name}: see `Owner`");
        if owner == Owner::Node {
            writeln!(text, "map {name} {shape:?}").expect("a string");
        }
    }
    Some(text)
}

#[test]
fn the_layout_is_the_one_of_its_version() {
    let written = fs::read_to_string(FILE).unwrap_or_default();
    let (wanted, found) = match maps() {
        Some(maps) => (written, format!("schema {SCHEMA}\n{}{maps}", rows())),
        None => {
            let wanted = written.lines().filter(|line| !line.starts_with("map "));
            let wanted: String = wanted.map(|line| format!("{line}\n")).collect();
            (wanted, format!("schema {SCHEMA}\n{}", rows()))
        }
    };
    if env::var_os(WRITE).is_some() {
        assert!(found.contains("\nmap "), "build it with `cargo xtask build` first");
        fs::write(FILE, found).expect("written down");
        return;
    }
    let changed: Vec<_> =
        found.lines().filter(|line| !wanted.lines().any(|w| w == *line)).collect();
    assert!(
        wanted == found,
        "the layout of the maps is not the one in {}: a daemon of before would misread these, or \
         they are gone: {changed:#?}\nRaise SCHEMA in dataplane-ebpf/src/abi.rs, and write the new \
         layout down with `{WRITE}=1 cargo test -p dataplane-user --test schema`",
        Path::new(FILE).display()
    );
}
