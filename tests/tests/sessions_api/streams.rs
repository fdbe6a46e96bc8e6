//! Sessions that an application's connection owns.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dataplane_user::sessions_api::proto::State;
use dataplane_user::sessions_api::{Client, Opening};
use jumpgate_tests::require_root;
use ownership::SessionId;

use crate::scene::{GAME, PATIENCE, Scene, address, block, reaches};

async fn open(client: &Client, port: u16, stream: Option<u64>) -> Result<SessionId> {
    let opening = Opening { client: Some(address(port)), stream, ..Opening::of(GAME) };
    Ok(client.open(opening).await?.session)
}

#[test]
fn the_death_of_an_application_is_a_loss_of_transport() -> Result<()> {
    require_root!();
    let scene = Scene::new()?;
    // An application that dies: its connection breaks, and nothing is said.
    let (owned, disowned, not_owned, unbound) = block(async {
        let client = scene.client().await?;
        let attachment = client.attach(GAME).await?;
        let stream = Some(attachment.stream());
        let mut owned = Vec::new();
        for port in 0..100 {
            owned.push(open(&client, 4000 + port, stream).await?);
        }
        let not_owned = open(&client, 5000, None).await?;
        let disowned = open(&client, 5001, stream).await?;
        attachment.answers().disown(disowned).await?;
        let later = open(&client, 5002, None).await?;
        attachment.answers().own(later).await?;
        owned.push(later);
        let unbound = client.open(Opening { stream, ..Opening::of(GAME) }).await?.session;
        // Answers and calls are two streams: wait until the last answer is taken.
        tokio::time::sleep(Duration::from_millis(300)).await;
        for session in &owned {
            ensure!(client.get(*session).await?.state == State::Attached, "as long as it lives");
        }
        Ok((owned, disowned, not_owned, unbound))
    })?;
    block(async {
        let client = scene.client().await?;
        for session in owned {
            let stands = reaches(&client, session, State::Recovering).await?;
            ensure!(stands.client.is_none() && stands.version.get() == 2, "{stands:?}");
        }
        for session in [not_owned, disowned] {
            let stands = client.get(session).await?;
            ensure!(stands.state == State::Attached && stands.version.get() == 1, "{stands:?}");
        }
        ensure!(client.get(unbound).await?.state == State::Birth, "it had nothing to lose");
        Ok(())
    })
}

#[test]
fn a_session_changes_hands_with_its_application() -> Result<()> {
    require_root!();
    let scene = Scene::new()?;
    block(async {
        let client = scene.client().await?;
        let first = client.attach(GAME).await?;
        let second = client.attach(GAME).await?;
        let kept = open(&client, 4000, Some(first.stream())).await?;
        let lost = open(&client, 4001, Some(first.stream())).await?;
        second.answers().own(kept).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop(first);
        reaches(&client, lost, State::Recovering).await?;
        ensure!(client.get(kept).await?.state == State::Attached, "the second has it");
        drop(second);
        reaches(&client, kept, State::Recovering).await?;
        Ok(())
    })
}

#[test]
fn a_daemon_that_ends_takes_no_transport_away() -> Result<()> {
    require_root!();
    let mut scene = Scene::new()?;
    block(async {
        let client = scene.client().await?;
        let mut attachment = client.attach(GAME).await?;
        let session = open(&client, 4000, Some(attachment.stream())).await?;
        scene.restart()?;
        let ended = tokio::time::timeout(PATIENCE, attachment.next()).await;
        ensure!(!matches!(ended.context("the stream ends")?, Ok(Some(_))), "nothing was told");
        let client = scene.client().await?;
        let stands = client.get(session).await?;
        ensure!(stands.state == State::Attached, "{stands:?}");
        // The application is back: it owns its session again, and then dies.
        let attachment = client.attach(GAME).await?;
        attachment.answers().own(session).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop(attachment);
        reaches(&client, session, State::Recovering).await?;
        Ok(())
    })
}
