//! The leader's heartbeat: one row each second while this server leads a pair, so that the follower can tell how old its
//! data are even when nobody writes. A single node writes none. One loop for the life of the agent.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::MissedTickBehavior;

use crate::agent::Agent;
use crate::fence::Marker;
use crate::mysql::{Beat, Heart};
use crate::mysqld::State;
use crate::report::sentence;

const INTERVAL: Duration = Duration::from_secs(1);
/// A commit may wait for the follower for as long as that is away; its session is left behind then.
const LIMIT: Duration = Duration::from_secs(3);

/// Write heartbeats for as long as the agent runs, whenever this server leads.
pub(crate) async fn beat_while_leading(agent: Arc<Agent>) {
    let mut clock = tokio::time::interval(INTERVAL);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut heart, mut is_missed) = (None, false);
    while agent.instance.pair.is_some() {
        clock.tick().await;
        let Some(epoch) = epoch_of_leader(&agent) else {
            // A server that starts again knows nothing of the old session.
            (heart, is_missed) = (None, false);
            continue;
        };
        let beat = tokio::time::timeout(LIMIT, beat(&agent, &mut heart, epoch)).await;
        let beat = beat.with_context(|| format!("it was not committed within {} s", LIMIT.as_secs()));
        match beat.flatten() {
            Ok(()) if is_missed => tracing::info!("the heartbeat is written again"),
            Ok(()) => {}
            Err(error) if is_missed => tracing::debug!("the heartbeat is still missed: {}", sentence(&error)),
            Err(error) => tracing::warn!("the heartbeat is missed: {}", sentence(&error)),
        }
        is_missed = heart.is_none();
    }
}

/// The epoch of this server's leadership, while it leads. A server that somebody else made writable does not.
fn epoch_of_leader(agent: &Agent) -> Option<u64> {
    let is_up = matches!(agent.mysqld.state(), State::Up(_));
    (is_up && !agent.closing.is_on() && agent.marker.read() == Some(Marker::Leader)).then_some(0)
}

/// A session that did not answer is not used again.
async fn beat(agent: &Agent, kept: &mut Option<Heart>, epoch: u64) -> Result<()> {
    let mut heart = match kept.take() {
        Some(heart) => heart,
        None => agent.database.heart(LIMIT).await?,
    };
    if heart.beat(epoch).await? == Beat::NoTable && make_table(agent).await? {
        heart.beat(epoch).await?;
    }
    *kept = Some(heart);
    Ok(())
}

/// Once in the life of a pair. These statements pass `read_only`, so the server must not turn read-only meanwhile.
async fn make_table(agent: &Agent) -> Result<bool> {
    let _leads = agent.users.read().await;
    let leads = agent.is_writable_leader().await?;
    if leads {
        agent.database.make_heartbeat().await?;
    }
    Ok(leads)
}
