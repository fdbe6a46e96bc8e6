//! `jumpgate sessions`

use crate::{
    output::say,
    table::{print, row},
};
use anyhow::{Result, bail};
use dataplane_user::api::{Client, SessionRow, SessionState};

/// Lists the sessions of the node.
pub fn sessions(client: &mut Client, limit: usize, json: bool) -> Result<()> {
    let sessions = fetch(client, limit)?;
    if json {
        say!("{}", serde_json::to_string_pretty(&sessions)?)?;
        return Ok(());
    }
    let head = ["SESSION", "SERVICE", "CPU", "SLOT", "VERSION", "CLIENT", "OTHER WIRE IDS"];
    let mut rows = vec![row(head)];
    for session in &sessions {
        let (cpu, slot) = (session.cpu.to_string(), session.slot.to_string());
        let version = session.version.to_string();
        let client = session.client.map_or_else(|| "-".to_owned(), |client| client.to_string());
        let others = session.wire_ids[1..].join(" ");
        let (id, service) = (&session.session, &session.service);
        rows.push(row([id, service, &cpu, &slot, &version, &client, &others]));
    }
    print(&rows)?;
    if sessions.len() == limit {
        say!("the first {limit}; --limit shows more")?;
    }
    Ok(())
}

/// Shows one session.
pub fn show(client: &mut Client, session: &str, json: bool) -> Result<()> {
    let Some(state) = client.session(session)? else {
        bail!("no session {session}, as far as this node can see: ask its owner's daemon");
    };
    if json {
        return say!("{}", serde_json::to_string_pretty(&state)?);
    }
    let SessionState { session, version, owner: (node, epoch), is_here, ref hold, .. } = state;
    say!("session         {session}")?;
    say!("service         {}", state.service.as_deref().unwrap_or("(not configured here)"))?;
    say!("state           {}, {hold}", state.state)?;
    say!("state_version   {version}")?;
    let here = if is_here { " (this)" } else { "" };
    say!("owner           node {node}{here} in epoch {epoch}")?;
    let client = state.client.map_or_else(|| "-".to_owned(), |client| client.to_string());
    say!("client          {client}")?;
    say!("key generation  {}", state.key_generation)?;
    say!("other wire ids  {}", state.wire_ids.join(" "))?;
    say!("context         {} bytes", state.context_bytes)
}

fn fetch(client: &mut Client, limit: usize) -> Result<Vec<SessionRow>> {
    let mut sessions: Vec<SessionRow> = Vec::new();
    while sessions.len() < limit {
        let after = sessions.last().map(|last| last.session.clone());
        let page = client.sessions(after.as_deref())?;
        if page.is_empty() {
            break;
        }
        sessions.extend(page);
    }
    sessions.truncate(limit);
    Ok(sessions)
}
