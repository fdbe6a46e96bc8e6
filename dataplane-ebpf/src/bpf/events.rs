//! The event ring, and the budget of each CPU.

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::{bpf_get_smp_processor_id, bpf_jiffies64},
    macros::map,
    maps::{PerCpuArray, RingBuf},
};
use dataplane_ebpf::{
    event::{Budget, Event, Evidence, REASON_SLOTS, RING, Reason},
    service::SERVICES,
};

/// Refused packets, for the daemon, which looks a few times a second. Written by all programs.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(RING, 0);

/// What each CPU has told and suppressed, by service and reason. Written by all programs.
#[map]
static EVENT_BUDGETS: PerCpuArray<Budget> =
    PerCpuArray::with_max_entries((SERVICES * REASON_SLOTS) as u32, 0);

/// Tells userspace of a refused packet, or counts that it does not. `ifindex` is 0 if not known.
#[inline(always)]
pub fn tell(service: u16, reason: Reason, ifindex: u32, evidence: Evidence) {
    let Some(budget) = EVENT_BUDGETS.get_ptr_mut(Budget::index(service, reason)) else { return };
    // SAFETY: the pointer is to this CPU's own row, and no program that writes it is interrupted by
    // another one on its CPU.
    let budget = unsafe { &mut *budget };
    // SAFETY: takes no argument and has no effect.
    let jiffies = unsafe { bpf_jiffies64() };
    if !budget.may_tell(jiffies) {
        return;
    }
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        budget.suppressed += 1;
        return;
    };
    budget.told += 1;
    let Evidence { source, port, key } = evidence;
    entry.write(Event {
        jiffies,
        suppressed: budget.suppressed,
        hash: key.hash,
        source,
        ifindex,
        // SAFETY: as above.
        cpu: unsafe { bpf_get_smp_processor_id() },
        port,
        slot: key.slot,
        service,
        origin: reason.origin(),
        code: reason.code(),
    });
    entry.submit(BPF_RB_NO_WAKEUP as u64);
}
