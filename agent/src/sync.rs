//! Synchronous replication: has this leader's commits wait for the follower while there is one, and tells the other voters
//! when the follower has everything (`sync/decision.rs` decides). One loop for the life of the agent.
//!
//! The order is the whole point: a guarantee is told last when it grows, and first when it shrinks. It shrinks by a command
//! (`command/sync.rs`) and never by itself, since a leader that goes on alone is what the plan excludes. Commits that wait for a
//! receipt which is lost are ended here too, by closing the server and opening it again.

mod decision;

use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::api::Receiver;
use anyhow::Result;
use tokio::time::timeout;

use crate::agent::Agent;
use crate::command;
use crate::gtid::History;
use crate::instance;
use crate::mysql::{Facts, SemiSync};
use crate::mysqld::State;
use crate::report::sentence;
use crate::topology::{Channel, Peer};
use decision::{Follower, Next, Part, Sight, Standing, how_close, next_step};

const LOOK_AGAIN: Duration = Duration::from_millis(100);
const LOOK_NOW_AND_THEN: Duration = Duration::from_secs(2);
/// A server is not closed more often than this for receipts that do not come: whatever keeps them away, it has to do its work.
const REOPEN_AGAIN: Duration = Duration::from_secs(60);

/// What the loop remembers between two looks.
#[derive(Default)]
struct Memory {
    /// What was here at the look before.
    before: Option<History>,
    /// How many looks in a row found that the follower receives.
    looks: u32,
    /// How many commits had got their receipt, and since when that number has stood still although nothing is missing for more.
    standstill: Option<(u64, Instant)>,
    /// When the server was last closed for that.
    reopened: Option<Instant>,
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
            Ok(Next::Reopen) => {
                // A command that runs may end what the commits wait for.
                if command::reopen(&agent, "commits wait for a receipt that does not come").await {
                    (memory.reopened, memory.standstill) = (Some(Instant::now()), None);
                }
                LOOK_NOW_AND_THEN
            }
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
        (memory.before, memory.standstill) = (None, None);
        return Ok(Next::Rest);
    }
    // A command may be about to change the guarantee.
    let _nobody_changes_it = agent.sync.lock().await;
    let facts = agent.database.facts().await?;
    let part = part(agent, &facts);
    let follower = follower(agent, part, memory).await?;
    let standstill = standstill(agent, part, &facts, memory).await?;
    let next = next_step(&Sight { plan, part, server: (&facts.semi_sync).into(), follower, standstill });
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
    let Some(known) = known_to_follower(agent).await? else { return Ok(Follower::Away) };
    let follower = how_close(&known, &here, before.as_ref(), looks);
    (memory.before, memory.looks) = (Some(here), looks + 1);
    Ok(follower)
}

/// What the follower knows, while it receives from here.
async fn known_to_follower(agent: &Agent) -> Result<Option<History>> {
    let Peer::Answers(peer) = agent.look_at_peer().await? else { return Ok(None) };
    let me = agent.instance.spec.ip.to_string();
    let receives = |channel: &Channel| channel.source == me && channel.receiver == Receiver::Connected;
    let is_receiver = !peer.is_writable && peer.channel.as_ref().is_some_and(receives);
    Ok(is_receiver.then(|| peer.known()).transpose()?)
}

/// For how long no commit got a receipt although the follower has all that wait for one, or cannot come back since the server
/// holds on to its last connection.
async fn standstill(agent: &Agent, part: Part, facts: &Facts, memory: &mut Memory) -> Result<Duration> {
    let SemiSync { waiting_sessions, clients, acknowledged, .. } = facts.semi_sync;
    if part != Part::Leader(Standing::Promised) || waiting_sessions == 0 {
        memory.standstill = None;
        return Ok(Duration::ZERO);
    }
    let Some((_, since)) = memory.standstill.filter(|(before, _)| *before == acknowledged) else {
        memory.standstill = Some((acknowledged, Instant::now()));
        return Ok(Duration::ZERO);
    };
    // On MySQL also what is about to be committed.
    let here = facts.executed.parse::<History>()?.united_with(&facts.pending.parse()?);
    let stands_still = match clients {
        0 => Some(agent.database.keeps_a_dead_follower().await?),
        // Whether a new connection brings the receipts is not known; that the server lets go of a dead one is.
        _ if memory.reopened.is_some_and(|reopened| reopened.elapsed() < REOPEN_AGAIN) => Some(false),
        _ => known_to_follower(agent).await?.map(|known| known.contains(&here)),
    };
    if stands_still == Some(false) {
        memory.standstill = None;
    }
    Ok(if stands_still == Some(true) { since.elapsed() } else { Duration::ZERO })
}

async fn carry_out(agent: &Agent, plan: instance::Sync, next: Next) -> Result<()> {
    let leadership = &agent.leadership;
    match next {
        Next::Rest | Next::Wait | Next::Reopen => Ok(()),
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
