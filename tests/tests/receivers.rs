//! What a node sends with `XDP_TX` arrives.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jumpgate_tests::address::Family;
use jumpgate_tests::require_root;
use jumpgate_tests::topology::Cluster;
use jumpgate_tests::xdp::Attached;

const LOAD_8: u8 = 0x71;
const LOAD_16: u8 = 0x69;
const LOAD_32: u8 = 0x61;
const STORE_16: u8 = 0x6b;
const STORE_32: u8 = 0x63;
const MOVE: u8 = 0xbf;
const MOVE_VALUE: u8 = 0xb7;
const ADD_VALUE: u8 = 0x07;
const JUMP_GREATER: u8 = 0x2d;
const JUMP_OTHER_VALUE: u8 = 0x55;
const EXIT: u8 = 0x95;

/// One instruction, as Linux's `instruction-set.rst` encodes it on a little-endian machine.
const fn op(code: u8, to: u8, from: u8, offset: i16, value: i32) -> u64 {
    let offset = offset as u16 as u64;
    code as u64 | ((to | from << 4) as u64) << 8 | offset << 16 | (value as u32 as u64) << 32
}

/// Sends every IPv4 UDP packet back where it came from: addresses and ports change places, which
/// leaves all checksums right.
static REFLECT: [u64; 29] = [
    op(LOAD_32, 2, 1, 0, 0),
    op(LOAD_32, 3, 1, 4, 0),
    // Ethernet, IPv4 and UDP are there; else pass.
    op(MOVE, 4, 2, 0, 0),
    op(ADD_VALUE, 4, 0, 0, 42),
    op(JUMP_GREATER, 4, 3, 22, 0),
    op(LOAD_16, 4, 2, 12, 0),
    op(JUMP_OTHER_VALUE, 4, 0, 20, 0x0008),
    op(LOAD_8, 4, 2, 23, 0),
    op(JUMP_OTHER_VALUE, 4, 0, 18, 17),
    // MAC addresses
    op(LOAD_32, 4, 2, 0, 0),
    op(LOAD_16, 5, 2, 4, 0),
    op(LOAD_32, 0, 2, 6, 0),
    op(LOAD_16, 3, 2, 10, 0),
    op(STORE_32, 2, 0, 0, 0),
    op(STORE_16, 2, 3, 4, 0),
    op(STORE_32, 2, 4, 6, 0),
    op(STORE_16, 2, 5, 10, 0),
    // IP addresses
    op(LOAD_32, 4, 2, 26, 0),
    op(LOAD_32, 5, 2, 30, 0),
    op(STORE_32, 2, 5, 26, 0),
    op(STORE_32, 2, 4, 30, 0),
    // Ports
    op(LOAD_16, 4, 2, 34, 0),
    op(LOAD_16, 5, 2, 36, 0),
    op(STORE_16, 2, 5, 34, 0),
    op(STORE_16, 2, 4, 36, 0),
    // XDP_TX
    op(MOVE_VALUE, 0, 0, 0, 3),
    op(EXIT, 0, 0, 0, 0),
    // XDP_PASS
    op(MOVE_VALUE, 0, 0, 0, 2),
    op(EXIT, 0, 0, 0, 0),
];

/// How many of ten packets to reflecting nodes come back.
fn reflected(cluster: &Cluster) -> Result<usize> {
    let mut programs = Vec::new();
    for node in cluster.nodes() {
        programs.push(Attached::new(node.namespace(), "eth0", &REFLECT)?);
    }
    let client = &cluster.clients()[0];
    let socket = client
        .namespace()
        .run(|| UdpSocket::bind((client.address(Family::V4), 0)))
        .context("binding the client")?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let mut count = 0;
    for number in 0..10u8 {
        socket.send_to(&[number], (cluster.vip(Family::V4), 4000))?;
        let mut packet = [0; 16];
        match socket.recv(&mut packet) {
            Ok(length) => {
                ensure!(packet[..length] == [number], "packet {number} came back changed");
                count += 1;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("receiving"),
        }
    }
    Ok(count)
}

#[test]
fn what_a_node_transmits_from_xdp_arrives() -> Result<()> {
    require_root!();
    for queues in [1, 2] {
        let cluster = Cluster::builder().queues(queues).build()?;
        let count = reflected(&cluster)?;
        ensure!(count == 10, "with {queues} queues {count} of 10 packets came back");
    }
    Ok(())
}
