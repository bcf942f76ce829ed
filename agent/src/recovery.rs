//! Makes this server what it should be (`fence.rs` decides): after each of its starts, when its lease was lost or came back,
//! and when another server leads. One loop for the life of the agent; the busy flag is up while it looks and acts.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use agent::api::{Activity, Receiver};
use anyhow::{Context, Result, bail};

use crate::agent::Agent;
use crate::automatic;
use crate::command::{finish_promotion, follow, lead, open};
use crate::fence::{self, Recovery, Situation};
use crate::leadership::{Claim, close_now};
use crate::mysql::{Channel, Facts};
use crate::mysqld::State;
use crate::report::{Report, sentence};
use crate::topology::{Peer, Server};

/// The time between two looks at a pair in which something is not as it should be.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The time between two looks at a server that is what it should be.
const LOOK_NOW_AND_THEN: Duration = Duration::from_secs(5);

/// How long it waits until the leader is reached. It looks again anyway; and when the leader has died meanwhile, this server is
/// the one that must be free for a command.
const FOLLOW_LIMIT: Duration = Duration::from_secs(2);

/// Look after the server for as long as the agent runs.
pub(crate) async fn look_after(agent: Arc<Agent>) {
    let mut state = agent.mysqld.watch();
    let mut said = String::new();
    let mut was_up = false;
    loop {
        let is_up = matches!(*state.borrow_and_update(), State::Up(_));
        let pause = match is_up {
            true => look(&agent, &mut said).await,
            false => {
                // Here, so that nobody opens the server meanwhile.
                if agent.forget_a_server_that_ended() && was_up {
                    automatic::offer(&agent).await;
                }
                LOOK_NOW_AND_THEN
            }
        };
        was_up = is_up;
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            () = agent.leadership.changed.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Says when to look again. What it waits for is `said` once.
async fn look(agent: &Agent, said: &mut String) -> Duration {
    let recovered = recover(agent).await;
    let trouble = recovered.as_ref().err().map(sentence);
    *agent.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    let (text, pause) = match recovered {
        Ok(Recovery::Keep) => (String::new(), LOOK_NOW_AND_THEN),
        Ok(Recovery::Open | Recovery::TakeBack | Recovery::Close | Recovery::Adopt(_)) => {
            (String::new(), Duration::ZERO)
        }
        Ok(Recovery::ForgetSource | Recovery::CatchUp | Recovery::Resume | Recovery::Follow | Recovery::Rejoin) => {
            (String::new(), LOOK_AGAIN)
        }
        Ok(Recovery::Wait(why)) => (format!("not recovered yet: {why}"), LOOK_AGAIN),
        Ok(Recovery::Stay(why)) => (format!("the server stays read-only: {why}"), LOOK_AGAIN),
        Err(error) => (format!("the server is not what it should be, trying again: {}", sentence(&error)), LOOK_AGAIN),
    };
    if !text.is_empty() && *said != text {
        tracing::warn!("{text}");
    }
    *said = text;
    pause
}

async fn recover(agent: &Agent) -> Result<Recovery> {
    let _raised = agent.busy.raise_when_free(Activity::Recovery).await;
    let facts = tokio::select! {
        facts = agent.database.facts() => facts?,
        // The next server may answer instead, and the dead one would have no successor.
        why = agent.mysqld.until_ended() => bail!(why),
    };
    if facts.is_read_only {
        agent.leadership.closed();
    }
    if is_settled(agent, &facts) {
        return Ok(Recovery::Keep);
    }
    let peer = agent.look_at_peer().await?;
    let me = agent.own_server().await?;
    let leadership = &agent.leadership;
    let situation = Situation {
        record: leadership.record(),
        led: leadership.led(),
        may_write: leadership.may_write(),
        has_yielded: leadership.has_yielded(),
        me,
        peer,
    };
    let recovery = fence::recovery(&situation);
    carry_out(agent, &recovery, &situation.peer).await?;
    Ok(recovery)
}

/// Nothing to ask the other server for: a leader with its lease, or a follower that follows. A follower that hears of no leader
/// asks: the other one may have voted for it, in an election of which it knows nothing.
fn is_settled(agent: &Agent, facts: &Facts) -> bool {
    if agent.instance.pair.is_none() {
        return !facts.is_read_only;
    }
    let is_mine = agent.leadership.own_epoch().is_some();
    match &facts.channel {
        None => is_mine && !facts.is_read_only,
        Some(channel) => {
            !is_mine
                && facts.is_read_only
                && agent.leadership.hears_a_leader()
                && channel.receiver == Receiver::Connected
                && channel.is_applier_running
                && comes_from_peer(agent, channel)
        }
    }
}

fn comes_from_peer(agent: &Agent, channel: &Channel) -> bool {
    agent.instance.peer_address().is_some_and(|address| address.to_string() == channel.source)
}

async fn carry_out(agent: &Agent, recovery: &Recovery, peer: &Peer) -> Result<()> {
    let leader = || match peer {
        Peer::Answers(leader) => Ok(leader),
        Peer::None | Peer::Silent { .. } => Err(anyhow::anyhow!("the leader does not answer")),
    };
    let nobody = Report::to_nobody();
    let follow_now = |leader: &Server| follow(agent, leader.address, FOLLOW_LIMIT, &nobody);
    match recovery {
        Recovery::Keep | Recovery::Wait(_) | Recovery::Stay(_) => Ok(()),
        Recovery::Open => become_writable(agent).await,
        Recovery::TakeBack => lead(agent, Claim::Return, &Report::to_nobody())
            .await
            .context("lead again, as the other server did not take the leadership"),
        Recovery::Close => {
            close_now(agent).await;
            Ok(())
        }
        Recovery::Adopt(record) => agent.leadership.adopt(record),
        Recovery::CatchUp => agent.database.start_replication().await,
        Recovery::ForgetSource => finish_promotion(agent).await,
        Recovery::Resume => {
            agent.database.start_replication().await?;
            agent.leadership.has_followed()
        }
        Recovery::Follow => follow_now(leader()?).await.context("follow the leader"),
        Recovery::Rejoin => follow_now(leader()?).await.context("return to the pair as its follower"),
    }
}

async fn become_writable(agent: &Agent) -> Result<()> {
    if agent.instance.pair.is_none() {
        agent.database.open().await?;
        return agent.database.start_events().await;
    }
    let has_channel = agent.database.facts().await?.channel.is_some_and(|channel| comes_from_peer(agent, &channel));
    if has_channel {
        agent.database.stop_replication().await?;
    }
    open(agent).await?;
    // A promotion that was cut off: everything was applied, and the source is no longer needed.
    if has_channel {
        agent.database.forget_replication().await?;
    }
    Ok(())
}
