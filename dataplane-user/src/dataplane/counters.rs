//! Verdicts, admissions and what becomes of replies, counted on each CPU, and what AF_XDP ports have
//! counted.

use super::{object::take_map, region::Region};
use aya::{
    Ebpf,
    maps::{Map, MapData, MapError, PerCpuArray},
};
use dataplane_ebpf::{
    service::SERVICES,
    verdict::{
        ADMISSION_SLOTS, Admission, EGRESS_SLOTS, Egress, TRANSMISSION_SLOTS, Transmission,
        VERDICT_SLOTS, Verdict,
    },
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    os::fd::AsFd,
    sync::atomic::{AtomicU64, Ordering},
};

/// Reads the counters of the programs.
pub struct Counters {
    verdicts: PerCpuArray<MapData, u64>,
    admissions: PerCpuArray<MapData, u64>,
    egress: PerCpuArray<MapData, u64>,
    /// See [`XSK_COUNTS`].
    xsk: Region<AtomicU64>,
}

/// Counters of AF_XDP ports, all together: admissions for each service, then transmissions.
pub const XSK_COUNTS: usize = SERVICES * (ADMISSION_SLOTS + TRANSMISSION_SLOTS);

/// The place of an admission among [`XSK_COUNTS`].
pub fn xsk_admission(service: u16, admission: Admission) -> usize {
    usize::from(service) % SERVICES * ADMISSION_SLOTS + admission as usize
}

/// The place of a transmission among [`XSK_COUNTS`].
pub fn xsk_transmission(service: u16, transmission: Transmission) -> usize {
    let first = SERVICES * ADMISSION_SLOTS;
    first + usize::from(service) % SERVICES * TRANSMISSION_SLOTS + transmission as usize
}

/// What happened to the packets of one service since the programs were loaded; names with a
/// count of 0 are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Packets by [`Verdict`].
    pub verdicts: BTreeMap<String, u64>,
    /// Datagrams by [`Admission`].
    pub admissions: BTreeMap<String, u64>,
    /// Packets that this node sends, by [`Egress`].
    #[serde(default)]
    pub egress: BTreeMap<String, u64>,
    /// Datagrams by [`Admission`] and [`Transmission`] of AF_XDP ports.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub af_xdp: BTreeMap<String, u64>,
    /// The same packets by the CPU that ran the program, from CPU 0 on; only where asked for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub verdicts_by_cpu: BTreeMap<String, Vec<u64>>,
    /// The same datagrams by the CPU that ran the selector; only where asked for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub admissions_by_cpu: BTreeMap<String, Vec<u64>>,
    /// The same packets by the CPU that ran the program at egress; only where asked for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub egress_by_cpu: BTreeMap<String, Vec<u64>>,
}

impl Counters {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, MapError> {
        let (verdicts, admissions) = (take(ebpf, "VERDICTS")?, take(ebpf, "ADMISSIONS")?);
        let egress = take(ebpf, "EGRESS")?;
        let xsk = match ebpf.map("XSK_COUNTS") {
            Some(Map::Array(data)) => Region::of_map(data.fd().as_fd(), XSK_COUNTS)?,
            _ => return Err(MapError::InvalidName { name: "XSK_COUNTS".to_owned() }),
        };
        Ok(Self { verdicts, admissions, egress, xsk })
    }

    /// Datagrams of a service that AF_XDP ports admitted or refused so.
    pub fn xsk_admission(&self, service: u16, admission: Admission) -> u64 {
        self.xsk(xsk_admission(service, admission))
    }

    /// Datagrams of a service that AF_XDP ports sent or refused so.
    pub fn xsk_transmission(&self, service: u16, transmission: Transmission) -> u64 {
        self.xsk(xsk_transmission(service, transmission))
    }

    fn xsk(&self, place: usize) -> u64 {
        self.xsk.get(place).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// The counts of a service, for each CPU too if `by_cpu`; of index 0, what belongs to none.
    pub fn service(&self, service: u16, by_cpu: bool) -> Result<Counts, MapError> {
        let mut counts = Counts::default();
        for &verdict in Verdict::ALL {
            let cpus = read(&self.verdicts, verdict_index(service, verdict))?;
            add(verdict.name(), &cpus, &mut counts.verdicts);
            if by_cpu {
                add_cpus(verdict.name(), cpus, &mut counts.verdicts_by_cpu);
            }
        }
        for &admission in Admission::ALL {
            let cpus = read(&self.admissions, admission_index(service, admission))?;
            add(admission.name(), &cpus, &mut counts.admissions);
            if by_cpu {
                add_cpus(admission.name(), cpus, &mut counts.admissions_by_cpu);
            }
        }
        for &egress in Egress::ALL {
            let cpus = read(&self.egress, egress_index(service, egress))?;
            add(egress.name(), &cpus, &mut counts.egress);
            if by_cpu {
                add_cpus(egress.name(), cpus, &mut counts.egress_by_cpu);
            }
        }
        for &admission in Admission::ALL {
            let count = self.xsk_admission(service, admission);
            add(admission.name(), &[count], &mut counts.af_xdp);
        }
        for &transmission in Transmission::ALL {
            let count = self.xsk_transmission(service, transmission);
            add(transmission.name(), &[count], &mut counts.af_xdp);
        }
        Ok(counts)
    }

    /// Packets of a service with this verdict.
    pub fn verdict(&self, service: u16, verdict: Verdict) -> Result<u64, MapError> {
        Ok(read(&self.verdicts, verdict_index(service, verdict))?.iter().sum())
    }

    /// Datagrams of a service with this admission.
    pub fn admission(&self, service: u16, admission: Admission) -> Result<u64, MapError> {
        Ok(read(&self.admissions, admission_index(service, admission))?.iter().sum())
    }

    /// Packets from a service that became this at egress.
    pub fn egress(&self, service: u16, egress: Egress) -> Result<u64, MapError> {
        Ok(read(&self.egress, egress_index(service, egress))?.iter().sum())
    }
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<PerCpuArray<MapData, u64>, MapError> {
    let map = take_map(ebpf, name)?;
    PerCpuArray::try_from(map)
}

fn verdict_index(service: u16, verdict: Verdict) -> u32 {
    service as u32 * VERDICT_SLOTS as u32 + verdict as u32
}

fn admission_index(service: u16, admission: Admission) -> u32 {
    service as u32 * ADMISSION_SLOTS as u32 + admission as u32
}

fn egress_index(service: u16, egress: Egress) -> u32 {
    service as u32 * EGRESS_SLOTS as u32 + egress as u32
}

/// One counter on each CPU.
fn read(counters: &PerCpuArray<MapData, u64>, index: u32) -> Result<Vec<u64>, MapError> {
    Ok(counters.get(&index, 0)?.to_vec())
}

fn add(name: &str, cpus: &[u64], counts: &mut BTreeMap<String, u64>) {
    let sum: u64 = cpus.iter().sum();
    if sum > 0 {
        counts.insert(name.to_owned(), sum);
    }
}

fn add_cpus(name: &str, cpus: Vec<u64>, counts: &mut BTreeMap<String, Vec<u64>>) {
    if cpus.iter().any(|&count| count > 0) {
        counts.insert(name.to_owned(), cpus);
    }
}
