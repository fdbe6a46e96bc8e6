//! Verdicts and admissions, added up over the CPUs.

use aya::{
    Ebpf,
    maps::{MapData, MapError, PerCpuArray},
};
use dataplane_ebpf::verdict::{ADMISSION_SLOTS, Admission, VERDICT_SLOTS, Verdict};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Reads the counters of the programs.
pub struct Counters {
    verdicts: PerCpuArray<MapData, u64>,
    admissions: PerCpuArray<MapData, u64>,
}

/// What happened to the packets of one service since the programs were loaded; names with a
/// count of 0 are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Packets by [`Verdict`].
    pub verdicts: BTreeMap<String, u64>,
    /// Datagrams by [`Admission`].
    pub admissions: BTreeMap<String, u64>,
}

impl Counters {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, MapError> {
        Ok(Self { verdicts: take(ebpf, "VERDICTS")?, admissions: take(ebpf, "ADMISSIONS")? })
    }

    /// The counts of a service; of index 0, what belongs to none.
    pub fn service(&self, service: u16) -> Result<Counts, MapError> {
        let mut counts = Counts::default();
        for &verdict in Verdict::ALL {
            let count = self.verdict(service, verdict)?;
            if count > 0 {
                counts.verdicts.insert(verdict.name().to_owned(), count);
            }
        }
        for &admission in Admission::ALL {
            let count = self.admission(service, admission)?;
            if count > 0 {
                counts.admissions.insert(admission.name().to_owned(), count);
            }
        }
        Ok(counts)
    }

    /// Packets of a service with this verdict.
    pub fn verdict(&self, service: u16, verdict: Verdict) -> Result<u64, MapError> {
        sum(&self.verdicts, service as usize * VERDICT_SLOTS + verdict as usize)
    }

    /// Datagrams of a service with this admission.
    pub fn admission(&self, service: u16, admission: Admission) -> Result<u64, MapError> {
        sum(&self.admissions, service as usize * ADMISSION_SLOTS + admission as usize)
    }
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<PerCpuArray<MapData, u64>, MapError> {
    let map = ebpf.take_map(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() })?;
    PerCpuArray::try_from(map)
}

fn sum(counters: &PerCpuArray<MapData, u64>, index: usize) -> Result<u64, MapError> {
    Ok(counters.get(&(index as u32), 0)?.iter().sum())
}
