//! A network of the calling thread's own, in which connections can be cut.
//!
//! ```text
//!   the test's namespace: clients; routes between members
//!        10.77.0.1      10.77.1.1      10.77.2.1
//!            |              |              |          a veth pair each
//!        10.77.0.2      10.77.1.2      10.77.2.2
//!        member 0       member 1       member 2       a namespace each
//! ```
//!
//! What members send each other is forwarded by the test's namespace, what clients and members send each
//! other begins or ends there: so either can be dropped, in either direction.

use nix::{
    sched::{CloneFlags, unshare},
    unistd::{geteuid, gettid},
};
use std::{fs, net::Ipv4Addr, process::Command};

/// The namespace of a test, with nothing in it but what the test made.
#[derive(Clone, Copy)]
pub struct Network(());

impl Network {
    /// Moves this thread into a network of its own, and with it all that it starts from here on.
    /// `None` without root.
    pub fn own() -> Option<Self> {
        if !geteuid().is_root() {
            return None;
        }
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        ip("link set lo up");
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("routing in the namespace");
        nft("add table ip test");
        for hook in ["input", "forward", "output"] {
            nft(&format!("add chain ip test {hook} {{ type filter hook {hook} priority 0 ; }}"));
        }
        Some(Self(()))
    }

    /// Where a member is.
    pub fn address(self, at: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, at as u8, 2)
    }

    /// Moves this thread, which starts a member, into a namespace of that member's own.
    pub fn enter_member(self) -> MemberNamespace {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        ip("link set lo up");
        MemberNamespace(format!("/proc/{}/task/{}/ns/net", std::process::id(), gettid()))
    }

    /// Connects that namespace; from the test's thread.
    pub fn connect(self, at: usize, MemberNamespace(namespace): &MemberNamespace) {
        ip(&format!("link add member{at} type veth peer name uplink netns {namespace}"));
        ip(&format!("addr add 10.77.{at}.1/24 dev member{at}"));
        ip(&format!("link set member{at} up"));
    }

    /// Gives it its address; from the member's thread.
    pub fn address_member(self, at: usize) {
        ip(&format!("addr add {}/24 dev uplink", self.address(at)));
        ip("link set uplink up");
        ip(&format!("route add default via 10.77.{at}.1"));
    }

    /// Drops what clients send to a member.
    pub fn drop_requests(self, at: usize) {
        nft(&format!("add rule ip test output ip daddr {} drop", self.address(at)));
    }

    /// Drops what a member sends to clients.
    pub fn drop_answers(self, at: usize) {
        nft(&format!("add rule ip test input ip saddr {} drop", self.address(at)));
    }

    /// Drops all between a member and the others. Clients still reach it.
    pub fn isolate(self, at: usize) {
        nft(&format!("add rule ip test forward ip daddr {} drop", self.address(at)));
        nft(&format!("add rule ip test forward ip saddr {} drop", self.address(at)));
    }

    /// Drops what a member sends to the others: it hears them, and they do not hear it.
    pub fn mute(self, at: usize) {
        nft(&format!("add rule ip test forward ip saddr {} drop", self.address(at)));
    }

    /// Lets everything through again.
    pub fn mend(self) {
        nft("flush table ip test");
    }
}

/// How a member's namespace is found.
pub struct MemberNamespace(String);

fn ip(arguments: &str) {
    run("ip", arguments);
}

fn nft(arguments: &str) {
    run("nft", arguments);
}

fn run(program: &str, arguments: &str) {
    let output = Command::new(program).args(arguments.split(' ')).output();
    let output = output.unwrap_or_else(|error| {
        panic!("running {program}: {error}; `cargo xtask setup` brings it")
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {said}");
}
