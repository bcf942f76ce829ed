//! One schedule played on a pair: clients write, something goes wrong, somebody asks for something, it ends, the pair comes
//! to itself, and the judge looks at what the clients saw.

use std::time::{Duration, Instant};

use agent::Client;
use agent::api::Command;
use anyhow::{Context, Result};
use tests::clients::{self, Clients, Way, holdings};
use tests::eventually;
use tests::history::{History, Side};
use tests::judge::{Broken, Ending, Loss, judge, lost, two_leaders};
use tests::wait::until;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::cell::Errand;
use crate::fault;
use crate::look;
use crate::pair::Pair;
use crate::promise::{Happened, demanded, may_lose};
use crate::saved;
use crate::schedule::{Order, Schedule};

/// How a leader says the number of its leadership: its first transaction wrote it.
const TERM: &str = "(SELECT MAX(epoch) FROM replication_monitoring.leadership)";
/// Time for a pair to come to itself after everything is healed. A server whose disk was full looks again each minute.
const SETTLE_LIMIT: Duration = Duration::from_secs(100);
/// Before that, something else may have to be done.
const PATIENCE: Duration = Duration::from_secs(15);
const ERRAND_LIMIT: Duration = Duration::from_secs(90);
const LIMIT: Duration = Duration::from_secs(60);
/// Rows before and after.
const ROWS: usize = 30;

/// What became of a schedule.
pub(crate) struct Report {
    pub(crate) schedule: Schedule,
    /// Every promise that was not kept.
    pub(crate) broken: Vec<String>,
    /// The longest time without an acknowledged write.
    pub(crate) outage: Duration,
    pub(crate) acknowledged: usize,
    pub(crate) lost: usize,
    /// How the errand ended.
    pub(crate) errand: String,
    /// The pair needed an operator afterwards.
    pub(crate) helped: bool,
    /// The pair cannot be played on.
    pub(crate) is_spent: bool,
}

/// How a pair ended up.
enum End {
    /// One leader, and one follower.
    Whole(Side),
    /// One leader, and a read-only server whose history has parted from the leader's and waits for a human.
    Diverged(Side),
    InPieces(anyhow::Error),
}

/// Play a schedule.
///
/// # Errors
/// The world does not do as it is told, which says nothing about the pair.
pub(crate) async fn play(pair: &mut Pair, schedule: Schedule) -> Result<Report> {
    fault::prepare(pair, schedule.cell.fault).await?;
    let leader = pair.until_healthy(LIMIT).await.context("begin with a healthy pair")?;
    saved::remove(pair)?;
    clients::make_table(&pair.servers[leader.index()]).await?;
    let clients =
        Clients::start(Way { family: schedule.cell.group.family, term: TERM }, &pair.servers, pair.stable.as_ref());
    let begun = clients.now();
    until("the leader takes writes", LIMIT, || clients.acknowledged_by(leader, begun) >= ROWS).await?;
    let moment = clients.now();
    let happened = happen(pair, &schedule, leader, || clients.now()).await?;

    let (end, helped) = settle(pair, &schedule).await;
    let mut broken = Vec::new();
    if let End::Whole(leader) | End::Diverged(leader) = end {
        let now = clients.now();
        let writes = until("writes go on", LIMIT, || clients.acknowledged_by(leader, now) >= ROWS).await;
        broken.extend(writes.err().map(|cause| format!("{leader:?} leads and takes no writes: {cause:#}")));
        if pair.stable.is_some() {
            let writes = until("writes go on", LIMIT, || clients.acknowledged_at_the_stable_address(now) >= ROWS).await;
            broken.extend(writes.err().map(|cause| format!("the stable address takes no writes: {cause:#}")));
        }
    }
    if !broken.is_empty() || matches!(end, End::InPieces(_)) {
        // Before the clients go: what they wait for is what is looked for.
        look::print(pair).await;
    }
    let history = clients.finish().await?;
    let is_spent = !matches!(end, End::Whole(_));
    let (lost, verdict) = decide(pair, &schedule, &happened, &history, end).await?;
    broken.extend(verdict);
    let (outage, acknowledged) = (history.longest_gap_since(moment), history.acknowledged().count());
    let errand = happened.errand;
    Ok(Report { schedule, broken, outage, acknowledged, lost, errand, helped, is_spent })
}

/// The fault and the errand, and the end of both.
async fn happen(pair: &mut Pair, schedule: &Schedule, leader: Side, now: impl Fn() -> Duration) -> Result<Happened> {
    let ask = Ask { leader: pair.client(leader), follower: pair.client(leader.other()), errand: schedule.cell.errand };
    let (said, mut lines) = mpsc::unbounded_channel();
    let running: JoinHandle<Ended>;
    match schedule.order {
        Order::FaultFirst(pause) => {
            fault::begin(pair, schedule.cell.fault, leader).await?;
            tokio::time::sleep(pause).await;
            running = tokio::spawn(ask.run(said));
        }
        Order::ErrandFirst(pause) => {
            running = tokio::spawn(ask.run(said));
            tokio::time::sleep(pause).await;
            fault::begin(pair, schedule.cell.fault, leader).await?;
        }
        Order::AtLine(line) => {
            running = tokio::spawn(ask.run(said));
            let nth = async {
                for _ in 0..line {
                    lines.recv().await?;
                }
                Some(())
            };
            let _ = tokio::time::timeout(ERRAND_LIMIT, nth).await;
            fault::begin(pair, schedule.cell.fault, leader).await?;
        }
    }
    tokio::time::sleep(schedule.duration).await;
    let is_within_fault = running.is_finished();
    fault::end(pair).await?;
    let Ended { errand, is_refused } = running.await.context("wait for the errand")?;
    Ok(Happened { errand, is_refused, is_within_fault, over: now() })
}

/// How an errand ended.
struct Ended {
    errand: String,
    /// It changed nothing.
    is_refused: bool,
}

/// An operator with an errand.
struct Ask {
    leader: Client,
    follower: Client,
    errand: Errand,
}

impl Ask {
    /// Run it; each line of progress is passed on.
    async fn run(self, said: mpsc::UnboundedSender<()>) -> Ended {
        let steps = match self.errand {
            Errand::Nothing => Vec::new(),
            Errand::Switchover => vec![(&self.leader, Command::Switchover)],
            Errand::MakeLeader => vec![(&self.follower, Command::MakeLeader)],
            Errand::Failover => vec![(&self.follower, Command::Failover)],
            Errand::ForceMakeLeader => vec![(&self.follower, Command::ForceMakeLeader)],
            Errand::MakeReadOnly => {
                vec![(&self.leader, Command::MakeReadOnly), (&self.follower, Command::MakeLeader)]
            }
            Errand::Configure => vec![(&self.follower, Command::ConfigureLeaderFollower)],
        };
        for (client, command) in steps {
            let running = client.command(command, |_| {
                // Nobody may be listening any more.
                let _ = said.send(());
            });
            match tokio::time::timeout(ERRAND_LIMIT, running).await {
                Ok(Ok(())) => {}
                Ok(Err(cause)) => {
                    let is_refused = matches!(cause, agent::client::Error::Refused(_));
                    return Ended { errand: format!("{}: {cause}", command.name()), is_refused };
                }
                Err(_) => {
                    return Ended { errand: format!("{} did not end", command.name()), is_refused: false };
                }
            }
        }
        Ended { errand: "done".to_owned(), is_refused: false }
    }
}

/// Wait until the pair is as it should be. Only where an operator has demoted a server may it wait for an operator.
async fn settle(pair: &Pair, schedule: &Schedule) -> (End, bool) {
    let is_operators = schedule.cell.errand == Errand::MakeReadOnly;
    let patience = if is_operators { PATIENCE } else { SETTLE_LIMIT };
    let begun = Instant::now();
    let end = eventually("the pair has a leader and a follower", patience, async || {
        let cause = match pair.leader().await {
            Ok(leader) => return Ok(Some(End::Whole(leader))),
            Err(cause) => cause,
        };
        // A server that will follow by itself has had the time to begin.
        let may_be_apart = may_lose(schedule) && begun.elapsed() > PATIENCE / 2;
        match may_be_apart.then_some(pair.diverged()) {
            Some(apart) => apart.await.map(|leader| Some(End::Diverged(leader))).ok_or(cause),
            None => Err(cause),
        }
    });
    let first = match end.await {
        Ok(end) => return (end, false),
        Err(cause) if is_operators => cause,
        Err(cause) => return (End::InPieces(cause), false),
    };
    let helped = match pair.configure().await {
        Ok(()) => pair.until_healthy(SETTLE_LIMIT).await,
        Err(refusal) => Err(first.context(format!("configure-leader-follower: {refusal:#}"))),
    };
    (helped.map_or_else(End::InPieces, End::Whole), true)
}

/// How many acknowledged rows are lost, and every promise that was not kept.
async fn decide(
    pair: &Pair,
    schedule: &Schedule,
    happened: &Happened,
    history: &History,
    end: End,
) -> Result<(usize, Vec<String>)> {
    let (leader, patience) = match end {
        End::Whole(leader) => (leader, LIMIT),
        End::Diverged(leader) => (leader, Duration::ZERO),
        End::InPieces(cause) => {
            let broken = demanded(two_leaders(history), history, schedule, happened);
            let mut broken: Vec<String> = broken.iter().map(ToString::to_string).collect();
            broken.push(format!("the pair does not come to itself: {cause:#}"));
            return Ok((0, broken));
        }
    };
    let holdings = holdings::settled(schedule.cell.group.family, &pair.servers, patience).await?;
    let lost = lost(history, &holdings[leader.index()]).len();
    // What the old leader has saved, or still holds while it waits for a human.
    let mut kept_apart = &holdings[leader.other().index()].rows - &holdings[leader.index()].rows;
    kept_apart.extend(saved::rows(pair)?);
    let loss = if may_lose(schedule) { Loss::Reported(kept_apart) } else { Loss::Forbidden };
    let broken = judge(history, &Ending { leader, holdings, loss });
    let mut broken = demanded(broken, history, schedule, happened);
    if matches!(end, End::Diverged(_)) {
        broken.retain(|broken| !matches!(broken, Broken::Different { .. }));
    }
    Ok((lost, broken.iter().map(ToString::to_string).collect()))
}
