//! The leader's heartbeat: one row each second while this server leads a pair, so that the follower can tell how old its
//! data are even when nobody writes. A single node writes none. One loop for the life of the agent.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::MissedTickBehavior;

use crate::agent::Agent;
use crate::command;
use crate::mysql::Heart;
use crate::mysqld::State;
use crate::report::sentence;

const INTERVAL: Duration = Duration::from_secs(1);
/// A commit may wait for the follower for as long as that is away; its session is left behind then.
const LIMIT: Duration = Duration::from_secs(3);
const SETTLE_LIMIT: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

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
        match beat.unwrap_or_else(|_| Err(anyhow!("it was not committed within {} s", LIMIT.as_secs()))) {
            Ok(()) if is_missed => tracing::info!("the heartbeat is written again"),
            Ok(()) => {}
            Err(error) if is_missed => tracing::debug!("the heartbeat is still missed: {}", sentence(&error)),
            Err(error) => tracing::warn!("the heartbeat is missed: {}", sentence(&error)),
        }
        is_missed = heart.is_none();
    }
}

/// When the agent ends: nobody writes any more, since MySQL acknowledges commits that wait for a follower that is away when it
/// ends. And the follower receives the last heartbeat, or a leader that was replaced meanwhile would return with a transaction
/// that nobody else has. A follower that does not come along is not waited for.
pub(crate) async fn settle(agent: &Agent) {
    if epoch_of_leader(agent).is_none() || agent.instance.pair.is_none() {
        return;
    }
    if let Err(error) = command::end_writes(agent).await {
        tracing::error!("{}", sentence(&error));
    }
    if agent.mysqld.is_not_running() {
        return;
    }
    let received = async {
        let written = agent.own_server().await?.executed?;
        while !agent.peer_server().await?.known()?.contains(&written) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        anyhow::Ok(())
    };
    match tokio::time::timeout(SETTLE_LIMIT, received).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("the follower does not say what it has received: {}", sentence(&error)),
        Err(_) => tracing::warn!("the follower has not received everything that was written here"),
    }
}

/// The epoch of this server's leadership, while it leads. A server that somebody else made writable does not.
fn epoch_of_leader(agent: &Agent) -> Option<u64> {
    let is_up = matches!(agent.mysqld.state(), State::Up(_));
    agent.leadership.own_epoch().filter(|_| is_up && !agent.closing.is_on() && agent.leadership.is_open())
}

/// A session that did not answer is not used again.
async fn beat(agent: &Agent, kept: &mut Option<Heart>, epoch: u64) -> Result<()> {
    let mut heart = match kept.take() {
        Some(heart) => heart,
        None => agent.database.heart(LIMIT).await?,
    };
    heart.beat(epoch).await?;
    *kept = Some(heart);
    Ok(())
}
