//! A leader's server that hangs is missed by nobody else: its agent goes on renewing the lease, so no voter chooses another.
//! Where the plan says `failover: automatic` the agent kills it when it has taken no connection for a whole lease, and what
//! follows is what follows every death of a leader's server (`succession.rs`). In other plans an operator is told.

use std::sync::Arc;
use std::time::Duration;

use agent::api::Activity;
use tokio::time::{sleep, timeout};

use crate::agent::Agent;
use crate::instance::Failover;
use crate::mysql::Heart;
use crate::mysqld::State;
use crate::report::sentence;

const PAUSE: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(1);
/// However short the lease is: a machine that is busy for a moment is no server that hangs.
const SHORTEST: Duration = Duration::from_secs(5);

/// Look whether this server answers, for as long as the agent runs and whenever it leads.
pub(crate) async fn watch_own_server(agent: Arc<Agent>) {
    let Some(pair) = &agent.instance.pair else { return };
    let (mut missed, mut heart) = (0, None);
    loop {
        if !leads(&agent) || answers(&agent, &mut heart).await {
            missed = 0;
            sleep(PAUSE).await;
            continue;
        }
        missed += 1;
        if missed == 2 {
            tracing::warn!("the server runs and takes no connection; failover on the follower takes over from it");
        }
        if pair.failover == Failover::Automatic && hangs(missed, pair.lease) && is_left_to_itself(&agent) {
            tracing::error!(missed, "the server takes no connection for too long and is killed");
            if let Err(error) = agent.mysqld.kill().await {
                tracing::error!("the server that hangs cannot be killed: {}", sentence(&error));
            }
            missed = 0;
        }
    }
}

fn leads(agent: &Agent) -> bool {
    matches!(agent.mysqld.state(), State::Up(_)) && agent.leadership.is_open() && agent.leadership.own_epoch().is_some()
}

/// In a session of its own. A refusal is an answer, and so is the end of the session.
async fn answers(agent: &Agent, kept: &mut Option<Heart>) -> bool {
    let heart = kept.take();
    let asked = timeout(LIMIT, async {
        match heart {
            None => agent.database.heart(LIMIT * 2).await,
            Some(mut heart) => heart.ping().await.map(|()| heart),
        }
    });
    match asked.await {
        Ok(answer) => {
            *kept = answer.ok();
            true
        }
        Err(_) => false,
    }
}

/// Counted, not measured: an agent that was itself frozen has missed one answer, however long that took.
fn hangs(missed: u32, lease: Duration) -> bool {
    LIMIT * missed >= lease.max(SHORTEST)
}

/// A command that runs has its own way with a server that does not answer.
fn is_left_to_itself(agent: &Agent) -> bool {
    matches!(agent.busy.holder(), None | Some(Activity::Recovery))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_hangs_when_it_has_missed_a_lease_of_answers_and_not_only_a_few() {
        for (missed, lease_s, expected) in [(1, 10, false), (9, 10, false), (10, 10, true), (4, 1, false), (5, 1, true)]
        {
            assert_eq!(hangs(missed, Duration::from_secs(lease_s)), expected, "{missed} of {lease_s} s");
        }
    }
}
