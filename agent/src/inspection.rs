//! What `GET /v1/inspection` says: both servers, looked at now, and the verdict on them.

use std::time::Duration;

use agent::api::Inspection;
use anyhow::Result;

use crate::agent::Agent;
use crate::instance::Mode;
use crate::verdict::{Peer, judge};

/// Shorter than the time for which the one who asks waits.
const PEER_LIMIT: Duration = Duration::from_secs(5);
/// An agent whose server hangs says so within the above.
const PEER_SERVER_LIMIT: Duration = Duration::from_secs(4);

/// Look at both servers. A writable one is read last: what the other one has received by then, it has written.
pub(crate) async fn inspect(agent: &Agent) -> Result<Inspection> {
    let mut status = agent.status().await?;
    let writers_through_read_only = agent.database.writers_through_read_only().await?;
    let Some(pair) = &agent.instance.pair else {
        let verdict = judge(&status, &Peer::None, Mode::Async);
        return Ok(Inspection { status, peer: None, peer_agent_answers: false, writers_through_read_only, verdict });
    };
    let peer = agent.pair()?;
    let silent = |why| Peer::Silent { address: peer.address, why };
    let peer = match tokio::time::timeout(PEER_LIMIT, peer.client.status_within(PEER_SERVER_LIMIT)).await {
        Ok(Ok(status)) => Peer::Answers(Box::new(status)),
        Ok(Err(error)) if error.is_of_hung_server() => Peer::Hangs { address: peer.address, why: error.to_string() },
        Ok(Err(error)) if error.is_of_stopped_server() => {
            Peer::Stopped { address: peer.address, why: error.to_string() }
        }
        Ok(Err(error)) if error.is_of_busy_agent() => Peer::Busy { address: peer.address, why: error.to_string() },
        Ok(Err(error)) => silent(error.to_string()),
        Err(_) => silent(format!("it did not answer within {} s", PEER_LIMIT.as_secs())),
    };
    if !status.read_only {
        status = agent.status().await?;
    }
    let mut verdict = judge(&status, &peer, pair.mode);
    // A server that has been promoted since recommends that no more.
    if let Some(recommendation) = agent.automatic.recommendation().filter(|_| !verdict.healthy && status.read_only) {
        verdict.next_action = Some(recommendation);
    }
    let (peer, peer_agent_answers) = match peer {
        Peer::Answers(status) => (Some(*status), true),
        Peer::Busy { .. } | Peer::Stopped { .. } | Peer::Hangs { .. } => (None, true),
        Peer::Silent { .. } | Peer::None => (None, false),
    };
    Ok(Inspection { status, peer, peer_agent_answers, writers_through_read_only, verdict })
}
