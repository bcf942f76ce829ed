//! Making this server the leader. The order of the statements is what keeps every received transaction: the applier runs
//! until everything is applied, only then replication stops, and the source is forgotten last, when nothing needs it.

use std::time::Duration;

use agent::api::{Command, Position, Promotion, Ticket};
use anyhow::{Context, Result, bail, ensure};
use tokio::time::Instant;

use super::{LOOK_AGAIN, SAY_AGAIN};
use crate::agent::Agent;
use crate::automatic::{note_promotion, note_succession};
use crate::busy::Raised;
use crate::clock;
use crate::instance::Sync;
use crate::leadership::{self, Claim};
use crate::mysql::{Commits, OwnSession};
use crate::report::{Report, sentence};
use crate::topology::{Observed, Peer, Refusal, Server};

/// On a small machine what follows a promotion would take the processor from the applications that have waited for it.
const APPLICATIONS_FIRST: Duration = Duration::from_millis(50);
/// The longest that a leader may wait for its follower before it gives a hand-over up.
const PREPARE_LIMIT: Duration = Duration::from_secs(8);

/// Become writable as the leader whose follower follows already.
pub(crate) async fn lead(agent: &Agent, claim: Claim, report: &Report) -> Result<()> {
    let me = agent.own_server().await?;
    if let Some(channel) = &me.channel {
        bail!("this server cannot lead: it {}", channel.describe());
    }
    leadership::campaign(agent, claim, report).await?;
    open(agent).await?;
    report.say(format!("{} is the leader", me.instance));
    Ok(())
}

/// A human takes the place of the voters. Loud, since nothing else keeps the old leader from being writable too.
pub(super) async fn force(agent: &Agent, report: &Report) -> Result<()> {
    let epoch = leadership::force(agent).await?;
    tracing::error!(epoch, "forced to lead without the other voters: the old leader must be dead");
    report.say(format!(
        "FORCED to lead under epoch {epoch} without the other voters. If the old leader is alive, both are writable now"
    ));
    Ok(())
}

/// Wait a little for what the old leader, which is read-only, still has; the loop of the command looks again.
pub(super) async fn receive_rest(agent: &Agent, observed: &Observed, begun: Instant, report: &Report) -> Result<()> {
    check_time(agent, begun)?;
    if begun.elapsed() > SAY_AGAIN
        && let Peer::Answers(peer) = &observed.peer
    {
        report.say(format!("Receiving the rest from {}", peer.instance));
    }
    tokio::time::sleep(LOOK_AGAIN).await;
    Ok(())
}

/// While the applier reads by file and offset the server does not say what it received, so the wait is here.
pub(super) async fn apply_relay_log(agent: &Agent, report: &Report) -> Result<()> {
    report.say("Applying the transactions that were received before the last restart");
    let Some(last) = agent.database.apply_relay_log().await? else { return Ok(()) };
    let begun = Instant::now();
    while !agent.database.wait_until_applied(&last, SAY_AGAIN).await? {
        check_time(agent, begun)?;
        report.say(format!("Applying: {} of {last}", agent.database.position().await?));
        let channel = agent.database.facts().await?.channel.context("the server has forgotten its source")?;
        ensure!(channel.is_applier_running, Refusal::ApplierStopped { error: channel.applier_error });
    }
    Ok(())
}

/// Wait a little; the loop of the command looks again, so a stopped applier is seen.
pub(super) async fn apply_received(agent: &Agent, me: &Server, begun: Instant, report: &Report) -> Result<()> {
    check_time(agent, begun)?;
    let received = me.channel.as_ref().map(|channel| channel.received.in_order()).unwrap_or_default();
    if !agent.database.wait_until_applied(&received, SAY_AGAIN).await? {
        report.say(format!("Applying: {} of {received}", agent.database.position().await?));
    }
    Ok(())
}

fn check_time(agent: &Agent, begun: Instant) -> Result<()> {
    let limit = agent.instance.replication_limit();
    ensure!(begun.elapsed() < limit, Refusal::StillApplying { limit });
    Ok(())
}

/// Promote this follower with its leader gone; everything that it received is applied.
pub(super) async fn promote_survivor(agent: &Agent, command: Command, report: &Report) -> Result<()> {
    report.say("Requesting instance to be configured as leader");
    stop_when_applied(agent).await?;
    open(agent).await?;
    note_promotion(
        agent,
        match command {
            Command::ForceMakeLeader => ("forced", "an operator vouched that the old leader is dead"),
            Command::Failover => ("manual", "an operator ran failover"),
            Command::MakeLeader
            | Command::ConfigureLeaderFollower
            | Command::MakeReadOnly
            | Command::Switchover
            | Command::DegradeSync
            | Command::RestoreSync => ("manual", "an operator ran make-leader"),
        },
    );
    agent.database.forget_replication().await
}

/// What an agent left undone that fell when its server was open.
pub(crate) async fn finish_promotion(agent: &Agent) -> Result<()> {
    agent.database.start_events().await?;
    forget_source(agent).await
}

/// The end of a promotion: the source is forgotten when nothing is left of what came from it.
async fn forget_source(agent: &Agent) -> Result<()> {
    if let Err(error) = stop_when_applied(agent).await {
        agent.database.start_replication().await?;
        return Err(error);
    }
    agent.database.forget_replication().await
}

async fn stop_when_applied(agent: &Agent) -> Result<()> {
    agent.database.stop_replication().await?;
    let me = agent.own_server().await?;
    let executed = me.executed.map_err(|cause| Refusal::Unreadable { of: "follower", cause })?;
    match me.channel {
        Some(channel) if !executed.contains(&channel.received) => {
            bail!("{} was received and only {executed} is applied; run make-leader again", channel.received)
        }
        Some(_) | None => Ok(()),
    }
}

/// The right for one promotion, once this follower has applied the position. It makes the earlier ones void.
pub(crate) async fn prepare_promotion(agent: &Agent, position: &Position) -> Result<Ticket> {
    ensure!(agent.database.facts().await?.is_read_only, "this server is writable");
    let limit = Duration::from_millis(position.timeout_ms).min(PREPARE_LIMIT);
    ensure!(
        agent.database.wait_until_applied(&position.gtid, limit).await?,
        "{} has not applied {} within {} ms; its last transaction is {}",
        agent.instance.name(),
        position.gtid,
        limit.as_millis(),
        agent.database.position().await?
    );
    let ticket = rand::random();
    agent.leadership.issue_ticket(ticket);
    Ok(Ticket { ticket, instance: agent.instance.name() })
}

/// Promote this follower; its leader, which asks for it, is read-only and waits. Every millisecond here is outage, and stopping
/// replication would be several: nothing comes from a read-only leader any more, so its source is forgotten afterwards, with
/// the flag still up.
pub(crate) async fn promote(agent: std::sync::Arc<Agent>, promotion: Promotion, raised: Raised) -> Result<()> {
    let issued = agent.leadership.redeem_ticket(promotion.ticket);
    let issued = issued.context("the right to this promotion is void; run switchover again")?;
    let succession = agent.automatic.succession(promotion.ticket);
    let mut session = agent.database.own_session().await?;
    apply(&agent, &mut session, &promotion.position).await?;
    // Not before everything is applied: whose the epoch is opens by itself, also when the old leader is lost from here on.
    agent.leadership.take_over(promotion.epoch, issued)?;
    open_as_leader(&agent, &mut session).await?;
    let settling = agent.clone();
    agent.tasks.spawn(async move {
        tokio::time::sleep(APPLICATIONS_FIRST).await;
        drop(session);
        settling.leadership.changed.notify_waiters();
        let settled = async {
            settling.database.start_events().await?;
            match succession {
                Some(why) => note_succession(&settling, &why),
                None => note_promotion(&settling, ("planned", "the leader handed over")),
            }
            forget_source(&settling).await
        };
        if let Err(error) = settled.await {
            tracing::error!("the new leader is writable, but not all of it is done: {}", sentence(&error));
        }
        drop(raised);
    });
    Ok(())
}

async fn apply(agent: &Agent, session: &mut OwnSession, position: &Position) -> Result<()> {
    let limit = Duration::from_millis(position.timeout_ms);
    ensure!(
        session.wait_until_applied(&position.gtid, limit).await?,
        "{} has not applied {} within {} ms",
        agent.instance.name(),
        position.gtid,
        limit.as_millis()
    );
    Ok(())
}

/// Become writable, with a lease that was confirmed just now.
pub(crate) async fn open(agent: &Agent) -> Result<()> {
    leadership::lease_for_opening(agent).await?;
    open_as_leader(agent, &mut agent.database.own_session().await?).await?;
    agent.leadership.changed.notify_waiters();
    agent.database.start_events().await
}

/// The guard knows the end of the lease before the server is writable. The caller tells the others of the new leader.
async fn open_as_leader(agent: &Agent, session: &mut OwnSession) -> Result<()> {
    let _nobody_closes = agent.leadership.gate.lock().await;
    let epoch = agent.leadership.begin_opening()?;
    let guarded = async {
        let Some(end) = agent.leadership.lease_end() else { return Ok(()) };
        agent.mysqld.allow_writes_until(end).await?;
        // A guard that heard of a time long past, because this agent stood still, is about to kill; a statement may be faster.
        ensure!(clock::now() < end, "the lease ran out before the server was open");
        Ok(())
    };
    let leader = agent.instance.name();
    let opens = || agent.leadership.opens(epoch);
    let opened = session.open_as_leader(epoch, &leader, commits(agent), guarded, opens);
    if let Err(error) = opened.await {
        // A statement without an answer may still be carried out; a server that starts again is read-only for certain.
        agent.mysqld.kill().await?;
        agent.leadership.closed();
        return Err(error);
    }
    Ok(())
}

/// A leader that opens again under its promise waits at once; one that was only just chosen waits for its follower later, when
/// there is one.
fn commits(agent: &Agent) -> Commits {
    match agent.instance.sync() {
        None => Commits::AsTheyDid,
        Some(_) if !agent.leadership.must_wait() => Commits::GoOn,
        Some(Sync { ack_timeout_ms }) => Commits::Wait { timeout_ms: ack_timeout_ms },
    }
}
