//! Becoming the leader of a new epoch: this agent's own vote, and that of the other server's agent or of the witness.
//!
//! First everybody is only asked what the answer would be, so that a candidature without a chance disturbs no leader.

use std::time::Duration;

use agent::quorum::{Answer, Ballot, Record};
use anyhow::{Result, bail};
use tokio::time::{sleep, timeout};

use super::{FORCED_LEAP, Leadership, Other};
use crate::agent::Agent;
use crate::clock;
use crate::report::Report;
use crate::topology::{Peer, Refusal};

const ANSWER_LIMIT: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const SAY_AGAIN: Duration = Duration::from_secs(2);
/// Rounds in which somebody knew a later epoch than the one before.
const ROUNDS: usize = 8;

/// What the other voters would say; nothing of one that is silent.
struct Canvass<'a> {
    epoch: u64,
    own: Answer,
    peer: Option<(&'a Other, Answer)>,
    witness: Option<(&'a Other, Answer)>,
}

/// What follows from a canvass.
enum Verdict<'a> {
    Ask(&'a Other),
    Wait(Duration),
    Refuse(Refusal),
}

/// Why this server wants to lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// An operator asks for it, or the plan.
    Asked,
    /// It led, gave its leadership away, and wants it back by itself. Not from a server that may have led since.
    Return,
}

/// What the voters would say to a candidature of this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Poll {
    /// They would choose it.
    Free,
    /// The leader's lease runs for so long.
    Leased(Duration),
    /// The leader lives.
    Alive,
    /// Nobody vouches for it that this server has every acknowledged transaction.
    NotInSync,
    /// Nobody can say whether the leader lives, and what would be safe.
    Unknown(String),
}

/// Ask the voters, and change nothing.
pub(crate) async fn poll(agent: &Agent) -> Poll {
    let canvass = canvass(agent).await;
    match decide(agent, Claim::Asked, &canvass) {
        // Who votes for its successor has closed its server, and may have gone on without its follower before.
        Verdict::Ask(other) if !other.is_witness && may_lack_by_witness(agent, &canvass) => Poll::NotInSync,
        Verdict::Ask(_) => Poll::Free,
        Verdict::Wait(wait) => Poll::Leased(wait),
        Verdict::Refuse(Refusal::NotInSync) => Poll::NotInSync,
        Verdict::Refuse(refusal @ (Refusal::WitnessSilent | Refusal::NoWitness)) => Poll::Unknown(refusal.to_string()),
        Verdict::Refuse(_) => Poll::Alive,
    }
}

/// Win the next epoch for this server, which is closed. An epoch that is this server's already is enough.
pub(crate) async fn campaign(agent: &Agent, claim: Claim, report: &Report) -> Result<()> {
    let leadership = &agent.leadership;
    // Longer than any lease that was granted before this began.
    let limit = leadership.lease + leadership.lease / 4 + Duration::from_secs(2);
    let (begun, mut said) = (clock::now(), clock::now());
    for _ in 0..ROUNDS {
        loop {
            if leadership.own_epoch().is_some() {
                return Ok(());
            }
            let canvass = canvass(agent).await;
            match decide(agent, claim, &canvass) {
                Verdict::Refuse(refusal) => return Err(refusal.into()),
                // What the old leader has more is received only while its server answers.
                Verdict::Ask(other)
                    if !other.is_witness
                        && may_lack_by_witness(agent, &canvass)
                        && !does_peer_answer(agent).await? =>
                {
                    return Err(Refusal::NotInSync.into());
                }
                Verdict::Ask(other) => match elect(leadership, other, &canvass).await? {
                    true => {
                        tracing::warn!(epoch = canvass.epoch, "this server was chosen to lead");
                        return Ok(());
                    }
                    false => break,
                },
                // Whoever wants to return looks again anyway.
                Verdict::Wait(_) if clock::now() - begun > limit || claim == Claim::Return => bail!(alive(agent)),
                Verdict::Wait(wait) => {
                    if clock::now() - said > SAY_AGAIN {
                        said = clock::now();
                        report.say(format!(
                            "Waiting until the old leader's lease has run out: {} ms left",
                            wait.as_millis()
                        ));
                    }
                    sleep(wait.min(LONGEST_PAUSE)).await;
                }
            }
        }
    }
    bail!("the other voters know a later epoch each time; run this again")
}

/// Lead without the others: a human vouches for it that the old leader is dead.
pub(crate) async fn force(agent: &Agent) -> Result<u64> {
    let canvass = canvass(agent).await;
    agent.leadership.change(|me, state, now| {
        let epoch = canvass.epoch + FORCED_LEAP;
        me.release_leader(state, now);
        me.vote_for_me(state, epoch, now);
        state.is_forced = true;
        epoch
    })
}

/// What everybody would say to the epoch behind the latest that anybody knows.
async fn canvass(agent: &Agent) -> Canvass<'_> {
    let leadership = &agent.leadership;
    let mut epoch = leadership.record().epoch + 1;
    loop {
        let ballot = Ballot { epoch, leader: leadership.me.clone(), is_canvass: true };
        let mut peer = None;
        let mut witness = None;
        let asked = leadership.others.iter().map(|other| ask(other, &ballot));
        for (other, answer) in leadership.others.iter().zip(futures_util::future::join_all(asked).await) {
            let place = if other.is_witness { &mut witness } else { &mut peer };
            *place = answer.map(|answer| (other, answer));
        }
        // A voter that grants an epoch which it has given to this candidate before knows no later one.
        let others =
            [&peer, &witness].into_iter().flatten().filter(|(_, answer)| !matches!(answer, Answer::Granted(_)));
        let latest = others.map(|(_, answer)| answer.record().epoch).max();
        match latest {
            Some(latest) if latest >= epoch => epoch = latest + 1,
            Some(_) | None => return Canvass { epoch, own: leadership.own_canvass(&ballot), peer, witness },
        }
    }
}

async fn ask(other: &Other, ballot: &Ballot) -> Option<Answer> {
    let asked = timeout(ANSWER_LIMIT, other.client.vote(ballot, ANSWER_LIMIT)).await.ok()?;
    asked.inspect_err(|error| tracing::info!("a voter does not answer: {error}")).ok()
}

async fn does_peer_answer(agent: &Agent) -> Result<bool> {
    Ok(matches!(agent.look_at_peer().await?, Peer::Answers(_)))
}

fn decide<'a>(agent: &Agent, claim: Claim, canvass: &Canvass<'a>) -> Verdict<'a> {
    let wait = |ms: u64| Verdict::Wait(Duration::from_millis(ms));
    match (&canvass.peer, &canvass.witness) {
        (Some((peer, Answer::Granted(_))), _) => Verdict::Ask(peer),
        (Some((_, Answer::Leased { wait_ms, .. })), _) => wait(*wait_ms),
        (Some((_, Answer::Refused(_))), _) => Verdict::Refuse(alive(agent)),
        (None, Some((_, Answer::Leased { wait_ms, .. }))) => wait(*wait_ms),
        (None, Some((witness, Answer::Granted(record)))) => match &canvass.own {
            Answer::Leased { wait_ms, .. } => wait(*wait_ms),
            Answer::Granted(own) if claim == Claim::Return && !led_last(agent, own, record) => {
                Verdict::Refuse(Refusal::GivenAway)
            }
            Answer::Granted(own) if may_lack(agent, own, record) => Verdict::Refuse(Refusal::NotInSync),
            Answer::Granted(_) => Verdict::Ask(witness),
            Answer::Refused(_) => Verdict::Refuse(alive(agent)),
        },
        (None, Some((_, Answer::Refused(_)))) => Verdict::Refuse(alive(agent)),
        (None, None) => match agent.leadership.is_leased {
            true => Verdict::Refuse(Refusal::WitnessSilent),
            false => Verdict::Refuse(Refusal::NoWitness),
        },
    }
}

/// Sync mode promises that no acknowledged transaction is lost, so the follower must be known to have had them all.
fn may_lack(agent: &Agent, own: &Record, witness: &Record) -> bool {
    // The one of the latest epoch knows; of two that do, both must.
    let is_in_sync = match own.epoch.cmp(&witness.epoch) {
        std::cmp::Ordering::Less => witness.in_sync,
        std::cmp::Ordering::Equal => own.in_sync && witness.in_sync,
        std::cmp::Ordering::Greater => own.in_sync,
    };
    agent.instance.promises_sync() && !is_in_sync && !led_last(agent, own, witness)
}

/// Nobody was chosen since this server led.
fn led_last(agent: &Agent, own: &Record, witness: &Record) -> bool {
    own.leader.as_ref() == Some(&agent.instance.name()) && witness.epoch <= own.epoch
}

fn may_lack_by_witness(agent: &Agent, canvass: &Canvass<'_>) -> bool {
    match &canvass.witness {
        Some((_, answer)) => may_lack(agent, &agent.leadership.record(), answer.record()),
        None => agent.instance.promises_sync(),
    }
}

fn alive(agent: &Agent) -> Refusal {
    let leader = agent.leadership.record().leader.unwrap_or_else(|| "the other server".into());
    Refusal::LeaderAccessible { why: format!("{leader} still leads: its agent or the witness says so") }
}

/// False where somebody was faster.
async fn elect(leadership: &Leadership, other: &Other, canvass: &Canvass<'_>) -> Result<bool> {
    let ballot = Ballot { epoch: canvass.epoch, leader: leadership.me.clone(), is_canvass: false };
    let before = leadership.record().epoch;
    match ask(other, &ballot).await {
        Some(Answer::Granted(_)) => leadership.change(|me, state, now| {
            // It was closed when it agreed. What was agreed to since, it has agreed to later.
            if !other.is_witness && state.voter.record().epoch == before {
                me.release_leader(state, now);
            }
            me.vote_for_me(state, canvass.epoch, now)
        }),
        Some(Answer::Leased { .. } | Answer::Refused(_)) | None => Ok(false),
    }
}

impl Leadership {
    fn own_canvass(&self, ballot: &Ballot) -> Answer {
        let state = self.state();
        state.voter.clone().vote(ballot, clock::now())
    }
}
