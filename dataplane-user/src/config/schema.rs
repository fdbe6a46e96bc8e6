//! Which sections and keys there are: what is not here is refused.

/// A section and its keys.
pub(super) struct Schema {
    /// Its name; empty for what stands above the first section.
    pub(super) name: &'static str,
    /// Whether it is a list: `[[name]]`.
    pub(super) list: bool,
    /// Its keys; the sections, for the top of the file, come besides.
    pub(super) keys: &'static [&'static str],
}

/// The top of the file.
pub(super) const TOP: &str = "";

/// All sections, the top of the file first.
pub(super) const SECTIONS: &[Schema] = &[
    one(TOP, &["node"]),
    one("cluster", &["hash_seed", "secrets"]),
    list("nodes", &["name", "index", "address", "weight", "interface"]),
    list("interfaces", &["name", "mode"]),
    one("egress", &["interfaces"]),
    one("fence", &["lease", "renew", "margin"]),
    one("sessions", &["capacity", "cpus", "queue"]),
    list(
        "services",
        &[
            "name",
            "address",
            "port",
            "control_port",
            "control",
            "protocol",
            "id_length",
            "id_offset",
            "unknown",
            "new_rate",
            "new_burst",
            "control_rate",
            "control_burst",
            "server_id_length",
            "config_id",
            "deliver",
            "binding",
            "session_ttl",
            "transport_loss_ttl",
            "recovery_window",
            "switch_burst",
            "switch_interval",
            "switch_cooldown",
            "on_loss",
            "users",
        ],
    ),
    one("drain", &["deadline", "left_over", "at_once", "per_second", "quiet", "application"]),
    one("hold", &["ring", "per_session", "total", "pace"]),
    one("api", &["socket", "mode"]),
    one("metrics", &["listen"]),
    one("log", &["level", "format"]),
    one(
        "sessions_api",
        &["socket", "mode", "group", "listen", "certificate", "key", "client_authorities"],
    ),
    one("pins", &["enabled", "path"]),
    one("state", &["path"]),
    one(
        "store",
        &[
            "kind",
            "path",
            "members",
            "prefix",
            "user",
            "password_file",
            "authorities",
            "certificate",
            "key",
            "server_name",
            "single_member",
            "sessions",
        ],
    ),
];

const fn one(name: &'static str, keys: &'static [&'static str]) -> Schema {
    Schema { name, list: false, keys }
}

const fn list(name: &'static str, keys: &'static [&'static str]) -> Schema {
    Schema { name, list: true, keys }
}

/// The section with a name.
///
/// # Panics
///
/// If there is none.
pub(super) fn section(name: &str) -> &'static Schema {
    SECTIONS.iter().find(|section| section.name == name).expect("the schema has all sections")
}

impl Schema {
    /// Its header.
    pub(super) fn title(&self) -> String {
        if self.list { format!("[[{}]]", self.name) } else { format!("[{}]", self.name) }
    }

    /// Where it is, in a sentence.
    pub(super) fn place(&self) -> String {
        if self.name == TOP {
            "at the top of the file".to_owned()
        } else {
            format!("in {}", self.title())
        }
    }

    /// What a file can hold here: keys, and at its top the sections.
    pub(super) fn entries(&self) -> Vec<&'static str> {
        let mut entries = self.keys.to_vec();
        if self.name == TOP {
            entries.extend(SECTIONS.iter().skip(1).map(|section| section.name));
        }
        entries
    }
}
