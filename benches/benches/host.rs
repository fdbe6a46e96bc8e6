//! The packet library on the host: what its pieces cost where no kernel is involved.

#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use dataplane_ebpf::{
    frame::Frame,
    parse::parse_frame,
    table::{Entry, Place, bits_for},
    tables::lookup,
    wire_id::WireId,
    wire_id_row::Registered,
};
use dataplane_user::{
    dataplane::{
        memory::Memory,
        services::{Delivery, Limits, Protocol, Service},
        sessions::SessionTable,
    },
    node::recover,
};
use jumpgate_benches::{
    packet::native_frame,
    session::{key, session},
};
use ownership::{Epoch, NodeIndex, Placement, Revision, placement::Member};
use std::hint::black_box;

const SEED: u64 = 7;
const SESSIONS: u64 = 100_000;

fn packets(criterion: &mut Criterion) {
    let frame = native_frame(session(1), 64);
    criterion.bench_function("parse/native_v4", |bencher| {
        bencher.iter(|| parse_frame(black_box(&Frame::new(&frame))));
    });
    let id = WireId::from_bytes(&session(1)).expect("16 bytes");
    criterion.bench_function("key/16_bytes", |bencher| {
        bencher.iter(|| black_box(id).key(black_box(SEED)));
    });
}

fn table(criterion: &mut Criterion) {
    let bits = bits_for(SESSIONS);
    let memory = Memory::anonymous(bits).expect("memory for the table");
    let mut table = SessionTable::new(bits);
    let entry = Entry { place: Place::Local { cpu: 0 }, epoch: 1 };
    let sessions: Vec<_> = (0..SESSIONS).map(|n| (key(n, SEED), entry, 1)).collect();
    table.publish(&memory, &sessions).expect("room for all");
    let mut number = 0;
    criterion.bench_function("table/lookup_100k_random", |bencher| {
        bencher.iter(|| {
            number = (number + 7_919) % SESSIONS;
            lookup(&memory, sessions[number as usize].0.hash, bits)
        });
    });
    let fresh = key(SESSIONS + 1, SEED);
    criterion.bench_function("table/insert_and_remove", |bencher| {
        bencher.iter(|| {
            table.insert(&memory, fresh, entry, 1).expect("room for one more");
            table.remove(&memory, fresh)
        });
    });
}

/// A daemon takes over a full table: what lies between its start and its first packet.
fn recovery(criterion: &mut Criterion) {
    const SESSIONS: u64 = 1 << 20;
    let service = Service {
        index: 1,
        name: "bench".to_owned(),
        address: "192.0.2.1:1".parse().expect("an address"),
        control_port: None,
        protocol: Protocol::Native,
        cluster_seed: SEED,
        delivery: Delivery::default(),
        enforces_binding: false,
        limits: Limits::default(),
    };
    let bits = bits_for(SESSIONS);
    let memory = Memory::anonymous(bits).expect("memory for the table");
    let mut table = SessionTable::new(bits);
    let entry = Entry { place: Place::Local { cpu: 0 }, epoch: 1 };
    for number in 0..SESSIONS {
        let bytes = session(number);
        let key = key(number, service.seed());
        let row = Registered::new(&bytes, service.index, key.hash).expect("16 bytes");
        table.register(&memory, key, entry, 1, &row).expect("room for all");
    }
    let services = [service];
    criterion.bench_function("recovery/1m_sessions", |bencher| {
        bencher.iter(|| {
            let recovered = recover(&memory, bits, &services, Epoch::FIRST);
            assert_eq!((recovered.sessions.len() as u64, recovered.removed), (SESSIONS, 0));
        });
    });
}

fn placement(criterion: &mut Criterion) {
    for nodes in [10, 100, 1_000] {
        let members: Vec<_> = (1..=nodes)
            .map(|index| Member {
                index: NodeIndex::new(index).expect("in range"),
                name: format!("node-{index}"),
                weight: 100,
            })
            .collect();
        criterion.bench_function(&format!("placement/plan_{nodes}_nodes"), |bencher| {
            bencher.iter_batched(
                || members.clone(),
                |members| Placement::plan(&members, Revision::FIRST),
                BatchSize::SmallInput,
            );
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_secs(2));
    targets = packets, table, recovery, placement
}
criterion_main!(benches);
