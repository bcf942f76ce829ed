//! The planned hand-over, as seen from the leader that hands over. Slow work comes before and after the outage; inside it
//! are: read-only here, one request to the follower (apply the rest, writable), nothing else.
//!
//! The commit point is the follower's `read_only=0`. Before it everything is undone. When the follower's answer does not
//! come, its agent is asked for its vote for a later epoch of this server: once it has given that it cannot promote itself any
//! more, and only then this server opens again. An agent whose server is open gives none.

use std::time::Duration;

use agent::api::{Position, Promotion, Ticket};
use anyhow::{Context, Result, anyhow, bail};
use tokio::time::Instant;

use super::LOOK_AGAIN;
use super::demotion::close;
use super::follow::Waiting;
use super::promotion::open;
use crate::agent::Agent;
use crate::leadership::{self, Claim};
use crate::mysql::OwnSession;
use crate::report::{Report, sentence};
use crate::topology::Peer;

/// For each round, and after which no other one begins.
const CATCH_UP_LIMIT_MS: u64 = 8_000;
/// A follower that catches up in less is not worth another round; after so many it comes no closer under this load.
const CLOSE: Duration = Duration::from_millis(10);
const ROUNDS: u32 = 20;
/// What the follower gets for its part of the outage. The answer is awaited a little longer.
const PROMOTION_LIMIT_MS: u64 = 4_000;
const ANSWER_LIMIT: Duration = Duration::from_millis(5_000);
/// How long the follower is asked what became of it, before this server stays read-only and a human must look.
const UNDO_LIMIT: Duration = Duration::from_secs(30);
const SETTLE_LIMIT: Duration = Duration::from_secs(30);

/// What became of a leadership that was given away.
pub(crate) enum Retaken {
    /// The follower was not promoted and cannot be any more.
    IsOurs,
    /// The follower leads.
    IsTheirs,
    Unknown,
}

pub(super) async fn hand_over(agent: &Agent, report: &Report) -> Result<()> {
    let peer = agent.pair()?;
    let right = caught_up(agent).await.context("the follower is not ready to take over")?;
    report.say(format!("Handing over from {} to {}", agent.instance.spec.ip, peer.address));
    agent.database.stop_events().await?;

    let closing = agent.closing.begin();
    let handed = match close(agent).await {
        // The guard only kills a server that is read-only already, and not before the lease ends; the applications wait.
        Ok(closed) => match tokio::join!(promote_follower(agent, closed.session, &right), closed.shut.settle()) {
            (Ok(()), ()) => Ok(()),
            (Err(error), ()) => undo(agent, error, report).await,
        },
        // Nobody was asked to promote itself yet.
        Err(error) => reopen(agent, &error.context("this server could not be made read-only")).await,
    };
    drop(closing);
    handed?;
    report.say(format!("{} is the leader", peer.address));
    wait_until_settled(agent).await
}

/// Caught up before anything is stopped: the outage then only waits for what is written meanwhile, and that is as little as the
/// follower lets it be.
async fn caught_up(agent: &Agent) -> Result<Ticket> {
    let client = &agent.pair()?.client;
    let (ends, mut rounds) = (Instant::now() + Duration::from_millis(CATCH_UP_LIMIT_MS), 0);
    loop {
        let begun = Instant::now();
        let gtid = agent.database.position().await?;
        let right = client.prepare_promotion(&Position { gtid, timeout_ms: CATCH_UP_LIMIT_MS }).await?;
        rounds += 1;
        if begun.elapsed() < CLOSE || rounds == ROUNDS || Instant::now() > ends {
            return Ok(right);
        }
    }
}

async fn promote_follower(agent: &Agent, mut session: OwnSession, right: &Ticket) -> Result<()> {
    // The server answers while this agent writes to the disk.
    let consent = async { agent.leadership.hand_over(&right.instance) };
    let (gtid, epoch) = tokio::try_join!(session.position(), consent)?;
    let position = Position { gtid, timeout_ms: PROMOTION_LIMIT_MS };
    let promotion = Promotion { ticket: right.ticket, epoch, position };
    let client = &agent.pair()?.client;
    let promoted = tokio::time::timeout(ANSWER_LIMIT, client.promote(&promotion)).await;
    promoted.context("the follower did not answer in time")??;
    drop(session);
    // Sessions of this server can write nothing any more; cutting them makes the applications move. Not before they have where
    // to: all would connect in the outage, and here again.
    if let Err(error) = agent.database.cut_sessions().await {
        tracing::warn!("sessions of the applications are left on the read-only server: {}", sentence(&error));
    }
    Ok(())
}

/// Open this server again, unless the follower was promoted.
async fn undo(agent: &Agent, cause: anyhow::Error, report: &Report) -> Result<()> {
    match take_back(agent, report).await {
        Retaken::IsOurs => {}
        Retaken::IsTheirs => return Ok(()),
        Retaken::Unknown => {
            return Err(cause.context(
                "the follower does not answer, so it is not known which server leads; this one stays read-only. When the \
                 follower is back, run configure-leader-follower. Cause",
            ));
        }
    }
    // The follower cannot become writable any more; what it has now is all that it ever had as a leader.
    match agent.look_at_peer().await? {
        Peer::Answers(peer) if !agent.own_server().await?.has_all_of(&peer) => Err(cause.context(
            "the follower was promoted, has transactions that this server lacks, and is read-only now; this one \
             stays read-only too. Run configure-leader-follower. Cause",
        )),
        Peer::None | Peer::Silent { .. } | Peer::Answers(_) => reopen(agent, &cause).await,
    }
}

/// Have the leadership back that was given away, unless the follower was promoted.
pub(crate) async fn take_back(agent: &Agent, report: &Report) -> Retaken {
    let waiting = Waiting::new(UNDO_LIMIT);
    loop {
        let why = match leadership::campaign(agent, Claim::Return, report).await {
            Ok(()) => return Retaken::IsOurs,
            Err(error) => sentence(&error),
        };
        if let Ok(Peer::Answers(peer)) = agent.look_at_peer().await
            && peer.is_writable
        {
            return Retaken::IsTheirs;
        }
        tracing::warn!("the follower does not give its promotion up: {why}");
        if !waiting.go_on() {
            return Retaken::Unknown;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn reopen(agent: &Agent, cause: &anyhow::Error) -> Result<()> {
    open(agent).await.context("open this server again")?;
    Err(anyhow!("the hand-over was given up and this server is writable again: {}", sentence(cause)))
}

/// The new leader still forgets its source.
async fn wait_until_settled(agent: &Agent) -> Result<()> {
    let waiting = Waiting::new(SETTLE_LIMIT);
    while waiting.go_on() {
        tokio::time::sleep(LOOK_AGAIN).await;
        let leader = agent.peer_server().await?;
        if leader.channel.is_none() && leader.busy.is_none() {
            return Ok(());
        }
    }
    bail!("the new leader still replicates from this server; run configure-leader-follower")
}
