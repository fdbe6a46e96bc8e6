//! The loaded programs at egress beside the decision in userspace, on the same tables.

use anyhow::{Result, bail, ensure};
use aya::programs::{TestRun, TestRunOptions};
use dataplane_ebpf::egress::{Sent, reply};
use dataplane_ebpf::frame::Frame;
use dataplane_ebpf::service::SERVICES;
use dataplane_ebpf::verdict::Egress;
use dataplane_user::dataplane::Dataplane;
use dataplane_user::dataplane::clock::boottime;

use super::tables::State;

/// The length of an Ethernet header.
pub const ETHERNET: usize = 14;

const TCX_NEXT: i32 = -1;
const TCX_DROP: i32 = 2;

/// The loaded programs, with which nobody else sends.
pub struct Sending {
    /// The programs and their tables.
    pub dataplane: Dataplane,
    /// How often a program ran.
    pub runs: u64,
}

/// The least that the kernel's test run takes: an Ethernet header, and the IP header that it names.
fn shortest(frame: &[u8]) -> usize {
    match frame.get(12..ETHERNET) {
        Some([0x08, 0x00]) => ETHERNET + 20,
        Some([0x86, 0xdd]) => ETHERNET + 40,
        _ => ETHERNET + 1,
    }
}

impl Sending {
    /// Programs that were just loaded.
    pub fn new(dataplane: Dataplane) -> Self {
        Self { dataplane, runs: 0 }
    }

    /// Brings the node into a condition; in [`State::Shut`] by the exact clock, too.
    pub fn apply(&self, state: State) {
        state.apply(&self.dataplane);
        if state == State::Shut {
            let local = self.dataplane.memory.local_row();
            // Just now.
            local.arm(local.fence(), boottime().as_nanos() as u64);
        }
    }

    /// Runs a packet both ways; fails unless both agree, and returns what became of it. `ethernet`
    /// says whether it begins with a link layer's header, rather than with IP's.
    pub fn agree(&mut self, frame: &[u8], ethernet: bool) -> Result<(Egress, u16)> {
        let now = || boottime().as_nanos() as u64;
        let dataplane = &mut self.dataplane;
        let sent = Sent { frame: &Frame::new(frame), ethernet };
        let decided = reply(&sent, now, &dataplane.memory);
        let (egress, service) =
            decided.map_or((Egress::Other, 0), |decided| (decided.egress, decided.service));
        if frame.len() < shortest(frame) {
            return Ok((egress, service));
        }
        let before = dataplane.counters.egress(service, egress)?;
        let mut out = vec![0; frame.len()];
        let program = dataplane.classifier(if ethernet { "egress" } else { "egress_ip" })?;
        let ran = program.test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..TestRunOptions::default()
        })?;
        self.runs += 1;
        if dataplane.counters.egress(service, egress)? != before + 1 {
            let counts = dataplane.counters.service(service, false)?.egress;
            bail!("userspace says {egress:?} of service {service}, the kernel counted {counts:?}");
        }
        let expected = if egress.is_sent() { TCX_NEXT } else { TCX_DROP };
        let result = ran.return_value.cast_signed();
        ensure!(result == expected, "{egress:?} became {result}");
        ensure!(out == frame, "changed the packet");
        Ok((egress, service))
    }

    /// Fails unless each packet was counted once.
    pub fn check_counters(&self) -> Result<()> {
        let mut counted = 0;
        for service in 0..SERVICES as u16 {
            for &egress in Egress::ALL {
                counted += self.dataplane.counters.egress(service, egress)?;
            }
        }
        ensure!(counted == self.runs, "{counted} counted of {}", self.runs);
        Ok(())
    }
}
