//! PURE. What a command does next, from what both servers say. A command is a loop: observe, [`next_step`], act, again
//! until `Done`; so a second run begins where a first one was cut off, and finds nothing to do where it was not.
//!
//! ```text
//! configure-leader-follower   Await the peer -> Follow(follower) -> Lead(leader) -> Done
//! make-read-only              Demote -> Sync -> Done
//! make-leader                 Campaign -> ReceiveRest -> StopReceiving | ApplyRelayLog -> ApplyReceived -> Promote -> Done
//! degrade-sync, restore-sync  ChangeSync -> Done
//! switchover                  HandOver -> Follow(me) -> Done
//! failover                    Yield -> AwaitReturn -> as make-leader -> AwaitRejoin -> Done
//! ```
//!
//! Who may be writable is decided by the voters (`leadership.rs`), not here. Here is decided that nobody promotes itself, and
//! that no copy of the data is overwritten, while that would lose a transaction which a server that answers still has.

mod observed;
mod plan;
mod promotion;
mod refusal;
#[cfg(test)]
mod tests;

use agent::api::{Activity, Command};

pub(crate) use observed::{Channel, Observed, Peer, Run, Server};
pub(crate) use plan::{describe, plan};
use promotion::make_leader;
pub(crate) use refusal::{Refusal, Refused};
#[cfg(test)]
pub(crate) use tests::{following, server, writable};

/// A follower further behind than this is not ready for a planned hand-over.
pub(crate) const SWITCHOVER_LAG_S: u64 = 10;

/// One of the two servers, seen from the agent that runs the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Me,
    Peer,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing is left to do.
    Done,
    /// Look again soon: the peer does not answer yet.
    Await,
    /// Have this side replicate from the other one.
    Follow(Side),
    /// Make this side writable; the other one follows it already.
    Lead(Side),
    /// Make this server read-only and cut its sessions.
    Demote,
    /// Have the peer receive everything that this server has.
    Sync,
    /// Have the voters choose this server.
    Campaign,
    /// Wait until everything is received that the old leader, which answers and is read-only, has.
    ReceiveRest,
    /// Start to receive from the old leader again, which has come back read-only with more.
    ReceiveAgain,
    /// Stop the receiver, so that what must be applied does not grow.
    StopReceiving,
    /// Start the applier on a relay log that a restart left behind.
    ApplyRelayLog,
    /// Wait until everything received is applied.
    ApplyReceived,
    /// Stop replicating and become writable.
    Promote,
    /// Forget a source that a crash left behind on a writable server.
    ForgetSource,
    /// The planned hand-over: read-only here, writable there.
    HandOver,
    /// Have the peer, which leads, turn read-only and lay its leadership down.
    Yield,
    /// Wait a while for the server of the old leader, which was killed because it hung: what it has committed and not sent
    /// would be left behind.
    AwaitReturn,
    /// Wait a while for the old leader to follow this server, which it does by itself.
    AwaitRejoin,
    /// Let commits wait for the follower no longer, or again.
    ChangeSync,
}

/// How a follower gets to its leader's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Catchup {
    /// From its own position.
    Continue,
    /// From a copy of the leader's data.
    Copy,
    /// As `Copy`, after what only this follower has was saved: it led, and the other one leads since.
    SaveAndCopy,
}

/// May a command begin?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Now,
    /// The peer recovers from a start; it sees this agent's flag and lowers its own.
    Soon,
}

/// Asked after this agent's flag went up, until the peer has answered.
pub(crate) fn admit(command: Command, observed: &Observed) -> Result<Admission, Refusal> {
    match &observed.peer {
        Peer::None => Err(Refusal::SingleNode { command }),
        Peer::Silent { .. } => Ok(Admission::Now),
        Peer::Answers(peer) => match peer.busy {
            None => Ok(Admission::Now),
            Some(Activity::Recovery) => Ok(Admission::Soon),
            Some(activity) => Err(Refusal::PeerBusy { peer: peer.instance.clone(), activity }),
        },
    }
}

/// The step that a command takes on a server of its own that runs and does not answer; others wait for the answer.
pub(crate) fn step_of_hung(command: Command) -> Option<Step> {
    match command {
        Command::MakeReadOnly => Some(Step::Demote),
        Command::ConfigureLeaderFollower
        | Command::MakeLeader
        | Command::ForceMakeLeader
        | Command::Switchover
        | Command::Failover
        | Command::DegradeSync
        | Command::RestoreSync => None,
    }
}

/// The next step of a command.
pub(crate) fn next_step(command: Command, observed: &Observed) -> Result<Step, Refusal> {
    match command {
        Command::ConfigureLeaderFollower => configure(observed),
        Command::MakeReadOnly => make_read_only(observed),
        Command::MakeLeader | Command::ForceMakeLeader => make_leader(observed),
        Command::Switchover => switchover(observed),
        Command::Failover => failover(observed),
        Command::DegradeSync | Command::RestoreSync => change_sync(command, observed),
    }
}

fn configure(observed: &Observed) -> Result<Step, Refusal> {
    let peer = match &observed.peer {
        Peer::None => return Err(Refusal::SingleNode { command: Command::ConfigureLeaderFollower }),
        Peer::Silent { .. } => return Ok(Step::Await),
        Peer::Answers(peer) => peer,
    };
    let leading = find_leader(&observed.me, peer)?;
    let (leader, follower, following) = match leading {
        Side::Me => (&observed.me, peer, Side::Peer),
        Side::Peer => (peer, &observed.me, Side::Me),
    };
    catchup(follower, leader)?;
    if !follower.follows(leader) {
        return Ok(Step::Follow(following));
    }
    // One that is writable and was chosen by nobody has no lease.
    Ok(if leader.is_writable && leader.is_elected() { Step::Done } else { Step::Lead(leading) })
}

/// The product's decision table.
fn find_leader(me: &Server, peer: &Server) -> Result<Side, Refusal> {
    match (me.is_writable, peer.is_writable) {
        (true, true) => Err(Refusal::BothWritable),
        (true, false) => catchup(peer, me).map(|_| Side::Me),
        (false, true) => catchup(me, peer).map(|_| Side::Peer),
        (false, false) => find_candidate(me, peer),
    }
}

fn check_leader(leader: &Server, follower: &Server) -> Result<(), Refusal> {
    if leader.channel.is_some() {
        return Err(Refusal::LeaderReplicates { leader: leader.instance.clone() });
    }
    let of_leader = leader.known().map_err(|cause| Refusal::Unreadable { of: "leader", cause })?;
    let of_follower = follower.known().map_err(|cause| Refusal::Unreadable { of: "follower", cause })?;
    if !of_leader.contains(&of_follower) {
        return Err(Refusal::Diverged { leader: leader.instance.clone(), follower: follower.instance.clone() });
    }
    Ok(())
}

/// Both are read-only. One that replicates is no candidate: what its source has is more than what it has.
fn find_candidate(me: &Server, peer: &Server) -> Result<Side, Refusal> {
    let is_candidate = |one: &Server, other: &Server| {
        let histories = one.executed.as_ref().ok().zip(other.known().ok());
        one.channel.is_none() && histories.is_some_and(|(own, others)| own.contains(&others))
    };
    match (is_candidate(me, peer), is_candidate(peer, me)) {
        (true, true) => Ok(if me.index < peer.index { Side::Me } else { Side::Peer }),
        (true, false) => Ok(Side::Me),
        (false, true) => Ok(Side::Peer),
        (false, false) => Err(no_candidate(me, peer)),
    }
}

fn no_candidate(me: &Server, peer: &Server) -> Refusal {
    let contains = |one: &Server, other: &Server| match (one.known(), other.known()) {
        (Ok(own), Ok(others)) => own.contains(&others),
        (_, _) => false,
    };
    match contains(me, peer) || contains(peer, me) {
        true => Refusal::NoCandidate,
        false => Refusal::BothAhead,
    }
}

/// How `follower` gets to the state of `leader`. Never by overwriting a transaction that the leader lacks and that is saved
/// nowhere; and only where the voters have chosen the other one is it certain which history goes on.
pub(crate) fn catchup(follower: &Server, leader: &Server) -> Result<Catchup, Refusal> {
    match check_leader(leader, follower) {
        Err(Refusal::Diverged { .. }) if follower.was_replaced_by(leader) => return Ok(Catchup::SaveAndCopy),
        checked => checked?,
    }
    let own = follower.executed.clone().unwrap_or_default();
    let is_new = own.is_empty() && leader.executed.as_ref().is_ok_and(|history| !history.is_empty());
    let is_cut_off = follower.channel.as_ref().is_some_and(|channel| channel.stands_before_damage(leader));
    Ok(if is_new || is_cut_off || !own.contains(&leader.purged) { Catchup::Copy } else { Catchup::Continue })
}

fn make_read_only(observed: &Observed) -> Result<Step, Refusal> {
    let me = &observed.me;
    if me.is_writable || (me.channel.is_none() && !observed.run.has_demoted) {
        return Ok(Step::Demote);
    }
    match &observed.peer {
        Peer::None => Err(Refusal::SingleNode { command: Command::MakeReadOnly }),
        Peer::Silent { address, why, .. } => Err(Refusal::PeerSilent { address: *address, why: why.clone() }),
        Peer::Answers(peer) if peer.channel.is_some() && !observed.run.has_synced => Ok(Step::Sync),
        Peer::Answers(_) => Ok(Step::Done),
    }
}

fn switchover(observed: &Observed) -> Result<Step, Refusal> {
    let me = &observed.me;
    let peer = match &observed.peer {
        Peer::None => return Err(Refusal::SingleNode { command: Command::Switchover }),
        Peer::Silent { .. } if !me.is_writable => {
            return Err(Refusal::NotTheLeader { command: Command::Switchover, me: me.instance.clone() });
        }
        Peer::Silent { address, why, .. } => {
            let why = format!("{address} gives no status: {why}");
            return Err(Refusal::FollowerNotReady { follower: address.to_string(), why });
        }
        Peer::Answers(peer) => peer,
    };
    match (me.is_writable, peer.is_writable) {
        (true, true) => Err(Refusal::BothWritable),
        (true, false) if me.channel.is_some() => Err(Refusal::LeaderReplicates { leader: me.instance.clone() }),
        (true, false) => check_successor(me, peer).map(|()| Step::HandOver),
        // This run's hand-over, or one that was cut off behind its commit point.
        (false, true) if observed.run.has_handed_over || me.channel.is_none() => {
            catchup(me, peer)?;
            Ok(if me.follows(peer) { Step::Done } else { Step::Follow(Side::Me) })
        }
        (false, true) => Err(Refusal::NotLeader { leader: peer.instance.clone() }),
        (false, false) => Err(Refusal::NoLeader),
    }
}

/// Whatever has become of the leader: `me` is the leader afterwards, and the other one its follower where it can be.
fn failover(observed: &Observed) -> Result<Step, Refusal> {
    let Observed { me, peer, run, .. } = observed;
    match peer {
        Peer::None => Err(Refusal::SingleNode { command: Command::Failover }),
        Peer::Answers(peer) if me.is_writable && peer.is_writable => Err(Refusal::BothWritable),
        Peer::Answers(leader) if leader.is_writable => check_successor(leader, me).map(|()| Step::Yield),
        Peer::Answers(follower) if me.is_writable && me.channel.is_none() => {
            Ok(if follower.follows(me) || run.has_awaited_rejoin { Step::Done } else { Step::AwaitRejoin })
        }
        // Its agent goes on renewing the lease, so the voters would wait for ever.
        Peer::Silent { has_hung_server: true, .. } if !me.is_writable && !run.has_taken => {
            check_applier(me).map(|()| Step::Yield)
        }
        // In sync nothing that was acknowledged is missing here.
        Peer::Silent { .. } if run.has_taken && !run.has_awaited_return && !me.record.in_sync => Ok(Step::AwaitReturn),
        Peer::Silent { .. } | Peer::Answers(_) => make_leader(observed),
    }
}

/// The leader does not say how far it is; whatever was received must be applicable.
fn check_applier(follower: &Server) -> Result<(), Refusal> {
    match &follower.channel {
        None => {
            let why = "it does not replicate".to_owned();
            Err(Refusal::FollowerNotReady { follower: follower.instance.clone(), why })
        }
        Some(channel) => match channel.broken_applier() {
            Some(error) => Err(Refusal::ApplierStopped { error: error.into() }),
            None => Ok(()),
        },
    }
}

fn check_successor(leader: &Server, follower: &Server) -> Result<(), Refusal> {
    let why = match &follower.channel {
        None => "it does not replicate".to_owned(),
        Some(channel) if !follower.follows(leader) => channel.describe(),
        Some(channel) => match channel.seconds_behind {
            Some(seconds) if seconds <= SWITCHOVER_LAG_S => return Ok(()),
            Some(seconds) => format!("it is {seconds} s behind"),
            None => "it does not know yet how far it is behind".to_owned(),
        },
    };
    Err(Refusal::FollowerNotReady { follower: follower.instance.clone(), why })
}

/// Only a leader's commits wait, or do not.
fn change_sync(command: Command, observed: &Observed) -> Result<Step, Refusal> {
    let Observed { me, peer, run, .. } = observed;
    match peer {
        _ if run.has_changed_sync => Ok(Step::Done),
        Peer::None => Err(Refusal::SingleNode { command }),
        _ if !me.is_writable => Err(Refusal::NotTheLeader { command, me: me.instance.clone() }),
        Peer::Answers(peer) if command == Command::RestoreSync && !peer.follows(me) => {
            Err(Refusal::NobodyToWaitFor { why: format!("{} does not follow", peer.instance) })
        }
        Peer::Silent { address, why, .. } if command == Command::RestoreSync => {
            Err(Refusal::NobodyToWaitFor { why: format!("{address} gives no status: {why}") })
        }
        Peer::Silent { .. } | Peer::Answers(_) => Ok(Step::ChangeSync),
    }
}
