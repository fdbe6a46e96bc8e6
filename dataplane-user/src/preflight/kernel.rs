//! The binary, the kernel, privileges, CPUs and the bpffs.

use super::Finding;
use crate::{
    config::Config,
    dataplane::{LoadError, OLDEST_KERNEL, grace::obstacle, object::Object, parse_release},
};
use nix::{
    errno::Errno,
    sys::statfs::{BPF_FS_MAGIC, statfs},
};
use std::{fs, path::Path};

/// Linux uapi, `linux/capability.h`.
const CAPABILITIES: [(&str, u32); 3] =
    [("CAP_NET_ADMIN", 12), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];

pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut found = vec![
        programs(Object::Daemon.bytes().is_some()),
        kernel(release.trim()),
        privileges(effective(&status)),
        holding(effective(&status)),
        cpus(&config.sessions.cpus, is_online),
        grace(obstacle()),
    ];
    if config.pins.enabled {
        found.push(bpffs(&config.pins.path));
    }
    found
}

fn programs(are_there: bool) -> Finding {
    const SUBJECT: &str = "programs";
    if are_there {
        Finding::fine(SUBJECT, "this binary holds them")
    } else {
        Finding::error(SUBJECT, LoadError::NoObject.to_string(), "")
    }
}

fn kernel(release: &str) -> Finding {
    const SUBJECT: &str = "kernel";
    match parse_release(release) {
        None => Finding::unseen(SUBJECT, format!("its release {release:?} has no version"), ""),
        Some(version) if version < OLDEST_KERNEL => Finding::error(
            SUBJECT,
            format!("Linux {release} is too old: the programs need 6.6 or later"),
            "boot a newer kernel (Debian 13 and Ubuntu 24.04 have one)",
        ),
        Some(_) => Finding::fine(SUBJECT, format!("Linux {release}")),
    }
}

/// The effective capabilities in `/proc/self/status`.
fn effective(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(value.trim(), 16).ok()
}

/// A lack is no error: who checks a configuration need not be who runs the daemon.
fn privileges(effective: Option<u64>) -> Finding {
    const SUBJECT: &str = "privileges";
    let Some(effective) = effective else {
        return Finding::unseen(SUBJECT, "/proc/self/status could not be read", "");
    };
    let lacks = CAPABILITIES.iter().filter(|(_, bit)| effective & (1 << bit) == 0);
    let lacks: Vec<_> = lacks.map(|(name, _)| *name).collect();
    if lacks.is_empty() {
        return Finding::fine(SUBJECT, "CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON");
    }
    Finding::warning(
        SUBJECT,
        format!("{} missing here: the daemon cannot run so", lacks.join(", ")),
        "run it as root (`sudo jumpgate run …`), or give it CAP_BPF, CAP_NET_ADMIN and \
         CAP_PERFMON (systemd: AmbientCapabilities=); check it as the same user",
    )
}

/// What holds sessions sends their packets itself; everything else works without.
fn holding(effective: Option<u64>) -> Finding {
    const SUBJECT: &str = "held packets";
    /// Linux uapi, `linux/capability.h`.
    const CAP_NET_RAW: u32 = 13;
    match effective {
        None => Finding::unseen(SUBJECT, "/proc/self/status could not be read", ""),
        Some(bits) if bits & (1 << CAP_NET_RAW) != 0 => Finding::fine(SUBJECT, "CAP_NET_RAW"),
        Some(_) => Finding::warning(
            SUBJECT,
            "CAP_NET_RAW missing here: the daemon cannot hold sessions so",
            "give it CAP_NET_RAW, too",
        ),
    }
}

fn cpus(configured: &[u32], is_online: impl Fn(u32) -> bool) -> Finding {
    const SUBJECT: &str = "CPUs";
    let off: Vec<_> = configured.iter().filter(|&&cpu| !is_online(cpu)).collect();
    if off.is_empty() {
        return Finding::fine(SUBJECT, format!("{configured:?} are online"));
    }
    Finding::error(
        SUBJECT,
        format!("sessions.cpus names {off:?}, which are not there or not online"),
        "name CPUs of /sys/devices/system/cpu/online",
    )
}

fn is_online(cpu: u32) -> bool {
    let folder = format!("/sys/devices/system/cpu/cpu{cpu}");
    // A CPU that cannot be switched off has no such file.
    match fs::read_to_string(format!("{folder}/online")) {
        Ok(text) => text.trim() == "1",
        Err(_) => Path::new(&folder).exists(),
    }
}

/// Only what moves sessions waits for grace periods, never a packet.
fn grace(obstacle: Option<String>) -> Finding {
    const SUBJECT: &str = "grace periods";
    match obstacle {
        None => Finding::fine(SUBJECT, "a real-time thread runs on every CPU: some 50 µs each"),
        Some(reason) => Finding::note(
            SUBJECT,
            format!("{reason}: the kernel's RCU is waited for, some 10 to 50 ms each"),
            "give the daemon CAP_SYS_NICE and all CPUs, so that sessions are held for less long",
        ),
    }
}

fn bpffs(path: &Path) -> Finding {
    const SUBJECT: &str = "pins";
    for folder in path.ancestors() {
        match statfs(folder) {
            Ok(found) if found.filesystem_type() == BPF_FS_MAGIC => {
                return Finding::fine(SUBJECT, format!("{} is on a bpffs", path.display()));
            }
            Ok(_) => break,
            // What may not be entered may be entered by the daemon; above it one sees enough.
            Err(Errno::ENOENT | Errno::EACCES) => {}
            Err(error) => {
                let what = format!("looking at {}: {error}", folder.display());
                return Finding::unseen(SUBJECT, what, "");
            }
        }
    }
    Finding::error(
        SUBJECT,
        format!("{} is not on a bpffs: nothing can be pinned there", path.display()),
        format!(
            "{}, or set pins.enabled = false (then forwarding ends with the daemon)",
            mount_command(path)
        ),
    )
}

/// The command after which a path is on a bpffs.
fn mount_command(path: &Path) -> String {
    if path.starts_with("/sys/fs/bpf") {
        return "mount one with `mount -t bpf bpf /sys/fs/bpf`".to_owned();
    }
    let target = path.display();
    format!("mount one with `mkdir -p {target} && mount -t bpf bpf {target}`")
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn old_kernels_are_refused() {
        assert_eq!(kernel("5.15.0-91-generic").level, Level::Error);
        assert_eq!(kernel("6.1.0-18-amd64").level, Level::Error);
        assert_eq!(kernel("6.6.0-1-amd64").level, Level::Fine);
        assert_eq!(kernel("").level, Level::Unseen);
    }

    #[test]
    fn missing_capabilities_are_named() {
        assert_eq!(effective("Name:\tx\nCapEff:\t000001ffffffffff\n"), Some(0x1ff_ffff_ffff));
        assert_eq!(effective("Name:\tx\n"), None);
        assert_eq!(privileges(Some(0x1ff_ffff_ffff)).level, Level::Fine);
        assert_eq!(privileges(Some(1 << 12 | 1 << 38 | 1 << 39)).level, Level::Fine);
        let finding = privileges(Some(1 << 12));
        assert_eq!(finding.level, Level::Warning);
        assert!(finding.what.starts_with("CAP_PERFMON, CAP_BPF missing"), "{finding}");
        assert_eq!(privileges(None).level, Level::Unseen);
    }

    #[test]
    fn cpus_that_are_off_are_named() {
        assert_eq!(cpus(&[0, 1], |_| true).level, Level::Fine);
        let finding = cpus(&[0, 1, 7], |cpu| cpu < 2);
        assert_eq!(finding.level, Level::Error);
        assert!(finding.what.contains("[7]"), "{finding}");
        assert!(is_online(0));
        assert!(!is_online(100_000));
    }

    #[test]
    fn what_makes_grace_periods_long_is_noted() {
        assert_eq!(grace(None).level, Level::Fine);
        let finding = grace(Some("becoming SCHED_FIFO: EPERM".to_owned()));
        assert_eq!(finding.level, Level::Note);
        assert!(finding.to_string().contains("SCHED_FIFO") && finding.mend.contains("SYS_NICE"));
    }

    #[test]
    fn a_path_that_is_on_no_bpffs_gets_the_command_that_mounts_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("not/yet/there");
        let finding = bpffs(&path);
        assert_eq!(finding.level, Level::Error);
        let command = format!("`mkdir -p {0} && mount -t bpf bpf {0}`", path.display());
        assert!(finding.mend.contains(&command), "{finding}");
        assert!(
            mount_command(Path::new("/sys/fs/bpf/jumpgate"))
                .contains("mount -t bpf bpf /sys/fs/bpf`")
        );
    }
}
