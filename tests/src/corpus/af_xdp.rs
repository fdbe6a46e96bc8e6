//! Packets to a service whose application has AF_XDP sockets. One serves the queue by which packets
//! arrive, none the other interface.

use dataplane_ebpf::dissect::native;
use dataplane_ebpf::verdict::Verdict;

use super::from_clients::to;
use super::from_nodes::Forwarded;
use super::packet::Packet;
use super::tables::{Session, State, af_xdp_service, id_of, minted, slot};
use super::{Case, payload};
use crate::address::Family;

/// All cases of clients of one family behind an underlay of another.
pub fn cases(outer: Family, family: Family) -> Vec<Case> {
    let service = &af_xdp_service(family);
    let packet = |session| to(service, payload::data(service, &id_of(service, session)));
    let opening = minted(service, slot::HOME, 96, service.protocol.id_length());
    let opening = to(service, payload::native(native::TYPE_OPEN, &opening));
    let client = |name: &str, packet: &Packet, verdict| {
        Case::new(
            format!("client {family:?}: AF_XDP, {name}"),
            packet.frame(),
            service.index,
            verdict,
        )
    };
    let node = |name: &str, packet: &Packet, verdict| {
        let frame = Forwarded::new(outer, packet).frame();
        let name = format!("node {outer:?}, client {family:?}: AF_XDP, {name}");
        Case::new(name, frame, service.index, verdict)
    };
    let here = packet(Session::Here);
    let control = payload::control(&id_of(service, Session::Here));
    let control = Packet::new(
        super::from_clients::client(family),
        (service.address.ip(), service.control_port.expect("it has one")),
        control,
    );
    vec![
        client("a session", &here, Verdict::Local).typical(),
        client("a session without a CPU queue", &packet(Session::NoQueue), Verdict::Local),
        client("a session, where no socket is", &here, Verdict::Local)
            .elsewhere()
            .but_in_kernel(Verdict::NoXsk),
        client("an opening", &opening, Verdict::New),
        client("an opening, where no socket is", &opening, Verdict::New)
            .elsewhere()
            .but_in_kernel(Verdict::NoXsk),
        client("a session elsewhere", &packet(Session::Row), Verdict::ForwardRow),
        client("a session after the lease", &here, Verdict::FenceShut).when(State::Shut),
        client("control messages go to a socket", &control, Verdict::Local).elsewhere(),
        node("a session", &here, Verdict::Local).typical(),
        node("an opening", &opening, Verdict::New),
        node("a session after the lease", &here, Verdict::FenceShut).when(State::Shut),
    ]
}
