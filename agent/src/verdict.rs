//! PURE. Is the service instance well, and if not, what to do next? Judged from what both servers say, the leader's last.
//!
//! | servers | verdict |
//! | --- | --- |
//! | one writable, the other one follows it closely | healthy |
//! | one writable, the other one silent, not replicating, broken or far behind | the leader is not redundant |
//! | one writable, the other one with transactions of its own | diverged; a former leader returns by itself |
//! | both writable | two histories begin |
//! | none writable | no writes |

mod alone;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use agent::api::{Activity, Receiver, Replication, ReplicationMode, Status, Verdict};

use crate::gtid::History;
use crate::instance::Mode;
use crate::topology::SWITCHOVER_LAG_S;
use alone::{judge_busy, judge_half, judge_hung, judge_stopped};

/// Ten missed heartbeats: fewer are lost to an ordinary pause of a busy VM.
const HEARTBEAT_LIMIT_S: f64 = 10.0;

const CONFIGURE: &str = "Run configure-leader-follower";

/// The other server.
#[derive(Clone, Debug)]
pub(crate) enum Peer {
    /// A single node has none.
    None,
    /// Nobody there gives a status, and why.
    Silent {
        address: IpAddr,
        why: String,
    },
    /// Its agent is at work and has no status meanwhile.
    Busy {
        address: IpAddr,
        why: String,
    },
    /// Its agent says that the server does not run.
    Stopped {
        address: IpAddr,
        why: String,
    },
    /// Its agent says that the server runs and does not answer.
    Hangs {
        address: IpAddr,
        why: String,
    },
    Answers(Box<Status>),
}

/// The verdict. `wanted` is the plan's.
pub(crate) fn judge(me: &Status, peer: &Peer, wanted: Mode) -> Verdict {
    let verdict = judge_state(me, peer, wanted);
    let servers = match peer {
        Peer::None | Peer::Silent { .. } | Peer::Busy { .. } | Peer::Stopped { .. } | Peer::Hangs { .. } => vec![me],
        Peer::Answers(peer) => vec![me, peer],
    };
    mention_saved(mention_trouble(verdict, &servers), &servers)
}

/// What stands in the way of what an agent does by itself.
fn mention_trouble(verdict: Verdict, servers: &[&Status]) -> Verdict {
    if verdict.healthy {
        return verdict;
    }
    let troubles = servers.iter().filter_map(|server| {
        let why = server.trouble.as_ref()?;
        Some(format!("; the agent of {} goes on trying: {why}", name(server)))
    });
    let sentence = std::iter::once(verdict.sentence).chain(troubles).collect();
    Verdict { sentence, ..verdict }
}

/// What was saved of a former leader waits for a human, however well the pair is. The agent's own heartbeats do not.
fn mention_saved(verdict: Verdict, servers: &[&Status]) -> Verdict {
    let saved = servers.iter().flat_map(|server| server.saved.iter().map(move |saved| (server, saved)));
    let mentions = saved.filter(|(_, saved)| saved.of_applications > 0).map(|(server, saved)| {
        let count = saved.of_applications;
        let (transactions, were) = if count == 1 { ("transaction", "was") } else { ("transactions", "were") };
        format!("{count} {transactions} of the former leader {} {were} saved to {} there", name(server), saved.file)
    });
    let mentions: Vec<_> = mentions.collect();
    if mentions.is_empty() {
        return verdict;
    }
    let next = "Read the saved file, write again on the leader what is needed of it, then remove it".to_owned();
    Verdict {
        sentence: format!("{}; {}", verdict.sentence, mentions.join("; ")),
        next_action: verdict.next_action.or(Some(next)),
        ..verdict
    }
}

fn judge_state(me: &Status, peer: &Peer, wanted: Mode) -> Verdict {
    match peer {
        Peer::None => judge_single(me),
        Peer::Silent { address, why } => judge_half(me, *address, why),
        Peer::Busy { address, why } => judge_busy(me, *address, why),
        // Whatever else it is that has no status.
        Peer::Stopped { address, why } if receives(me.replication.as_ref()) => judge_half(me, *address, why),
        Peer::Stopped { address, why } => judge_stopped(me, *address, why),
        Peer::Hangs { address, why } => judge_hung(me, *address, why),
        Peer::Answers(peer) => {
            let verdict = judge_pair(me, peer, wanted);
            let busy = [me, peer].into_iter().find_map(at_work);
            match busy {
                Some(wait) if !verdict.healthy => Verdict { next_action: Some(wait), ..verdict },
                Some(_) | None => verdict,
            }
        }
    }
}

/// What a command does is not yet what it comes to.
fn at_work(server: &Status) -> Option<String> {
    match server.busy? {
        activity @ (Activity::Command(_) | Activity::PeerCommand) => {
            Some(format!("Wait: the agent of {} is busy with {activity}; then look again", name(server)))
        }
        // It may last for as long as something is wrong.
        Activity::Recovery => None,
    }
}

fn judge_single(me: &Status) -> Verdict {
    match me.read_only {
        false => healthy(format!("{} is writable; a single node has no other server", name(me))),
        true => unhealthy(
            format!("{} is read-only, so nobody can write", name(me)),
            "Wait a moment, its agent makes it writable after a start; if it does not, its log says why",
        ),
    }
}

fn judge_pair(me: &Status, peer: &Status, wanted: Mode) -> Verdict {
    match (me.read_only, peer.read_only) {
        (false, false) => unhealthy(
            format!("{} and {} are both writable, so two histories begin", name(me), name(peer)),
            "Run make-read-only on the one whose transactions the other one has too, then configure-leader-follower",
        ),
        (true, true) => judge_read_only(me, peer),
        (false, true) => judge_led(me, peer, wanted),
        (true, false) => judge_led(peer, me, wanted),
    }
}

fn judge_read_only(me: &Status, peer: &Status) -> Verdict {
    if !me.has_data && !peer.has_data {
        return unhealthy(format!("{} and {} are new, and none leads yet", name(me), name(peer)), CONFIGURE);
    }
    unhealthy(
        format!("{} and {} are both read-only, so nobody can write", name(me), name(peer)),
        "Run configure-leader-follower, which makes the one with all transactions the leader; in the middle of a failover \
         run make-leader on the one that is to lead",
    )
}

fn judge_led(leader: &Status, follower: &Status, wanted: Mode) -> Verdict {
    if let Some(channel) = &leader.replication {
        return unhealthy(
            format!("{} is writable and set to replicate from {}", name(leader), channel.source),
            "Run make-read-only on it, then make-leader on the one that is to lead",
        );
    }
    if has_diverged(leader, follower) && follower.led > 0 && follower.led < leader.record.epoch {
        return unhealthy(
            format!(
                "{} led before, and has transactions that its successor {} lacks: it saves them to a file, is copied to, and follows",
                name(follower),
                name(leader)
            ),
            by_itself(follower),
        );
    }
    if has_diverged(leader, follower) {
        return unhealthy(
            format!("{} has transactions that the leader {} lacks: they have diverged", name(follower), name(leader)),
            "Run configure-leader-follower, which says what each of them has and how to give one up",
        );
    }
    let roles = format!("{} leads, {} follows", name(leader), name(follower));
    match trouble(leader, follower) {
        Some((why, next)) => {
            let channel = follower.replication.as_ref();
            let next = if receives(channel) { next } else { without_follower(leader, &next) };
            unhealthy(format!("{roles}: {why}, {}", alone(leader, channel)), next)
        }
        None if wanted == Mode::SemiSync && leader.replication_mode == ReplicationMode::Async => unhealthy(
            format!(
                "{roles}: semi-synchronous replication is wanted and off, so a commit does not wait for the follower"
            ),
            match leader.semi_sync.as_ref().is_some_and(|semi_sync| semi_sync.degraded) {
                true => format!("It was switched off by degrade-sync; run restore-sync on {}", leader.instance),
                false => {
                    "Wait a moment, it comes on by itself when the follower has caught up; if it does not, the log of \
                          the leader's agent says why"
                        .to_owned()
                }
            },
        ),
        None => match follower.replication.as_ref().and_then(|channel| channel.seconds_behind) {
            Some(0) => healthy(format!("{roles} and has caught up")),
            Some(seconds) => healthy(format!("{roles}, {seconds} s behind")),
            None => healthy(roles),
        },
    }
}

fn by_itself(server: &Status) -> String {
    match &server.trouble {
        Some(_) => {
            format!("Mend that on {}; its agent tries again by itself. Until then its data are kept", server.instance)
        }
        None => "Wait, its agent does that by itself".to_owned(),
    }
}

/// Executed or received, against executed or about to be. Histories that cannot be read tell nothing.
fn has_diverged(leader: &Status, follower: &Status) -> bool {
    let received = follower.replication.as_ref().map(|channel| channel.gtid_received.as_str()).unwrap_or_default();
    let known = [follower.gtid_executed.as_str(), received].map(str::parse::<History>);
    let own = [leader.gtid_executed.as_str(), leader.gtid_pending.as_str()].map(str::parse::<History>);
    match (own, known) {
        ([Ok(own), Ok(pending)], [Ok(executed), Ok(received)]) => {
            !own.united_with(&pending).contains(&executed.united_with(&received))
        }
        (_, _) => false,
    }
}

/// Why the follower could not take over, and what to do.
fn trouble(leader: &Status, follower: &Status) -> Option<(String, String)> {
    let Some(channel) = &follower.replication else {
        return Some(("it does not replicate".into(), CONFIGURE.into()));
    };
    if channel.source != leader.ip_address {
        return Some((format!("it replicates from {}", channel.source), CONFIGURE.into()));
    }
    if !channel.applier_running {
        let next = "Mend the cause and start replication on it, or run configure-leader-follower";
        return Some((format!("its applier is stopped{}", said(&channel.applier_error)), next.into()));
    }
    match channel.receiver {
        Receiver::Stopped => return Some((receiver_trouble(channel), CONFIGURE.into())),
        Receiver::Connecting => {
            let next = "See whether its VM can reach port 3306 of the leader's";
            return Some((receiver_trouble(channel), next.into()));
        }
        Receiver::Connected => {}
    }
    let catch_up = "Let it catch up: a failover now takes as long, or gives that much up";
    let heartbeat_age_s = channel.seconds_since_leader_heartbeat.unwrap_or_default();
    match channel.seconds_behind {
        Some(seconds) if seconds > SWITCHOVER_LAG_S => Some((format!("it is {seconds} s behind"), catch_up.into())),
        Some(_) | None if heartbeat_age_s > HEARTBEAT_LIMIT_S => {
            let next = "See the log of the leader's agent for why it does not write its heartbeat";
            Some((format!("the last heartbeat that came is {heartbeat_age_s:.0} s old"), next.into()))
        }
        Some(_) | None => None,
    }
}

fn receiver_trouble(channel: &Replication) -> String {
    let state = match channel.receiver {
        Receiver::Connected => "is connected",
        Receiver::Connecting => "cannot connect",
        Receiver::Stopped => "is stopped",
    };
    format!("its receiver {state}{}", said(&channel.receiver_error))
}

/// A follower that receives acknowledges commits, whatever else is the matter with it.
fn alone(leader: &Status, channel: Option<&Replication>) -> &'static str {
    match leader.replication_mode {
        ReplicationMode::Semisync if !receives(channel) => {
            "so the leader is not redundant and its commits wait for the follower"
        }
        ReplicationMode::Semisync | ReplicationMode::Async => "so the leader is not redundant",
    }
}

fn receives(channel: Option<&Replication>) -> bool {
    channel.is_some_and(|channel| channel.receiver == Receiver::Connected)
}

/// What is next where nobody receives what the leader writes: commits that wait for it are a choice.
fn without_follower(leader: &Status, next: &str) -> String {
    match leader.replication_mode {
        ReplicationMode::Async => next.to_owned(),
        ReplicationMode::Semisync => {
            format!("{next}. If commits must go on before that, run degrade-sync on {}", leader.instance)
        }
    }
}

fn said(error: &str) -> String {
    if error.is_empty() { String::new() } else { format!(" ({error})") }
}

fn name(server: &Status) -> String {
    format!("{} at {}", server.instance, server.ip_address)
}

fn healthy(sentence: String) -> Verdict {
    Verdict { healthy: true, sentence, next_action: None }
}

fn unhealthy(sentence: String, next_action: impl Into<String>) -> Verdict {
    Verdict { healthy: false, sentence, next_action: Some(next_action.into()) }
}
