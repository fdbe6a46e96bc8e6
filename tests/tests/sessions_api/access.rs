//! Who may talk to the daemon: permissions of the socket, users of a service, certificates.

use std::fs::{self, Permissions};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use dataplane_user::sessions_api::proto::Reason;
use dataplane_user::sessions_api::{Client, ClientError, MutualTls, Opening};
use jumpgate_tests::require_root;
use ownership::SessionId;

use crate::certificates::{Authority, Identity};
use crate::scene::{CHAT, GAME, Scene, block, refused};

/// Two users that need no name, and a group.
const ALICE: u32 = 71_001;
const BOB: u32 = 71_002;
const GATEWAYS: u32 = 71_100;

/// Does something as a user with one group. Only the thread that does it is that user.
fn as_user<T: Send>(user: u32, group: u32, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let done = scope.spawn(move || {
            let none = std::ptr::null::<libc::gid_t>();
            // SAFETY: no memory is passed. The system calls themselves are for the calling thread only.
            let failed = unsafe {
                libc::syscall(libc::SYS_setgroups, 0, none) != 0
                    || libc::syscall(libc::SYS_setresgid, group, group, group) != 0
                    || libc::syscall(libc::SYS_setresuid, user, user, user) != 0
            };
            ensure!(!failed, "becoming user {user}: {}", std::io::Error::last_os_error());
            work()
        });
        done.join().expect("it has not panicked")
    })
}

/// Lets everybody into the folders that the socket lies in.
fn open_folders(scene: &Scene) -> Result<()> {
    let socket = scene.daemon.sessions_socket();
    for folder in socket.ancestors().skip(1).take(2) {
        fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Opens a session of a service as a user.
fn open(
    path: &Path,
    user: u32,
    group: u32,
    service: &str,
) -> Result<Result<SessionId, ClientError>> {
    as_user(user, group, || {
        block(async {
            let opened = async {
                let client = Client::connect(path).await?;
                Ok(client.open(Opening::of(service)).await?.session)
            };
            Ok(opened.await)
        })
    })
}

#[test]
fn the_socket_is_for_its_group() -> Result<()> {
    require_root!();
    let scene = Scene::with(|config| {
        config.sessions_api.mode = Some("0620".to_owned());
        config.sessions_api.group = Some(GATEWAYS);
    })?;
    open_folders(&scene)?;
    let socket = scene.daemon.sessions_socket();
    let data = fs::metadata(socket)?;
    ensure!(data.mode() & 0o777 == 0o620 && data.gid() == GATEWAYS && data.uid() == 0);
    open(socket, ALICE, GATEWAYS, GAME)?.context("one of the group")?;
    let refused = open(socket, ALICE, BOB, GAME)?;
    ensure!(matches!(refused, Err(ClientError::Connect { .. })), "{refused:?}");
    open(socket, 0, 0, GAME)?.context("root")?;
    Ok(())
}

#[test]
fn by_default_nobody_else_comes_in() -> Result<()> {
    require_root!();
    let scene = Scene::new()?;
    open_folders(&scene)?;
    let socket = scene.daemon.sessions_socket();
    ensure!(fs::metadata(socket)?.mode() & 0o777 == 0o660);
    let refused = open(socket, ALICE, ALICE, GAME)?;
    ensure!(matches!(refused, Err(ClientError::Connect { .. })), "{refused:?}");
    Ok(())
}

#[test]
fn a_service_is_for_its_users() -> Result<()> {
    require_root!();
    let scene = Scene::with(|config| {
        config.sessions_api.mode = Some("0666".to_owned());
        config.services[0].users = Some(vec![ALICE]);
    })?;
    open_folders(&scene)?;
    let socket = scene.daemon.sessions_socket();
    let game = open(socket, ALICE, ALICE, GAME)?.context("its user")?;
    open(socket, BOB, BOB, CHAT)?.context("for everybody")?;
    open(socket, 0, 0, GAME)?.context("root")?;
    let message = refused(open(socket, BOB, BOB, GAME)?, Reason::NotAllowed)?;
    ensure!(message.contains(&format!("user {BOB}")) && message.contains("`users`"), "{message}");
    as_user(BOB, BOB, || {
        block(async {
            let client = Client::connect(socket).await?;
            refused(client.get(game).await, Reason::NotAllowed)?;
            refused(client.terminate(game).await, Reason::NotAllowed)?;
            refused(client.mint(game).await, Reason::NotAllowed)?;
            refused(client.put_context(game, vec![1]).await, Reason::NotAllowed)?;
            refused(client.attach(GAME).await, Reason::NotAllowed)?;
            refused(client.list(Some(GAME), None, None).await, Reason::NotAllowed)?;
            let listed = client.list(None, None, None).await?.sessions;
            ensure!(listed.iter().all(|session| session.service == CHAT), "{listed:?}");
            ensure!(listed.len() == 1);
            Ok(())
        })
    })?;
    block(async {
        let stands = scene.client().await?.get(game).await?;
        ensure!(stands.context.is_empty() && stands.wire_ids.is_empty(), "{stands:?}");
        Ok(())
    })
}

#[test]
fn a_stale_socket_is_replaced_and_another_file_is_not() -> Result<()> {
    require_root!();
    let mut scene = Scene::new()?;
    let socket = scene.daemon.sessions_socket().to_owned();
    // It was killed: its socket is still there.
    scene.restart()?;
    block(async { Ok(scene.client().await?.list(None, None, None).await?) })?;
    scene.daemon.stop()?;
    ensure!(!socket.exists(), "whoever stops takes its socket away");
    fs::write(&socket, "precious")?;
    let mut run = scene.daemon.command()?;
    run.arg("run").arg("--config").arg(scene.daemon.config());
    let output = run.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && said.contains("sessions_api.socket"), "{said}");
    ensure!(fs::read_to_string(&socket)? == "precious");
    Ok(())
}

/// What a daemon says that does not start with a configuration.
fn refuses_to_start(scene: &mut Scene) -> Result<String> {
    let file = scene.network.scratch().join("other.toml");
    fs::write(&file, scene.config.to_toml()?)?;
    let mut run = scene.daemon.command()?;
    run.arg("run").arg("--config").arg(&file);
    let output = run.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success(), "it starts: {said}");
    Ok(said)
}

#[test]
fn tcp_is_refused_without_certificates_on_both_sides() -> Result<()> {
    require_root!();
    let mut scene = Scene::new()?;
    scene.daemon.stop()?;
    let folder = scene.network.scratch().join("tls");
    let (authority, other) = (Authority::new(&folder)?, Authority::new(&folder.join("other"))?);
    let (node, strange) = (authority.sign("node")?, other.sign("strange")?);
    let whole = |scene: &mut Scene| {
        let api = &mut scene.config.sessions_api;
        api.listen = Some(listen(scene.network.nodes()[0].address(FAMILY)));
        (api.certificate, api.key) = (Some(node.certificate.clone()), Some(node.key.clone()));
        api.client_authorities = Some(authority.certificate());
    };
    whole(&mut scene);
    scene.config.sessions_api.client_authorities = None;
    let said = refuses_to_start(&mut scene)?;
    ensure!(
        said.contains("`listen` in [sessions_api] needs `client_authorities` beside it"),
        "{said}"
    );
    whole(&mut scene);
    (scene.config.sessions_api.certificate, scene.config.sessions_api.key) = (None, None);
    let said = refuses_to_start(&mut scene)?;
    ensure!(said.contains("needs `certificate` and `key` beside it"), "{said}");
    whole(&mut scene);
    scene.config.sessions_api.key = Some(folder.join("none.key"));
    let said = refuses_to_start(&mut scene)?;
    ensure!(said.contains("none.key, which sessions_api.key names, failed"), "{said}");
    whole(&mut scene);
    scene.config.sessions_api.key = Some(strange.key);
    let said = refuses_to_start(&mut scene)?;
    ensure!(said.contains("do not go together"), "{said}");
    whole(&mut scene);
    fs::write(folder.join("empty.pem"), "")?;
    scene.config.sessions_api.client_authorities = Some(folder.join("empty.pem"));
    let said = refuses_to_start(&mut scene)?;
    ensure!(said.contains("do not go together"), "{said}");
    Ok(())
}

const FAMILY: jumpgate_tests::address::Family = jumpgate_tests::address::Family::V4;

fn listen(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, 7480)
}

#[test]
fn over_tcp_only_those_with_a_certificate_are_served() -> Result<()> {
    require_root!();
    let folder = tempfile::tempdir()?;
    let authority = Authority::new(&folder.path().join("ours"))?;
    let other = Authority::new(&folder.path().join("other"))?;
    let node = authority.sign("node-a")?;
    let address = "10.1.0.2".parse().map(listen)?;
    let scene = Scene::with(|config| {
        let api = &mut config.sessions_api;
        api.listen = Some(address);
        (api.certificate, api.key) = (Some(node.certificate), Some(node.key));
        api.client_authorities = Some(authority.certificate());
        config.services[1].users = Some(vec![ALICE]);
    })?;
    ensure!(scene.network.nodes()[0].address(FAMILY) == address.ip(), "where nodes are");
    let connect = |identity: &Identity, authorities: &Authority, name: &str| MutualTls {
        authorities: authorities.certificate(),
        certificate: identity.certificate.clone(),
        key: identity.key.clone(),
        name: name.to_owned(),
    };
    let (ours, strange) = (authority.sign("game.example")?, other.sign("strange.example")?);
    // From another host.
    scene.network.clients()[0].namespace().run(|| {
        block(async {
            let client =
                Client::connect_tcp(address, &connect(&ours, &authority, "node-a")).await?;
            let attachment = client.attach(GAME).await?;
            let opening = Opening { stream: Some(attachment.stream()), ..Opening::of(GAME) };
            let session = client.open(opening).await?.session;
            ensure!(client.get(session).await?.is_here);
            let message = refused(client.open(Opening::of(CHAT)).await, Reason::NotAllowed)?;
            ensure!(message.contains("over TCP"), "{message}");

            // Whose certificate is not known, or who does not know ours, or expects another one.
            for tls in [
                connect(&strange, &authority, "node-a"),
                connect(&ours, &other, "node-a"),
                connect(&ours, &authority, "node-b"),
            ] {
                let served = async {
                    Client::connect_tcp(address, &tls).await?.list(None, None, None).await
                };
                let served = served.await;
                let is_so =
                    matches!(served, Err(ClientError::Connect { .. } | ClientError::Broken(_)));
                ensure!(is_so, "{served:?}");
            }
            if served_without_tls(address).await {
                bail!("whoever shows no certificate is served");
            }
            ensure!(client.get(session).await?.is_here, "it lives");
            Ok(())
        })
    })
}

/// Whether anything is answered to somebody who talks no TLS.
async fn served_without_tls(address: SocketAddr) -> bool {
    use dataplane_user::sessions_api::proto::{ListRequest, sessions_client::SessionsClient};
    let Ok(endpoint) = tonic::transport::Endpoint::from_shared(format!("http://{address}")) else {
        return false;
    };
    match endpoint.connect().await {
        Ok(channel) => SessionsClient::new(channel).list(ListRequest::default()).await.is_ok(),
        Err(_) => false,
    }
}
