use super::*;
use crate::dataplane::services::{Delivery, Limits, Protocol, Rate};
use proptest::prelude::*;

const EXAMPLE: &str = include_str!("../../../docs/jumpgate.toml");

/// Two nodes, one interface, one service; tests change one line of it.
const SMALL: &str = r#"node = "a"

[cluster]
hash_seed = "5d0f3a9c41e7b286"

# Both nodes know
# of each other.

[[nodes]]
name = "a"
index = 1
address = "10.0.0.1"

[[nodes]]
name = "b"
index = 2
address = "10.0.0.2"

[[interfaces]]
name = "eth0"

[[services]]
name = "game"
address = "198.51.100.7"
port = 4000
protocol = "native"
"#;

/// What is said of a text, without the file's name.
fn refused(text: &str) -> String {
    let error = Config::parse(text).expect_err("a problem");
    error.to_string().replace("configuration:", "")
}

/// What is said of [`SMALL`] with `from` (which must be there) replaced once.
fn with(from: &str, to: &str) -> String {
    assert!(SMALL.contains(from), "{from}");
    refused(&SMALL.replacen(from, to, 1))
}

/// What is said of [`SMALL`] with more at its end, which begins on line 27.
fn and(more: &str) -> String {
    refused(&format!("{SMALL}{more}"))
}

#[test]
fn a_small_file_gets_the_defaults() {
    let config = Config::parse(SMALL).unwrap();
    let online = cpus::online().unwrap();
    assert_eq!(config.node, "a");
    assert_eq!(config.cluster.hash_seed, 0x5d0f_3a9c_41e7_b286);
    assert_eq!(config.this_node().address, IpAddr::from([10, 0, 0, 1]));
    assert_eq!(config.nodes[1].weight, 100);
    assert_eq!(config.nodes[1].interface, None);
    assert_eq!(config.interfaces[0].mode, Mode::Auto);
    assert_eq!(config.egress.interfaces, EgressInterfaces::All);
    assert_eq!(config.fence.lease, Duration::from_secs(10));
    assert_eq!(config.fence.renew, Duration::from_secs(1));
    assert_eq!(config.fence.margin, Duration::from_millis(50));
    assert_eq!(config.sessions.capacity, 100_000);
    assert_eq!(config.sessions.cpus, online);
    assert_eq!(config.sessions.queue, 2048);
    assert_eq!(config.services[0].control_port, None);
    assert_eq!(config.services[0].delivery, Delivery::Socket);
    assert_eq!(config.hold.ring, 16 << 20);
    assert_eq!((config.hold.per_session, config.hold.total), (1 << 20, 256 << 20));
    assert_eq!(config.hold.pace, 50_000);
    assert_eq!(config.api.socket, Path::new("/run/jumpgate/a.sock"));
    assert_eq!(config.api.mode, 0o660);
    assert_eq!(config.metrics.listen, None);
    assert_eq!(config.log, Log { level: Level::Info, format: LogFormat::Text });
    assert_eq!(config.sessions_api.socket, Path::new("/run/jumpgate/a.sessions.sock"));
    assert_eq!(config.sessions_api.mode, 0o660);
    assert_eq!((config.sessions_api.group, config.sessions_api.tcp), (None, None));
    assert_eq!(config.services[0].users, None);
    assert!(config.pins.enabled);
    assert_eq!(config.pins.path, Path::new("/sys/fs/bpf/jumpgate"));
    assert_eq!(config.state.path, Path::new("/var/lib/jumpgate"));
    assert_eq!(config.store, Store::Embedded { path: "/var/lib/jumpgate/a.store".into() });
}

#[test]
fn the_example_is_right() {
    let config = Config::parse(EXAMPLE).unwrap();
    assert_eq!(config.nodes[1].weight, 200);
    assert_eq!(config.nodes[1].interface.as_deref(), Some("eth1"));
    assert_eq!(config.interfaces[1].mode, Mode::Native);
    let services = config.services();
    let indices: Vec<_> = services.iter().map(|service| service.index).collect();
    assert_eq!(indices, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(services[0].control_port, Some(4001));
    assert_eq!(services[1].protocol, Protocol::Quic { id_length: 8 });
    assert_eq!(services[2].protocol, Protocol::WireGuard);
    assert_eq!(services[3].address, "198.51.100.8:5000".parse().unwrap());
    assert_eq!(services[3].cluster_seed, 0x5d0f_3a9c_41e7_b286);
    let lengths = Protocol::QuicLb { server_id_lengths: [4; 7], config_id: 0 };
    assert_eq!(services[4].protocol, lengths);
    assert_eq!(services[5].protocol, Protocol::Dtls { id_length: 8 });
    assert_eq!(services[6].protocol, Protocol::GtpU);
}

#[test]
fn the_example_shows_every_key_and_the_defaults() {
    for section in schema::SECTIONS {
        for key in section.entries() {
            let shown = EXAMPLE.lines().any(|line| {
                let line = line.trim_start_matches(['#', ' ']);
                line.starts_with(&format!("{key} = ")) || line.trim_matches(['[', ']']) == key
            });
            assert!(shown, "{key}");
        }
    }
    // What is commented out is the default: with it, the file means the same.
    let active: String = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(key)
                if !key.starts_with([' ']) && key.contains(" = ") && !key.starts_with("cpus") =>
            {
                format!("{key}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    assert_ne!(active, EXAMPLE);
    assert_eq!(Config::parse(&active).unwrap(), Config::parse(EXAMPLE).unwrap());
}

#[test]
fn everything_can_be_set() {
    let seed = "18446744073709551615\nsecrets = \"/t/secrets of all\"";
    let text = SMALL.replace("\"5d0f3a9c41e7b286\"", seed)
        + r#"
[[services]]
name = "relay"
address = "2001:db8::8"
port = 5000
control_port = 5001
control = "application"
protocol = "offset"
id_length = 20
id_offset = 255
unknown = "open"
new_rate = 0
control_rate = 200
control_burst = 2000
deliver = "af_xdp"
binding = "enforce"
users = ["game", 1001]
[egress]
interfaces = ["tun0", "eth1"]
[fence]
lease = "3s"
renew = "200ms"
margin = "0s"
[sessions]
capacity = 0x2000_0000
cpus = [6, 0, 2]
queue = 1
[hold]
ring = "64KiB"
per_session = "4096 B"
total = "2GiB"
pace = 100_000_000
[api]
socket = "/tmp/a.sock"
mode = "600"
[metrics]
listen = "[::]:9472"
[log]
level = "debug"
format = "json"
[sessions_api]
socket = "/tmp/s.sock"
mode = "0666"
group = "gateway"
listen = "[2001:db8::1]:7480"
certificate = "/c"
key = "/k"
client_authorities = "/ca"
[pins]
enabled = false
path = "/p"
[state]
path = "/s"
[store]
path = "/t/store"
"#;
    let config = Config::parse(&text).unwrap();
    assert_eq!(config.cluster.hash_seed, u64::MAX);
    let protocol = Protocol::Offset { offset: 255, length: 20, unknown_opens: true };
    assert_eq!(config.services[1].protocol, protocol);
    assert_eq!(config.services[1].delivery, Delivery::AfXdp);
    let enforced: Vec<_> = config.services().iter().map(|row| row.enforces_binding).collect();
    assert_eq!(enforced, [false, true]);
    let named = vec!["tun0".to_owned(), "eth1".to_owned()];
    assert_eq!(config.egress.interfaces, EgressInterfaces::Named(named));
    let control = Some(Rate { rate: 200, burst: 2_000 });
    assert_eq!(config.services()[1].limits, Limits { new: None, control });
    assert_eq!(config.services[1].control, Responder::Application);
    assert_eq!(config.cluster.secrets, Path::new("/t/secrets of all"));
    assert_eq!(config.fence.renew, Duration::from_millis(200));
    assert_eq!(config.sessions.capacity, 1 << 29);
    assert_eq!(config.sessions.cpus, [0, 2, 6]);
    let hold = Hold { ring: 1 << 16, per_session: 4096, total: 2 << 30, pace: 100_000_000 };
    assert_eq!(config.hold, hold);
    assert_eq!((config.api.mode, config.pins.enabled), (0o600, false));
    assert_eq!(config.log, Log { level: Level::Debug, format: LogFormat::Json });
    assert_eq!(config.metrics.listen, Some("[::]:9472".parse().unwrap()));
    let users = [Account::Name("game".to_owned()), Account::Id(1001)];
    assert_eq!(config.services[1].users.as_deref(), Some(&users[..]));
    let sessions_api = SessionsApi {
        socket: "/tmp/s.sock".into(),
        mode: 0o666,
        group: Some(Account::Name("gateway".to_owned())),
        tcp: Some(MutualTls {
            listen: "[2001:db8::1]:7480".parse().unwrap(),
            certificate: "/c".into(),
            key: "/k".into(),
            client_authorities: "/ca".into(),
        }),
    };
    assert_eq!(config.sessions_api, sessions_api);
    assert_eq!(config.store, Store::Embedded { path: "/t/store".into() });
}

#[test]
fn sessions_are_opened_over_tcp_with_certificates_on_both_sides_only() {
    let all = [
        "listen = \"192.0.2.1:7480\"",
        "certificate = \"/c\"",
        "key = \"/k\"",
        "client_authorities = \"/ca\"",
    ];
    for lacking in 0..all.len() {
        let lines: Vec<_> = (0..all.len()).filter(|&at| at != lacking).map(|at| all[at]).collect();
        let refused = and(&format!("[sessions_api]\n{}\n", lines.join("\n")));
        let key = all[lacking].split_once(' ').unwrap().0;
        let expected = format!("in [sessions_api] needs `{key}` beside it");
        assert!(refused.contains(&expected), "{refused}");
        assert!(refused.contains("takes only clients with a certificate"), "{refused}");
    }
    let refused = and(&format!("[sessions_api]\n{}\n", all[0]));
    assert!(
        refused.contains("needs `certificate` and `key` and `client_authorities`"),
        "{refused}"
    );
}

#[test]
fn stores_of_both_kinds() {
    let config = Config::parse(&format!("{SMALL}[state]\npath = \"/s\"\n")).unwrap();
    assert_eq!(config.store, Store::Embedded { path: "/s/a.store".into() });
    let plain = format!("{SMALL}[store]\nkind = \"etcd\"\nmembers = [\"http://h:1\"]\n");
    let plain_store = EtcdStore {
        members: vec!["http://h:1".to_owned()],
        prefix: "jumpgate/".to_owned(),
        user: None,
        tls: None,
        accepts_single_member: false,
        own_sessions: Some("/var/lib/jumpgate/a.sessions".into()),
    };
    assert_eq!(Config::parse(&plain).unwrap().store, Store::Etcd(plain_store));
    let whole = format!(
        r#"{SMALL}[store]
kind = "etcd"
members = ["https://h1", "https://h2:1"]
prefix = "p/"
user = "u"
password_file = "/p"
authorities = "/ca"
certificate = "/c"
key = "/k"
server_name = "n"
single_member = true
"#
    );
    let tls = Tls {
        authorities: "/ca".into(),
        identity: Some(("/c".into(), "/k".into())),
        name: Some("n".to_owned()),
    };
    let whole_store = EtcdStore {
        members: vec!["https://h1".to_owned(), "https://h2:1".to_owned()],
        prefix: "p/".to_owned(),
        user: Some(("u".to_owned(), "/p".into())),
        tls: Some(tls),
        accepts_single_member: true,
        own_sessions: Some("/var/lib/jumpgate/a.sessions".into()),
    };
    assert_eq!(Config::parse(&whole).unwrap().store, Store::Etcd(whole_store));
    for (more, expected) in [
        ("kind = \"redb\"", "it must be \"embedded\" or \"etcd\""),
        ("members = [\"http://h\"]", "`members` has no meaning for a store of kind \"embedded\""),
        ("kind = \"etcd\"", "`members` is missing in [store]"),
        ("kind = \"etcd\"\nmembers = []", "it must be a list of members"),
        ("kind = \"etcd\"\nmembers = [\"h:2379\"]", "it must be a list of members"),
        ("kind = \"etcd\"\nmembers = [\"https://h\"]", "with `authorities` in [store]"),
    ] {
        let refused = and(&format!("[store]\n{more}\n"));
        assert!(refused.contains(expected), "{more}: {refused}");
    }
    for (more, expected) in [
        ("path = \"/x\"", "`path` has no meaning for a store of kind \"etcd\""),
        ("key = \"/k\"", "`key` is for members that are reached by https"),
        ("user = \"u\"", "`user` needs `password_file` beside it"),
        ("password_file = \"/p\"", "`password_file` needs `user` beside it"),
    ] {
        let refused = refused(&format!("{plain}{more}\n"));
        assert!(refused.contains(expected), "{more}: {refused}");
    }
}

#[test]
fn members_of_the_placement_are_the_nodes() {
    let text = SMALL.replacen("index = 2", "index = 2\nweight = 300", 1);
    let members = Config::parse(&text).unwrap().members();
    assert_eq!((members[1].name.as_str(), members[1].weight), ("b", 300));
}

#[test]
fn unknown_keys_are_refused_with_the_key_that_was_meant() {
    assert_eq!(
        and("[fence]\nleese = \"10s\"\n"),
        "28:1: unknown key `leese` in [fence]; did you mean `lease`?"
    );
    assert_eq!(
        with("index = 2", "index = 2\n  wieght = 3"),
        "17:3: unknown key `wieght` in [[nodes]]; did you mean `weight`?"
    );
    assert_eq!(
        and("[session]\n"),
        "27:2: unknown key `session` at the top of the file; did you mean `sessions`?"
    );
    assert_eq!(
        and("[fence]\ncolour = 1\n"),
        "28:1: unknown key `colour` in [fence]; it must be `lease`, `renew` or `margin`"
    );
    assert_eq!(
        and("[fence]\ncapacity = 1\n"),
        "28:1: `capacity` belongs in [sessions], not in [fence]"
    );
    assert_eq!(
        with("[cluster]", "[cluster]\nnode = \"a\""),
        "4:1: `node` must stand above the first section, not in [cluster]"
    );
    assert_eq!(
        and("[api]\n\"a\\nb\" = 1\n"),
        "28:1: unknown key `a\\nb` in [api]; it must be `socket` or `mode`"
    );
}

#[test]
fn what_is_missing_is_asked_for() {
    assert_eq!(
        with("node = \"a\"\n", "\n"),
        "1:1: `node` is missing at the top of the file: name this node, by one of the names in \
         [[nodes]]"
    );
    assert_eq!(
        with("hash_seed = \"5d0f3a9c41e7b286\"\n", ""),
        "3:1: `hash_seed` is missing in [cluster]: draw it once for all nodes with `openssl rand \
         -hex 8`"
    );
    assert_eq!(
        with("index = 2\n", ""),
        "14:1: `index` is missing in [[nodes]]: give each node a number of its own"
    );
    assert_eq!(
        with("[[interfaces]]\nname = \"eth0\"\n", ""),
        "1:8: no [[interfaces]]: name at least the one where packets arrive"
    );
    assert_eq!(
        with("protocol = \"native\"\n", ""),
        "22:1: `protocol` is missing in [[services]]: \"native\", \"quic\", \"quic-lb\", \
         \"wireguard\", \"dtls\", \"gtpu\" or \"offset\""
    );
}

#[test]
fn all_problems_are_said_at_once_in_the_order_of_the_file() {
    let text = SMALL.replace("index = 2", "index = 5000").replace("port = 4000", "prot = 4000");
    assert_eq!(
        Config::parse(&text).unwrap_err().to_string(),
        "configuration:16:9: `index` is 5000: it must be an integer from 1 to 4095\n\
         configuration:22:1: `port` is missing in [[services]]: say which UDP port its clients \
         send to\n\
         configuration:25:1: unknown key `prot` in [[services]]; did you mean `port`?"
    );
}

#[test]
fn text_that_is_no_toml_says_where() {
    assert_eq!(with("index = 2", "index = = 2"), "16:9: extra `=`, expected nothing");
    assert_eq!(with("index = 2", "index = 2\nindex = 3"), "17:1: duplicate key");
    assert_eq!(
        with("[[interfaces]]", "[interfaces]"),
        "19:2: `interfaces` is a list: write [[interfaces]]"
    );
    assert_eq!(and("[[fence]]\n"), "27:3: `fence` is one section: write [fence]");
    assert_eq!(
        with("node = \"a\"\n", "node = \"a\"\npins = true\n"),
        "2:1: `pins` is one section: write [pins]"
    );
}

#[test]
fn columns_count_characters() {
    assert_eq!(
        with("[cluster]\n", "[cluster]\n\"é\".x = 1\n"),
        "4:1: unknown key `é` in [cluster]; it must be `hash_seed` or `secrets`"
    );
    let text = SMALL.replacen("[[interfaces]]\nname = \"eth0\"", "", 1);
    let text = text.replacen(
        "node = \"a\"",
        "node = \"a\"\ninterfaces = [{ name = \"é\", mode = \"fast\" }]",
        1,
    );
    assert_eq!(
        refused(&text),
        "2:36: `mode` is \"fast\": it must be \"native\", \"skb\" or \"auto\""
    );
}

#[test]
fn values_of_the_wrong_kind_or_out_of_range() {
    const NAME: &str = "it must be a string of 1 to 63 letters, digits, '-', '_' or '.' that begins \
                        with a letter or digit";
    const SEED: &str =
        "it must be a string of 16 hexadecimal digits, or an integer from 0 to 2^64 - 1";
    const TIME: &str = "it must be a string with a unit, such as \"10s\" or \"250ms\"";
    const LISTEN: &str = "it must be an address and a port in quotes, such as \"127.0.0.1:9472\" or \
                          \"[::1]:9472\"";
    const CPUS: &str = "it must be a list of CPUs such as \"0-3,6\" or [0, 1, 2, 3, 6]";
    let cases = [
        ("name = \"b\"", "name = \"b c\"", format!("15:8: `name` is \"b c\": {NAME}")),
        ("name = \"b\"", "name = 2", format!("15:8: `name` is 2: {NAME}")),
        ("\"5d0f3a9c41e7b286\"", "\"5d0f\"", format!("4:13: `hash_seed` is \"5d0f\": {SEED}")),
        ("\"5d0f3a9c41e7b286\"", "-1", format!("4:13: `hash_seed` is -1: {SEED}")),
        (
            "index = 2",
            "index = 2\nweight = 1_000_001",
            "17:10: `weight` is 1_000_001: it must be an integer from 0 to 1000000".to_owned(),
        ),
        (
            "index = 2",
            "index = \"2\"",
            "16:9: `index` is \"2\": it must be an integer from 1 to 4095".to_owned(),
        ),
        (
            "\"10.0.0.2\"",
            "\"10.0.0.2:7471\"",
            "17:11: `address` is \"10.0.0.2:7471\": it must be an IPv4 or IPv6 address in quotes, \
             without a port"
                .to_owned(),
        ),
        (
            "\"10.0.0.2\"",
            "\"::ffff:10.0.0.2\"",
            "17:11: `address` is \"::ffff:10.0.0.2\": it must be written as the IPv4 address \
             \"10.0.0.2\""
                .to_owned(),
        ),
        (
            "\"10.0.0.2\"",
            "\"fe80::1\"",
            "17:11: `address` is \"fe80::1\": it must be an address that routers know, not a \
             link-local one"
                .to_owned(),
        ),
        (
            "\"198.51.100.7\"",
            "\"224.0.0.1\"",
            "24:11: `address` is \"224.0.0.1\": it must be the address of one host".to_owned(),
        ),
        (
            "port = 4000",
            "port = 0",
            "25:8: `port` is 0: it must be an integer from 1 to 65535".to_owned(),
        ),
        (
            "\"native\"",
            "\"quick\"",
            "26:12: `protocol` is \"quick\": it must be \"native\", \"quic\", \
             \"quic-lb\", \"wireguard\", \"dtls\", \"gtpu\" or \"offset\"; did you mean \"quic\"?"
                .to_owned(),
        ),
        (
            "\"eth0\"",
            "\"averyveryverylongname\"",
            "20:8: `name` is \"averyveryverylongname\": it must be an interface's name of 1 to 15 \
             bytes, as `ip link` shows it"
                .to_owned(),
        ),
    ];
    for (from, to, message) in cases {
        assert_eq!(with(from, to), message);
    }
    const EGRESS: &str = "\"all\", or a list of interfaces' names such as [\"eth0\", \"tun0\"]";
    let cases = [
        (
            "[egress]\ninterfaces = \"none\"",
            format!("28:14: `interfaces` is \"none\": it must be {EGRESS}"),
        ),
        (
            "[egress]\ninterfaces = [\"a/b\"]",
            format!("28:14: `interfaces` is [\"a/b\"]: it must be {EGRESS}"),
        ),
        ("[fence]\nlease = 10", format!("28:9: `lease` is 10: {TIME}")),
        ("[fence]\nlease = \"10\"", format!("28:9: `lease` is \"10\": {TIME}")),
        (
            "[fence]\nlease = \"2h\"",
            "28:9: `lease` is \"2h\": it must be a time from 100ms to 1h".to_owned(),
        ),
        (
            "[sessions]\ncapacity = 536870913",
            "28:12: `capacity` is 536870913: it must be an integer from 1 to 536870912".to_owned(),
        ),
        (
            "[sessions]\nqueue = 0",
            "28:9: `queue` is 0: it must be an integer from 1 to 16384".to_owned(),
        ),
        (
            "[sessions]\ncpus = \"3-1\"",
            format!("28:8: `cpus` is \"3-1\": {CPUS}, each once, but the range 3-1 runs backwards"),
        ),
        (
            "[sessions]\ncpus = [0, 0]",
            format!("28:8: `cpus` is [0, 0]: {CPUS}, each once, but CPU 0 stands twice"),
        ),
        (
            "[sessions]\ncpus = []",
            format!("28:8: `cpus` is []: {CPUS}, each once, but it names no CPU"),
        ),
        ("[sessions]\ncpus = [\n-1\n]", format!("28:8: `cpus` is […: {CPUS}")),
        (
            "[api]\nmode = 0o660",
            "28:8: `mode` is 0o660: it must be a string of octal digits up to \"0777\", such as \
             \"0660\""
                .to_owned(),
        ),
        (
            "[api]\nsocket = \"run/a.sock\"",
            "28:10: `socket` is \"run/a.sock\": it must be an absolute path, one that begins with \
             '/'"
            .to_owned(),
        ),
        ("[metrics]\nlisten = \"9472\"", format!("28:10: `listen` is \"9472\": {LISTEN}")),
        ("[metrics]\nlisten = \"[::1]:0\"", format!("28:10: `listen` is \"[::1]:0\": {LISTEN}")),
        ("[sessions_api]\nlisten = \"7480\"", format!("28:10: `listen` is \"7480\": {LISTEN}")),
        (
            "[sessions_api]\ngroup = \"\"",
            "28:9: `group` is \"\": it must be a name such as \"game\", or a number such as 1001"
                .to_owned(),
        ),
        (
            "[sessions_api]\nsocket = \"/run/jumpgate/a.sock\"",
            "28:10: `socket` is the one of [api], too: each needs its own".to_owned(),
        ),
        (
            "users = [-1]",
            "27:9: `users` is [-1]: it must be a list of users, by name or number, such as \
             [\"game\", 1001]"
                .to_owned(),
        ),
        (
            "[pins]\nenabled = \"yes\"",
            "28:11: `enabled` is \"yes\": it must be true or false, without quotes".to_owned(),
        ),
    ];
    for (more, message) in cases {
        assert_eq!(and(more), message);
    }
}

#[test]
fn nodes_that_contradict_each_other() {
    assert_eq!(
        with("node = \"a\"", "node = \"node-a\""),
        "1:8: this node, \"node-a\", is not in [[nodes]]: list it there with its index and address"
    );
    assert_eq!(
        refused(&SMALL.replace("\"a\"", "\"left\"").replacen("left", "lefd", 1)),
        "1:8: this node, \"lefd\", is not in [[nodes]]: list it there with its index and address; \
         did you mean \"left\"?"
    );
    assert_eq!(
        with("name = \"b\"", "name = \"a\""),
        "15:8: `name` a stands twice in [[nodes]], first on line 10: each needs its own"
    );
    assert_eq!(
        with("index = 2", "index = 1"),
        "16:9: `index` 1 stands twice in [[nodes]], first on line 11: each needs its own"
    );
    assert_eq!(
        with("10.0.0.2", "10.0.0.1"),
        "17:11: `address` 10.0.0.1 stands twice in [[nodes]], first on line 12: each needs its own"
    );
    assert_eq!(
        with("10.0.0.2", "2001:db8::2"),
        "17:11: 2001:db8::2 is IPv6, but node \"a\" has an IPv4 address: nodes reach each other by \
         one family"
    );
    let text = SMALL.replace("\nindex", "\nweight = 0\nindex");
    assert_eq!(refused(&text), "11:10: every node has weight 0: one must own the slots");
    assert_eq!(
        with("index = 2", "index = 2\ninterface = \"eth1\""),
        "17:13: \"eth1\" is not in [[interfaces]], which has \"eth0\"; did you mean \"eth0\"?"
    );
}

#[test]
fn interfaces_and_times_that_do_not_fit() {
    assert_eq!(
        with("name = \"eth0\"", "name = \"eth0\"\n[[interfaces]]\nname = \"eth0\""),
        "22:8: `name` eth0 stands twice in [[interfaces]], first on line 20: each needs its own"
    );
    let many: String =
        (1..7).map(|number| format!("[[interfaces]]\nname = \"eth{number}\"\n")).collect();
    assert_eq!(and(&many), "38:8: 7 [[interfaces]] are too many: at most 6");
    assert_eq!(
        and("[fence]\nlease = \"1s\"\nrenew = \"475ms\"\n"),
        "28:9: `lease` is 1s: it must exceed 2 × `renew` + `margin`, which is 1s, so that one lost \
         renewal does not shut the fence; raise `lease` or lower `renew`"
    );
    assert_eq!(
        and("[fence]\nrenew = \"5s\"\n"),
        "27:1: `lease` is 10s: it must exceed 2 × `renew` + `margin`, which is 10s 50ms, so that \
         one lost renewal does not shut the fence; raise `lease` or lower `renew`"
    );
    let long = "x".repeat(107);
    assert_eq!(
        and(&format!("[api]\nsocket = \"/{long}\"\n")),
        "28:10: `socket` is a path of 108 bytes: the kernel takes at most 107, so choose a shorter \
         one"
    );
}

#[test]
fn services_that_clash() {
    let more = |name: &str, address: &str, port: u16| {
        format!(
            "[[services]]\nname = {name:?}\naddress = {address:?}\nport = {port}\n\
             protocol = \"native\"\n"
        )
    };
    assert_eq!(
        and(&more("game", "198.51.100.8", 4000)),
        "28:8: `name` game stands twice in [[services]], first on line 23: each needs its own"
    );
    assert_eq!(
        and(&more("other", "198.51.100.7", 4000)),
        "30:8: `port` of service \"other\" is 198.51.100.7:4000, which service \"game\" has on \
         line 25: give one of them another address or port"
    );
    let control = more("other", "198.51.100.7", 4001) + "control_port = 4000\n";
    assert_eq!(
        and(&control),
        "32:16: `control_port` of service \"other\" is 198.51.100.7:4000, which service \"game\" \
         has on line 25: give one of them another address or port"
    );
    assert_eq!(
        and("control_port = 4000\n"),
        "27:16: `control_port` is 4000, as `port` is: give it a port of its own"
    );
    assert_eq!(
        with("198.51.100.7", "10.0.0.2"),
        "24:11: 10.0.0.2 is the underlay address of node \"b\": give the service an address of its \
         own"
    );
    assert_eq!(
        with("198.51.100.7\"\nport = 4000", "10.0.0.2\"\nport = 7471"),
        "24:11: 10.0.0.2 is the underlay address of node \"b\", which takes forwarded packets on \
         port 7471: give the service an address of its own"
    );
    let many: String =
        (1..64).map(|number| more(&format!("s{number}"), "198.51.100.7", number)).collect();
    assert_eq!(and(&many), "338:8: 64 [[services]] are too many: at most 63");
}

#[test]
fn sixty_three_services_fit() {
    let many: String = (1..63)
        .map(|number| {
            format!(
                "[[services]]\nname = \"s{number}\"\naddress = \"198.51.100.{number}\"\n\
                 port = 500\nprotocol = \"wireguard\"\n"
            )
        })
        .collect();
    let text = SMALL.to_owned() + &many.replace("198.51.100.7\"", "198.51.101.7\"");
    let config = Config::parse(&text).unwrap();
    assert_eq!(config.services().last().unwrap().index, 63);
}

#[test]
fn the_kernel_s_table_holds_as_many_services_as_there_can_be_with_all_their_ports() {
    let many: String = (1..63)
        .map(|number| {
            format!(
                "[[services]]\nname = \"s{number}\"\naddress = \"198.51.101.{number}\"\n\
                 port = 500\ncontrol_port = 501\nprotocol = \"wireguard\"\n"
            )
        })
        .collect();
    let text = format!("{SMALL}{many}");
    assert_eq!(Config::parse(&text).unwrap().services.len(), SERVICES_MAX);
}

#[test]
fn keys_of_other_protocols_are_refused() {
    assert_eq!(
        and("id_length = 8\n"),
        "27:1: `id_length` is fixed by protocol \"native\": remove it"
    );
    assert_eq!(
        and("id_offset = 8\n"),
        "27:1: `id_offset` is only for protocol \"offset\", not for \"native\": remove it"
    );
    assert_eq!(
        with("\"native\"", "\"quic\"\nunknown = \"open\""),
        "27:1: `unknown` is only for protocol \"offset\", not for \"quic\": remove it"
    );
    assert_eq!(
        with("\"native\"", "\"quic\"\nid_length = 3"),
        "27:13: `id_length` is 3: it must be an integer from 4 to 20"
    );
    assert_eq!(
        with("\"native\"", "\"offset\""),
        "22:1: `id_length` is missing in [[services]]: protocol \"offset\" needs the id's length, \
         4 to 20 bytes"
    );
    assert_eq!(
        with("\"native\"", "\"offset\"\nid_length = 4\nid_offset = 256\nunknown = \"opens\""),
        "28:13: `id_offset` is 256: it must be an integer from 0 to 255\n\
         29:11: `unknown` is \"opens\": it must be \"reject\" or \"open\"; did you mean \"open\"?"
    );
}

#[test]
fn a_burst_belongs_to_its_rate_and_a_control_rate_to_a_control_port() {
    assert_eq!(
        and("new_rate = 10\nnew_burst = 101\n"),
        "28:13: `new_burst` is 101: it must be at most 100, 10 times `new_rate`"
    );
    assert_eq!(
        and("new_rate = 0\nnew_burst = 1\n"),
        "28:13: `new_burst` is 1: `new_rate` is 0, so there is no limit: remove it"
    );
    assert_eq!(
        and("control_rate = 10\n"),
        "27:1: `control_rate` is only for services with a `control_port`: remove it"
    );
    assert_eq!(
        and("control = \"daemon\"\n"),
        "27:1: `control` is only for services with a `control_port`: remove it"
    );
    assert_eq!(
        and("new_rate = 1000001\n"),
        "27:12: `new_rate` is 1000001: it must be an integer from 0 to 1000000"
    );
}

#[test]
fn server_ids_have_a_length_for_each_config_id() {
    let protocol = |keys: &str| {
        let text = SMALL.replacen("\"native\"", &format!("\"quic-lb\"\n{keys}"), 1);
        Config::parse(&text).unwrap().services[0].protocol
    };
    let quic_lb = |server_id_lengths, config_id| Protocol::QuicLb { server_id_lengths, config_id };
    assert_eq!(protocol("server_id_length = 3"), quic_lb([3; 7], 0));
    assert_eq!(protocol("server_id_length = 15\nconfig_id = 6"), quic_lb([15; 7], 6));
    assert_eq!(protocol("server_id_length = [0, 2, 8]"), quic_lb([0, 2, 8, 0, 0, 0, 0], 1));
    let keys = "server_id_length = [0, 2, 8]\nconfig_id = 2";
    assert_eq!(protocol(keys), quic_lb([0, 2, 8, 0, 0, 0, 0], 2));
    let expected = "it must be an integer from 1 to 15, or a list of up to 7 of them, one for each \
                    config id from 0 on, with 0 for those that are not in use";
    for wrong in ["0", "16", "[]", "[0, 0]", "[16]", "[1, 1, 1, 1, 1, 1, 1, 1]", "\"4\"", "[-1]"] {
        assert_eq!(
            with("\"native\"", &format!("\"quic-lb\"\nserver_id_length = {wrong}")),
            format!("27:20: `server_id_length` is {wrong}: {expected}")
        );
    }
    let quic_lb = |keys: &str| with("\"native\"", &format!("\"quic-lb\"\n{keys}"));
    assert_eq!(
        quic_lb("server_id_length = [4]\nconfig_id = 1"),
        "28:1: `config_id` is 1, for which `server_id_length` gives no length: choose one that has \
         one, such as 0"
    );
    assert_eq!(
        quic_lb("server_id_length = 4\nconfig_id = 7"),
        "28:13: `config_id` is 7: it must be an integer from 0 to 6"
    );
    assert_eq!(
        quic_lb("id_length = 8\nserver_id_length = 4"),
        "27:1: `id_length` is not for protocol \"quic-lb\": say `server_id_length` instead"
    );
    assert_eq!(
        quic_lb(""),
        "22:1: `server_id_length` is missing in [[services]]: protocol \"quic-lb\" needs the length \
         of the server ids, 1 to 15 bytes"
    );
    assert_eq!(
        and("server_id_length = 4\n"),
        "27:1: `server_id_length` is only for protocol \"quic-lb\", not for \"native\": remove it"
    );
    assert_eq!(
        with("\"native\"", "\"dtls\""),
        "22:1: `id_length` is missing in [[services]]: protocol \"dtls\" needs the length of the \
         server's connection ids, 4 to 20 bytes"
    );
}

#[test]
fn files_that_cannot_be_read() {
    let path = Path::new("/nonexistent/jumpgate.toml");
    assert_eq!(
        Config::load(path).unwrap_err().to_string(),
        "reading the configuration /nonexistent/jumpgate.toml failed: No such file or directory \
         (os error 2); name a file that this user can read (docs/jumpgate.toml is one to start \
         from)"
    );
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(
        at in 0..EXAMPLE.len(),
        length in 0..40_usize,
        new in "[a-z0-9=\"\\[\\]{}.,é\n -]{0,12}",
    ) {
        let end = (at + length).min(EXAMPLE.len());
        if let (Some(before), Some(after)) = (EXAMPLE.get(..at), EXAMPLE.get(end..))
            && let Err(error) = Config::parse(&format!("{before}{new}{after}"))
        {
            prop_assert!(error.to_string().starts_with("configuration:"));
        }
    }
}
