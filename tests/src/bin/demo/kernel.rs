//! What the programs in the kernel have counted, added up over all nodes and services.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use dataplane_ebpf::verdict::{Admission, Verdict};
use dataplane_user::api::Client;

use crate::ask::Ask;

/// Counters by the names that `jumpgate stats` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    verdicts: BTreeMap<String, u64>,
    admissions: BTreeMap<String, u64>,
}

impl Tally {
    /// How many packets got this verdict.
    pub fn verdict(&self, verdict: Verdict) -> u64 {
        self.verdicts.get(verdict.name()).copied().unwrap_or(0)
    }

    /// What the socket selector did this often.
    pub fn admission(&self, admission: Admission) -> u64 {
        self.admissions.get(admission.name()).copied().unwrap_or(0)
    }

    /// Packets that one node has sent on to another.
    pub fn forwarded(&self) -> u64 {
        [Verdict::ForwardSlot, Verdict::ForwardRow, Verdict::SecondChance]
            .map(|verdict| self.verdict(verdict))
            .iter()
            .sum()
    }

    /// Packets that were processed on another CPU than their session's.
    pub fn wrong_cpu(&self) -> u64 {
        self.admission(Admission::WrongCpu)
    }

    /// Refusals of services' packets: the names and counts of those that happened.
    pub fn refusals(&self) -> Vec<(&'static str, u64)> {
        let verdicts = Verdict::ALL
            .iter()
            .filter(|verdict| verdict.is_reject())
            .map(|&verdict| (verdict.name(), self.verdict(verdict)));
        let admissions = Admission::ALL
            .iter()
            .filter(|what| !matches!(what, Admission::Delivered | Admission::DeliveredNew))
            .map(|&what| (what.name(), self.admission(what)));
        verdicts.chain(admissions).filter(|&(_, count)| count > 0).collect()
    }

    fn add(&mut self, verdicts: &BTreeMap<String, u64>, admissions: &BTreeMap<String, u64>) {
        for (sum, counts) in [(&mut self.verdicts, verdicts), (&mut self.admissions, admissions)] {
            for (name, count) in counts {
                *sum.entry(name.clone()).or_default() += count;
            }
        }
    }

    /// Counters for tests of what is made of them.
    #[cfg(test)]
    pub fn example(verdicts: &[(Verdict, u64)], wrong_cpu: u64) -> Self {
        Self {
            verdicts: verdicts.iter().map(|&(v, n)| (v.name().to_owned(), n)).collect(),
            admissions: [(Admission::WrongCpu.name().to_owned(), wrong_cpu)].into(),
        }
    }
}

/// Asks the daemons at these sockets for their counters.
pub fn connect(sockets: &[PathBuf]) -> Result<Ask<Tally>> {
    let clients =
        sockets.iter().map(|socket| Client::connect(socket)).collect::<Result<Vec<_>, _>>();
    let mut clients = clients.context("connecting to the daemons")?;
    Ok(Ask::new(move || read(&mut clients)))
}

/// Reads the counters of the services on all nodes.
fn read(clients: &mut [Client]) -> Result<Tally> {
    let mut tally = Tally::default();
    for client in clients {
        let stats = client.stats().context("asking a daemon for its counters")?;
        for counts in stats.services.values() {
            tally.add(&counts.verdicts, &counts.admissions);
        }
    }
    Ok(tally)
}
