//! Keeps the lease of this server's leadership, and closes the server when it runs out or a later leader is known.
//!
//! The question goes to the follower and to the witness, some ten times in a lease; one confirmation is enough. What happens
//! when none comes: at seven tenths of the lease the server is made read-only, and killed where that takes too long; at nine
//! tenths the guard kills it, also where this agent is frozen.

use std::sync::Arc;
use std::time::Duration;

use agent::quorum::{Answer, Record, Release, Renewal};
use anyhow::{Result, bail};
use futures_util::future::join_all;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Leadership, Other, State};
use crate::agent::Agent;
use crate::clock;
use crate::mysql::Closing;
use crate::report::sentence;

const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const RELEASE_LIMIT: Duration = Duration::from_secs(1);
/// A candidate that was chosen has its lease with the first answer.
const OPENING_LIMIT: Duration = Duration::from_secs(5);
const OPENING_PAUSE: Duration = Duration::from_millis(20);
/// For what is done after a server was closed.
const CUT_LIMIT: Duration = Duration::from_secs(2);

/// When an open server must close.
enum Due {
    Now(&'static str),
    At(Duration),
    Never,
}

/// Ask for the lease again and again, for as long as the agent runs.
pub(crate) async fn keep_lease(agent: Arc<Agent>) {
    let leadership = &agent.leadership;
    loop {
        let pause = (leadership.lease / 10).min(LONGEST_PAUSE);
        let _ = timeout(pause.max(OPENING_PAUSE), leadership.changed.notified()).await;
        renew(&agent).await;
    }
}

/// Close the server when its time has come.
pub(crate) async fn watch_lease(agent: Arc<Agent>) {
    let leadership = &agent.leadership;
    loop {
        let pause = match leadership.due(clock::now()) {
            Due::Now(why) => {
                tracing::error!("{why}: this server turns read-only");
                close_now(&agent).await;
                LONGEST_PAUSE
            }
            Due::At(end) => end.saturating_sub(clock::now()).min(LONGEST_PAUSE),
            Due::Never => LONGEST_PAUSE,
        };
        if let Err(error) = leadership.adopt_successor() {
            tracing::error!("a later leader cannot be agreed to: {}", sentence(&error));
        }
        let _ = timeout(pause, leadership.changed.notified()).await;
    }
}

/// Make the server read-only within a tenth of the lease, or kill it; then cut the sessions that believe to be on a leader.
pub(crate) async fn close_now(agent: &Agent) {
    let _closing = agent.closing.begin();
    let limit = (agent.leadership.lease / 10).max(Duration::from_millis(200));
    let end = Instant::now() + limit;
    // Until its guard knows it: who opened the server in between would be taken for closed, and lose its guard.
    let alone = async {
        let no_user_is_made = agent.users.write().await;
        (no_user_is_made, agent.leadership.gate.lock().await)
    };
    let Ok(alone) = timeout_at(end, alone).await else {
        // Whoever has one of them loses the server, and says so.
        tracing::error!(
            "the server is being opened, closed or given a user for more than {} ms and is killed",
            limit.as_millis()
        );
        let _ = agent.mysqld.kill().await.inspect_err(|error| tracing::error!("{}", sentence(error)));
        return;
    };
    let closed = timeout_at(end, async {
        let writers = agent.database.writers_through_read_only().await?;
        let closing = agent.database.close().await?;
        agent.database.until_gone(&agent.database.cut_writers(&writers).await?).await?;
        anyhow::Ok(closing)
    });
    if !matches!(closed.await, Ok(Ok(Closing::Closed))) {
        tracing::error!("the server did not turn read-only within {} ms and is killed", limit.as_millis());
        if let Err(error) = agent.mysqld.kill().await {
            tracing::error!("the server cannot be killed; its guard does it: {}", sentence(&error));
            return;
        }
    }
    agent.leadership.closed();
    if let Err(error) = agent.mysqld.forbid_writes().await {
        tracing::warn!("the guard does not know that the server is read-only: {}", sentence(&error));
    }
    drop(alone);
    if let Ok(Err(error)) = timeout(CUT_LIMIT, agent.database.cut_sessions()).await {
        tracing::warn!("sessions of the applications are left on the read-only server: {}", sentence(&error));
    }
    agent.leadership.changed.notify_waiters();
}

/// Have a lease that is good for opening the server.
pub(crate) async fn lease_for_opening(agent: &Agent) -> Result<()> {
    let begun = clock::now();
    while !agent.leadership.may_write() {
        if clock::now() - begun > OPENING_LIMIT {
            bail!("neither the other server's agent nor the witness confirms that this server leads");
        }
        renew(agent).await;
        if !agent.leadership.may_write() {
            tokio::time::sleep(OPENING_PAUSE).await;
        }
    }
    Ok(())
}

/// Tell the others that the leadership is over, so that nobody waits for its lease. Who does not hear it waits.
pub(crate) async fn release_to_others(agent: &Agent, release: &Release) {
    let told = agent.leadership.others.iter().map(|other| other.client.release(release, RELEASE_LIMIT));
    for error in join_all(told).await.into_iter().filter_map(Result::err) {
        tracing::info!("a voter was not told that the leadership was laid down: {error}");
    }
}

async fn renew(agent: &Agent) {
    let Some(renewal) = agent.leadership.renewal() else { return };
    join_all(agent.leadership.others.iter().map(|other| ask(agent, other, &renewal))).await;
}

async fn ask(agent: &Agent, other: &Other, renewal: &Renewal) {
    let leadership = &agent.leadership;
    let sent = clock::now();
    match other.client.renew(renewal, (leadership.lease / 5).max(RELEASE_LIMIT / 4)).await {
        Ok(Answer::Granted(_)) => {
            let Some(end) = leadership.confirmed(renewal.epoch, sent) else { return };
            if let Err(error) = agent.mysqld.allow_writes_until(end).await {
                tracing::error!("the guard does not know of the new lease: {}", sentence(&error));
            }
            spare_if_closed(agent).await;
        }
        Ok(Answer::Refused(record) | Answer::Leased { record, .. }) => leadership.refused(renewal.epoch, record),
        Err(error) => tracing::debug!("no confirmation: {error}"),
    }
}

/// A server that was closed while its guard was told of a new lease must not be killed at the end of that.
async fn spare_if_closed(agent: &Agent) {
    if agent.leadership.is_open() {
        return;
    }
    let _nobody_opens = agent.leadership.gate.lock().await;
    if !agent.leadership.is_open()
        && let Err(error) = agent.mysqld.forbid_writes().await
    {
        tracing::warn!("the guard does not know that the server is read-only: {}", sentence(&error));
    }
}

impl Leadership {
    pub(super) fn renewal(&self) -> Option<Renewal> {
        let state = self.state();
        let lease_ms = u64::try_from(self.lease.as_millis()).ok()?;
        Some(Renewal {
            epoch: self.owned(&state)?,
            leader: self.me.clone(),
            lease_ms,
            in_sync: self.is_in_sync(&state),
            withdrawals: state.promise.withdrawals,
        })
    }

    /// The end of the lease, where the server is open and the guard must know it.
    fn confirmed(&self, epoch: u64, sent: Duration) -> Option<Duration> {
        let mut state = self.state();
        if self.owned(&state) != Some(epoch) {
            return None;
        }
        state.lease.confirmed(sent);
        state.is_forced = false;
        state.lease.ends_at().filter(|_| state.is_open && self.is_leased)
    }

    fn refused(&self, epoch: u64, record: Record) {
        let mut state = self.state();
        if self.owned(&state) == Some(epoch) && record.epoch > epoch {
            state.superseded = Some(record);
            drop(state);
            self.changed.notify_waiters();
        }
    }

    fn due(&self, now: Duration) -> Due {
        let state = self.state();
        if !state.is_open {
            return Due::Never;
        }
        if state.superseded.is_some() {
            return Due::Now("another server leads since");
        }
        match state.lease.closes_at() {
            Some(end) if self.has_limit(&state) && now >= end => {
                Due::Now("neither the follower nor the witness has confirmed in time that this server leads")
            }
            Some(end) if self.has_limit(&state) => Due::At(end),
            // Of a server that runs since an earlier agent the guard knows the end.
            Some(_) | None => Due::Never,
        }
    }

    fn has_limit(&self, state: &State) -> bool {
        self.is_leased && !state.is_forced
    }

    /// Agree to the later leader that made this server close.
    fn adopt_successor(&self) -> Result<()> {
        let superseded = self.state().superseded.clone();
        match superseded.filter(|_| !self.is_open()) {
            None => Ok(()),
            Some(record) => {
                self.adopt(&record)?;
                self.state().superseded = None;
                Ok(())
            }
        }
    }
}
