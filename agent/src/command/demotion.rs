//! Making this server read-only.

use anyhow::{Result, bail};

use crate::agent::Agent;
use crate::fence::Marker;
use crate::mysql::Closing;
use crate::report::sentence;

/// Each attempt waits up to two seconds for locks and cuts the sessions that may hold them.
const ATTEMPTS: usize = 5;

/// Make this server read-only and cut its sessions. The marker goes first: a server that crashes in between must not come
/// back writable. It is put back when the server stays writable.
pub(super) async fn demote(agent: &Agent) -> Result<()> {
    let _closing = agent.closing.begin();
    let was = agent.marker.read();
    agent.demoted.set()?;
    if was == Some(Marker::Leader) {
        agent.marker.remove()?;
    }
    if let Err(error) = close(agent).await {
        if let Some(marker) = was {
            agent.marker.write(marker)?;
            agent.demoted.clear()?;
        }
        if let Err(error) = agent.database.start_events().await {
            tracing::warn!("scheduled events stay off: {}", sentence(&error));
        }
        return Err(error);
    }
    agent.database.cut_sessions().await?;
    agent.mysqld.forbid_writes().await
}

/// A session that holds a lock, or a statement that runs for long, blocks `read_only`; it cannot be waited for.
pub(super) async fn close(agent: &Agent) -> Result<()> {
    agent.database.stop_events().await?;
    let _no_user_is_made = agent.users.write().await;
    for _ in 0..ATTEMPTS {
        match agent.database.close().await? {
            Closing::Closed => return Ok(()),
            Closing::Blocked => {
                let cut = agent.database.cut_sessions().await?;
                tracing::warn!(cut, "something holds a lock; the sessions of the applications are cut");
            }
        }
    }
    bail!(
        "something holds a lock on the server although its sessions were cut {ATTEMPTS} times; SHOW PROCESSLIST names it"
    )
}
