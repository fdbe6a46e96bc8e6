//! The decision and the rewrite in userspace, on the tables that the kernel reads.

use dataplane_ebpf::{
    answer::Answer,
    encap::{decapsulate, decapsulation_delta, mac_addresses},
    frame::{Frame, FrameMut},
    hold::{HELD_MAX, HeldHeader, ethernet_of},
    parse::{Datagram, ETHERNET},
    route::{Action, Decision, NO_CPU, route},
    tables::Tables,
    verdict::Verdict,
    xsk::mark_forwarded,
};

/// What the XDP program would have done with a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Simulated {
    /// The verdict that is counted.
    pub verdict: Verdict,
    /// The service that it counts for.
    pub service: u16,
    /// What the program returns.
    pub result: XdpResult,
    /// The frame that it leaves behind.
    pub frame: Vec<u8>,
    /// What it puts into the hold ring, if that has room.
    pub held: Option<(HeldHeader, Vec<u8>)>,
}

/// What an XDP program tells the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum XdpResult {
    /// XDP_DROP.
    Drop = 1,
    /// XDP_PASS.
    Pass = 2,
    /// XDP_TX.
    Tx = 3,
    /// XDP_REDIRECT: to a CPU, to an AF_XDP socket or to another interface.
    Redirect = 4,
}

/// Room in front of a frame that drivers give to XDP programs (`XDP_PACKET_HEADROOM`), in bytes.
const HEADROOM: usize = 256;

/// Decides about `frame`, which arrived on the interface `ingress`, and rewrites it.
pub fn simulate<T: Tables>(frame: &[u8], ingress: u32, tables: &T) -> Simulated {
    let Decision { verdict, service, action, datagram, key } =
        route(&Frame::new(frame), ingress, tables);
    let mut held = None;
    let (verdict, result, left) = match action {
        Action::Pass => (verdict, XdpResult::Pass, frame.to_vec()),
        Action::Drop => (verdict, XdpResult::Drop, frame.to_vec()),
        Action::Deliver { forwarded: false, .. } => (verdict, XdpResult::Redirect, frame.to_vec()),
        Action::Deliver { forwarded: true, cpu } => match unwrap(frame, datagram.ip, cpu) {
            Some(unwrapped) => (verdict, XdpResult::Redirect, unwrapped),
            None => (Verdict::Malformed, XdpResult::Drop, frame.to_vec()),
        },
        Action::Forward(forward) => match forward.plan(&Frame::new(frame), &datagram, tables) {
            Err(Verdict::TooBig) if forward.is_first_hop() => {
                match forward.mtu(tables).and_then(|mtu| answer(frame, &datagram, mtu, tables)) {
                    Some(answer) => (Verdict::TooBigAnswered, XdpResult::Tx, answer),
                    None => (Verdict::TooBig, XdpResult::Drop, frame.to_vec()),
                }
            }
            Err(verdict) => (verdict, XdpResult::Drop, frame.to_vec()),
            Ok(plan) => {
                let mut moved = move_head(frame, plan.head_delta());
                let tx = plan.ifindex() == ingress;
                let result = if tx { XdpResult::Tx } else { XdpResult::Redirect };
                match plan.write(&mut FrameMut::new(&mut moved)) {
                    Some(()) => (verdict, result, moved),
                    None => (Verdict::NoHeadroom, XdpResult::Drop, moved),
                }
            }
        },
        Action::Hold => {
            let whole = Frame::new(frame);
            held = HeldHeader::of(&whole, &datagram, key, service, ingress)
                .and_then(|(header, start)| Some((header, keep(frame, header, start)?)));
            let verdict = if held.is_some() { verdict } else { Verdict::HoldTooLong };
            (verdict, XdpResult::Drop, frame.to_vec())
        }
    };
    Simulated { verdict, service, result, frame: left, held }
}

/// What the hold ring gets of a frame; `None` if that is too long for it.
fn keep(frame: &[u8], header: HeldHeader, start: usize) -> Option<Vec<u8>> {
    let length = header.length as usize;
    if length > HELD_MAX {
        return None;
    }
    let mut kept = frame[start..start + length].to_vec();
    if start != 0 {
        let addresses = mac_addresses(&Frame::new(frame))?;
        let head = ethernet_of(addresses, kept[ETHERNET]);
        kept[..ETHERNET].copy_from_slice(&head);
    }
    Some(kept)
}

fn unwrap(frame: &[u8], inner: usize, cpu: u32) -> Option<Vec<u8>> {
    let addresses = mac_addresses(&Frame::new(frame))?;
    let addresses = if cpu == NO_CPU { mark_forwarded(addresses) } else { addresses };
    let mut moved = move_head(frame, decapsulation_delta(inner));
    decapsulate(&mut FrameMut::new(&mut moved), addresses)?;
    Some(moved)
}

fn answer<T: Tables>(frame: &[u8], datagram: &Datagram, mtu: usize, tables: &T) -> Option<Vec<u8>> {
    let answer = Answer::plan(&Frame::new(frame), datagram, mtu, tables)?;
    let mut moved = move_head(frame, answer.head_delta());
    answer.write(&mut FrameMut::new(&mut moved))?;
    moved.truncate(answer.length());
    Some(moved)
}

/// What `bpf_xdp_adjust_head` does.
fn move_head(frame: &[u8], delta: i32) -> Vec<u8> {
    match usize::try_from(delta) {
        Ok(shrink) => frame[shrink..].to_vec(),
        Err(_) => {
            let grow = delta.unsigned_abs() as usize;
            debug_assert!(grow <= HEADROOM);
            let mut moved = vec![0; grow];
            moved.extend_from_slice(frame);
            moved
        }
    }
}
