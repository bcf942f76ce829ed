//! The ladder of measures that make a server read-only whatever its sessions do, each one harder for the clients than the one
//! before. The server is asked once and goes on waiting while the measures are taken; what wants to write meanwhile queues
//! behind it, so clients that connect again and again do not hold it up.
//!
//! | after | measure | what it ends | what its client sees |
//! | --- | --- | --- | --- |
//! | 0 s | `read_only=1`, on MySQL `super_read_only=1` | nothing: statements and commits that run are waited for; an open transaction can no longer commit | error 1290 at its commit, nothing is stored |
//! | 1 s | sessions in a statement are cut | long statements, a commit that waits for the follower (MariaDB), waits for locks | the connection is lost; a statement is rolled back, a commit that waited for the follower is kept and was not acknowledged |
//! | 2 s | all sessions but the agent's and followers' are cut | `LOCK TABLES` | the connection is lost, the transaction is rolled back |
//! | 3 s | the agent's own other sessions are cut; on MySQL commits no longer wait for the follower | a heartbeat or the statement of a binding that waits for the follower; on MySQL every commit that does: its session is cut already, and the commit goes on waiting | as above |
//! | 5 s, or 3 s without any answer | the server is killed and starts again, read-only | what nothing else ends: a rollback of many rows, a disk that does not answer, a frozen server | the connection is lost; what was not acknowledged may be stored |
//!
//! Where a session waits for space on a full disk none is cut, and the server is killed at once: see [`DiskFull`].
//!
//! An idle transaction holds nothing up, nor do MariaDB's `FLUSH TABLES WITH READ LOCK` and `BACKUP STAGE`; they are cut when
//! the server is read-only, so that their clients look for the leader. A prepared XA transaction stays prepared, and is
//! committed or rolled back on the next leader.
//!
//! MySQL's `offline_mode` is not among them: it drops the clients as a cut does, and a waiting commit goes on as well.
//! That commits no longer wait makes no acknowledged one unsafe: nobody is left who could be told of the others.

use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::time::{Instant, timeout};

use crate::agent::Agent;
use crate::mysql::{Closing, Cut, DiskFull, OwnSession};

/// The time between two measures.
const STEP: Duration = Duration::from_secs(1);
/// The longest that the server is waited for before only its end is left.
pub(super) const LIMIT: Duration = Duration::from_secs(5);
/// The most sessions that one measure names.
const NAMED: usize = 10;
const RUNGS: [Rung; 3] = [Rung::Cut(Cut::Active), Rung::Cut(Cut::Applications), Rung::CutEverybodyAndReleaseCommits];

#[derive(Clone, Copy)]
enum Rung {
    Cut(Cut),
    CutEverybodyAndReleaseCommits,
}

impl Rung {
    /// MySQL needs up to a second to let the commits go, and nothing comes behind this measure.
    fn limit(self) -> Duration {
        match self {
            Rung::Cut(_) => STEP / 2,
            Rung::CutEverybodyAndReleaseCommits => STEP * 2,
        }
    }
}

/// Make the server read-only within [`LIMIT`] and a second, in this session. What was done to whom is added to `measures`.
pub(super) async fn climb(agent: &Agent, session: &mut OwnSession, measures: &mut Vec<String>) -> Result<()> {
    let closing_session = session.id().await?;
    // The agent gives up first: a request that the server gives up lets the commits go on that wait behind it.
    let mut closing = pin!(session.close(LIMIT * 2));
    let begun = Instant::now();
    for rung in RUNGS {
        let outcome = match timeout(STEP, &mut closing).await {
            Ok(outcome) => outcome?,
            Err(_) => {
                // What a measure could not do in its time the next one does.
                let taken = timeout(rung.limit(), take(agent, rung, closing_session, measures)).await;
                if let Err(error) = taken.context("it took too long").flatten() {
                    if error.is::<DiskFull>() {
                        return Err(error);
                    }
                    tracing::warn!("a measure against what holds a lock failed: {error:#}");
                }
                continue;
            }
        };
        return closed(outcome);
    }
    match timeout(LIMIT.saturating_sub(begun.elapsed()), closing).await {
        Ok(outcome) => closed(outcome?),
        Err(_) => closed(Closing::Blocked),
    }
}

fn closed(outcome: Closing) -> Result<()> {
    match outcome {
        Closing::Closed => Ok(()),
        Closing::Blocked => bail!(
            "something held a lock on the server for {} s although all sessions were cut; SHOW PROCESSLIST names it",
            LIMIT.as_secs()
        ),
    }
}

async fn take(agent: &Agent, rung: Rung, spared: u64, measures: &mut Vec<String>) -> Result<()> {
    match rung {
        Rung::Cut(kind) => cut(agent, kind, spared, measures).await,
        Rung::CutEverybodyAndReleaseCommits => {
            cut(agent, Cut::Everybody, spared, measures).await?;
            agent.database.release_commits().await
        }
    }
}

/// Cut sessions, but not the one with the id `spared`, and write down which.
pub(super) async fn cut(agent: &Agent, kind: Cut, spared: u64, measures: &mut Vec<String>) -> Result<()> {
    let met = agent.database.cut(kind, spared).await?;
    let named = met.iter().take(NAMED).map(|session| format!("Cut {session}: the server could not turn read-only"));
    let more = (met.len() > NAMED).then(|| format!("Cut {} more sessions", met.len() - NAMED));
    for measure in named.chain(more) {
        tracing::warn!("{measure}");
        measures.push(measure);
    }
    Ok(())
}
