//! Every call does what it says.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dataplane_user::api::Client as Api;
use dataplane_user::sessions_api::proto::{Hold, State};
use dataplane_user::sessions_api::{Notice, Opening, Session};
use jumpgate_tests::require_root;
use ownership::StateVersion;
use ownership::control::Credentials;

use crate::scene::{CHAT, GAME, Scene, address, block, reaches, silence, told};

#[test]
fn a_session_s_life() -> Result<()> {
    require_root!();
    let scene = Scene::new()?;
    block(async {
        let client = scene.client().await?;
        let opening = Opening {
            cpu: Some(1),
            client: Some(address(4000)),
            context: b"before".to_vec(),
            ..Opening::of(GAME)
        };
        let opened = client.open(opening).await?;
        let session = opened.session;
        // BIRTH, and then its client.
        ensure!(opened.version == StateVersion::new(1), "{opened:?}");
        let named = Credentials::from_bytes(opened.credentials.bytes())?.name();
        ensure!(named.generation == opened.credentials.name().generation);
        let expected = Session {
            session,
            service: GAME.to_owned(),
            state: State::Attached,
            hold: Hold::Active,
            version: opened.version,
            node: ownership::NodeIndex::new(1)?,
            epoch: opened.epoch,
            client: Some(address(4000)),
            wire_ids: Vec::new(),
            context: b"before".to_vec(),
            is_here: true,
        };
        ensure!(client.get(session).await? == expected, "{:?}", client.get(session).await?);
        let row = Api::connect(scene.daemon.socket())?.sessions(None)?;
        ensure!(row.len() == 1 && row[0].session == session.to_string(), "{row:?}");
        ensure!(row[0].cpu == 1 && row[0].client == Some(address(4000)), "{row:?}");

        ensure!(
            client.bind(session, address(4000)).await? == opened.version,
            "bound to it already"
        );
        let bound = client.bind(session, address(4001)).await?;
        ensure!(bound == StateVersion::new(2), "{bound}");
        let lost = client.report_transport_loss(session, Some(address(4001))).await?;
        ensure!(lost == StateVersion::new(3), "{lost}");
        let stands = reaches(&client, session, State::Recovering).await?;
        ensure!(stands.client.is_none(), "{stands:?}");
        ensure!(client.report_transport_loss(session, None).await? == lost, "it has none to lose");
        // Transports change half a second apart at least.
        tokio::time::sleep(Duration::from_millis(600)).await;
        client.bind(session, address(4002)).await?;
        let stands = reaches(&client, session, State::Attached).await?;
        ensure!(stands.client == Some(address(4002)), "{stands:?}");

        client.put_context(session, b"after".to_vec()).await?;
        ensure!(client.get(session).await?.context == b"after");
        let version = client.get(session).await?.version;
        let minted = client.mint(session).await?;
        ensure!(minted.len() == 16, "{minted:?}");
        let peers = vec![7; 16];
        client.add_wire_id(session, peers.clone(), true).await?;
        ensure!(client.get(session).await?.wire_ids == [minted.clone(), peers.clone()]);
        let row = Api::connect(scene.daemon.socket())?.sessions(None)?;
        ensure!(row[0].wire_ids.len() == 3, "{row:?}");
        client.remove_wire_id(session, minted).await?;
        ensure!(client.get(session).await?.wire_ids == [peers]);
        ensure!(client.get(session).await?.version == version, "ids are outside of the record");

        client.terminate(session).await?;
        let stands = client.get(session).await?;
        ensure!(stands.state == State::Terminated && stands.version > version, "{stands:?}");
        ensure!(client.list(None, None, None).await?.sessions.is_empty());
        ensure!(Api::connect(scene.daemon.socket())?.sessions(None)?.is_empty());
        Ok(())
    })
}

#[test]
fn lists_come_in_pages_by_service() -> Result<()> {
    require_root!();
    let scene = Scene::new()?;
    block(async {
        let client = scene.client().await?;
        let mut opened = Vec::new();
        for number in 0..25 {
            let service = if number % 5 == 0 { CHAT } else { GAME };
            opened.push((client.open(Opening::of(service)).await?.session, service));
        }
        opened.sort();
        for (service, limit) in [(None, Some(7)), (Some(GAME), Some(3)), (Some(CHAT), None)] {
            let (mut after, mut listed) = (None, Vec::new());
            loop {
                let page = client.list(service, after, limit).await?;
                ensure!(page.sessions.len() <= limit.unwrap_or(500) as usize);
                listed.extend(page.sessions.into_iter().map(|session| session.session));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            let is_wanted = |of: &str| service.is_none_or(|service| service == of);
            let expected: Vec<_> =
                opened.iter().filter(|row| is_wanted(row.1)).map(|row| row.0).collect();
            ensure!(listed == expected, "{service:?}: {listed:?}");
        }
        Ok(())
    })
}

#[test]
fn an_application_is_told_of_its_own_service_only() -> Result<()> {
    require_root!();
    let scene = Scene::new()?;
    block(async {
        let client = scene.client().await?;
        let mut game = client.attach(GAME).await?;
        let mut also = client.attach(GAME).await?;
        let mut chat = client.attach(CHAT).await?;
        ensure!(game.stream() != also.stream() && game.context_limit() == 64 << 10);
        ensure!(game.node().get() == 1);
        let session = client.open(Opening::of(GAME)).await?.session;
        ensure!(client.get(session).await?.epoch == game.epoch());
        client.terminate(session).await?;
        for attachment in [&mut game, &mut also] {
            let notice = told(attachment).await?;
            ensure!(notice == Notice::Ended { session }, "{notice:?}");
        }
        silence(&mut chat).await
    })
}

#[test]
fn what_was_left_is_there_after_a_restart() -> Result<()> {
    require_root!();
    let mut scene = Scene::new()?;
    let session = block(async {
        let client = scene.client().await?;
        let session = client.open(Opening::of(GAME)).await?.session;
        client.put_context(session, vec![9; 64 << 10]).await?;
        client.mint(session).await?;
        Ok(session)
    })?;
    scene.restart()?;
    block(async {
        let client = scene.client().await?;
        let stands = client.get(session).await.context("it is there")?;
        ensure!(stands.context == vec![9; 64 << 10] && stands.wire_ids.len() == 1, "{stands:?}");
        client.terminate(session).await?;
        Ok(())
    })
}
