//! A leader's server has died, and its agent lives: no stronger fence exists than that, so nobody waits for a lease. The agent
//! asks its follower to take over, and hands the leadership over as in a switchover. The follower decides whether it is fit
//! (`decision.rs`), and only one that has applied everything that it received is: where it is not, the server is started again
//! at once, as in every other plan.
//!
//! Until the follower has answered nothing has changed. From then on the dead server is kept dead, so that the follower
//! cannot receive more than it said, and is started when the follower leads, or when this agent has the leadership back.
//!
//! What the follower had not received is lost to the applications: none of it was acknowledged in sync mode; in async mode it
//! is within the bound of the plan, and is saved when the old leader rejoins.

use std::time::Duration;

use agent::api::{Activity, Position, Promotion, Receiver, Succession, Successor};
use anyhow::{Context, Result, bail, ensure};
use tokio::time::{Instant, sleep, timeout};

use super::decision::{Decision, Evidence, Past, PeerSign, decide};
use super::{applier_error, followed, past, plan};
use crate::agent::Agent;
use crate::command::{Retaken, take_back};
use crate::gtid::History;
use crate::instance::Failover;
use crate::leadership::Poll;
use crate::mysql::Channel;
use crate::report::{Report, sentence};

/// A follower that takes longer to say that it is fit costs more than a start.
const ANSWER_LIMIT: Duration = Duration::from_millis(500);
/// The end of the connection comes behind everything that the dead server has sent.
const RECEIVER_LIMIT: Duration = Duration::from_millis(200);
const APPLIER_LIMIT: Duration = Duration::from_millis(150);
/// As in a switchover, of which this is the second half.
const PROMOTION_LIMIT_MS: u64 = 4_000;
const PROMOTED_LIMIT: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// The leader's side: this server was open and has just ended. Returns when it is decided who leads.
pub(crate) async fn offer(agent: &Agent) {
    let Some(epoch) = offered(agent) else { return };
    // A command has its own way to end.
    let Ok(_raised) = agent.busy.raise(Activity::Recovery) else { return };
    let begun = Instant::now();
    match hand_over(agent, epoch).await {
        Ok(successor) => {
            tracing::warn!(after_ms = begun.elapsed().as_millis(), "{successor} leads in the place of the dead server");
        }
        Err(error) => tracing::warn!("the dead server has no successor: {}", sentence(&error)),
    }
}

/// The epoch that this server would give away.
fn offered(agent: &Agent) -> Option<u64> {
    let pair = agent.instance.pair.as_ref().filter(|pair| pair.failover == Failover::Automatic)?;
    let may_lack = agent.instance.promises_sync() && !agent.leadership.in_sync();
    if may_lack || !agent.leadership.may_write() {
        tracing::info!("{} is not asked to take over, because it may lack transactions", pair.peer.id);
        return None;
    }
    agent.leadership.own_epoch()
}

async fn hand_over(agent: &Agent, epoch: u64) -> Result<String> {
    let client = &agent.pair()?.client;
    let succession = Succession { epoch, in_sync: agent.leadership.in_sync() };
    let asked = timeout(ANSWER_LIMIT, client.succeed(&succession)).await;
    let Successor { ticket, instance, received } = asked.context("the follower did not answer in time")??;
    let kept_dead = agent.mysqld.rest().await;
    let epoch = agent.leadership.hand_over(&instance)?;
    let position = Position { gtid: received, timeout_ms: PROMOTION_LIMIT_MS };
    let promoted = timeout(PROMOTED_LIMIT, client.promote(&Promotion { ticket, epoch, position })).await;
    drop(kept_dead);
    let Err(error) = promoted.context("the follower did not answer in time").and_then(|done| Ok(done?)) else {
        return Ok(instance);
    };
    match take_back(agent, &Report::to_nobody()).await {
        Retaken::IsOurs => Err(error.context("the follower was not promoted, and this server leads again")),
        Retaken::IsTheirs => Ok(instance),
        Retaken::Unknown => Err(error.context("the follower does not say what became of its promotion")),
    }
}

/// The follower's side: the leader's server is dead. Says with which ticket this server can be promoted.
pub(crate) async fn accept(agent: &Agent, succession: &Succession) -> Result<Successor> {
    let leader = followed(agent).context("this server follows nobody")?;
    ensure!(
        agent.leadership.record().epoch == succession.epoch,
        "this server follows the leader of epoch {}",
        agent.leadership.record().epoch
    );
    let channel = until_cut_off(agent).await?;
    let evidence = evidence(agent, leader, &channel, succession.in_sync).await?;
    let why = match decide(&evidence) {
        Decision::FailOver(why) => why,
        Decision::Recommend(why) => bail!(why),
        Decision::Nothing => bail!("the leader's server is heard of"),
    };
    let received = channel.received.parse::<History>()?.in_order();
    ensure!(
        agent.database.wait_until_applied(&received, APPLIER_LIMIT).await?,
        "this server has not applied {received} within {} ms",
        APPLIER_LIMIT.as_millis()
    );
    let ticket = rand::random();
    agent.automatic.set_succession(ticket, why);
    agent.leadership.issue_ticket(ticket);
    Ok(Successor { ticket, instance: agent.instance.name(), received })
}

/// Replication, when everything is received that the dead server has sent.
async fn until_cut_off(agent: &Agent) -> Result<Channel> {
    let begun = Instant::now();
    loop {
        let channel = agent.database.facts().await?.channel.context("this server has no source")?;
        if channel.receiver != Receiver::Connected {
            return Ok(channel);
        }
        ensure!(begun.elapsed() < RECEIVER_LIMIT, "the leader's server still sends");
        sleep(LOOK_AGAIN).await;
    }
}

async fn evidence(agent: &Agent, leader: String, channel: &Channel, is_in_sync: bool) -> Result<Evidence> {
    let pair = agent.instance.pair.as_ref().context("this instance is a single node")?;
    let signs = agent.database.leader_signs().await?;
    let lag = signs.heartbeat_age_s.map(|age| Duration::try_from_secs_f64(age).unwrap_or_default());
    Ok(Evidence {
        plan: plan(pair),
        lease: pair.lease,
        leader,
        is_receiver_connected: channel.receiver == Receiver::Connected,
        silence: Duration::ZERO,
        lag,
        peer: PeerSign::Asks,
        // Its agent, which asks, gives its vote with the ticket.
        poll: Poll::Free,
        is_in_sync,
        applier_error: applier_error(channel),
        // The flag is up for this.
        past: Past { busy: None, ..past(agent, &signs) },
    })
}
