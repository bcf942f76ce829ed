//! PURE. Is the leader gone, and may its follower take over without being asked?
//!
//! No single observer is believed. A leader is gone when this server hears nothing of it, its agent is silent or says that its
//! server is down, and the voters would choose another: its lease has run out at the witness and here, or its own agent votes.
//! One sign of life is enough to do nothing.

use std::time::Duration;

use agent::api::Activity;

use crate::leadership::Poll;

/// No second failover that nobody asked for within this time,
const REST: Duration = Duration::from_secs(600);
/// and no more than these within [`DAY`]: what keeps failing needs a human.
const MOST: usize = 3;
pub(crate) const DAY: Duration = Duration::from_secs(86_400);
/// After its start an agent looks on for so many leases.
const LEASES_AFTER_START: u32 = 3;

/// What the plan says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// An operator starts a failover.
    Manual,
    /// When the follower is known to have every acknowledged transaction.
    WithoutLoss,
    /// When what it has is no older than this.
    WithLoss(Duration),
}

/// What is known.
#[derive(Clone, Debug)]
pub(crate) struct Evidence {
    pub(crate) plan: Plan,
    pub(crate) lease: Duration,
    /// Whom this server follows.
    pub(crate) leader: String,
    pub(crate) is_receiver_connected: bool,
    /// Since the last heartbeat came, by this VM's clock.
    pub(crate) silence: Duration,
    /// How old what this server has may be, by either clock; none where no heartbeat ever came.
    pub(crate) lag: Option<Duration>,
    pub(crate) peer: PeerSign,
    pub(crate) poll: Poll,
    /// The follower has everything that the leader acknowledged.
    pub(crate) is_in_sync: bool,
    /// Why not everything that was received can be applied.
    pub(crate) applier_error: Option<String>,
    pub(crate) past: Past,
}

/// What the leader's agent says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PeerSign {
    Silent,
    ServerDown,
    Alive,
    /// It has laid the leadership down and asks this server to take over.
    Asks,
}

/// What came before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Past {
    pub(crate) since_start: Duration,
    /// How long ago each failover was that nobody asked for, since a human ran a command.
    pub(crate) failovers: Vec<Duration>,
    /// This server has followed this leadership.
    pub(crate) has_followed: bool,
    pub(crate) busy: Option<Activity>,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Nothing,
    /// For a human.
    Recommend(String),
    /// And why.
    FailOver(String),
}

/// For how long nothing must have come. Less than the lease, which runs out by itself at the voters.
pub(crate) fn patience(lease: Duration) -> Duration {
    lease * 3 / 4
}

pub(crate) fn decide(evidence: &Evidence) -> Decision {
    let Evidence { leader, peer, silence, lease, .. } = evidence;
    let is_fresh = *silence < patience(*lease) && *peer != PeerSign::Asks;
    if evidence.is_receiver_connected || is_fresh || *peer == PeerSign::Alive {
        return Decision::Nothing;
    }
    let silent = format!("the leader {leader} is silent since {} s", silence.as_secs());
    let found = match (&evidence.poll, peer) {
        (Poll::Alive | Poll::Leased(_), _) => return Decision::Nothing,
        (Poll::Unknown(why), _) => {
            return Decision::Recommend(format!("{silent}, and make-leader would refuse: {why}"));
        }
        (_, PeerSign::Asks) => format!("the server of the leader {leader} has died and its agent asks for a successor"),
        (_, PeerSign::ServerDown) => format!("{silent}: its agent says that its server is down"),
        (_, PeerSign::Silent | PeerSign::Alive) => format!("{silent}, and its lease has run out at the witness"),
    };
    match obstacle(evidence) {
        None => Decision::FailOver(found),
        Some(Obstacle::Manual) => Decision::Recommend(format!("{found}: run make-leader on this server")),
        Some(Obstacle::Because(why)) => Decision::Recommend(format!(
            "{found}. Not failed over automatically, because {why}: run make-leader on this server"
        )),
    }
}

enum Obstacle {
    Manual,
    Because(String),
}

fn obstacle(evidence: &Evidence) -> Option<Obstacle> {
    let because = |why: String| Some(Obstacle::Because(why));
    if evidence.plan == Plan::Manual {
        return Some(Obstacle::Manual);
    }
    if let Some(error) = &evidence.applier_error {
        return because(format!("not everything that was received can be applied ({error})"));
    }
    match loss(evidence).or_else(|| restraint(evidence)) {
        Some(why) => because(why),
        None => None,
    }
}

/// Why more may be lost than the plan allows.
fn loss(evidence: &Evidence) -> Option<String> {
    let is_known_complete = evidence.is_in_sync && evidence.poll != Poll::NotInSync;
    match (evidence.plan, evidence.lag) {
        _ if is_known_complete => None,
        (Plan::Manual | Plan::WithoutLoss, _) => {
            Some("the follower is not known to have every acknowledged transaction".into())
        }
        (Plan::WithLoss(_), _) if evidence.poll == Poll::NotInSync => Some("the voters require sync".into()),
        (Plan::WithLoss(_), None) => Some("no heartbeat of a leader ever came here".into()),
        (Plan::WithLoss(bound), Some(lag)) if lag >= bound => {
            let (lag, bound) = (lag.as_secs(), bound.as_secs());
            Some(format!("the last {lag} s of transactions may be missing here and the plan allows {bound} s"))
        }
        (Plan::WithLoss(_), Some(_)) => None,
    }
}

/// Why it would be too soon.
fn restraint(evidence: &Evidence) -> Option<String> {
    let Past { since_start, failovers, has_followed, busy } = &evidence.past;
    if let Some(activity) = busy {
        return Some(format!("the agent is busy with {activity}"));
    }
    if *since_start < evidence.lease * LEASES_AFTER_START {
        return Some(format!("this agent was started {} s ago", since_start.as_secs()));
    }
    if !has_followed {
        return Some("the pair was not whole since the last change of the leader".into());
    }
    if let Some(last) = failovers.iter().min().filter(|last| **last < REST) {
        return Some(format!("the last automatic failover was {} s ago", last.as_secs()));
    }
    let in_a_day = failovers.iter().filter(|ago| **ago < DAY).count();
    (in_a_day >= MOST).then(|| format!("there were {in_a_day} automatic failovers within a day"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    /// A leader that is gone, in a pair that may lose 30 s.
    fn gone() -> Evidence {
        Evidence {
            plan: Plan::WithLoss(Duration::from_secs(30)),
            lease: LEASE,
            leader: "mysql/a".into(),
            is_receiver_connected: false,
            silence: LEASE,
            lag: Some(LEASE),
            peer: PeerSign::Silent,
            poll: Poll::Free,
            is_in_sync: false,
            applier_error: None,
            past: Past { since_start: LEASE * 3, failovers: Vec::new(), has_followed: true, busy: None },
        }
    }

    fn check(change: impl FnOnce(&mut Evidence), expected: &str) {
        let mut evidence = gone();
        change(&mut evidence);
        let decision = format!("{:?}", decide(&evidence));
        assert!(decision.starts_with(expected) || decision.contains(expected), "{expected}: {decision}");
    }

    #[test]
    fn a_leader_of_which_nobody_hears_is_replaced() {
        check(|_| {}, "FailOver(\"the leader mysql/a is silent since 10 s, and its lease has run out at the witness");
        check(|evidence| evidence.peer = PeerSign::ServerDown, "FailOver");
        check(|evidence| (evidence.peer, evidence.silence) = (PeerSign::Asks, Duration::ZERO), "FailOver");
        let in_sync = |evidence: &mut Evidence| (evidence.plan, evidence.is_in_sync) = (Plan::WithoutLoss, true);
        check(in_sync, "FailOver");
        // The three of yesterday, and one that is long enough ago.
        check(|evidence| evidence.past.failovers = vec![DAY, DAY, DAY, REST], "FailOver");
    }

    #[test]
    fn one_sign_of_life_is_enough_to_do_nothing() {
        check(|evidence| evidence.is_receiver_connected = true, "Nothing");
        check(|evidence| evidence.silence = LEASE * 3 / 4 - Duration::from_millis(1), "Nothing");
        check(|evidence| evidence.peer = PeerSign::Alive, "Nothing");
        check(|evidence| evidence.poll = Poll::Alive, "Nothing");
        check(|evidence| evidence.poll = Poll::Leased(Duration::from_millis(1)), "Nothing");
        check(|evidence| (evidence.peer, evidence.is_receiver_connected) = (PeerSign::Asks, true), "Nothing");
    }

    #[test]
    fn what_a_human_must_decide_is_recommended() {
        check(|evidence| evidence.plan = Plan::Manual, "Recommend(\"the leader mysql/a is silent since 10 s");
        check(|evidence| evidence.plan = Plan::Manual, "witness: run make-leader on this server\")");
        check(|evidence| evidence.poll = Poll::Unknown("no witness".into()), "make-leader would refuse: no witness\")");
        let not_in_sync = "not known to have every acknowledged transaction";
        check(|evidence| evidence.plan = Plan::WithoutLoss, not_in_sync);
        check(
            |evidence| (evidence.plan, evidence.is_in_sync, evidence.poll) = (Plan::WithoutLoss, true, Poll::NotInSync),
            not_in_sync,
        );
        check(|evidence| evidence.lag = Some(Duration::from_secs(30)), "the last 30 s of transactions may be missing");
        check(|evidence| evidence.lag = None, "no heartbeat of a leader ever came here");
        check(|evidence| evidence.applier_error = Some("1062".into()), "can be applied (1062)");
        check(|evidence| evidence.past.busy = Some(Activity::PeerCommand), "busy with a command of its peer");
        check(|evidence| evidence.past.since_start = LEASE * 3 - Duration::from_millis(1), "was started 29 s ago");
        check(|evidence| evidence.past.has_followed = false, "was not whole since");
        let just_now = |evidence: &mut Evidence| evidence.past.failovers = vec![REST - Duration::from_secs(1)];
        check(just_now, "the last automatic failover was 599 s ago");
        check(|evidence| evidence.past.failovers = vec![REST; 3], "3 automatic failovers within a day");
    }
}
