//! The follower looks whether its leader is gone (`automatic/decision.rs` says when), recommends what to do, and does it by
//! itself where the plan says `failover: automatic`. What it then runs is `make-leader`, with all of its checks. A leader whose
//! server has died under it does not wait to be missed (`automatic/succession.rs`), and one whose server hangs kills it
//! (`automatic/pulse.rs`).

mod decision;
mod memory;
mod pulse;
mod succession;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent::api::{Activity, Command, Event, Receiver};
use agent::client;
use anyhow::{Context, Result};
use tokio::time::{sleep, timeout};

use crate::agent::Agent;
use crate::clock;
use crate::command;
use crate::instance::{Failover, Instance, Mode, Pair};
use crate::leadership::{self, Poll};
use crate::mysql::{FailoverRow, Signs};
use crate::mysqld::State;
use crate::report::{Report, sentence};
use decision::{Decision, Evidence, Past, PeerSign, Plan, decide, patience};
use memory::Memory;
pub(crate) use pulse::watch_own_server;
pub(crate) use succession::{accept, offer};

const LOOK_AGAIN: Duration = Duration::from_secs(1);
const LOOK_CLOSELY: Duration = Duration::from_millis(100);
const PEER_LIMIT: Duration = Duration::from_secs(1);
/// For the row that says why, which may wait for a follower.
const ROW_LIMIT: Duration = Duration::from_secs(3);
/// The clocks of two looks differ by less; a heartbeat is a second younger than the last one.
const SAME_HEARTBEAT_S: f64 = 0.5;

/// What is known of failovers that nobody asked for.
pub(crate) struct Automatic {
    memory: Memory,
    recommendation: Mutex<Option<String>>,
    /// Why a failover is under way.
    reason: Mutex<Option<String>>,
    /// Why the promotion with this ticket is one that nobody asked for.
    succession: Mutex<Option<(u64, String)>>,
    started: Duration,
}

impl Automatic {
    pub(crate) fn new(instance: &Instance) -> Result<Automatic> {
        let memory = Memory::new(instance.store().join("automatic.json"))?;
        let (recommendation, reason, succession) = Default::default();
        Ok(Automatic { memory, recommendation, reason, succession, started: clock::now() })
    }

    /// What a human should do about a leader that is gone.
    pub(crate) fn recommendation(&self) -> Option<String> {
        self.recommendation.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A human runs a command: what was done without being asked is over.
    pub(crate) fn acknowledge(&self) {
        if let Err(error) = self.memory.acknowledge() {
            tracing::warn!("automatic failover stays held back: {}", sentence(&error));
        }
    }

    fn set_succession(&self, ticket: u64, why: String) {
        *self.succession.lock().unwrap_or_else(PoisonError::into_inner) = Some((ticket, why));
    }

    /// Why the promotion with this ticket is one that nobody asked for, where it is.
    pub(crate) fn succession(&self, ticket: u64) -> Option<String> {
        let succession = self.succession.lock().unwrap_or_else(PoisonError::into_inner).take();
        succession.filter(|(of, _)| *of == ticket).map(|(_, why)| why)
    }

    fn recommend(&self, sentence: Option<String>) {
        let mut recommendation = self.recommendation.lock().unwrap_or_else(PoisonError::into_inner);
        if recommendation.is_none()
            && let Some(sentence) = &sentence
        {
            tracing::warn!("{sentence}");
        }
        *recommendation = sentence;
    }

    fn set_reason(&self, reason: Option<String>) {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }
}

/// What the last look left.
struct Sight {
    /// When the newest heartbeat was written, by the two wall clocks and this monotonic one, and when it came.
    written: Option<f64>,
    came: Duration,
}

impl Sight {
    fn note(&mut self, now: Duration, age_s: Option<f64>) {
        let Some(written) = age_s.map(|age| now.as_secs_f64() - age) else { return };
        if self.written.is_none_or(|before| (written - before).abs() > SAME_HEARTBEAT_S) {
            (self.written, self.came) = (Some(written), now);
        }
    }
}

/// Look after the leader for as long as the agent runs.
pub(crate) async fn watch_leader(agent: Arc<Agent>) {
    let Some(pair) = &agent.instance.pair else { return };
    let mut sight = Sight { written: None, came: clock::now() };
    loop {
        let pause = match look(&agent, pair, &mut sight).await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::debug!("the leader cannot be judged: {}", sentence(&error));
                LOOK_AGAIN
            }
        };
        sleep(pause).await;
    }
}

/// Says when to look again.
async fn look(agent: &Arc<Agent>, pair: &Pair, sight: &mut Sight) -> Result<Duration> {
    let Some(leader) = followed(agent) else {
        agent.automatic.recommend(None);
        return Ok(LOOK_AGAIN);
    };
    let (signs, channel) = (agent.database.leader_signs().await?, agent.database.facts().await?.channel);
    let now = clock::now();
    sight.note(now, signs.heartbeat_age_s);
    let Some(channel) = channel else { return Ok(LOOK_AGAIN) };
    let silence = now.saturating_sub(sight.came);
    let missing = patience(pair.lease).saturating_sub(silence);
    if channel.receiver == Receiver::Connected || !missing.is_zero() {
        agent.automatic.recommend(None);
        return Ok(missing.clamp(LOOK_CLOSELY, LOOK_AGAIN));
    }
    let (peer, poll) = tokio::join!(peer_sign(agent), leadership::poll(agent));
    let pause = match &poll {
        Poll::Leased(wait) => (*wait).clamp(LOOK_CLOSELY / 10, LOOK_AGAIN),
        Poll::Free | Poll::Alive | Poll::NotInSync | Poll::Unknown(_) => LOOK_AGAIN,
    };
    let evidence = Evidence {
        plan: plan(pair),
        lease: pair.lease,
        leader,
        is_receiver_connected: false,
        silence,
        lag: signs.heartbeat_age_s.map(|age| Duration::try_from_secs_f64(age).unwrap_or_default().max(silence)),
        peer,
        is_in_sync: agent.leadership.record().in_sync,
        poll,
        applier_error: applier_error(&channel),
        past: past(agent, &signs),
    };
    match decide(&evidence) {
        Decision::Nothing => agent.automatic.recommend(None),
        Decision::Recommend(sentence) => agent.automatic.recommend(Some(sentence)),
        Decision::FailOver(why) => fail_over(agent, &why).await?,
    }
    Ok(pause)
}

/// The leader of this follower, whose server runs. A leadership that was laid down is an operator's business.
fn followed(agent: &Agent) -> Option<String> {
    let record = agent.leadership.record();
    let is_mine = record.leader.as_ref() == Some(&agent.instance.name());
    let is_up = matches!(agent.mysqld.state(), State::Up(_));
    record.leader.filter(|_| is_up && !is_mine && !record.is_vacant)
}

async fn peer_sign(agent: &Agent) -> PeerSign {
    let Ok(peer) = agent.pair() else { return PeerSign::Silent };
    match timeout(PEER_LIMIT, peer.client.status()).await {
        Ok(Ok(_)) => PeerSign::Alive,
        Ok(Err(error)) if error.is_of_stopped_server() => PeerSign::ServerDown,
        // Its agent is at work on something.
        Ok(Err(client::Error::Problem(_))) => PeerSign::Alive,
        Ok(Err(_)) | Err(_) => PeerSign::Silent,
    }
}

fn plan(pair: &Pair) -> Plan {
    match (pair.failover, pair.mode, pair.max_loss) {
        (Failover::Manual, _, _) => Plan::Manual,
        (Failover::Automatic, Mode::Async, Some(bound)) => Plan::WithLoss(bound),
        (Failover::Automatic, Mode::Async, None) | (Failover::Automatic, Mode::SemiSync, _) => Plan::WithoutLoss,
    }
}

fn applier_error(channel: &crate::mysql::Channel) -> Option<String> {
    let is_stopped_with_the_receiver = channel.receiver == Receiver::Stopped && channel.applier_error.is_empty();
    let is_healthy = channel.is_applier_running || is_stopped_with_the_receiver;
    (!is_healthy).then(|| match channel.applier_error.as_str() {
        "" => "the applier is stopped".into(),
        error => error.into(),
    })
}

fn past(agent: &Agent, signs: &Signs) -> Past {
    Past {
        since_start: clock::now().saturating_sub(agent.automatic.started),
        failovers: agent.automatic.memory.ages(&signs.failovers),
        has_followed: signs.heartbeat_epoch == Some(agent.leadership.record().epoch),
        // A follower that is not connected is looked at by its recovery all the time.
        busy: agent.busy.holder().filter(|activity| *activity != Activity::Recovery),
    }
}

/// Run `make-leader`, as an operator would.
async fn fail_over(agent: &Arc<Agent>, why: &str) -> Result<()> {
    let before = agent.leadership.record();
    let raised = agent.busy.raise_after_recovery(Activity::Command(Command::MakeLeader)).await;
    let Ok(raised) = raised else { return Ok(()) };
    if agent.leadership.record() != before {
        return Ok(());
    }
    tracing::warn!("failing over automatically: {why}");
    agent.automatic.memory.begin().context("remember this failover")?;
    agent.automatic.set_reason(Some(why.into()));
    let (report, mut events) = Report::new();
    command::run(agent.clone(), Command::MakeLeader, raised, report).await;
    agent.automatic.set_reason(None);
    let mut outcome = None;
    while let Some(event) = events.recv().await {
        outcome = Some(event);
    }
    if agent.leadership.own_epoch().is_none() {
        agent.automatic.memory.withdraw()?;
    }
    match outcome {
        Some(Event::Refused(why) | Event::Failed(why)) => {
            tracing::warn!("the automatic failover did not happen: {why}")
        }
        Some(Event::Succeeded | Event::Message(_)) | None => agent.automatic.recommend(None),
    }
    Ok(())
}

/// As [`note_promotion`], of one that the dead leader's agent asked for. It counts as a failover from here on.
pub(crate) fn note_succession(agent: &Agent, why: &str) {
    if let Err(error) = agent.automatic.memory.begin() {
        tracing::warn!("this failover is not remembered: {}", sentence(&error));
    }
    agent.automatic.recommend(None);
    note_promotion(agent, ("automatic", why));
}

/// Have the history say who led in whose place, and why; `asked` is what brought it about where nobody failed over
/// automatically. Not waited for: the applications write already.
pub(crate) fn note_promotion(agent: &Agent, asked: (&'static str, &str)) {
    let (Some(pair), Some(epoch)) = (&agent.instance.pair, agent.leadership.own_epoch()) else { return };
    let reason = agent.automatic.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (kind, why) = match reason {
        Some(why) => ("automatic", why),
        None => (asked.0, asked.1.to_owned()),
    };
    let from = format!("{}/{}", agent.instance.spec.name, pair.peer.id);
    let row = FailoverRow { epoch, from, to: agent.instance.name(), kind, why };
    tracing::warn!(epoch, kind, from = row.from, "this server leads now: {}", row.why);
    let database = agent.database.clone();
    agent.tasks.spawn(async move {
        let written = timeout(ROW_LIMIT, async { database.heart(ROW_LIMIT).await?.record_failover(&row).await });
        if let Err(error) = written.await.context("it was not committed in time").flatten() {
            tracing::warn!("the history does not say why this server leads: {}", sentence(&error));
        }
    });
}
