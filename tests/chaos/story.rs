//! One schedule played on a pair: clients write, something goes wrong, somebody asks for something, it ends, the pair comes
//! to itself, and the judge looks at what the clients saw.

use std::collections::BTreeSet;
use std::time::Duration;

use agent::Client;
use agent::api::Command;
use anyhow::{Context, Result};
use tests::clients::{self, Clients, Way, holdings};
use tests::history::{History, Side};
use tests::judge::{Ending, Loss, judge, lost};
use tests::wait::until;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::cell::{Errand, Fault, Mode};
use crate::fault;
use crate::pair::Pair;
use crate::schedule::{Order, Schedule};

/// How a leader says the number of its leadership. The agents of this release have none.
const TERM: &str = "NULL";
/// Time for a pair to come to itself after everything is healed. A server whose disk was full looks again each minute.
const SETTLE_LIMIT: Duration = Duration::from_secs(100);
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
}

/// Play a schedule.
///
/// # Errors
/// The world does not do as it is told, which says nothing about the pair.
pub(crate) async fn play(pair: &mut Pair, schedule: Schedule) -> Result<Report> {
    let leader = pair.until_healthy(LIMIT).await.context("begin with a healthy pair")?;
    clients::make_table(&pair.servers[leader.index()]).await?;
    let clients = Clients::start(Way { family: schedule.cell.family, term: TERM }, &pair.servers);
    let begun = clients.now();
    until("the leader takes writes", LIMIT, || clients.acknowledged_by(leader, begun) >= ROWS).await?;
    let moment = clients.now();
    let errand = happen(pair, &schedule, leader).await?;

    let mut broken = Vec::new();
    let (settled, helped) = settle(pair, schedule.cell.errand).await;
    match settled {
        Ok(leader) => {
            let now = clients.now();
            let writes = until("writes go on", LIMIT, || clients.acknowledged_by(leader, now) >= ROWS).await;
            broken.extend(writes.err().map(|cause| format!("{leader:?} leads and takes no writes: {cause:#}")));
            let history = clients.finish().await?;
            let (lost, verdict) = decide(pair, &schedule, &history, leader).await?;
            broken.extend(verdict);
            Ok(report(schedule, broken, &history, (moment, lost), errand, helped))
        }
        Err(cause) => {
            broken.push(format!("the pair does not come to itself: {cause:#}"));
            Ok(report(schedule, broken, &clients.finish().await?, (moment, 0), errand, helped))
        }
    }
}

fn report(
    schedule: Schedule,
    broken: Vec<String>,
    history: &History,
    (moment, lost): (Duration, usize),
    errand: String,
    helped: bool,
) -> Report {
    let (outage, acknowledged) = (history.longest_gap_since(moment), history.acknowledged().count());
    Report { schedule, broken, outage, acknowledged, lost, errand, helped }
}

/// The fault and the errand, and the end of both.
async fn happen(pair: &mut Pair, schedule: &Schedule, leader: Side) -> Result<String> {
    let ask = Ask { leader: pair.client(leader), follower: pair.client(leader.other()), errand: schedule.cell.errand };
    let (said, mut lines) = mpsc::unbounded_channel();
    let running: JoinHandle<String>;
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
    fault::end(pair)?;
    running.await.context("wait for the errand")
}

/// An operator with an errand.
struct Ask {
    leader: Client,
    follower: Client,
    errand: Errand,
}

impl Ask {
    /// Run it; each line of progress is passed on. The answer is its end in words.
    async fn run(self, said: mpsc::UnboundedSender<()>) -> String {
        let steps = match self.errand {
            Errand::Nothing => Vec::new(),
            Errand::Switchover => vec![(&self.leader, Command::Switchover)],
            Errand::MakeLeader => vec![(&self.follower, Command::MakeLeader)],
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
                Ok(Err(cause)) => return format!("{}: {cause}", command.name()),
                Err(_) => return format!("{} did not end", command.name()),
            }
        }
        "done".to_owned()
    }
}

/// Wait until the pair is as it should be. Only where an operator has demoted a server may it wait for an operator.
async fn settle(pair: &Pair, errand: Errand) -> (Result<Side>, bool) {
    let patience = if errand == Errand::MakeReadOnly { LIMIT / 6 } else { SETTLE_LIMIT };
    match pair.until_healthy(patience).await {
        Ok(leader) => (Ok(leader), false),
        Err(cause) if errand == Errand::MakeReadOnly => {
            let helped = match pair.configure().await {
                Ok(()) => pair.until_healthy(SETTLE_LIMIT).await,
                Err(refusal) => Err(cause.context(format!("configure-leader-follower: {refusal:#}"))),
            };
            (helped, true)
        }
        Err(cause) => (Err(cause), false),
    }
}

/// How many acknowledged rows are lost, and every promise that was not kept.
async fn decide(pair: &Pair, schedule: &Schedule, history: &History, leader: Side) -> Result<(usize, Vec<String>)> {
    let holdings = holdings::settled(schedule.cell.family, &pair.servers, LIMIT).await?;
    let lost = lost(history, &holdings[leader.index()]).len();
    let ending = Ending { leader, holdings, loss: allowed_loss(schedule) };
    Ok((lost, judge(history, &ending).iter().map(ToString::to_string).collect()))
}

/// Only a promotion without the old leader may lose anything, and only in async mode, and it must say what.
fn allowed_loss(schedule: &Schedule) -> Loss {
    let is_unplanned = matches!(schedule.cell.errand, Errand::MakeLeader | Errand::MakeReadOnly);
    match schedule.cell.mode {
        Mode::Async if is_unplanned && schedule.cell.fault != Fault::Nothing => Loss::Reported(BTreeSet::new()),
        Mode::Async | Mode::SemiSync => Loss::Forbidden,
    }
}
