//! PURE. What the pair promises in a schedule, and so what the judge demands.
//!
//! `force-make-leader` is the one command with which an operator takes the place of the voters: it says that the old leader
//! is dead. Where that is true everything is promised as ever. Where it is not, both servers may be writable until they hear
//! of each other, and the judge demands the rest: that this ends within a lease after the network is whole again; that each
//! row which only the old leader acknowledged is reported; and, in sync mode, that there is no such row and that the old
//! leader acknowledges nothing, since its follower receives nothing from it any more.

use std::time::Duration;

use ::tests::history::History;
use ::tests::judge::{Broken, two_leaders};

use crate::cell::{Errand, Fault, Mode, Of, Part};
use crate::pair::LEASE;
use crate::schedule::{Order, Schedule};

/// What became of a fault and an errand.
#[derive(Clone, Debug)]
pub(crate) struct Happened {
    /// The errand's end in words.
    pub(crate) errand: String,
    /// The errand changed nothing.
    pub(crate) is_refused: bool,
    /// The errand ended before the fault.
    pub(crate) is_within_fault: bool,
    /// When both were over.
    pub(crate) over: Duration,
}

/// Only a promotion without the old leader may lose anything, and only in async mode; what is lost is on the old leader.
pub(crate) fn may_lose(schedule: &Schedule) -> bool {
    let is_unplanned = schedule.cell.errand.is_for_a_lost_leader() || schedule.cell.errand == Errand::MakeReadOnly;
    schedule.cell.group.mode == Mode::Async && is_unplanned && schedule.cell.fault != Fault::Nothing
}

/// Without what an operator answers for who has forced a leader beside one that may live.
pub(crate) fn demanded(
    broken: Vec<Broken>,
    history: &History,
    schedule: &Schedule,
    happened: &Happened,
) -> Vec<Broken> {
    if !is_overridden(schedule, happened) {
        return broken;
    }
    let is_excused = |broken: &Broken| match broken {
        Broken::BothWritable { .. } => true,
        Broken::StaleAcknowledgement { .. } => schedule.cell.group.mode == Mode::Async,
        _ => false,
    };
    let (excused, mut demanded): (Vec<Broken>, Vec<Broken>) = broken.into_iter().partition(is_excused);
    if !excused.is_empty() {
        let calm = two_leaders(&history.since(happened.over + LEASE));
        demanded.extend(calm.into_iter().filter(is_excused));
    }
    demanded
}

/// The operator forced, and what it said of the old leader was not true all the time.
fn is_overridden(schedule: &Schedule, happened: &Happened) -> bool {
    let was_dead = schedule.cell.fault == Fault::Kill(Part::Whole, Of::Leader)
        && matches!(schedule.order, Order::FaultFirst(_))
        && happened.is_within_fault;
    schedule.cell.errand == Errand::ForceMakeLeader && !happened.is_refused && !was_dead
}

#[cfg(test)]
mod tests {
    use ::tests::history::{Sample, Side};

    use super::*;
    use crate::schedule::schedule;

    const OVER: Duration = Duration::from_secs(5);

    fn happened(is_within_fault: bool, is_refused: bool) -> Happened {
        Happened { errand: "done".to_owned(), is_refused, is_within_fault, over: OVER }
    }

    /// Both servers writable for a moment.
    fn both_writable_at(moment: Duration) -> History {
        let look = |server, at: u64| Sample {
            server,
            began: moment + Duration::from_millis(at),
            ended: moment + Duration::from_millis(at + 1),
            writable: true,
        };
        History { samples: vec![look(Side::A, 0), look(Side::B, 2), look(Side::A, 4)], ..History::default() }
    }

    fn excused(cell: &str, happened: &Happened, moment: Duration) -> bool {
        let history = both_writable_at(moment);
        let broken = two_leaders(&history);
        assert_eq!(broken.len(), 1);
        let first = schedule(cell.parse().unwrap(), 0, LEASE);
        let schedule = Schedule { order: Order::FaultFirst(Duration::ZERO), ..first };
        demanded(broken, &history, &schedule, happened).is_empty()
    }

    #[test]
    fn only_a_forced_leader_beside_one_that_may_live_is_excused_and_not_for_long() {
        let (meanwhile, later) = (Duration::from_secs(4), OVER + LEASE + LEASE);
        let forced = "network/mariadb/async/cut-leader-off/force-make-leader";

        assert!(excused(forced, &happened(true, false), meanwhile));
        assert!(!excused(forced, &happened(true, false), later));
        assert!(!excused(forced, &happened(true, true), meanwhile));
        assert!(!excused("network/mariadb/async/cut-leader-off/failover", &happened(true, false), meanwhile));
    }

    #[test]
    fn an_operator_who_was_right_excuses_nothing() {
        let forced = "network/mariadb/semi-sync/kill-vm@leader/force-make-leader";

        assert!(!excused(forced, &happened(true, false), Duration::from_secs(4)));
        assert!(excused(forced, &happened(false, false), Duration::from_secs(4)));
    }
}
