//! The XDP program.

use crate::{
    context::{frame, frame_mut, move_head},
    events::tell,
    hold::hold,
    maps::{Maps, count_verdict, redirect_to_cpu, redirect_to_xsk},
    too_big,
};
use aya_ebpf::{bindings::xdp_action, helpers::bpf_redirect, macros::xdp, programs::XdpContext};
use dataplane_ebpf::{
    encap::{Forward, decapsulate, decapsulation_delta, mac_addresses},
    event::{Evidence, Reason},
    parse::Datagram,
    route::{Action, Arrival, Decision, NO_CPU},
    verdict::Verdict,
    xsk::{mark_forwarded, row_of},
};

/// Logs a packet's verdict.
///
/// The loader sets the level before the program is verified, and the verifier takes this out unless
/// packets are to be logged. No function: programs would share a part of it, and make `jumpgate`
/// call it.
macro_rules! log {
    ($ctx:expr, $service:expr, $verdict:expr) => {
        aya_log_ebpf::debug!($ctx, "service {} verdict {}", $service, $verdict as u32)
    };
}
pub(crate) use log;

/// Steers the packets of the node's services; passes everything else untouched.
// As a function of its own it would cost every packet a call, 5 ns.
#[xdp]
#[inline(always)]
pub fn jumpgate(ctx: XdpContext) -> u32 {
    steer(&ctx)
}

/// Decides about a packet, acts and counts.
#[inline(always)]
pub fn steer(ctx: &XdpContext) -> u32 {
    let ingress = ctx.ingress_ifindex() as u32;
    let Some(arrival) = Arrival::of(&frame(ctx), &Maps) else { return pass() };
    let decision = arrival.route(&frame(ctx), ingress, &Maps);
    let service = decision.service;
    let (verdict, result) = act(ctx, ingress, decision);
    log!(ctx, service, verdict);
    result
}

/// Leaves a packet that is for no service to the kernel, and counts it.
#[inline(always)]
pub fn pass() -> u32 {
    count_verdict(0, Verdict::Pass);
    xdp_action::XDP_PASS
}

/// Does with a packet what was decided, and counts it. Returns its verdict, which acting may have
/// changed, and what the kernel is to do.
#[inline(always)]
pub fn act(ctx: &XdpContext, ingress: u32, decision: Decision) -> (Verdict, u32) {
    let Decision { verdict, service, action, datagram, key } = decision;
    // Most packets: a way of its own, on which nothing is kept for what they do not need.
    if let Action::Deliver { cpu, forwarded: false } = action
        && let Some(result) = redirect_to_cpu(cpu)
    {
        count_verdict(service, verdict);
        return (verdict, result);
    }
    let outcome = match action {
        Action::Pass => Ok(xdp_action::XDP_PASS),
        Action::Drop => Ok(xdp_action::XDP_DROP),
        Action::Deliver { cpu, forwarded: false } => hand_over(ctx, ingress, cpu),
        Action::Deliver { cpu, forwarded: true } => {
            unwrap(ctx, cpu, datagram.ip).and_then(|()| hand_over(ctx, ingress, cpu))
        }
        Action::Forward(forward) => match send(ctx, ingress, &forward, &datagram) {
            Err(Verdict::TooBig) if too_big::answer(ctx, &forward, &datagram) => {
                Err(Verdict::TooBigAnswered)
            }
            sent => sent,
        },
        Action::Hold => Err(hold(ctx, ingress, service, &datagram, key)),
    };
    let (verdict, result) = match outcome {
        Ok(result) => (verdict, result),
        Err(Verdict::TooBigAnswered) => (Verdict::TooBigAnswered, xdp_action::XDP_TX),
        Err(verdict) => (verdict, xdp_action::XDP_DROP),
    };
    settle(service, verdict, ingress, Evidence::of(&datagram, key));
    (verdict, result)
}

/// Counts a packet's verdict, and tells of it if it is a refusal.
#[inline(always)]
fn settle(service: u16, verdict: Verdict, ingress: u32, evidence: Evidence) {
    count_verdict(service, verdict);
    if verdict.is_reject() {
        tell(service, Reason::Verdict(verdict), ingress, evidence);
    }
}

/// Takes the encapsulation off.
#[inline(always)]
fn unwrap(ctx: &XdpContext, cpu: u32, inner: usize) -> Result<(), Verdict> {
    let addresses = mac_addresses(&frame(ctx)).ok_or(Verdict::Malformed)?;
    let addresses = if cpu == NO_CPU { mark_forwarded(addresses) } else { addresses };
    move_head(ctx, decapsulation_delta(inner))?;
    decapsulate(&mut frame_mut(ctx), addresses).ok_or(Verdict::Malformed)
}

/// Gives the packet to its CPU, or to the AF_XDP socket of the queue that it came by.
#[inline(always)]
fn hand_over(ctx: &XdpContext, ingress: u32, cpu: u32) -> Result<u32, Verdict> {
    // First as if there were no AF_XDP, so that whoever does without it need not ask.
    match redirect_to_cpu(cpu) {
        Some(result) => Ok(result),
        None if cpu == NO_CPU => {
            let row = row_of(&Maps, ingress, ctx.rx_queue_index()).ok_or(Verdict::NoXsk)?;
            redirect_to_xsk(row).ok_or(Verdict::NoXsk)
        }
        None => Err(Verdict::NoCpu),
    }
}

#[inline(always)]
fn send(
    ctx: &XdpContext,
    ingress: u32,
    forward: &Forward,
    datagram: &Datagram,
) -> Result<u32, Verdict> {
    let plan = forward.plan(&frame(ctx), datagram, &Maps)?;
    move_head(ctx, plan.head_delta())?;
    plan.write(&mut frame_mut(ctx)).ok_or(Verdict::NoHeadroom)?;
    if plan.ifindex() == ingress {
        return Ok(xdp_action::XDP_TX);
    }
    // SAFETY: takes numbers only.
    Ok(unsafe { bpf_redirect(plan.ifindex(), 0) } as u32)
}
