//! PURE. The verdict where only one server gives a status.

use std::net::IpAddr;

use agent::api::{Receiver, ReplicationMode, Status, Verdict};

use super::{name, receiver_trouble, unhealthy, without_follower};

const WAIT: &str =
    "Wait: the agent of the other server is at work; then look again. If it does not end, that agent's log says why";
const RETURN: &str = "Start its VM, or recreate it if it is lost; then run configure-leader-follower";

/// Its agent starts it again and again. Its disk may hold what nobody else has, however little of it can be read.
pub(super) fn judge_stopped(me: &Status, address: IpAddr, why: &str) -> Verdict {
    let stopped = format!("the server at {address} does not run ({why})");
    let new_disk = "give its VM a new disk and keep the old one";
    match me.read_only {
        false => unhealthy(
            format!("{} leads; {stopped}, so the leader is not redundant", name(me)),
            without_follower(
                me,
                &format!("Its agent starts it again. If it cannot, see the server's log, and {new_disk}"),
            ),
        ),
        true => unhealthy(
            format!("{} is read-only; {stopped}, so nobody is known to take writes", name(me)),
            format!(
                "Its agent starts it again. If it cannot, see the server's log, run failover on {}, and {new_disk}",
                me.instance
            ),
        ),
    }
}

pub(super) fn judge_hung(me: &Status, address: IpAddr, why: &str) -> Verdict {
    let hangs = format!("the server at {address} hangs ({why})");
    match me.read_only {
        false => unhealthy(
            format!("{} leads; {hangs}, so the leader is not redundant", name(me)),
            without_follower(me, "Kill that server, and its agent starts it again"),
        ),
        true => unhealthy(
            format!("{} is read-only; {hangs}, so nobody can write", name(me)),
            format!("Run failover on {}, which takes the leadership from a server that hangs", me.instance),
        ),
    }
}

/// A failover beside it would replace a server that is about to be back.
pub(super) fn judge_busy(me: &Status, address: IpAddr, why: &str) -> Verdict {
    Verdict { next_action: Some(WAIT.into()), ..judge_half(me, address, why) }
}

pub(super) fn judge_half(me: &Status, address: IpAddr, why: &str) -> Verdict {
    let silence = format!("the other server at {address} gives no status ({why})");
    let receives = me.replication.as_ref().is_some_and(|channel| channel.receiver == Receiver::Connected);
    let alone = match me.replication_mode {
        ReplicationMode::Async => "so the leader is not redundant",
        ReplicationMode::Semisync => {
            "so the leader is not redundant, and its commits wait unless that server still receives"
        }
    };
    match (me.read_only, &me.replication) {
        (false, _) => unhealthy(format!("{} leads; {silence}, {alone}", name(me)), without_follower(me, RETURN)),
        (true, Some(_)) if receives => unhealthy(
            format!("{} follows; {silence}, and its server still sends", name(me)),
            "See the log of the agent on that VM and start it again; no failover is needed for that",
        ),
        (true, Some(channel)) => unhealthy(
            format!("{} follows; {silence}, and {}", name(me), receiver_trouble(channel)),
            format!(
                "Start that VM. If it is lost, make sure that it is stopped and run make-leader on {}",
                me.instance
            ),
        ),
        (true, None) => unhealthy(
            format!("{} is read-only and does not replicate; {silence}, so nobody is known to take writes", name(me)),
            RETURN,
        ),
    }
}
