//! Making this server read-only, within a bound, whatever its sessions do; `ladder.rs` has the measures and what each does
//! to the clients. Where all of them fail the server is killed, because it starts again read-only.

mod ladder;

use std::time::Duration;

use agent::api::Activity;
use anyhow::{Context, Result, bail};
use tokio::sync::{MutexGuard, RwLockWriteGuard};
use tokio::time::timeout;

use super::LOOK_AGAIN;
use crate::agent::Agent;
use crate::leadership::{self, Turn};
use crate::mysql::{Cut, OwnSession};
use crate::report::sentence;

/// A statement for a binding's user ends within this time, or its session is cut.
const USERS_LIMIT: Duration = Duration::from_secs(1);
/// A server that does not answer a question for so long hangs.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// Looks at a history that must not move any more.
const LOOKS: usize = 5;

/// Make this server read-only, lay its leadership down and cut its sessions; says what was done to whom for that. It does not
/// come back writable by itself, unless it is the other server's turn, and that one does not use it.
pub(super) async fn demote(agent: &Agent, whose_turn: Turn) -> Result<Vec<String>> {
    let _closing = agent.closing.begin();
    let mut measures = Vec::new();
    let closed = match close_measured(agent, &mut measures).await {
        Ok(closed) => {
            closed.shut.settle().await;
            cut_all(agent).await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = closed {
        measures.push(kill(agent, &error).await?);
    }
    if let Some(release) = agent.leadership.lay_down(whose_turn)? {
        leadership::release_to_others(agent, &release).await;
    }
    Ok(measures)
}

/// Says what was done.
async fn kill(agent: &Agent, cause: &anyhow::Error) -> Result<String> {
    let measure = format!("Killed the server, which starts again read-only: {}", sentence(cause));
    tracing::error!("{measure}");
    agent.mysqld.kill().await.context("kill the server that did not turn read-only")?;
    agent.leadership.closed();
    Ok(measure)
}

/// Make this server read-only, which ends whatever its sessions wait for, and leave the rest to recovery: the server that still
/// leads is opened again. Not beside a command that runs, which may have changed what this was for; says whether it was done.
pub(crate) async fn reopen(agent: &Agent, why: &str) -> bool {
    let Ok(_raised) = agent.busy.raise(Activity::Recovery) else { return false };
    tracing::error!("{why}: this server turns read-only and opens again");
    let ended = match end_writes(agent).await {
        Ok(true) => match agent.database.let_go_of_dead_followers().await {
            Ok(()) => Ok(()),
            Err(error) => kill(agent, &error).await.map(drop),
        },
        // Elsewhere commits would be let go whose clients are still there to be told.
        ended => ended.map(drop),
    };
    if let Err(error) = ended {
        tracing::error!("{}", sentence(&error));
    }
    agent.leadership.changed.notify_waiters();
    true
}

/// Make this server read-only, or kill it. It stays what it is, and is opened again when it leads. Says whether it was closed
/// here, and by its own statement.
pub(crate) async fn end_writes(agent: &Agent) -> Result<bool> {
    let _closing = agent.closing.begin();
    match close(agent).await {
        Ok(closed) => {
            closed.shut.settle().await;
            Ok(true)
        }
        // Not when its lease has ended meanwhile.
        Err(error) if agent.leadership.is_open() => kill(agent, &error).await.map(|_| false),
        Err(_) => Ok(false),
    }
}

/// A server that is read-only.
pub(super) struct Closed<'a> {
    /// The session that made it so.
    pub(super) session: OwnSession,
    pub(super) shut: Shut<'a>,
}

/// Nobody opens the server, or makes a user, until its guard knows that it is read-only.
pub(super) struct Shut<'a> {
    agent: &'a Agent,
    _no_user_is_made: RwLockWriteGuard<'a, ()>,
    _nobody_opens: MutexGuard<'a, ()>,
}

impl Shut<'_> {
    /// Tell the guard. Who opens the server behind this tells the guard behind this.
    pub(super) async fn settle(self) {
        if let Err(error) = self.agent.mysqld.forbid_writes().await {
            tracing::warn!("the guard does not know that the server is read-only: {}", sentence(&error));
        }
    }
}

/// Make this server read-only. The caller tells the guard, and decides what becomes of a server that does not turn read-only.
pub(super) async fn close(agent: &Agent) -> Result<Closed<'_>> {
    close_measured(agent, &mut Vec::new()).await
}

/// When this returns no client can be told of a commit any more that is not in the history.
async fn close_measured<'a>(agent: &'a Agent, measures: &mut Vec<String>) -> Result<Closed<'a>> {
    if let Err(error) = timeout(USERS_LIMIT, agent.database.stop_events()).await.context("no answer").flatten() {
        // An event that runs is cut like any other session.
        tracing::warn!("scheduled events are not stopped: {}", sentence(&error));
    }
    let users = match timeout(USERS_LIMIT, agent.users.write()).await {
        Ok(users) => users,
        Err(_) => {
            // It waits for the follower, or for a lock.
            ladder::cut(agent, Cut::Everybody, 0, measures).await?;
            timeout(USERS_LIMIT, agent.users.write())
                .await
                .context("a binding's user is being made and does not end")?
        }
    };
    let nobody_opens = agent.leadership.gate.lock().await;
    // Asked before the outage.
    let asked = timeout(ANSWER_LIMIT, agent.database.writers_through_read_only());
    let writers = asked.await.context("it does not answer").flatten()?;
    let mut session = agent.database.own_session().await?;
    ladder::climb(agent, &mut session, measures).await?;
    agent.database.until_gone(&agent.database.cut_writers(&writers).await?).await?;
    agent.leadership.closed();
    Ok(Closed { session, shut: Shut { agent, _no_user_is_made: users, _nobody_opens: nobody_opens } })
}

/// Cut the sessions of a read-only server, so that their clients look for the leader, and see that the history rests.
async fn cut_all(agent: &Agent) -> Result<()> {
    let cut = agent.database.cut(Cut::Applications, 0).await?;
    agent.database.until_gone(&cut).await?;
    let mut writers = Vec::new();
    for _ in 0..LOOKS {
        let before = agent.database.position().await?;
        tokio::time::sleep(LOOK_AGAIN).await;
        // A follower's history moves.
        if agent.database.position().await? == before || agent.database.facts().await?.channel.is_some() {
            return Ok(());
        }
        writers = agent.database.writers_through_read_only().await?;
        agent.database.until_gone(&agent.database.cut_writers(&writers).await?).await?;
    }
    bail!(
        "the server is read-only, and somebody writes all the same. Stop that and run the command again; admin can do so, \
         and of the other accounts {writers:?}"
    )
}
