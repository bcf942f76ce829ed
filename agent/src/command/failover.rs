//! The part of a failover that concerns the old leader: taking the leadership from one that is there, giving it back when it
//! could not be used, and waiting until the old leader follows.

use std::time::Duration;

use anyhow::{Error, Result};
use tokio::time::sleep;

use super::LOOK_AGAIN;
use super::demotion::demote;
use super::follow::Waiting;
use crate::agent::Agent;
use crate::leadership::Turn;
use crate::report::{Report, sentence};
use crate::topology::Peer;

/// An old leader that must be copied to first takes longer, and does not need this command for it.
const REJOIN_LIMIT: Duration = Duration::from_secs(60);
/// Nobody can write meanwhile.
const RETURN_LIMIT: Duration = Duration::from_secs(15);

/// Turn read-only for the peer, which is to lead. Should the peer or its agent fall before it does, this server goes on.
pub(crate) async fn yield_leadership(agent: &Agent, report: &Report) -> Result<()> {
    demote(agent, Turn::OfTheOther).await?.into_iter().for_each(|measure| report.say(measure));
    report.say(format!("{} is read-only", agent.instance.name()));
    Ok(())
}

/// This server did not become the leader; the old one is to go on. Says how that went.
pub(super) async fn give_back(agent: &Agent, cause: Error, report: &Report) -> Error {
    let given = async { Ok::<_, Error>(agent.pair()?.client.lead(|line| report.say(line)).await?) };
    match given.await {
        Ok(()) => cause.context("the failover was given up and the old leader is writable again"),
        Err(error) => cause.context(format!(
            "the failover was given up, and the old leader is not writable again ({}); run failover again, or make-leader on \
             the one that is to lead",
            sentence(&error)
        )),
    }
}

/// The old leader's server was killed. Its agent starts it again, which takes as long as its repair.
pub(super) async fn await_return(agent: &Agent, report: &Report) -> Result<()> {
    let mut waiting = Waiting::new(RETURN_LIMIT);
    while !matches!(agent.look_at_peer().await?, Peer::Answers(_)) {
        if !waiting.go_on() {
            report.say("The old leader's server does not start in time; what it had not sent is saved when it does");
            return Ok(());
        }
        waiting.say(report, || "Waiting until the old leader's server has started again".into());
        sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// The old leader learns from this server that it was replaced.
pub(super) async fn await_rejoin(agent: &Agent, report: &Report) -> Result<()> {
    let mut waiting = Waiting::new(REJOIN_LIMIT);
    loop {
        let (me, peer) = (agent.own_server().await?, agent.look_at_peer().await?);
        let Peer::Answers(peer) = peer else { return Ok(()) };
        if peer.follows(&me) {
            return Ok(());
        }
        if !waiting.go_on() {
            report.say(format!("{} does not follow yet; it goes on trying by itself", peer.instance));
            return Ok(());
        }
        waiting.say(report, || format!("Waiting until {} follows", peer.instance));
        sleep(LOOK_AGAIN).await;
    }
}
