//! Why a command does not begin or go on. The sentences before the first "Reason:" are the product's, word for word, since
//! runbooks and scripts look for them; behind them stands what is the matter here and what to do next, and behind that what each server said of itself.

use std::net::IpAddr;
use std::time::Duration;

use agent::api::{Activity, Command};

use super::{Peer, Server};
use crate::gtid::ParseError;

/// The way out of a divergence, which loses transactions and so is never taken without a human.
const GIVE_ONE_UP: &str = "Decide which one to give up and save what is needed of it; then stop its VM, orphan its disk, \
                           recreate it, and run configure-leader-follower, which copies the other one's data to it";

/// A refusal beside what both servers said when it was decided: their state and their histories.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{refusal}. State: {state}")]
pub(crate) struct Refused {
    refusal: Refusal,
    state: String,
}

impl Refusal {
    pub(crate) fn beside(self, me: &Server, peer: &Peer) -> Refused {
        let state = match peer {
            Peer::None => me.describe(),
            Peer::Silent { address, why, .. } => format!("{}; {address} gives no status ({why})", me.describe()),
            Peer::Answers(peer) => format!("{}; {}", me.describe(), peer.describe()),
        };
        Refused { refusal: self, state }
    }
}

/// A rule forbids the command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{} is for a pair. Reason: this instance is a single node and has no other server", .command.name())]
    SingleNode { command: Command },

    #[error("Reason: the agent of {peer} is busy with {activity}. Wait until that is done, then run this again")]
    PeerBusy { peer: String, activity: Activity },

    #[error(
        "failed to fetch status of peer ({address}). Reason: {why}. This server is read-only; whether the peer has all of \
         its transactions is not known. Run make-read-only again when the peer answers; or, where it is lost, make-leader on the \
         server that is to lead"
    )]
    PeerSilent { address: IpAddr, why: String },

    #[error(
        "Failed to get server status for {address}: {why}. Both servers must answer: start the other VM, or run make-leader on \
         the one that is left"
    )]
    PeerMissing { address: IpAddr, why: String },

    #[error(
        "Both mysql instances are writable. Please ensure no divergent data and set one instance to read-only mode. \
         Reason: two histories may have begun. Run make-read-only on the one whose transactions the other one has too"
    )]
    BothWritable,

    #[error(
        "Both instances are in an unexpected state. Replication is configured on the leader. Reason: {leader} \
         is writable and set to replicate. Run make-read-only on it, then make-leader on the one that is to lead"
    )]
    LeaderReplicates { leader: String },

    #[error(
        "Unable to determine leader and follower. Leader and follower data have diverged. Reason: {follower} has \
         transactions that {leader} lacks. {GIVE_ONE_UP}"
    )]
    Diverged { leader: String, follower: String },

    #[error(
        "Unable to determine leader and follower. Error fetching GTIDs from {of}: {cause}. Nothing was changed. \
             Report this: a server says what this version of the agent cannot read"
    )]
    Unreadable { of: &'static str, cause: ParseError },

    #[error(
        "Unable to determine leader and follower based on transaction history. Reason: none is writable, and each has \
         transactions that the other one lacks. {GIVE_ONE_UP}"
    )]
    BothAhead,

    #[error(
        "Unable to determine leader and follower based on transaction history. Reason: none is writable, and the one \
         with all transactions is set to replicate. Run make-leader on it, then configure-leader-follower on the other one"
    )]
    NoCandidate,

    #[error(
        "Leader VM is still accessible from the follower. Refusing to promote to avoid data divergence. Reason: {why}. \
         Run make-read-only on the leader and stop its VM first; or run switchover on the leader, which needs neither"
    )]
    LeaderAccessible { why: String },

    #[error(
        "Replication settings exist on this instance and Slave SQL Thread is turned off. Fix replication settings and try \
         again. Reason: {}. What was received is not applied yet, so a promotion now would lose it: mend the cause, \
         run START REPLICA SQL_THREAD, then make-leader again",
        if error.is_empty() { "the applier was stopped by hand" } else { error.as_str() }
    )]
    ApplierStopped { error: String },

    #[error(
        "Timed out after {} seconds. The follower is still applying MySQL transactions. Please re-run the make-leader errand",
        .limit.as_secs()
    )]
    StillApplying { limit: Duration },

    #[error(
        "Timeout waiting for healthy replication state. Reason: the follower does not reach the leader, and goes on trying. See \
         whether its VM can reach port 3306 of the leader's, then run configure-leader-follower again"
    )]
    NotConnected,

    #[error(
        "Bad replication state. Reason: replication stopped by itself. Mend the cause, then run configure-leader-follower again; \
         where it cannot be mended, stop the follower's VM, orphan its disk, recreate it, and run it then"
    )]
    BrokenReplication,

    #[error(
        "Replication appears to be unconfigured. Reason: somebody reset it meanwhile. Run configure-leader-follower again"
    )]
    Unconfigured,

    #[error(
        "Refusing to promote to avoid data loss. Reason: {peer} answers and has transactions that {me} lacks. \
         Run configure-leader-follower, which makes the one with all transactions the leader; where each has some of its \
         own it says how to give one up"
    )]
    WouldLose { me: String, peer: String },

    #[error(
        "Refusing to promote to avoid data loss. Reason: this server has no data and never followed a leader, and its peer \
         at {peer} does not answer. Bring the peer back and run configure-leader-follower"
    )]
    Empty { peer: IpAddr },

    #[error(
        "Refusing to promote to avoid data divergence. Reason: the other server does not answer, and this pair has no witness \
         that could say whether it is writable. Safe is: bring the other VM back and run make-leader again; or make certain \
         that it is dead (stop its VM, and delete it), then run force-make-leader"
    )]
    NoWitness,

    #[error(
        "Refusing to promote to avoid data divergence. Reason: neither the other server nor the witness (the broker) answers, \
         so nobody can say whether the other server is writable. Safe is: bring one of them back and run make-leader again; or \
         make certain that the other VM is dead (stop its VM, and delete it), then run force-make-leader"
    )]
    WitnessSilent,

    #[error(
        "Refusing to promote to avoid data loss. Reason: the plan promises synchronous replication, and this follower did not \
         have every acknowledged transaction when the leader was last heard of. Bring the old leader back; or run \
         force-make-leader, which loses what only the old leader has"
    )]
    NotInSync,

    #[error(
        "Not leading again. Reason: the leadership was given to the other server, which may have led since and does not answer. \
         Bring the other VM back; or, if it is lost, run make-leader on this one, which loses what only the other one has"
    )]
    GivenAway,

    #[error(
        "Reason: the plan has commits wait for nobody (replication_mode is async), so there is nothing to change. Give the service \
         instance the parameter replication_mode semi-sync first"
    )]
    NotSync,

    #[error("Reason: {me} is not writable, so it is not the leader. Run {} on the leader", .command.name())]
    NotTheLeader { command: Command, me: String },

    #[error(
        "Refusing to have commits wait for a follower that does not receive, since they would wait until it does. Reason: \
         {why}. Start its VM or run configure-leader-follower; then run restore-sync again"
    )]
    NobodyToWaitFor { why: String },

    #[error(
        "Refusing to acknowledge commits that only this server has. Reason: {trusting} does not answer, and still trusts that \
         the follower has them all, so a promotion of the follower could lose them. Commits go on waiting. Safe is: bring the \
         follower back, for which they wait; or bring the broker back and run degrade-sync again"
    )]
    StillTrusted { trusting: String },

    #[error("Reason: this server is not the leader; {leader} is. Run switchover there")]
    NotLeader { leader: String },

    #[error("Reason: there is no writable leader. Run configure-leader-follower first")]
    NoLeader,

    #[error(
        "Reason: the follower {follower} is not ready to take over: {why}. Wait until it has caught up, or run \
         configure-leader-follower"
    )]
    FollowerNotReady { follower: String, why: String },
}
