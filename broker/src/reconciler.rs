//! The loop that makes wishes true. It takes no input but the state database: whatever is due is claimed, oldest first,
//! and worked on in a task of its own until it ends, so that a director that hangs on one instance delays no other. A new
//! request wakes the loop; after a crash the claim of the earlier run is void and the operation is due at once.

mod act;
mod observe;
mod overview;
mod place;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::app::App;
use crate::bosh;
use crate::clock::Timestamp;
use crate::ids::InstanceId;
use crate::lifecycle::{Desired, Step, Wish, next_step};
use crate::store::instances::{self, Lease};
use crate::store::operations::{self, Kind, Operation};
use observe::Memory;
pub(crate) use overview::Overview;

/// How many operations are worked on at once; more wait for one to end. So few that each gets its turn within its lease,
/// also from a director that lets every request time out.
const OPERATIONS_LIMIT: usize = 128;
/// How many of them look and act at the same moment: what a director can bear.
pub(crate) const TURNS_LIMIT: usize = 16;
/// How long a claim outlives a broker that does not renew it. Longer than any turn and the wait for it.
const LEASE: Duration = Duration::from_secs(300);
const LEASE_RENEWAL: Duration = Duration::from_secs(60);
/// The pause between two looks at a running task grows with its age between these bounds.
const PAUSE_MIN: Duration = Duration::from_millis(30);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// After an error of the state database.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);
/// How long the loop rests when nothing is due.
const REST: Duration = Duration::from_secs(60);
/// The same where other brokers write wishes, too: how long one may wait whose own broker has died.
const SHARED_REST: Duration = Duration::from_secs(2);
/// Wishes come in bursts, and to accept one takes less than to begin with it: the loop begins when none has come for so long,
/// and after so long in any case.
const GATHER: Duration = Duration::from_millis(10);
const GATHER_LIMIT: Duration = Duration::from_millis(250);
/// How long a deleted instance answers last_operation.
const TOMBSTONE_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// How a turn of an operation ends.
enum Turn {
    Pause(Duration),
    Ended,
}

/// Work until told to stop; operations in progress are left at a safe point.
pub(crate) async fn run(app: Arc<App>, stop: CancellationToken) {
    let mut workers = JoinSet::new();
    while !stop.is_cancelled() {
        // All that have ended: while wishes come without a pause the loop is not here often.
        while let Some(ended) = workers.try_join_next() {
            report_panic(ended);
        }
        let rest = match start_due(&app, &stop, &mut workers).await {
            Ok(rest) => rest,
            Err(error) => {
                tracing::error!(cause = format!("{error:#}"), "the state database cannot be used");
                PAUSE_AFTER_ERROR
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = app.wish.notified() => gather(&app).await,
            () = tokio::time::sleep(rest) => {}
            Some(ended) = workers.join_next() => report_panic(ended),
        }
    }
    while let Some(ended) = workers.join_next().await {
        report_panic(ended);
    }
}

/// Until no wish comes any more for a moment.
async fn gather(app: &App) {
    let begun = Instant::now();
    while begun.elapsed() < GATHER_LIMIT && tokio::time::timeout(GATHER, app.wish.notified()).await.is_ok() {}
}

/// Void the claims of an earlier run of this broker. The port must be ours by then: nobody else runs with our id.
pub(crate) async fn take_over(app: &App) -> anyhow::Result<()> {
    let mut tx = app.store.begin().await?;
    instances::release_all(&mut tx, &app.owner).await?;
    crate::store::bindings::release_all(&mut tx, &app.owner).await?;
    tx.commit().await?;
    Ok(())
}

/// Start a worker for everything that is due; the answer is how long nothing else is.
async fn start_due(app: &Arc<App>, stop: &CancellationToken, workers: &mut JoinSet<()>) -> anyhow::Result<Duration> {
    while workers.len() < OPERATIONS_LIMIT {
        let now = Timestamp::now();
        let lease = Lease { owner: &app.owner, until: now.plus(LEASE) };
        let mut tx = app.store.begin().await?;
        let Some(instance) = instances::claim(&mut tx, lease, now).await? else {
            let due = operations::next_due(&mut tx).await?;
            let rest = if app.store.is_shared() { SHARED_REST } else { REST };
            return Ok(due.map_or(rest, |due| now.until(due).min(rest).max(PAUSE_MIN)));
        };
        // Whoever starts after the machine has failed begins by letting go what it held.
        tx.commit_lightly().await.context("claim a service instance")?;
        let span = tracing::info_span!("operation", instance_id = %instance, operation_id = tracing::field::Empty);
        workers.spawn(work(app.clone(), instance, lease.until, stop.clone()).instrument(span));
    }
    Ok(REST)
}

fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(cause = %error, "an operation's worker died; its claim ends by itself");
    }
}

/// Work on the operation of a claimed instance until it ends, is halted, or the program stops.
async fn work(app: Arc<App>, instance: InstanceId, mut claimed_until: Timestamp, stop: CancellationToken) {
    let mut memory = Memory::new();
    let mut renewed = Instant::now();
    let ended = loop {
        let permit = tokio::select! {
            permit = app.turns.acquire() => permit,
            () = stop.cancelled() => break Ok(()),
        };
        let turn = turn(&app, &instance, claimed_until, &mut memory).await;
        drop(permit);
        match turn {
            Ok(Turn::Ended) => break Ok(()),
            Ok(Turn::Pause(pause)) => tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = app.halt.notified() => {}
                () = stop.cancelled() => break Ok(()),
            },
            Err(error) => break Err(error),
        }
        if renewed.elapsed() > LEASE_RENEWAL {
            match renew(&app, &instance, claimed_until).await {
                Ok(Some(until)) => (renewed, claimed_until) = (Instant::now(), until),
                Ok(None) => return tracing::warn!("another worker took the instance over"),
                Err(error) => break Err(error),
            }
        }
    };
    if let Err(error) = &ended {
        tracing::error!(cause = format!("{error:#}"), "an operation stumbled; it is tried again");
    }
    while let Err(error) = let_go(&app, &instance, claimed_until, ended.is_err()).await {
        tracing::error!(cause = format!("{error:#}"), "cannot release the instance; trying again until the claim ends");
        if stop.is_cancelled() || Timestamp::now() > claimed_until {
            return;
        }
        tokio::time::sleep(PAUSE_AFTER_ERROR).await;
    }
}

async fn renew(app: &App, instance: &InstanceId, claimed_until: Timestamp) -> anyhow::Result<Option<Timestamp>> {
    let (lease, until) = (Lease { owner: &app.owner, until: claimed_until }, Timestamp::now().plus(LEASE));
    let is_ours = instances::renew(&mut app.store.connection().await?, instance, lease, until).await?;
    Ok(is_ours.then_some(until))
}

async fn let_go(app: &App, instance: &InstanceId, claimed_until: Timestamp, has_stumbled: bool) -> anyhow::Result<()> {
    let mut db = app.store.connection().await?;
    if has_stumbled {
        operations::postpone(&mut db, instance, Timestamp::now().plus(PAUSE_AFTER_ERROR)).await?;
    }
    instances::release(&mut db, instance, Lease { owner: &app.owner, until: claimed_until }).await?;
    // A deletion may have waited for this worker to let go.
    app.wish.notify_one();
    Ok(())
}

/// Observe, decide, act.
async fn turn(app: &App, instance: &InstanceId, claimed_until: Timestamp, memory: &mut Memory) -> anyhow::Result<Turn> {
    let operation = operations::in_progress(&mut app.store.connection().await?, instance).await?;
    let Some(operation) = operation else { return Ok(Turn::Ended) };
    if !memory.is_of(&operation.id) || operation.claimed_until != claimed_until {
        return Ok(Turn::Ended);
    }
    match advance(app, &operation, memory).await {
        // Whatever it stumbles over: every operation ends.
        Err(error) if Timestamp::now() > operation.deadline_at => act::give_up(app, &operation, &error).await,
        turn => turn,
    }
}

async fn advance(app: &App, operation: &Operation, memory: &mut Memory) -> anyhow::Result<Turn> {
    let desired = desired(app, operation)?;
    match decide(app, operation, &desired, memory).await {
        Ok(step) => act::act(app, operation, step, memory).await,
        Err(error) => act::stumble(app, operation, error, memory).await,
    }
}

async fn decide(app: &App, operation: &Operation, desired: &Desired, memory: &mut Memory) -> Result<Step, bosh::Error> {
    let mut observed = observe::observe(app, operation, memory).await?;
    let step = next_step(desired, &observed);
    memory.newest = observed.tasks.last().map(|task| task.id);
    if step != Step::AskServers {
        return Ok(step);
    }
    observed.servers = observe::ask_servers(app, operation, desired.wish).await?;
    Ok(next_step(desired, &observed))
}

fn desired(app: &App, operation: &Operation) -> anyhow::Result<Desired> {
    let documents = app.documents();
    let is_pair = || anyhow::Ok(documents.plan(operation)?.deployment.topology.is_pair());
    let wish = match operation.kind {
        Kind::Create => Wish::Create { is_pair: is_pair()? },
        Kind::Update => Wish::Update { is_pair: is_pair()? },
        Kind::Delete => Wish::Delete,
    };
    let errands = documents.errands(operation).len();
    let is_overdue = Timestamp::now() > operation.deadline_at;
    Ok(Desired { wish, errands, submission: operation.submission, is_overdue })
}

/// Forget tombstones that nobody asks for any more.
pub(crate) async fn forget_deleted(app: &App, now: Timestamp) -> anyhow::Result<()> {
    let age = i64::try_from(TOMBSTONE_AGE.as_millis()).unwrap_or(i64::MAX);
    let time = Timestamp(now.0.saturating_sub(age));
    let forgotten = instances::forget_deleted(&mut app.store.connection().await?, time).await?;
    tracing::debug!(forgotten, "old tombstones are forgotten");
    Ok(())
}
