//! What has no meaning, or is another's, is refused with its reason.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dataplane_user::sessions_api::proto::sessions_client::SessionsClient;
use dataplane_user::sessions_api::proto::{self, Reason};
use dataplane_user::sessions_api::{Client, Notice, Opening, REASON_TRAILER};
use hyper_util::rt::TokioIo;
use jumpgate_tests::require_root;
use ownership::SessionId;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};

use crate::scene::{CHAT, GAME, PATIENCE, Scene, address, block, refused, told};

/// A client that says what it likes.
async fn raw(path: &Path) -> Result<SessionsClient<Channel>> {
    let path = path.to_owned();
    let connect = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://jumpgate").connect_with_connector(connect).await?;
    Ok(SessionsClient::new(channel))
}

/// The status and the reason of a call that failed.
fn failed<T: std::fmt::Debug>(called: Result<T, Status>) -> Result<(Code, String)> {
    let status = called.err().context("it was not refused")?;
    let reason = status.metadata().get(REASON_TRAILER).context("it names no reason")?;
    Ok((status.code(), reason.to_str()?.to_owned()))
}

#[test]
fn what_has_no_meaning_is_refused() -> Result<()> {
    require_root!();
    let scene = Scene::new()?;
    block(async {
        let mut raw = raw(scene.daemon.sessions_socket()).await?;
        let bad = (Code::InvalidArgument, "REASON_BAD_REQUEST".to_owned());
        for length in [0, 1, 15, 17, 1000] {
            let session = vec![1; length];
            let request = proto::GetRequest { session: session.clone() };
            ensure!(failed(raw.get(request).await)? == bad);
            let request = proto::BindRequest { session, client: address(1).to_string() };
            ensure!(failed(raw.bind(request).await)? == bad);
        }
        let session = vec![1; 16];
        for client in ["", "nobody", "10.0.0.1", ":4000", "10.0.0.1:65536", "[::1]"] {
            let request =
                proto::BindRequest { session: session.clone(), client: client.to_owned() };
            ensure!(failed(raw.bind(request).await)? == bad, "{client}");
        }
        for (after, limit) in [(vec![1; 3], 0), (Vec::new(), 501)] {
            let request = proto::ListRequest { service: String::new(), after, limit };
            ensure!(failed(raw.list(request).await)? == bad);
        }
        // A stream that begins with an answer, and one that begins twice.
        use proto::from_application::Message;
        let message = |message| proto::FromApplication { message: Some(message) };
        let ready = message(Message::Ready(proto::Ready { session, owned_by_connection: true }));
        let out_of_order = (Code::InvalidArgument, "REASON_OUT_OF_ORDER".to_owned());
        for first in [vec![ready.clone()], vec![proto::FromApplication { message: None }], vec![]] {
            let called = raw.attach(futures_util::stream::iter(first)).await;
            ensure!(failed(called)? == out_of_order);
        }
        let begin = message(Message::Begin(proto::Begin { service: GAME.to_owned() }));
        let twice = futures_util::stream::iter(vec![begin.clone(), begin]);
        let mut told = raw.attach(twice).await?.into_inner();
        told.message().await?.context("it is attached")?;
        ensure!(failed(told.message().await)? == out_of_order);
        Ok(())
    })
}

#[test]
fn what_is_not_there_is_said_not_to_be() -> Result<()> {
    require_root!();
    let scene = Scene::new()?;
    block(async {
        let client = scene.client().await?;
        let unknown = SessionId::new([0x5a; 16]);
        refused(client.get(unknown).await, Reason::NoSession)?;
        refused(client.bind(unknown, address(1)).await, Reason::NoSession)?;
        refused(client.report_transport_loss(unknown, None).await, Reason::NoSession)?;
        refused(client.terminate(unknown).await, Reason::NoSession)?;
        refused(client.put_context(unknown, vec![]).await, Reason::NoSession)?;
        refused(client.mint(unknown).await, Reason::NoSession)?;
        refused(client.add_wire_id(unknown, vec![1; 16], false).await, Reason::NoSession)?;
        refused(client.remove_wire_id(unknown, vec![1; 16]).await, Reason::NoSession)?;
        refused(client.open(Opening::of("none")).await, Reason::NoService)?;
        refused(client.attach("none").await, Reason::NoService)?;
        refused(client.list(Some("none"), None, None).await, Reason::NoService)?;
        let opening = Opening { cpu: Some(77), ..Opening::of(GAME) };
        refused(client.open(opening).await, Reason::NoCpu)?;
        let v6 = "[2001:db8::1]:4000".parse()?;
        let opening = Opening { client: Some(v6), ..Opening::of(GAME) };
        refused(client.open(opening).await, Reason::BadClient)?;
        ensure!(client.list(None, None, None).await?.sessions.is_empty(), "nothing was opened");

        let over = client.open(Opening::of(GAME)).await?.session;
        client.terminate(over).await?;
        refused(client.bind(over, address(1)).await, Reason::NoSession)?;
        refused(client.terminate(over).await, Reason::NoSession)?;
        Ok(())
    })
}

#[test]
fn the_model_s_rules_have_the_last_word() -> Result<()> {
    require_root!();
    let scene = Scene::new()?;
    block(async {
        let client = scene.client().await?;
        let opening = Opening { client: Some(address(4000)), ..Opening::of(GAME) };
        let session = client.open(opening).await?.session;
        let other = Some(address(4001));
        refused(client.report_transport_loss(session, other).await, Reason::OldTransport)?;
        client.bind(session, address(4001)).await?;
        let message = refused(client.bind(session, address(4002)).await, Reason::SwitchCooldown)?;
        ensure!(message.contains("SWITCH_COOLDOWN"), "{message}");
        ensure!(client.get(session).await?.client == other, "nothing has changed");
        Ok(())
    })
}

#[test]
fn contexts_and_messages_are_bounded() -> Result<()> {
    require_root!();
    let scene = Scene::new()?;
    block(async {
        let client = scene.client().await?;
        let most = client.attach(GAME).await?.context_limit();
        let session = client.open(Opening::of(GAME)).await?.session;
        client.put_context(session, vec![1; most]).await?;
        let longer = client.put_context(session, vec![2; most + 1]).await;
        let message = refused(longer, Reason::ContextTooLong)?;
        ensure!(message.contains("65536") && message.contains("65537"), "{message}");
        let opening = Opening { context: vec![2; most + 1], ..Opening::of(GAME) };
        refused(client.open(opening).await, Reason::ContextTooLong)?;
        ensure!(client.list(None, None, None).await?.sessions.len() == 1);
        ensure!(client.get(session).await?.context == vec![1; most]);

        // What is longer than any message may be is not even read.
        let mut raw = raw(scene.daemon.sessions_socket()).await?;
        let request = proto::PutContextRequest {
            session: session.bytes().to_vec(),
            context: vec![3; 1 << 20],
        };
        let status = raw.put_context(request).await.err().context("it was taken")?;
        ensure!(status.code() == Code::OutOfRange, "{status:?}");
        ensure!(client.get(session).await?.context == vec![1; most]);
        Ok(())
    })
}

#[test]
fn wire_ids_have_their_slot_their_length_and_one_session() -> Result<()> {
    require_root!();
    let scene = Scene::new()?;
    block(async {
        let client = scene.client().await?;
        let (one, other) = (
            client.open(Opening::of(GAME)).await?.session,
            client.open(Opening::of(GAME)).await?.session,
        );
        // That it falls into the session's slot is one in 65,536.
        let foreign = vec![0x33; 16];
        let message =
            refused(client.add_wire_id(one, foreign.clone(), false).await, Reason::ForeignSlot)?;
        ensure!(message.contains(&"33".repeat(16)), "{message}");
        client.add_wire_id(one, foreign.clone(), true).await?;
        refused(client.add_wire_id(other, foreign.clone(), true).await, Reason::TakenWireId)?;
        for length in [0, 3, 21] {
            let added = client.add_wire_id(one, vec![1; length], true).await;
            refused(added, Reason::WireIdLength)?;
        }
        refused(client.remove_wire_id(other, foreign.clone()).await, Reason::NoWireId)?;
        let itself = one.bytes().to_vec();
        refused(client.remove_wire_id(one, itself).await, Reason::NoWireId)?;
        client.remove_wire_id(one, foreign.clone()).await?;
        client.add_wire_id(other, foreign, true).await?;
        let minted = async {
            loop {
                if let Err(error) = client.mint(one).await {
                    return error;
                }
            }
        };
        let error = tokio::time::timeout(PATIENCE, minted).await?;
        ensure!(error.reason() == Some(Reason::TooManyWireIds), "{error:?}");
        ensure!(client.get(one).await?.wire_ids.len() <= 32);
        Ok(())
    })
}

#[test]
fn streams_are_of_one_service_and_answers_of_their_questions() -> Result<()> {
    require_root!();
    let scene = Scene::new()?;
    block(async {
        let client = scene.client().await?;
        let mut game = client.attach(GAME).await?;
        let chat = client.attach(CHAT).await?;
        for stream in [Some(chat.stream()), Some(u64::MAX)] {
            let opening = Opening { stream, ..Opening::of(GAME) };
            refused(client.open(opening).await, Reason::NoStream)?;
        }
        ensure!(client.list(None, None, None).await?.sessions.is_empty(), "nothing was opened");
        let session = client.open(Opening::of(CHAT)).await?.session;
        // Nobody has asked: nothing comes of it.
        game.answers().ready(session, true).await?;
        game.answers().quiesced(session, Some(vec![1])).await?;
        // Another service's.
        game.answers().own(session).await?;
        let notice = told(&mut game).await?;
        let Notice::Refused { session: refused, reason, .. } = notice else {
            anyhow::bail!("{notice:?}");
        };
        ensure!((refused, reason) == (session, Reason::NoSession));
        let too_long = vec![1; game.context_limit() + 1];
        game.answers().quiesced(session, Some(too_long)).await?;
        let notice = told(&mut game).await?;
        let is_so = matches!(notice, Notice::Refused { reason: Reason::ContextTooLong, .. });
        ensure!(is_so, "{notice:?}");
        ensure!(client.get(session).await?.context.is_empty());
        Ok(())
    })
}

#[test]
fn streams_and_connections_are_bounded() -> Result<()> {
    require_root!();
    let scene = Scene::new()?;
    block(async {
        let client = scene.client().await?;
        let mut streams = Vec::new();
        let error = loop {
            match client.attach(GAME).await {
                Ok(stream) => streams.push(stream),
                Err(error) => break error,
            }
            ensure!(streams.len() <= 256, "there is no bound");
        };
        ensure!(error.reason() == Some(Reason::TooManyStreams), "{error:?}");
        ensure!(streams.len() == 256, "{}", streams.len());
        drop(streams);
        let again = async {
            while client.attach(GAME).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, again).await.context("places are not given back")?;

        // This process has one already.
        let mut connections = Vec::new();
        for _ in 0..100 {
            let Ok(client) = Client::connect(scene.daemon.sessions_socket()).await else { break };
            if client.list(None, None, None).await.is_err() {
                break;
            }
            connections.push(client);
        }
        ensure!(connections.len() == 63, "{}", connections.len());
        client.list(None, None, None).await.context("whoever is there is served")?;
        drop(connections);
        let again = async {
            loop {
                if let Ok(client) = Client::connect(scene.daemon.sessions_socket()).await
                    && client.list(None, None, None).await.is_ok()
                {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, again).await.context("places are not given back")
    })
}
