//! What the kernel's own stack counts of the packets that it drops in this network namespace.

use dataplane_ebpf::loss::Loss;
use std::{collections::HashMap, fs, io};

/// The counters of IP and UDP, of a whole network namespace since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelCounters(HashMap<String, u64>);

impl KernelCounters {
    /// Reads those of the namespace that this thread is in.
    pub fn read() -> io::Result<Self> {
        let mut counters = Self::default();
        for file in ["snmp", "netstat"] {
            counters.add_pairs(&fs::read_to_string(format!("/proc/thread-self/net/{file}"))?);
        }
        // Not there when IPv6 is turned off.
        match fs::read_to_string("/proc/thread-self/net/snmp6") {
            Ok(text) => counters.add_columns(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(counters)
    }

    /// Pairs of lines: `Udp: InDatagrams NoPorts`, and `Udp: 107 0`.
    fn add_pairs(&mut self, text: &str) {
        let mut lines = text.lines();
        while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
            let mut names = names.split_whitespace();
            let group = names.next().unwrap_or_default().trim_end_matches(':');
            for (name, value) in names.zip(values.split_whitespace().skip(1)) {
                // Some are negative: limits, none that is looked at here.
                if let Ok(value) = value.parse() {
                    self.0.insert(format!("{group}{name}"), value);
                }
            }
        }
    }

    /// Lines of a name and a value.
    fn add_columns(&mut self, text: &str) {
        for line in text.lines() {
            let mut words = line.split_whitespace();
            if let (Some(name), Some(Ok(value))) = (words.next(), words.next().map(str::parse)) {
                self.0.insert(name.to_owned(), value);
            }
        }
    }

    /// What was lost. Among [`Loss::UdpNoPort`] is what the selector has dropped: for the kernel that
    /// is as if nobody had the port.
    pub fn lost(&self) -> Vec<(Loss, u64)> {
        let count_of = |name: &str| self.0.get(name).copied().unwrap_or(0);
        let sum = |names: &[&str]| names.iter().map(|name| count_of(name)).sum::<u64>();
        let ip_checksum = count_of("IpExtInCsumErrors");
        let udp = |name: &str| sum(&[&format!("Udp{name}"), &format!("Udp6{name}")]);
        let udp_checksum = udp("InCsumErrors");
        let (full, memory) = (udp("RcvbufErrors"), udp("MemErrors"));
        // "Errors" count what has a counter of its own, too.
        let udp_other = udp("InErrors").saturating_sub(udp_checksum + full + memory);
        vec![
            (Loss::IpChecksum, ip_checksum),
            (Loss::IpHeader, sum(&["IpInHdrErrors", "Ip6InHdrErrors"]).saturating_sub(ip_checksum)),
            (Loss::IpTruncated, sum(&["IpExtInTruncatedPkts", "Ip6InTruncatedPkts"])),
            (Loss::IpAddress, sum(&["IpInAddrErrors", "Ip6InAddrErrors"])),
            (Loss::IpNoRoute, sum(&["IpExtInNoRoutes", "Ip6InNoRoutes"])),
            (Loss::ReversePath, count_of("TcpExtIPReversePathFilter")),
            (Loss::IpDiscarded, sum(&["IpInDiscards", "Ip6InDiscards"])),
            (Loss::UdpNoPort, udp("NoPorts")),
            (Loss::UdpChecksum, udp_checksum),
            (Loss::UdpBufferFull, full),
            (Loss::UdpMemory, memory),
            (Loss::UdpRefused, udp_other),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_kernel_counts_has_the_names_that_are_looked_for() {
        let counters = KernelCounters::read().unwrap();
        for name in [
            "IpExtInCsumErrors",
            "IpInHdrErrors",
            "IpExtInTruncatedPkts",
            "IpInAddrErrors",
            "IpExtInNoRoutes",
            "TcpExtIPReversePathFilter",
            "IpInDiscards",
            "UdpNoPorts",
            "UdpInErrors",
            "UdpInCsumErrors",
            "UdpRcvbufErrors",
            "UdpMemErrors",
        ] {
            assert!(counters.0.contains_key(name), "{name}");
        }
    }

    #[test]
    fn a_loss_is_counted_once_though_the_kernel_counts_it_twice() {
        let counters = |udp: &str| {
            let mut counters = KernelCounters::default();
            counters.add_pairs(&format!(
                "Ip: InHdrErrors InAddrErrors\nIp: 5 1\n\
                 Udp: InDatagrams NoPorts InErrors RcvbufErrors InCsumErrors MemErrors\nUdp: {udp}\n"
            ));
            counters.add_pairs("IpExt: InCsumErrors\nIpExt: 3\n");
            counters.add_columns("Udp6InErrors    \t4\nUdp6RcvbufErrors \t4\n");
            counters
        };
        let lost = counters("9 7 10 4 3 1").lost();
        let of = |loss| lost.iter().find(|(other, _)| *other == loss).unwrap().1;
        assert_eq!((of(Loss::IpChecksum), of(Loss::IpHeader), of(Loss::IpAddress)), (3, 2, 1));
        assert_eq!((of(Loss::UdpNoPort), of(Loss::UdpChecksum)), (7, 3));
        assert_eq!((of(Loss::UdpBufferFull), of(Loss::UdpMemory), of(Loss::UdpRefused)), (8, 1, 2));
    }
}
