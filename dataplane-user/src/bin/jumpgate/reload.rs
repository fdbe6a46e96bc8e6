//! `jumpgate reload`

use crate::output::say;
use anyhow::Result;
use dataplane_user::api::Client;

/// Has the configuration read again, and says what has changed.
pub fn reload(client: &mut Client) -> Result<()> {
    let changed = client.reload()?;
    match changed.is_empty() {
        true => say!("nothing is different"),
        false => say!("changed: {}", changed.join(", ")),
    }
}
