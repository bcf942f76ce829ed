//! Runs a command: observe, decide (`topology.rs`), act, again until nothing is left to do. The busy flag is up before the
//! first look at the peer and down before the outcome is sent.

mod demotion;
mod failover;
mod follow;
mod promotion;
mod switchover;
mod sync;

use std::sync::Arc;
use std::time::Duration;

use agent::api::{Command, Event, Follow, Position};
use anyhow::{Context, Result, bail};
use tokio::time::{Instant, timeout};

use crate::agent::Agent;
use crate::busy::Raised;
use crate::leadership::{self, Claim, Turn};
use crate::mysqld::State;
use crate::report::{Report, sentence};
use crate::topology::{self, Admission, Observed, Peer, Refusal, Refused, Run, Side, Step};

pub(crate) use demotion::{end_writes, reopen};
pub(crate) use failover::yield_leadership;
pub(crate) use follow::{follow, receive};
pub(crate) use promotion::{finish_promotion, lead, open, prepare_promotion, promote};
pub(crate) use switchover::{Retaken, take_back};

/// configure-leader-follower runs right after a deployment, when servers may still be starting.
const AWAIT_LIMIT: Duration = Duration::from_secs(60);
const OWN_SERVER_LIMIT: Duration = Duration::from_secs(10);
/// A server that does not say its state within this time is not asked again before it is demoted.
const HANGS_AFTER: Duration = Duration::from_secs(3);
/// The time between two looks at something that changes.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// The time between two lines about something that takes long.
pub(crate) const SAY_AGAIN: Duration = Duration::from_secs(2);
/// More steps than any command needs.
const STEPS: usize = 16;

/// Run a command to its outcome.
pub(crate) async fn run(agent: Arc<Agent>, command: Command, raised: Raised, report: Report) {
    let mut acted = false;
    let done = drive(&agent, command, &report, &mut acted).await;
    end(done, acted, raised, &report);
}

/// Say what a command would do, and do nothing.
pub(crate) async fn rehearse(agent: Arc<Agent>, command: Command, report: Report) {
    let said = async {
        let observed = observe(&agent, command, Run::default(), Instant::now()).await?;
        let refused = |refusal: Refusal| refusal.beside(&observed.me, &observed.peer);
        topology::admit(command, &observed).map_err(refused)?;
        let steps = topology::plan(command, &observed).map_err(refused)?;
        report.say(format!("Dry run of {}: nothing is changed", command.name()));
        for (number, step) in steps.iter().enumerate() {
            report.say(format!("{}. {}", number + 1, topology::describe(step, &observed)));
        }
        if steps.is_empty() {
            report.say("Nothing is left to do");
        }
        Ok(())
    };
    report.end(outcome(said.await, false));
}

/// Run a step for the peer's command to its outcome.
pub(crate) async fn run_step(work: impl Future<Output = Result<()>>, raised: Raised, report: Report) {
    end(work.await, false, raised, &report);
}

fn end(done: Result<()>, acted: bool, raised: Raised, report: &Report) {
    drop(raised);
    report.end(outcome(done, acted));
}

fn outcome(done: Result<()>, acted: bool) -> Event {
    match done {
        Ok(()) => Event::Succeeded,
        Err(error) if (error.is::<Refusal>() || error.is::<Refused>()) && !acted => {
            tracing::warn!("refused: {}", sentence(&error));
            Event::Refused(sentence(&error))
        }
        Err(error) => {
            tracing::error!("failed: {}", sentence(&error));
            Event::Failed(sentence(&error))
        }
    }
}

/// A leadership that was taken and could not be used goes back. One that was used does not, also when the server fell over since: it
/// may have acknowledged what the old leader lacks, and opens again by itself.
async fn drive(agent: &Agent, command: Command, report: &Report, acted: &mut bool) -> Result<()> {
    let mut run = Run::default();
    let done = walk(agent, command, &mut run, report, acted).await;
    match done {
        Err(error) if run.has_taken && agent.leadership.has_opened() => {
            Err(error.context("this server was promoted, and what is left it does by itself"))
        }
        Err(error) if run.has_taken => Err(failover::give_back(agent, error, report).await),
        done => done,
    }
}

async fn walk(agent: &Agent, command: Command, run: &mut Run, report: &Report, acted: &mut bool) -> Result<()> {
    let begun = Instant::now();
    let mut is_admitted = false;
    let mut steps = 0;
    if let Some(step) = topology::step_of_hung(command)
        && hangs(agent).await
    {
        *acted = true;
        journaled(agent, command, step, run, report).await?;
    }
    loop {
        let observed = observe(agent, command, *run, begun).await?;
        let refused = |refusal: Refusal| refusal.beside(&observed.me, &observed.peer);
        if !is_admitted && topology::admit(command, &observed).map_err(refused)? == Admission::Soon {
            if begun.elapsed() > AWAIT_LIMIT {
                bail!("the peer is busy with its recovery for more than {} s; its log says why", AWAIT_LIMIT.as_secs());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            continue;
        }
        is_admitted |= matches!(observed.peer, Peer::Answers(_));
        let step = topology::next_step(command, &observed).map_err(refused)?;
        let done = match step {
            Step::Done => return finish(command, &observed, report),
            Step::Await => await_peer(agent, &observed, begun, report).await,
            Step::ApplyReceived => promotion::apply_received(agent, &observed.me, begun, report).await,
            Step::ReceiveRest => promotion::receive_rest(agent, &observed, begun, report).await,
            _ => {
                steps += 1;
                if steps > STEPS {
                    bail!("{} did not come to an end after {STEPS} steps; the next would be {step:?}", command.name());
                }
                // What is refused of these has changed nothing.
                *acted |= !matches!(step, Step::Campaign | Step::ChangeSync);
                let done = journaled(agent, command, step, run, report).await;
                *acted |= done.is_ok();
                done
            }
        };
        done.map_err(|error| match error.downcast::<Refusal>() {
            Ok(refusal) => refused(refusal).into(),
            Err(error) => error,
        })?;
    }
}

async fn journaled(agent: &Agent, command: Command, step: Step, run: &mut Run, report: &Report) -> Result<()> {
    let (name, begun) = (format!("{step:?}"), Instant::now());
    let epoch = || agent.leadership.record().epoch;
    agent.journal.begins(command, &name, epoch());
    let done = act(agent, command, step, run, report).await;
    let error = done.as_ref().err().map(sentence);
    agent.journal.ended(command, &name, epoch(), begun.elapsed().as_millis(), error.as_deref());
    done
}

async fn act(agent: &Agent, command: Command, step: Step, run: &mut Run, report: &Report) -> Result<()> {
    match step {
        Step::Done | Step::Await | Step::ApplyReceived | Step::ReceiveRest => Ok(()),
        Step::Follow(side) => {
            let (leader, follower) = match side {
                Side::Me => (agent.instance.peer_address(), Some(agent.instance.spec.ip)),
                Side::Peer => (Some(agent.instance.spec.ip), agent.instance.peer_address()),
            };
            let (leader, follower) = leader.zip(follower).context("the instance has a peer")?;
            report.say(format!("Configuring {follower} to follow {leader}"));
            match side {
                Side::Me => follow(agent, leader, agent.instance.replication_limit(), report).await,
                Side::Peer => Ok(agent.pair()?.client.follow(&Follow { leader }, |line| report.say(line)).await?),
            }
        }
        Step::Lead(Side::Me) => lead(agent, Claim::Asked, report).await,
        Step::Lead(Side::Peer) => Ok(agent.pair()?.client.lead(|line| report.say(line)).await?),
        Step::Demote => {
            let measures =
                demotion::demote(agent, Turn::OfAnOperator).await.context("failed to set local node read-only")?;
            measures.into_iter().for_each(|measure| report.say(measure));
            run.has_demoted = true;
            Ok(())
        }
        Step::Sync => {
            sync_peer(agent, report).await.context("failed to sync transactions on peer")?;
            run.has_synced = true;
            Ok(())
        }
        Step::Campaign if command == Command::ForceMakeLeader => promotion::force(agent, report).await,
        Step::Campaign => leadership::campaign(agent, Claim::Asked, report).await,
        Step::ReceiveAgain => agent.database.start_replication().await,
        Step::StopReceiving => agent.database.stop_receiving().await,
        Step::ApplyRelayLog => promotion::apply_relay_log(agent, report).await,
        Step::Promote => promotion::promote_survivor(agent, command, report).await,
        Step::ForgetSource => finish_promotion(agent).await,
        Step::Yield => {
            // From here on a failure must give it back, also where the answer is lost.
            run.has_taken = true;
            Ok(agent.pair()?.client.yield_leadership(|line| report.say(line)).await?)
        }
        Step::AwaitReturn => {
            run.has_awaited_return = true;
            failover::await_return(agent, report).await
        }
        Step::AwaitRejoin => {
            run.has_awaited_rejoin = true;
            failover::await_rejoin(agent, report).await
        }
        Step::HandOver => {
            switchover::hand_over(agent, report).await?;
            run.has_handed_over = true;
            Ok(())
        }
        Step::ChangeSync => {
            match command {
                Command::DegradeSync => sync::degrade(agent, report).await?,
                _ => sync::restore(agent, report).await?,
            }
            run.has_changed_sync = true;
            Ok(())
        }
    }
}

async fn observe(agent: &Agent, command: Command, run: Run, begun: Instant) -> Result<Observed> {
    let limit = match command {
        Command::ConfigureLeaderFollower => AWAIT_LIMIT.saturating_sub(begun.elapsed()).max(OWN_SERVER_LIMIT),
        Command::MakeLeader
        | Command::ForceMakeLeader
        | Command::MakeReadOnly
        | Command::Switchover
        | Command::Failover
        | Command::DegradeSync
        | Command::RestoreSync => OWN_SERVER_LIMIT,
    };
    agent.mysqld.until_up(limit).await.context("failed to fetch status from local node")?;
    agent.observe(run).await
}

/// The server runs and does not say its state.
async fn hangs(agent: &Agent) -> bool {
    let is_up = matches!(agent.mysqld.state(), State::Up(_));
    is_up && agent.pair().is_ok() && timeout(HANGS_AFTER, agent.own_server()).await.is_err()
}

async fn await_peer(agent: &Agent, observed: &Observed, begun: Instant, report: &Report) -> Result<()> {
    let Peer::Silent { address, why, .. } = &observed.peer else { return Ok(()) };
    if begun.elapsed() > AWAIT_LIMIT.min(agent.instance.replication_limit()) {
        return Err(Refusal::PeerMissing { address: *address, why: why.clone() }.into());
    }
    report.say(format!("Waiting for {address}: {why}"));
    tokio::time::sleep(SAY_AGAIN / 2).await;
    Ok(())
}

async fn sync_peer(agent: &Agent, report: &Report) -> Result<()> {
    let peer = agent.pair()?;
    let gtid = agent.database.position().await?;
    report.say(format!("Requesting peer ({}) to sync its received transaction to GTID {gtid}", peer.address));
    let position = Position { gtid, timeout_ms: u64::try_from(agent.instance.replication_limit().as_millis())? };
    peer.client.receive(&position, |line| report.say(line)).await?;
    report.say("Sync request completed successfully");
    Ok(())
}

/// The last lines of a command, as the product has them.
fn finish(command: Command, observed: &Observed, report: &Report) -> Result<()> {
    match (command, &observed.peer) {
        (Command::MakeReadOnly, Peer::Answers(peer)) => {
            if peer.channel.is_none() {
                report.say("Peer is not configured for replication. Not attempting sync.");
            }
            report.say("Instance successfully set read-only");
        }
        (Command::MakeLeader | Command::ForceMakeLeader, _) => report.say("Instance successfully configured as leader"),
        (Command::ConfigureLeaderFollower | Command::Switchover | Command::Failover, Peer::Answers(peer)) => {
            let me = observed.me.address;
            let (leader, follower) = if peer.is_writable { (peer.address, me) } else { (me, peer.address) };
            report.say(format!("Leader: {leader}, Follower: {follower}"));
        }
        (Command::Failover, Peer::Silent { address, .. }) => {
            report.say("Instance successfully configured as leader");
            report.say(format!("It is not redundant: {address} does not answer. It follows by itself when it is back"));
        }
        (_, _) => {}
    }
    Ok(())
}
