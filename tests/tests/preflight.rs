//! `jumpgate check` and the daemon's start on machines where something is in the way: the message
//! has the answer.

use std::fs;
use std::process::Output;

use anyhow::{Context, Result, ensure};
use jumpgate_tests::address::Family;
use jumpgate_tests::config::{Config, Service};
use jumpgate_tests::daemon::{Daemon, binary};
use jumpgate_tests::ip::Batch;
use jumpgate_tests::topology::{Builder, Cluster, Node};
use jumpgate_tests::xdp::{self, Attached};
use jumpgate_tests::{require_root, sysctl};

const PORT: u16 = 4000;

/// A network of two nodes and the configuration of the first, with which nothing is wrong.
fn fine(builder: Builder) -> Result<(Cluster, Config)> {
    let cluster = builder.nodes(2).build()?;
    let services = Family::ALL
        .map(|family| Service::native(&format!("echo-{family:?}"), cluster.vip(family), PORT));
    let config = Config::of(&cluster, &cluster.nodes()[0], &services);
    Ok((cluster, config))
}

/// Runs a command of `jumpgate` that takes a configuration on the first node.
fn jumpgate(cluster: &Cluster, config: &Config, arguments: &[&str]) -> Result<Output> {
    let node = &cluster.nodes()[0];
    let directory = cluster.scratch().join(node.name());
    fs::create_dir_all(&directory)?;
    let file = directory.join("checked.toml");
    fs::write(&file, config.to_toml()?)?;
    let mut command = node.namespace().command(binary()?);
    command.args(arguments).arg(&file);
    node.mounts().enter(&mut command);
    command.output().context("running jumpgate")
}

/// What `jumpgate check` says, and whether it found no error.
fn check(cluster: &Cluster, config: &Config) -> Result<(String, bool)> {
    let output = jumpgate(cluster, config, &["check"])?;
    let text = String::from_utf8(output.stdout)?;
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    Ok((text, output.status.success()))
}

/// Why the daemon does not start.
fn refusal(cluster: &Cluster, config: &Config) -> Result<String> {
    let output = jumpgate(cluster, config, &["run", "--config"])?;
    ensure!(!output.status.success(), "the daemon ended well");
    let text = String::from_utf8(output.stderr)?;
    let last = text.lines().last().unwrap_or_default().to_owned();
    println!("{last}");
    Ok(last)
}

/// The finding with this start, with its answer on the next line.
#[track_caller]
fn assert_finds(text: &str, start: &str, answer: &str) {
    let mut lines = text.lines().skip_while(|line| !line.starts_with(start));
    assert!(lines.next().is_some(), "{start:?} is not in:\n{text}");
    let next = lines.next().unwrap_or_default();
    assert!(next.contains(answer), "{answer:?} does not answer {start:?} in:\n{text}");
}

fn eth0(node: &Node) -> Result<&'static str> {
    ensure!(node.interfaces() == ["eth0"]);
    Ok("eth0")
}

#[test]
fn nothing_is_found_where_all_is_well() -> Result<()> {
    require_root!();
    let (cluster, config) = fine(Cluster::builder())?;
    let (text, is_fine) = check(&cluster, &config)?;
    ensure!(is_fine && text.contains("\nno errors, 0 warnings"), "{text}");
    for line in [
        "ok        programs: ",
        "ok        kernel: Linux ",
        "ok        privileges: ",
        "ok        pins: /sys/fs/bpf/jumpgate is on a bpffs",
        "ok        eth0: link: up",
        "ok        eth0: MTU: 1600 bytes, 1560 are needed",
        "ok        eth0: rp_filter: 0",
        "ok        eth0: RPS: off",
        "ok        eth0: XDP: native",
        "ok        eth0: veth's other end: node-a runs a native XDP program",
        "ok        node a: 10.1.0.2 is on eth0",
        "ok        VIP 198.51.100.1: local",
        "ok        VIP 2001:db8:51::1: local",
        "ok        checksums: ",
    ] {
        ensure!(text.contains(line), "{line:?} is not in:\n{text}");
    }
    assert_finds(&text, "not seen  eth0: checksum offload: node-a", "`ethtool -K node-a tx off`");
    Ok(())
}

#[test]
fn a_running_daemon_is_not_in_its_own_way() -> Result<()> {
    require_root!();
    let (cluster, mut config) = fine(Cluster::builder())?;
    for pins in [true, false] {
        config.pins.enabled = Some(pins);
        let mut daemon = Daemon::start(&cluster, &cluster.nodes()[0], &config)?;
        let (text, is_fine) = check(&cluster, &config)?;
        ensure!(is_fine && text.contains("ok        eth0: attached program: "), "{text}");
        let status = daemon
            .command()?
            .args(["status", "--json", "--config"])
            .arg(daemon.config())
            .output()?;
        let status: serde_json::Value = serde_json::from_slice(&status.stdout)?;
        ensure!(status["warnings"] == serde_json::json!([]), "{status}");
        daemon.stop()?;
    }
    Ok(())
}

#[test]
fn a_pinned_program_in_another_mode_than_configured_is_a_warning() -> Result<()> {
    require_root!();
    let (cluster, mut config) = fine(Cluster::builder())?;
    config.interfaces[0].mode = "skb";
    let mut daemon = Daemon::start(&cluster, &cluster.nodes()[0], &config)?;
    daemon.kill()?;
    config.interfaces[0].mode = "native";
    let (text, is_fine) = check(&cluster, &config)?;
    ensure!(is_fine);
    let start = "warning   eth0: attached program: Jumpgate's own, pinned at ";
    assert_finds(&text, start, "`rm /sys/fs/bpf/jumpgate/a/links/eth0`");
    config.interfaces[0].mode = "auto";
    let (text, _) = check(&cluster, &config)?;
    ensure!(text.contains("ok        eth0: attached program: "), "{text}");
    Ok(())
}

#[test]
fn an_mtu_too_small_for_the_encapsulation_is_answered_with_the_right_one() -> Result<()> {
    require_root!();
    for (family, needed, largest) in [(Family::V4, 1560, 1440), (Family::V6, 1580, 1420)] {
        let (cluster, config) = fine(Cluster::builder().node_mtu(1500).underlay(family))?;
        let (text, is_fine) = check(&cluster, &config)?;
        ensure!(is_fine, "a warning is no error");
        assert_finds(
            &text,
            "warning   eth0: MTU: 1500 bytes are too few",
            &format!("`ip link set dev eth0 mtu {needed}`"),
        );
        ensure!(text.contains(&format!("packets of more than {largest} bytes")), "{text}");
    }
    Ok(())
}

#[test]
fn a_strict_reverse_path_filter_is_a_warning_that_the_daemon_shows_too() -> Result<()> {
    require_root!();
    let (cluster, config) = fine(Cluster::builder())?;
    let node = &cluster.nodes()[0];
    let answer = "`sysctl -w net.ipv4.conf.eth0.rp_filter=2`";
    sysctl::write(node.namespace(), &[("ipv4/conf/all/rp_filter", "1")])?;
    let (text, is_fine) = check(&cluster, &config)?;
    ensure!(is_fine);
    assert_finds(&text, "warning   eth0: rp_filter: it is 1", answer);
    let daemon = Daemon::start(&cluster, node, &config)?;
    let status = daemon.command()?.args(["status", "--config"]).arg(daemon.config()).output()?;
    let status = String::from_utf8(status.stdout)?;
    ensure!(status.contains(answer) && daemon.log().contains(answer), "{status}");
    // The answer is one.
    sysctl::write(node.namespace(), &[("ipv4/conf/eth0/rp_filter", "2")])?;
    let (text, _) = check(&cluster, &config)?;
    ensure!(text.contains("ok        eth0: rp_filter: 2"), "{text}");
    Ok(())
}

#[test]
fn a_missing_vip_is_an_error() -> Result<()> {
    require_root!();
    let (cluster, config) = fine(Cluster::builder())?;
    let node = cluster.nodes()[0].namespace();
    let mut batch = Batch::new();
    batch.add("address del 198.51.100.1/32 dev lo");
    batch.add("address del 2001:db8:51::1/128 dev lo");
    batch.run(node)?;
    let (text, is_fine) = check(&cluster, &config)?;
    ensure!(!is_fine);
    for (vip, length) in [("198.51.100.1", 32), ("2001:db8:51::1", 128)] {
        let answer = format!("addr add {vip}/{length} dev lo");
        assert_finds(&text, &format!("error     VIP {vip}: "), &format!("`ip {answer}`"));
        Batch::new().add(answer).run(node)?;
    }
    let (text, is_fine) = check(&cluster, &config)?;
    ensure!(is_fine, "{text}");
    Ok(())
}

#[test]
fn another_xdp_program_is_named_by_check_and_refused_by_the_daemon() -> Result<()> {
    require_root!();
    let (cluster, mut config) = fine(Cluster::builder())?;
    let node = &cluster.nodes()[0];
    let other = Attached::new(node.namespace(), eth0(node)?, &xdp::PASS)?;
    for mode in ["native", "auto", "skb"] {
        config.interfaces[0].mode = mode;
        let (text, is_fine) = check(&cluster, &config)?;
        ensure!(!is_fine);
        assert_finds(
            &text,
            "error     eth0: attached program: another XDP program is attached",
            "`ip link set dev eth0 xdp off`",
        );
        let refusal = refusal(&cluster, &config)?;
        ensure!(refusal.contains("another XDP program is attached to eth0"), "{mode}: {refusal}");
        ensure!(refusal.contains("`ip link set dev eth0 xdp off`"), "{mode}: {refusal}");
    }
    drop(other);
    config.interfaces[0].mode = "native";
    let (text, is_fine) = check(&cluster, &config)?;
    ensure!(is_fine, "{text}");
    Ok(())
}

#[test]
fn pins_without_a_bpffs_are_answered_with_the_mount_command() -> Result<()> {
    require_root!();
    let (cluster, mut config) = fine(Cluster::builder())?;
    config.pins.path = cluster.scratch().join("pins");
    let path = config.pins.path.display().to_string();
    let (text, is_fine) = check(&cluster, &config)?;
    ensure!(!is_fine);
    let answer = format!("`mkdir -p {path} && mount -t bpf bpf {path}`");
    assert_finds(&text, &format!("error     pins: {path} is not on a bpffs"), &answer);
    let refusal = refusal(&cluster, &config)?;
    ensure!(refusal.contains("must be on a bpffs"), "{refusal}");
    config.pins.enabled = Some(false);
    let (text, is_fine) = check(&cluster, &config)?;
    ensure!(is_fine && !text.contains("bpffs"), "{text}");
    Ok(())
}

#[test]
fn a_veth_whose_other_end_runs_nothing_is_a_warning() -> Result<()> {
    require_root!();
    let (cluster, mut config) = fine(Cluster::builder().without_receivers())?;
    let (text, is_fine) = check(&cluster, &config)?;
    ensure!(is_fine);
    let start = "warning   eth0: veth's other end: node-a runs no native XDP program";
    assert_finds(&text, start, "mode = \"skb\"");
    config.interfaces[0].mode = "skb";
    let (text, _) = check(&cluster, &config)?;
    ensure!(!text.contains("other end"), "{text}");
    Ok(())
}

#[test]
fn offload_on_a_veth_whose_both_ends_are_here_is_seen() -> Result<()> {
    require_root!();
    let (cluster, mut config) = fine(Cluster::builder())?;
    let mut batch = Batch::new();
    batch.add("link add left type veth peer name right");
    batch.add("link set left up");
    batch.add("link set right up");
    batch.run(cluster.nodes()[0].namespace())?;
    config.interfaces[0].name = "left".to_owned();
    let (text, _) = check(&cluster, &config)?;
    assert_finds(
        &text,
        "warning   left: checksum offload: on on right",
        "`ethtool -K right tx off`",
    );
    let start = "warning   node a: its address 10.1.0.2 is on eth0, where no program is attached";
    assert_finds(&text, start, "add eth0 to [[interfaces]]");
    Ok(())
}

#[test]
fn an_unknown_interface_is_answered_with_those_that_exist() -> Result<()> {
    require_root!();
    let (cluster, mut config) = fine(Cluster::builder())?;
    config.interfaces[0].name = "eth9".to_owned();
    let (text, is_fine) = check(&cluster, &config)?;
    ensure!(!is_fine);
    ensure!(text.contains("there are: lo, eth0"), "{text}");
    let refusal = refusal(&cluster, &config)?;
    ensure!(refusal.contains("there is no network interface \"eth9\""), "{refusal}");
    ensure!(refusal.contains("there are: lo, eth0"), "{refusal}");
    Ok(())
}

#[test]
fn without_native_xdp_native_is_refused_and_auto_falls_back_with_a_warning() -> Result<()> {
    require_root!();
    let (cluster, mut config) = fine(Cluster::builder())?;
    let node = &cluster.nodes()[0];
    Batch::new().add("link add br0 type bridge").add("link set br0 up").run(node.namespace())?;
    for interface in ["lo", "br0"] {
        config.interfaces[0].name = interface.to_owned();
        config.interfaces[0].mode = "native";
        let (text, is_fine) = check(&cluster, &config)?;
        ensure!(!is_fine, "{text}");
        assert_finds(&text, &format!("error     {interface}: XDP: a "), "mode = \"skb\"");
        let refusal = refusal(&cluster, &config)?;
        ensure!(refusal.contains(&format!("the driver of {interface} has no native XDP")));
        falls_back(&cluster, &mut config)?;
    }
    Ok(())
}

#[test]
fn an_mtu_too_large_for_native_xdp_is_refused_and_auto_falls_back_with_a_warning() -> Result<()> {
    require_root!();
    // The router's ends have no program, so that the links can have this MTU.
    let (cluster, mut config) = fine(Cluster::builder().node_mtu(4000).without_receivers())?;
    let (text, is_fine) = check(&cluster, &config)?;
    ensure!(!is_fine);
    let start = "error     eth0: XDP: a veth takes a native program up to an MTU of 3506";
    assert_finds(&text, start, "`ip link set dev eth0 mtu 3506`");
    let refusal = refusal(&cluster, &config)?;
    ensure!(refusal.contains("the driver of eth0 refuses XDP as it is set up"), "{refusal}");
    falls_back(&cluster, &mut config)
}

/// The daemon starts with `auto`, in the generic path, and says so.
fn falls_back(cluster: &Cluster, config: &mut Config) -> Result<()> {
    config.interfaces[0].mode = "auto";
    let name = &config.interfaces[0].name;
    let mut daemon = Daemon::start(cluster, &cluster.nodes()[0], config)?;
    let warning = format!("{name} runs in the kernel's generic path, many times slower: ");
    ensure!(daemon.log().contains(&warning), "{warning:?} is not in the log");
    let output =
        daemon.command()?.args(["status", "--json", "--config"]).arg(daemon.config()).output()?;
    let status: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    ensure!(status["interfaces"][0]["mode"] == "skb", "{status}");
    ensure!(status["warnings"].to_string().contains(&warning), "{status}");
    daemon.stop()
}
