//! Where applications open sessions, and who may: `[sessions_api]`, and `users` of a service.

use super::{
    convert::{account, accounts, path, permissions, socket_address},
    document::Section,
};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// The keys of the TCP socket.
const TCP: [&str; 4] = ["listen", "certificate", "key", "client_authorities"];

/// `[sessions_api]`: gRPC for applications; see `docs/applications.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionsApi {
    /// `socket`: an absolute path of at most 107 bytes; default `/run/jumpgate/<node>.sessions.sock`.
    pub socket: PathBuf,
    /// `mode`: the socket's permissions, three or four octal digits up to `"0777"`; default `"0660"`.
    pub mode: u32,
    /// `group`: the group that owns the socket, a name or a number; default the daemon's.
    pub group: Option<Account>,
    /// For applications elsewhere; default none.
    pub tcp: Option<MutualTls>,
}

/// A TCP socket, which takes only clients with a certificate. All keys or none; absolute paths of files in
/// PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MutualTls {
    /// `listen`: an address and port, 1 to 65535.
    pub listen: SocketAddr,
    /// `certificate`: ours, and those that lead to its authority.
    pub certificate: PathBuf,
    /// `key`: its private key.
    pub key: PathBuf,
    /// `client_authorities`: who signs the clients' certificates.
    pub client_authorities: PathBuf,
}

/// A user or group of the system.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Account {
    /// Its number.
    Id(u32),
    /// Its name, looked up when the daemon starts.
    Name(String),
}

/// The section, or `None` if there is a problem, which is reported.
pub(super) fn read(section: &Section<'_, '_>, node: &str) -> Option<SessionsApi> {
    let default = Path::new("/run/jumpgate").join(format!("{node}.sessions.sock"));
    let socket = section.or("socket", default, path);
    let mode = section.or("mode", 0o660, permissions);
    let group = section.optional("group", account);
    let tcp = tcp(section);
    Some(SessionsApi { socket: socket?, mode: mode?, group: group?, tcp: tcp? })
}

#[expect(clippy::option_option, reason = "a problem, or absent keys, or their values")]
fn tcp(section: &Section<'_, '_>) -> Option<Option<MutualTls>> {
    let listen = section.optional("listen", socket_address);
    let certificate = section.optional("certificate", path);
    let key = section.optional("key", path);
    let authorities = section.optional("client_authorities", path);
    match (listen?, certificate?, key?, authorities?) {
        (None, None, None, None) => Some(None),
        (Some(listen), Some(certificate), Some(key), Some(client_authorities)) => {
            Some(Some(MutualTls { listen, certificate, key, client_authorities }))
        }
        _ => {
            let (there, lacking): (Vec<_>, Vec<_>) = TCP.iter().partition(|key| section.has(key));
            let lacking: Vec<_> = lacking.iter().map(|key| format!("`{key}`")).collect();
            section.report_at(
                there[0],
                format!(
                    "a TCP socket takes only clients with a certificate of their own: {} in \
                     [sessions_api] needs {} beside it",
                    format_args!("`{}`", there[0]),
                    lacking.join(" and "),
                ),
            );
            None
        }
    }
}

/// Who may use a service: `None` for whoever may open the socket.
#[expect(clippy::option_option, reason = "a problem, or an absent key, or its value")]
pub(super) fn users(section: &Section<'_, '_>) -> Option<Option<Vec<Account>>> {
    section.optional("users", accounts)
}
