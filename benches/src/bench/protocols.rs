//! A hot local delivery for each protocol, and what else every packet meets.

use dataplane_user::dataplane::services::{Delivery, Limits, Protocol, Service};
use jumpgate_benches::{
    packet::{VIP, VIP_V6, native_frame, tagged, udp_frame, udp_frame_v6},
    session::session,
};
use std::net::SocketAddr;

/// One packet, its service and its wire id.
pub struct Case {
    /// The figure's name.
    pub name: &'static str,
    /// The service's place in [`services`]; `None` if the packet is for no service.
    pub service: Option<usize>,
    /// Its wire id.
    pub id: Vec<u8>,
    /// The frame.
    pub frame: Vec<u8>,
}

/// The services of the benchmarks, with indices from 1 on. The first is the native one.
pub fn services() -> Vec<Service> {
    let kinds = [
        (SocketAddr::from(VIP), Protocol::Native),
        (VIP_V6.into(), Protocol::Native),
        (port(1), Protocol::Quic { id_length: 8 }),
        (port(2), Protocol::WireGuard),
        (port(3), Protocol::Offset { offset: 4, length: 8, unknown_opens: false }),
        (port(4), Protocol::QuicLb { server_id_lengths: [4; 7], config_id: 0 }),
        (port(5), Protocol::Dtls { id_length: 8 }),
        (port(6), Protocol::GtpU),
        (port(7), Protocol::Quic { id_length: 8 }),
    ];
    let service = |(index, (address, protocol)): (u16, _)| Service {
        index,
        name: format!("bench-{index}"),
        address,
        control_port: None,
        limits: Limits::default(),
        protocol,
        delivery: Delivery::Socket,
        enforces_binding: address == port(7),
        cluster_seed: 7,
    };
    (1..).zip(kinds).map(service).collect()
}

fn port(above: u16) -> SocketAddr {
    (*VIP.ip(), VIP.port() + above).into()
}

/// A session that is bound to the client that sends.
pub fn bound() -> Case {
    let id = vec![0x5f; 8];
    let quic = [&[0x40][..], &id, &[0; 64]].concat();
    let frame = udp_frame(port(7).port(), &quic);
    Case { name: "local_quic_bound_ns", service: Some(8), id, frame }
}

/// The cases.
pub fn cases() -> Vec<Case> {
    let native = native_frame(session(0), 64);
    let id = session(0).to_vec();
    let short = [0x5e; 8];
    let quic = [&[0x40][..], &short, &[0; 64]].concat();
    let wireguard = [&[4, 0, 0, 0][..], &short[..4], &[0; 72]].concat();
    let offset = [&[0; 4][..], &short, &[0; 64]].concat();
    let server = [0x40, 0x5e, 0x5e, 0x5e, 0x5e];
    let quic_lb = [&[0x40][..], &server, &[9; 4], &[0; 64]].concat();
    let dtls = [&[25, 254, 253, 0, 1, 0, 0, 0, 0, 0, 1][..], &short, &[0, 64], &[0; 64]].concat();
    let gtpu = [&[0x30, 255, 0, 64][..], &short[..4], &[0; 64]].concat();
    let case = |name, service, id: &[u8], frame| Case { name, service, id: id.to_vec(), frame };
    vec![
        case("pass_ns", None, &[], udp_frame(port(9).port(), &[0; 64])),
        case("local_native_vlan_ns", Some(0), &id, tagged(&native)),
        case("local_native_ipv6_ns", Some(1), &id, udp_frame_v6(VIP_V6.port(), &native[42..])),
        case("local_quic_ns", Some(2), &short, udp_frame(port(1).port(), &quic)),
        case("local_wireguard_ns", Some(3), &short[..4], udp_frame(port(2).port(), &wireguard)),
        bound(),
        case("local_offset_ns", Some(4), &short, udp_frame(port(3).port(), &offset)),
        case("local_quic_lb_ns", Some(5), &server, udp_frame(port(4).port(), &quic_lb)),
        case("local_dtls_ns", Some(6), &short, udp_frame(port(5).port(), &dtls)),
        case("local_gtpu_ns", Some(7), &short[..4], udp_frame(port(6).port(), &gtpu)),
    ]
}
