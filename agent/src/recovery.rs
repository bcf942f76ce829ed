//! After every start of the server, which is read-only then: become again what this server was, where `fence.rs` allows it.
//! One loop for the life of the agent; the busy flag is up while it looks and acts.

use std::sync::Arc;
use std::time::Duration;

use agent::api::Activity;
use anyhow::Result;

use crate::agent::Agent;
use crate::fence::{self, Marker, Recovery};
use crate::mysql::Channel;
use crate::mysqld::State;
use crate::report::sentence;

/// The time between two looks at a peer that is not there or busy.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const LOOK_AGAIN_WHEN_BUSY: Duration = Duration::from_millis(100);

/// Follow the server's starts for as long as the agent runs.
pub(crate) async fn recover_after_starts(agent: Arc<Agent>) {
    let mut state = agent.mysqld.watch();
    let mut said = "";
    loop {
        if state.wait_for(|state| matches!(state, State::Up(_))).await.is_err() {
            return;
        }
        state.mark_unchanged();
        if let Some(pause) = recover_logged(&agent, &mut said).await {
            let _ = tokio::time::timeout(pause, state.changed()).await;
        } else if state.changed().await.is_err() {
            return;
        }
    }
}

/// Says when to look again, if at all. What it waits for is `said` once.
async fn recover_logged(agent: &Agent, said: &mut &'static str) -> Option<Duration> {
    match recover(agent).await {
        Ok(Recovery::Open | Recovery::Follow) => None,
        Ok(Recovery::Wait(why)) => {
            if std::mem::replace(said, why) != why {
                tracing::info!("not recovered yet: {why}");
            }
            Some(if why == fence::PEER_BUSY { LOOK_AGAIN_WHEN_BUSY } else { LOOK_AGAIN })
        }
        Ok(Recovery::Stay(why) | Recovery::Forget(why)) => {
            tracing::info!("the server stays read-only: {why}");
            None
        }
        Err(error) => {
            tracing::warn!("the server is not what it was before its start, trying again: {}", sentence(&error));
            Some(LOOK_AGAIN)
        }
    }
}

async fn recover(agent: &Agent) -> Result<Recovery> {
    let _raised = agent.busy.raise_when_free(Activity::Recovery).await;
    let facts = agent.database.facts().await?;
    let marker = agent.marker.read();
    // An adopted server may be what it was all the time; so may one that a command has changed since.
    match (marker, &facts.channel) {
        (_, channel) if !facts.is_read_only => return keep_writable(agent, marker, channel.as_ref()).await,
        (Some(Marker::Follower { .. }), Some(channel)) if channel.is_applier_running => return Ok(Recovery::Follow),
        (Some(Marker::Follower { .. }), None) => {
            return Ok(Recovery::Stay("it never followed; run configure-leader-follower"));
        }
        (_, _) => {}
    }
    let own = agent.own_server().await?.known()?;
    let recovery = fence::after_start(marker, &own, &agent.fence_view().await);
    match recovery {
        Recovery::Open => {
            agent.database.open().await?;
            // A promotion that was cut off: the marker comes after everything was applied and replication stopped.
            if facts.channel.is_some() {
                agent.database.forget_replication().await?;
            }
            agent.demoted.clear()?;
            agent.database.start_events().await?;
        }
        Recovery::Follow => agent.database.start_replication().await?,
        Recovery::Forget(_) => agent.marker.remove()?,
        Recovery::Wait(_) | Recovery::Stay(_) => {}
    }
    Ok(recovery)
}

/// A demotion that was cut off has removed the marker of a server that still leads; a promotion that was cut off at its
/// very end has left the source.
async fn keep_writable(agent: &Agent, marker: Option<Marker>, channel: Option<&Channel>) -> Result<Recovery> {
    if marker.is_none() && fence::may_lead(&agent.fence_view().await).is_ok() {
        agent.marker.write(Marker::Leader)?;
        agent.demoted.clear()?;
    }
    if marker == Some(Marker::Leader) && channel.is_some_and(Channel::is_stopped) {
        agent.database.forget_replication().await?;
    }
    Ok(Recovery::Open)
}
