//! Where the cluster keeps what it agrees on: `[store]`.

use super::{
    convert::{boolean, choice, members, path, text},
    document::Section,
};
use std::path::{Path, PathBuf};

/// What all keys of ours in an etcd cluster begin with.
const PREFIX: &str = "jumpgate/";

/// The keys of one kind of store.
const EMBEDDED: [&str; 1] = ["path"];
const ETCD: [&str; 10] = [
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
];

/// `[store]`: who is alive in which epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// `kind = "embedded"`, the default: in one file, for one machine.
    Embedded {
        /// `path`: an absolute path; default `<state.path>/<node>.store`. Two nodes never have the same.
        path: PathBuf,
    },
    /// `kind = "etcd"`.
    Etcd(EtcdStore),
}

/// An etcd cluster; see `docs/etcd.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdStore {
    /// `members`: a list of `"http://HOST:PORT"` or `"https://HOST:PORT"`. Required.
    pub members: Vec<String>,
    /// `prefix`: what all keys begin with; default `"jumpgate/"`. The same on all nodes.
    pub prefix: String,
    /// `user` and `password_file`, an absolute path: who we are, if the cluster asks. Both or neither.
    pub user: Option<(String, PathBuf)>,
    /// For members that are reached by `https`.
    pub tls: Option<Tls>,
    /// `single_member`: `true` lets a cluster of one member be used, with which everything is lost; for
    /// tests. Default `false`.
    pub accepts_single_member: bool,
    /// `sessions`: `"own"` (each node keeps its own, in `<state.path>/<node>.sessions`: fast, and nobody else can
    /// go on with them) or `"shared"` (in etcd: those of a lost node can be taken over); default `"own"`. The same
    /// on all nodes. Here the file, if they are a node's own.
    pub own_sessions: Option<PathBuf>,
}

/// TLS to etcd. Absolute paths of files in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// `authorities`: who signs the members' certificates. Required for members with `https`.
    pub authorities: PathBuf,
    /// `certificate` and `key`: ours, if members ask for one. Both or neither.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// `server_name`: the name in the members' certificates; default the host that they are reached by.
    pub name: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Embedded,
    Etcd,
}

/// The store; `None` if there is a problem, which is reported.
pub(super) fn read(section: &Section<'_, '_>, state: &Path, node: &str) -> Option<Store> {
    let kinds = [("embedded", Kind::Embedded), ("etcd", Kind::Etcd)];
    let kind = section.or("kind", Kind::Embedded, choice(&kinds))?;
    let (name, others): (&str, &[&str]) = match kind {
        Kind::Embedded => ("embedded", &ETCD),
        Kind::Etcd => ("etcd", &EMBEDDED),
    };
    for key in others {
        section.refuse(key, || {
            format!("`{key}` has no meaning for a store of kind {name:?}: remove it")
        });
    }
    match kind {
        Kind::Embedded => {
            let path = section.or("path", state.join(format!("{node}.store")), path)?;
            Some(Store::Embedded { path })
        }
        Kind::Etcd => etcd(section, state.join(format!("{node}.sessions"))).map(Store::Etcd),
    }
}

fn etcd(section: &Section<'_, '_>, own: PathBuf) -> Option<EtcdStore> {
    let advice = "list the members of the etcd cluster, such as [\"https://etcd1.example:2379\"]";
    let members = section.required("members", advice, members);
    let prefix = section.or("prefix", PREFIX.to_owned(), text);
    let user = section.optional("user", text);
    let password = section.optional("password_file", path);
    let user = both(section, ("user", user?), ("password_file", password?));
    let authorities = section.optional("authorities", path);
    let certificate = section.optional("certificate", path);
    let key = section.optional("key", path);
    let identity = both(section, ("certificate", certificate?), ("key", key?));
    let name = section.optional("server_name", text);
    let single = section.or("single_member", false, boolean);
    let is_own = section.or("sessions", true, choice(&[("own", true), ("shared", false)]));
    let (members, authorities, name) = (members?, authorities?, name?);
    let is_secure = members.iter().any(|member| member.starts_with("https://"));
    let tls = match (is_secure, authorities) {
        (true, Some(authorities)) => Some(Tls { authorities, identity: identity?, name }),
        (true, None) => {
            section.report_at(
                "members",
                "members are reached by https: name the file with the certificates of who signs \
                 theirs, with `authorities` in [store]"
                    .to_owned(),
            );
            return None;
        }
        (false, _) => {
            for key in ["authorities", "certificate", "key", "server_name"] {
                section.refuse(key, || {
                    format!(
                        "`{key}` is for members that are reached by https, and none is: remove it"
                    )
                });
            }
            None
        }
    };
    Some(EtcdStore {
        members,
        prefix: prefix?,
        user: user?,
        tls,
        accepts_single_member: single?,
        own_sessions: is_own?.then_some(own),
    })
}

/// Two keys of which neither has a meaning without the other.
#[expect(clippy::option_option, reason = "a problem, or absent keys, or their values")]
fn both<A, B>(
    section: &Section<'_, '_>,
    one: (&str, Option<A>),
    other: (&str, Option<B>),
) -> Option<Option<(A, B)>> {
    let lacking = match (one, other) {
        ((_, Some(one)), (_, Some(other))) => return Some(Some((one, other))),
        ((_, None), (_, None)) => return Some(None),
        ((there, Some(_)), (lacking, None)) | ((lacking, None), (there, Some(_))) => {
            (there, lacking)
        }
    };
    let (there, lacking) = lacking;
    section.report_at(there, format!("`{there}` needs `{lacking}` beside it"));
    None
}
