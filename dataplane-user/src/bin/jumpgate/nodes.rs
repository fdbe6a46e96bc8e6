//! `jumpgate nodes`

use crate::{
    output::say,
    table::{print, row},
};
use anyhow::Result;
use dataplane_user::api::Client;
use std::time::Duration;

/// Lists the nodes of the cluster as this one sees them.
pub fn nodes(client: &mut Client, json: bool) -> Result<()> {
    let nodes = client.nodes()?;
    if json {
        return say!("{}", serde_json::to_string_pretty(&nodes)?);
    }
    let mut rows = vec![row(["NODE", "INDEX", "ADDRESS", "EPOCH", "STANDING", "LAST HEARTBEAT"])];
    for node in &nodes {
        let name = if node.is_this { format!("{} (this)", node.node) } else { node.node.clone() };
        let epoch = node.epoch.map_or_else(|| "-".to_owned(), |epoch| epoch.to_string());
        let silent = node.silent_ms.map_or_else(
            || "-".to_owned(),
            |silent| format!("{} ago", humantime::format_duration(Duration::from_millis(silent))),
        );
        let (index, standing) = (node.index.to_string(), node.standing.name());
        rows.push(row([&name, &index, &node.address, &epoch, standing, &silent]));
    }
    print(&rows)
}
