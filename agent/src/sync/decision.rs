//! PURE. What is done next about the wait for the follower, from what this server and its follower say.
//!
//! ```text
//! closed, or a follower     the wait is off: it would hold up the applier
//! leads alone               the wait is off, nothing is promised, and the status says so
//! the follower is back      wait for it -> it has received what was there by then -> promise
//! promised                  the wait is on, whatever becomes of the follower, until a command ends it;
//!                           commits that wait for a receipt which is lost are cut
//! degraded by a command     the wait is off until another command, or the next leadership
//! ```

use std::time::Duration;

use crate::gtid::History;
use crate::instance::Sync;
use crate::mysql::SemiSync;

/// What is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight {
    pub(crate) plan: Sync,
    pub(crate) part: Part,
    pub(crate) server: Wait,
    pub(crate) follower: Follower,
    /// For how long no commit got a receipt for a reason that only this server can end.
    pub(crate) standstill: Duration,
}

/// What this server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Read-only, or about to change.
    Closed,
    /// Read-only with a leader to replicate from.
    Follower,
    Leader(Standing),
}

/// What a leader has said about its commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing is promised.
    Open,
    /// The promise stands and the others know of it.
    Promised,
    /// The promise stands, and the others are told that it does not.
    Withheld,
    /// A command has taken the promise back.
    Degraded,
}

/// The server's own wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) is_enabled: bool,
    /// Also not given up.
    pub(crate) is_on: bool,
    pub(crate) timeout_ms: u64,
    /// Followers that send receipts.
    pub(crate) clients: u64,
}

impl From<&SemiSync> for Wait {
    fn from(said: &SemiSync) -> Wait {
        Wait {
            is_enabled: said.is_source_enabled,
            is_on: said.is_source_on,
            timeout_ms: said.timeout_ms,
            clients: said.clients,
        }
    }
}

/// The other server, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follower {
    /// Nobody receives what is written here, or nobody was asked.
    Away,
    /// It receives, and may come closer still.
    Behind,
    /// It lacks only what was written since the look before this one, and comes no closer.
    Close,
    /// It has received what was here when this look began.
    HasAll,
}

/// A receipt that was lost with its connection is not sent again. A later commit's covers it, but there is none where nobody
/// begins one, and none can begin on MariaDB while two groups of commits wait; and a MariaDB that holds on to a connection which
/// has ended lets the follower have no other. Ten seconds are more than a follower with a slow
/// disk takes to send a receipt.
const RECEIPT_LIMIT: Duration = Duration::from_secs(10);

/// A follower that receives and has not had everything at so many looks comes no closer under this load.
const PATIENT_LOOKS: u32 = 20;

/// How close a follower is that receives and knows `known`, after `looks` at which it did so.
pub(crate) fn how_close(known: &History, here: &History, before: Option<&History>, looks: u32) -> Follower {
    // Commits stand still until it has the rest, so it is worth a while to have that small.
    let is_close = || looks >= PATIENT_LOOKS && before.is_some_and(|before| known.contains(before));
    match known.contains(here) {
        true => Follower::HasAll,
        false if is_close() => Follower::Close,
        false => Follower::Behind,
    }
}

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// All is as it should be.
    Rest,
    /// Look again soon.
    Wait,
    /// Have commits wait.
    Enable,
    /// Let commits wait no longer.
    Disable,
    /// Tell the others that the follower has everything.
    Promise,
    /// Tell the others that it may not: the server has acknowledged alone.
    Withhold,
    /// End the commits that wait for a receipt which is lost, by closing the server and opening it again.
    Reopen,
}

/// The next step.
pub(crate) fn next_step(sight: &Sight) -> Next {
    let Sight { plan, part, server, standstill, .. } = sight;
    let is_off = if server.is_enabled { Next::Disable } else { Next::Rest };
    let waits = server.is_on && server.timeout_ms == plan.ack_timeout_ms;
    match part {
        // A closed server's commits may wait still; who closes it decides about them.
        Part::Closed => Next::Rest,
        Part::Follower | Part::Leader(Standing::Degraded) => is_off,
        Part::Leader(Standing::Promised) if waits && *standstill >= RECEIPT_LIMIT => Next::Reopen,
        Part::Leader(Standing::Promised) if waits => Next::Rest,
        Part::Leader(Standing::Promised) => Next::Withhold,
        Part::Leader(Standing::Withheld) if !waits => Next::Enable,
        Part::Leader(Standing::Withheld | Standing::Open) => strengthen(sight),
    }
}

fn strengthen(sight: &Sight) -> Next {
    let Sight { plan, part, server, follower, .. } = sight;
    if !server.is_enabled || server.timeout_ms != plan.ack_timeout_ms {
        return match follower {
            Follower::Close | Follower::HasAll => Next::Enable,
            Follower::Away | Follower::Behind => Next::Wait,
        };
    }
    if !plan.is_promise() {
        // The server itself goes on without a follower and waits again with one.
        return Next::Rest;
    }
    match follower {
        Follower::HasAll if server.is_on && server.clients > 0 => Next::Promise,
        // It went before it was known to have everything. Nothing was promised, so nobody need wait for it.
        Follower::Away if *part == Part::Leader(Standing::Open) => Next::Disable,
        Follower::HasAll | Follower::Close | Follower::Behind | Follower::Away => Next::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDLESS: Sync = Sync { ack_timeout_ms: 9_223_372_036_854_775_807 };
    const FINITE: Sync = Sync { ack_timeout_ms: 500 };

    fn off() -> Wait {
        Wait { is_enabled: false, is_on: false, timeout_ms: ENDLESS.ack_timeout_ms, clients: 1 }
    }

    fn on() -> Wait {
        Wait { is_enabled: true, is_on: true, ..off() }
    }

    fn next(plan: Sync, part: Part, server: Wait, follower: Follower) -> Next {
        next_step(&Sight { plan, part, server, follower, standstill: Duration::ZERO })
    }

    #[test]
    fn a_follower_that_comes_no_closer_is_close_enough() {
        let history = |text: &str| text.parse::<History>().unwrap();
        for (known, before, looks, expected) in [
            ("0-1-9", None, 0, Follower::HasAll),
            ("0-1-8", None, 0, Follower::Behind),
            ("0-1-8", Some("0-1-7"), PATIENT_LOOKS - 1, Follower::Behind),
            ("0-1-8", Some("0-1-7"), PATIENT_LOOKS, Follower::Close),
            ("0-1-6", Some("0-1-7"), PATIENT_LOOKS, Follower::Behind),
            ("0-1-8", None, PATIENT_LOOKS, Follower::Behind),
        ] {
            let found = how_close(&history(known), &history("0-1-9"), before.map(history).as_ref(), looks);
            assert_eq!(found, expected, "{known} {before:?} {looks}");
        }
    }

    #[test]
    fn a_guarantee_grows_last_and_shrinks_by_command_only() {
        use Follower::{Away, Behind, Close, HasAll};
        use Standing::{Degraded, Open, Promised, Withheld};
        let given_up = Wait { is_on: false, ..on() };
        for (standing, server, follower, expected) in [
            (Open, off(), Away, Next::Wait),
            (Open, off(), Behind, Next::Wait),
            (Open, off(), Close, Next::Enable),
            (Open, off(), HasAll, Next::Enable),
            (Open, Wait { timeout_ms: 10, ..on() }, HasAll, Next::Enable),
            (Open, on(), Close, Next::Wait),
            (Open, Wait { clients: 0, ..on() }, HasAll, Next::Wait),
            (Open, given_up, HasAll, Next::Wait),
            (Open, on(), HasAll, Next::Promise),
            (Open, on(), Away, Next::Disable),
            (Promised, on(), HasAll, Next::Rest),
            (Promised, on(), Away, Next::Rest),
            (Promised, given_up, HasAll, Next::Withhold),
            (Promised, off(), Away, Next::Withhold),
            (Withheld, off(), Away, Next::Enable),
            (Withheld, on(), Away, Next::Wait),
            (Withheld, on(), HasAll, Next::Promise),
            (Degraded, on(), HasAll, Next::Disable),
            (Degraded, off(), HasAll, Next::Rest),
        ] {
            let found = next(ENDLESS, Part::Leader(standing), server, follower);
            assert_eq!(found, expected, "{standing:?} {server:?} {follower:?}");
        }
    }

    #[test]
    fn commits_that_wait_for_a_lost_receipt_are_ended() {
        let next = |server, seconds| {
            let (part, standstill) = (Part::Leader(Standing::Promised), Duration::from_secs(seconds));
            next_step(&Sight { plan: ENDLESS, part, server, follower: Follower::Away, standstill })
        };
        assert_eq!(next(on(), 9), Next::Rest);
        assert_eq!(next(on(), 10), Next::Reopen);
        assert_eq!(next(off(), 10), Next::Withhold);
    }

    #[test]
    fn who_does_not_lead_makes_nobody_wait() {
        assert_eq!(next(ENDLESS, Part::Follower, on(), Follower::Away), Next::Disable);
        assert_eq!(next(ENDLESS, Part::Follower, off(), Follower::Away), Next::Rest);
        assert_eq!(next(ENDLESS, Part::Closed, on(), Follower::Away), Next::Rest);
    }

    #[test]
    fn a_wait_that_ends_by_itself_is_never_promised() {
        let wait = |is_enabled| Wait { is_enabled, is_on: is_enabled, timeout_ms: 500, clients: 1 };
        let part = Part::Leader(Standing::Open);
        assert_eq!(next(FINITE, part, wait(false), Follower::HasAll), Next::Enable);
        assert_eq!(next(FINITE, part, wait(true), Follower::HasAll), Next::Rest);
        assert_eq!(next(FINITE, part, wait(true), Follower::Away), Next::Rest);
        assert_eq!(next(FINITE, part, wait(false), Follower::Away), Next::Wait);
    }
}
