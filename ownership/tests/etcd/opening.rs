//! Which clusters are let near, and whom they let in.

use crate::{
    cluster::{Cluster, Options},
    conformance::world::{World, next},
    fixture::{FRESH, cluster, config, open, shared},
};
use etcd_client::{Client, Permission};
use ownership::store::{
    Engine, Fault, Generation, Position, Seen,
    etcd::{Etcd, EtcdConfig, OpenError, Tls, User},
};
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use std::{
    fs,
    time::{Duration, Instant},
};

async fn refused(config: &EtcdConfig, seen: Seen) -> OpenError {
    match Etcd::open(config, seen).await {
        Err(error) => error,
        Ok(_) => panic!("it was opened"),
    }
}

/// One member is enough for what is tested here.
fn alone(cluster: &Cluster) -> EtcdConfig {
    EtcdConfig { accepts_single_member: true, ..config(cluster.urls()) }
}

#[tokio::test]
async fn a_cluster_of_one_member_is_refused_outside_of_tests() {
    let Some(cluster) = cluster(1, Options::default()) else { return };
    let config = config(cluster.urls());
    assert!(matches!(refused(&config, FRESH).await, OpenError::SingleMember));
    open(&EtcdConfig { accepts_single_member: true, ..config }).await;
}

#[tokio::test]
async fn members_that_are_none_are_refused() {
    let opened = |members: &[&str]| EtcdConfig::new(members.iter().copied());
    assert!(matches!(refused(&opened(&[]), FRESH).await, OpenError::NoMembers));
    for member in ["", "127.0.0.1:2379", "unix:/run/etcd", "http://", "http://a b"] {
        let error = refused(&opened(&[member]), FRESH).await;
        assert!(matches!(&error, OpenError::BadMember(bad) if bad == member), "{error}");
    }
    let error = refused(&opened(&["https://127.0.0.1:2379"]), FRESH).await;
    assert!(matches!(error, OpenError::Tls { .. }), "{error}");
}

#[tokio::test]
async fn if_nobody_is_there_that_is_told_at_once() {
    // A port that nobody listens on, and one that nobody answers on.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for member in [closed, silent.local_addr().unwrap()] {
        let config = EtcdConfig::new([format!("http://{member}")]);
        let start = Instant::now();
        let error = refused(&config, FRESH).await;
        assert!(matches!(error, OpenError::Unavailable(Fault::Unreachable)), "{error}");
        assert!(start.elapsed() < config.deadline + Duration::from_secs(1));
    }
}

#[tokio::test]
async fn a_store_that_is_behind_what_was_seen_is_refused() {
    let Some(cluster) = shared() else { return };
    let config = config(cluster.urls());
    // Nothing stands there yet, and somebody has seen something.
    let early = Position { generation: Generation(1), revision: 1 };
    assert!(matches!(refused(&config, Seen::new(early)).await, OpenError::Older(_)));
    let seen = open(&config).await.seen();
    assert_eq!(seen.generation, Generation(1));
    assert!(Etcd::open(&config, Seen::new(seen)).await.is_ok());
    let later = Position { revision: seen.revision + 1_000_000_000, ..seen };
    let restored = Position { generation: Generation(2), revision: 1 };
    for ahead in [later, restored] {
        match refused(&config, Seen::new(ahead)).await {
            OpenError::Older(older) => assert_eq!(older.seen, ahead),
            error => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_store_of_another_schema_is_refused() {
    let Some(cluster) = shared() else { return };
    let config = config(cluster.urls());
    let mut client = Client::connect(cluster.urls(), None).await.unwrap();
    for row in [&[1, 0, 0, 0, 0, 0, 0, 0, 1][..], &[3, 0, 0, 0, 0, 0, 0, 0, 1], b"?"] {
        client.put(format!("{}0", config.prefix), row, None).await.unwrap();
        let error = refused(&config, FRESH).await;
        assert!(matches!(error, OpenError::Unavailable(Fault::Corrupt)), "{error}");
    }
}

#[tokio::test]
async fn a_user_needs_the_password_and_a_role() {
    let Some(cluster) = cluster(1, Options::default()) else { return };
    let config = alone(&cluster);
    let mut admin = Client::connect(cluster.urls(), None).await.unwrap();
    admin.role_add("root").await.unwrap();
    admin.user_add("root", "r", None).await.unwrap();
    admin.user_grant_role("root", "root").await.unwrap();
    let all = Permission::read_write(config.prefix.as_str()).with_prefix();
    admin.role_add("jumpgate").await.unwrap();
    admin.role_grant_permission("jumpgate", all).await.unwrap();
    admin.user_add("node", "secret", None).await.unwrap();
    admin.user_grant_role("node", "jumpgate").await.unwrap();
    admin.auth_enable().await.unwrap();

    let user =
        |password: &str| Some(User { name: "node".to_owned(), password: password.to_owned() });
    let right = EtcdConfig { user: user("secret"), ..config.clone() };
    let world = World::new(open(&right).await).await;
    let born = world.born(1).await;
    world.won(&next(&born, world.one)).await;
    world.verify().await;

    let wrong = EtcdConfig { user: user("secrets"), ..config.clone() };
    let elsewhere = EtcdConfig { prefix: "elsewhere/".to_owned(), ..right };
    for config in [config, wrong, elsewhere] {
        let error = refused(&config, FRESH).await;
        assert!(matches!(error, OpenError::Unavailable(Fault::Denied)), "{error}");
        assert!(!format!("{config:?}").contains("secret"));
    }
}

/// An authority, and certificates that it has signed.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
}

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(parameters, key), certificate }
    }

    /// A certificate and its key.
    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new([name.to_owned()]).unwrap();
        (parameters.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

#[tokio::test]
async fn members_and_nodes_know_each_other_by_certificates() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = authority.sign("127.0.0.1");
    let files = [("ca", authority.certificate.pem()), ("cert", certificate), ("key", key)];
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let file = |name: &str| dir.path().join(name).display().to_string();
    let arguments = [
        ("--trusted-ca-file", file("ca")),
        ("--cert-file", file("cert")),
        ("--key-file", file("key")),
        ("--client-cert-auth", "true".to_owned()),
    ];
    let arguments = arguments.map(|(name, value)| format!("{name}={value}")).to_vec();
    let options = Options { arguments, tls: true, ..Options::default() };
    let Some(cluster) = cluster(1, options) else { return };

    let tls = |authority: &Authority, identity: Option<(String, String)>| {
        let authorities = authority.certificate.pem().into_bytes();
        let identity =
            identity.map(|(certificate, key)| (certificate.into_bytes(), key.into_bytes()));
        let tls = Some(Tls { authorities, identity, name: None });
        EtcdConfig { tls, ..alone(&cluster) }
    };
    let right = tls(&authority, Some(authority.sign("node-1")));
    let world = World::new(open(&right).await).await;
    world.born(1).await;
    world.verify().await;

    let unknown = tls(&authority, Some(stranger.sign("node-1")));
    let nobody = tls(&authority, None);
    let believes_others = tls(&stranger, Some(authority.sign("node-1")));
    for config in [unknown, nobody, believes_others] {
        let error = refused(&config, FRESH).await;
        assert!(matches!(error, OpenError::Unavailable(Fault::Denied)), "{error}");
    }
}
