//! Settings of the calling thread's network namespace.

use std::fs;

/// A setting below `net`, such as `ipv4/conf/all/rp_filter`, if there is one and it is a number.
///
/// `/proc/sys/net` shows the namespace of the thread that opens a file there.
pub(super) fn number(key: &str) -> Option<u64> {
    fs::read_to_string(format!("/proc/sys/net/{key}")).ok()?.trim().parse().ok()
}

/// An interface's name as a part of a setting's dotted name: dots become slashes.
pub(super) fn dotted(interface: &str) -> String {
    interface.replace('.', "/")
}

/// The value of a counter in the table of `/proc/net/snmp`: two lines for each protocol, names
/// above and values below.
pub(super) fn snmp(table: &str, protocol: &str, counter: &str) -> Option<u64> {
    let prefix = format!("{protocol}: ");
    let mut lines = table.lines().filter_map(|line| line.strip_prefix(&prefix));
    let (names, values) = (lines.next()?, lines.next()?);
    let place = names.split_whitespace().position(|name| name == counter)?;
    values.split_whitespace().nth(place)?.parse().ok()
}

/// The value of a counter in the table of `/proc/net/snmp6`: a name and a value in each line.
pub(super) fn snmp6(table: &str, counter: &str) -> Option<u64> {
    table.lines().find_map(|line| {
        let (name, value) = line.split_once(char::is_whitespace)?;
        (name == counter).then(|| value.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_name() {
        let table = "Ip: Forwarding\nIp: 1\n\
                     Udp: InDatagrams NoPorts InErrors InCsumErrors\nUdp: 10 2 3 7\n";
        assert_eq!(snmp(table, "Udp", "InCsumErrors"), Some(7));
        assert_eq!(snmp(table, "Udp", "Missing"), None);
        assert_eq!(snmp(table, "UdpLite", "InCsumErrors"), None);
        let table = "Udp6InDatagrams                 \t3\nUdp6InCsumErrors \t9\n";
        assert_eq!(snmp6(table, "Udp6InCsumErrors"), Some(9));
        assert_eq!(snmp6(table, "Udp6"), None);
    }
}
