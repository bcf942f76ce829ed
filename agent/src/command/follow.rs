//! Making this server a follower, and waiting for what a follower receives.

use std::net::IpAddr;
use std::time::Duration;

use agent::api::{Position, Receiver};
use anyhow::{Context, Result, ensure};
use tokio::time::{Instant, timeout};

use super::promotion::apply_relay_log;
use super::{LOOK_AGAIN, SAY_AGAIN};
use crate::agent::Agent;
use crate::gtid::History;
use crate::report::Report;
use crate::salvage;
use crate::seed;
use crate::topology::{self, Catchup, Channel, Peer, Refusal, Server};

/// A backup of a server that leads no more ends when the one who asked for it has gone away.
const BACKUP_LIMIT: Duration = Duration::from_secs(10);

/// Replicate from the leader, with its data copied first where this server cannot go on from its own. `limit` is for the wait
/// until replication runs, during which nothing else can be done with this server.
pub(crate) async fn follow(agent: &Agent, leader: IpAddr, limit: Duration, report: &Report) -> Result<()> {
    let peer = agent.pair()?;
    ensure!(leader == peer.address, "this server's peer is {}, not {leader}", peer.address);
    let me = agent.own_server().await?;
    let leading = agent.peer_server().await?;
    ensure!(!me.is_writable, "this server is writable; make it read-only before it follows {leader}");
    let catchup =
        topology::catchup(&me, &leading).map_err(|refusal| refusal.beside(&me, &Peer::Answers(leading.clone())))?;
    // What it wrote as a leader waits no longer, and its applier must not begin to.
    if agent.database.facts().await?.semi_sync.is_source_enabled {
        agent.database.disable_semi_sync_source().await?;
    }
    match catchup {
        Catchup::Continue => apply_what_is_here(agent, &me, report).await?,
        Catchup::Copy => {
            // What is received meanwhile is of no use.
            agent.database.stop_replication().await?;
            seed::copy_from_leader(agent, &leading, report).await?;
        }
        Catchup::SaveAndCopy => {
            agent.database.stop_replication().await?;
            // What it was in the middle of applying counts too; the leader is looked at last.
            let me = agent.own_server().await?;
            let leading = agent.peer_server().await?;
            salvage::save(agent, &me, &leading, report).await?;
            seed::copy_from_leader(agent, &leading, report).await?;
        }
    }
    // MariaDB keeps where replication stands in a table; to set that beside a backup of this server ends with each waiting for
    // the other, and the server hangs.
    let no_backup = timeout(BACKUP_LIMIT, agent.backups.acquire()).await;
    let no_backup =
        no_backup.context("a backup of this server is running, and it cannot follow before that has ended")?;
    agent.database.replicate_from(leader, &peer.replication_password).await?;
    drop(no_backup);
    agent.leadership.has_followed()?;
    match wait_until_healthy(agent, limit, report).await? {
        None => Ok(()),
        Some(refusal) => {
            let me = agent.own_server().await?;
            Err(refusal.beside(&me, &Peer::Answers(leading)).into())
        }
    }
}

/// What was received and is not applied would be thrown away when the threads start anew. The leader has it too, but the leader
/// may be lost in that moment, and it has acknowledged that.
async fn apply_what_is_here(agent: &Agent, me: &Server, report: &Report) -> Result<()> {
    let is_stopped = me.channel.as_ref().is_some_and(Channel::is_stopped_without_error);
    match is_stopped && !me.has_applied_what_it_received() {
        true => apply_relay_log(agent, report).await,
        false => Ok(()),
    }
}

/// Why replication does not work, where it does not.
async fn wait_until_healthy(agent: &Agent, limit: Duration, report: &Report) -> Result<Option<Refusal>> {
    let mut waiting = Waiting::new(limit);
    loop {
        let Some(channel) = agent.database.facts().await?.channel else { return Ok(Some(Refusal::Unconfigured)) };
        match (channel.receiver, channel.is_applier_running) {
            (Receiver::Connected, true) => return Ok(None),
            (Receiver::Connecting, true) if waiting.go_on() => {
                waiting.say(report, || {
                    format!("Waiting for replication from {} {}", channel.source, channel.receiver_error)
                });
            }
            (Receiver::Connecting, true) => return Ok(Some(Refusal::NotConnected)),
            (_, _) => return Ok(Some(Refusal::BrokenReplication)),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Wait until this follower has received everything of a position, applied or not.
pub(crate) async fn receive(agent: &Agent, position: &Position, report: &Report) -> Result<()> {
    let wanted: History = position.gtid.parse()?;
    let mut waiting = Waiting::new(Duration::from_millis(position.timeout_ms).min(agent.instance.replication_limit()));
    loop {
        let facts = agent.database.facts().await?;
        let channel = facts.channel.context("replication is not configured on this instance")?;
        let known = facts.executed.parse::<History>()?.united_with(&channel.received.parse()?);
        if known.contains(&wanted) {
            return Ok(());
        }
        ensure!(
            channel.receiver != Receiver::Stopped,
            "the receiver of {} is stopped, so it cannot receive {}: {}",
            agent.instance.name(),
            position.gtid,
            channel.receiver_error
        );
        ensure!(
            waiting.go_on(),
            "timed out waiting for received transactions: {known} of {}. Run the command again when inspect says that {} receives",
            position.gtid,
            agent.instance.name()
        );
        waiting.say(report, || format!("Received {known} of {}", position.gtid));
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// A wait that ends, and says something now and then.
pub(super) struct Waiting {
    ends: Instant,
    speaks: Instant,
}

impl Waiting {
    pub(super) fn new(limit: Duration) -> Waiting {
        let now = Instant::now();
        Waiting { ends: now + limit, speaks: now + SAY_AGAIN }
    }

    pub(super) fn go_on(&self) -> bool {
        Instant::now() < self.ends
    }

    pub(super) fn say(&mut self, report: &Report, text: impl FnOnce() -> String) {
        if Instant::now() >= self.speaks {
            self.speaks = Instant::now() + SAY_AGAIN;
            report.say(text());
        }
    }
}
