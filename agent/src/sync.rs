//! Synchronous replication: has this leader's commits wait for the follower while there is one, and tells the other voters
//! when the follower has everything (`sync/decision.rs` decides). One loop for the life of the agent.
//!
//! The order is the whole point: a guarantee is told last when it grows, and first when it shrinks. It shrinks by a command
//! (`command/sync.rs`) and never by itself, since a leader that goes on alone is what the plan excludes.

mod decision;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::time::timeout;

use crate::agent::Agent;
use crate::gtid::History;
use crate::instance;
use crate::mysql::Facts;
use crate::mysqld::State;
use crate::report::sentence;
use crate::topology::Peer;
use decision::{Follower, Next, Part, Sight, Standing, how_close, next_step};

const LOOK_AGAIN: Duration = Duration::from_millis(100);
const LOOK_NOW_AND_THEN: Duration = Duration::from_secs(2);

/// What the loop remembers between two looks.
#[derive(Default)]
struct Memory {
    /// What was here at the look before.
    before: Option<History>,
    /// How many looks in a row found that the follower receives.
    looks: u32,
    said: String,
}

/// Keep the wait as it should be for as long as the agent runs; in other plans there is none.
pub(crate) async fn keep_in_sync(agent: Arc<Agent>) {
    let Some(plan) = agent.instance.sync() else { return };
    let mut memory = Memory::default();
    loop {
        let pause = match keep(&agent, plan, &mut memory).await {
            Ok(Next::Rest) => LOOK_NOW_AND_THEN,
            Ok(Next::Wait) => LOOK_AGAIN,
            Ok(Next::Enable | Next::Disable | Next::Promise | Next::Withhold) => Duration::ZERO,
            Err(error) => {
                say(&mut memory, &sentence(&error));
                LOOK_AGAIN
            }
        };
        let _ = timeout(pause, agent.leadership.changed.notified()).await;
    }
}

fn say(memory: &mut Memory, text: &str) {
    if memory.said != text {
        tracing::info!("synchronous replication is not as it should be yet: {text}");
        memory.said = text.to_owned();
    }
}

async fn keep(agent: &Agent, plan: instance::Sync, memory: &mut Memory) -> Result<Next> {
    if !matches!(agent.mysqld.state(), State::Up(_)) {
        memory.before = None;
        return Ok(Next::Rest);
    }
    // A command may be about to change the guarantee.
    let _nobody_changes_it = agent.sync.lock().await;
    let facts = agent.database.facts().await?;
    let part = part(agent, &facts);
    let follower = follower(agent, part, memory).await?;
    let next = next_step(&Sight { plan, part, server: (&facts.semi_sync).into(), follower });
    carry_out(agent, plan, next).await?;
    Ok(next)
}

fn part(agent: &Agent, facts: &Facts) -> Part {
    let leadership = &agent.leadership;
    if facts.is_read_only || agent.closing.is_on() || leadership.own_epoch().is_none() || !leadership.is_open() {
        let follows = facts.is_read_only && facts.channel.is_some() && leadership.own_epoch().is_none();
        return if follows { Part::Follower } else { Part::Closed };
    }
    Part::Leader(match (leadership.is_degraded(), leadership.must_wait(), leadership.in_sync()) {
        (true, _, _) => Standing::Degraded,
        (false, true, true) => Standing::Promised,
        (false, true, false) => Standing::Withheld,
        (false, false, _) => Standing::Open,
    })
}

/// Only asked for where it makes a difference. What is here is read before the follower is asked.
async fn follower(agent: &Agent, part: Part, memory: &mut Memory) -> Result<Follower> {
    match part {
        Part::Leader(Standing::Open | Standing::Withheld) => {}
        Part::Leader(Standing::Promised | Standing::Degraded) | Part::Closed | Part::Follower => {
            memory.before = None;
            return Ok(Follower::Away);
        }
    }
    let here: History = agent.database.position().await?.parse()?;
    // A look at a follower that is away takes long, and what was here before it says nothing.
    let (before, looks) = (memory.before.take(), std::mem::take(&mut memory.looks));
    let me = agent.instance.spec.ip.to_string();
    let Peer::Answers(peer) = agent.look_at_peer().await? else { return Ok(Follower::Away) };
    let receives = |channel: &crate::topology::Channel| {
        channel.source == me && channel.receiver == agent::api::Receiver::Connected
    };
    if peer.is_writable || !peer.channel.as_ref().is_some_and(receives) {
        return Ok(Follower::Away);
    }
    let follower = how_close(&peer.known()?, &here, before.as_ref(), looks);
    (memory.before, memory.looks) = (Some(here), looks + 1);
    Ok(follower)
}

async fn carry_out(agent: &Agent, plan: instance::Sync, next: Next) -> Result<()> {
    let leadership = &agent.leadership;
    match next {
        Next::Rest | Next::Wait => Ok(()),
        Next::Enable => agent.database.enable_semi_sync_source(plan.ack_timeout_ms).await,
        Next::Disable => agent.database.disable_semi_sync_source().await,
        Next::Promise => {
            leadership.promise()?;
            // A server that started again since it was looked at may have been opened without waiting.
            if agent.database.facts().await?.semi_sync.is_source_on {
                tracing::info!("the follower has everything: from now on no commit is acknowledged without it");
                leadership.tell_promise()?;
            }
            Ok(())
        }
        Next::Withhold => {
            tracing::error!(
                "the server did not wait for the follower although it had to; somebody has switched that off"
            );
            leadership.withhold_promise()
        }
    }
}
