//! Changing by command whether commits wait for the follower. What shrinks is told first: only when the witness knows that the
//! follower may lack something does the server go on alone. Wherever a crash cuts this off, the server waits.

use std::time::Duration;

use anyhow::{Result, bail};

use super::LOOK_AGAIN;
use super::follow::Waiting;
use crate::agent::Agent;
use crate::mysql::SyncChange;
use crate::report::{Report, sentence};
use crate::topology::Refusal;

/// A follower that receives has everything within seconds; one that was away for long is not waited for here.
const RESTORE_LIMIT: Duration = Duration::from_secs(60);

/// Let commits go on without the follower, until [`restore`] or the next leadership.
pub(super) async fn degrade(agent: &Agent, report: &Report) -> Result<()> {
    let _nobody_else = agent.sync.lock().await;
    if agent.instance.sync().is_none() {
        return Err(Refusal::NotSync.into());
    }
    let leadership = &agent.leadership;
    let was_degraded = leadership.is_degraded();
    let waiting = agent.database.facts().await?.semi_sync.waiting_sessions;
    if leadership.must_wait() {
        let was_told = leadership.in_sync();
        leadership.withhold_promise()?;
        if let Some(trusting) = leadership.who_still_trusts().await {
            // Where it was withheld before, the follower may lack something, and nobody is told otherwise.
            if was_told {
                leadership.tell_promise()?;
            }
            return Err(Refusal::StillTrusted { trusting: trusting.into() }.into());
        }
    }
    leadership.degrade()?;
    agent.database.disable_semi_sync_source().await?;
    if was_degraded {
        report.say("Commits do not wait for the follower already");
        return Ok(());
    }
    let why = format!("degrade-sync was run; {waiting} commits waited for the follower");
    tracing::warn!("synchronous replication is switched off: {why}");
    record(agent, SyncChange::Degraded, &why).await;
    report.say(format!(
        "Commits wait for the follower no longer; {waiting} did. What is written from now on only this server has, until \
         restore-sync is run"
    ));
    Ok(())
}

/// Have commits wait for the follower again; done when a failover would lose nothing.
pub(super) async fn restore(agent: &Agent, report: &Report) -> Result<()> {
    let Some(plan) = agent.instance.sync() else { return Err(Refusal::NotSync.into()) };
    {
        let _nobody_else = agent.sync.lock().await;
        if agent.leadership.is_degraded() {
            agent.leadership.end_degradation()?;
            tracing::warn!("synchronous replication is wanted again: restore-sync was run");
            record(agent, SyncChange::Restored, "restore-sync was run").await;
        }
    }
    agent.leadership.changed.notify_waiters();
    let mut waiting = Waiting::new(RESTORE_LIMIT);
    while waiting.go_on() {
        let is_on = agent.database.facts().await?.semi_sync.is_source_on;
        if is_on && (agent.leadership.in_sync() || !plan.is_promise()) {
            report.say("Commits wait for the follower again");
            return Ok(());
        }
        waiting.say(report, || "Waiting until the follower has received everything".into());
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    bail!(
        "the follower has not received everything within {} s. Commits wait for it as soon as it has; inspect says how far it is",
        RESTORE_LIMIT.as_secs()
    )
}

/// The change is made whether or not it can be written down.
async fn record(agent: &Agent, change: SyncChange, why: &str) {
    let epoch = agent.leadership.own_epoch().unwrap_or_default();
    if let Err(error) = agent.database.write_sync_change(epoch, change, why).await {
        tracing::error!("what was changed could not be recorded in the database: {}", sentence(&error));
    }
}
