//! A leadership that goes from one server to the other without an election: the leader closes and votes for its successor, which
//! votes for itself.

use std::time::Duration;

use agent::quorum::{Ballot, Record, Release, Renewal};
use anyhow::{Context, Result, ensure};

use super::{Leadership, State};
use crate::clock;

impl Leadership {
    /// This server gives its leadership to `successor`, if it is closed: the epoch of that.
    pub(crate) fn hand_over(&self, successor: &str) -> Result<u64> {
        let handed = self.change(|me, state, now| if state.is_open { None } else { me.give(state, successor, now) })?;
        handed.context("this server was opened, or another one was chosen to lead meanwhile")
    }

    fn give(&self, state: &mut State, successor: &str, now: Duration) -> Option<u64> {
        let epoch = self.owned(state)?;
        let lease_ms = u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX);
        state.voter.release(&Release { epoch, leader: self.me.clone() }, now);
        state.voter.vote(&Ballot { epoch: epoch + 1, leader: successor.into(), is_canvass: false }, now);
        let leader = successor.to_owned();
        // The successor counts its lease from this vote.
        let renewal = Renewal { epoch: epoch + 1, leader, lease_ms, in_sync: false, withdrawals: 0 };
        state.voter.renew(&renewal, now);
        state.lease.lost();
        Some(epoch + 1)
    }

    /// The leader, which has closed, gave its leadership to this server, under a ticket that was issued at `issued`: the lease
    /// counts from then, since the leader voted later.
    pub(crate) fn take_over(&self, epoch: u64, issued: Duration) -> Result<()> {
        let is_taken = self.change(|me, state, now| {
            let is_taken = me.take(state, epoch, now);
            if is_taken {
                state.lease.confirmed(issued);
            }
            is_taken
        })?;
        ensure!(is_taken, "a later leadership than epoch {epoch} is known here; run switchover again");
        Ok(())
    }

    fn take(&self, state: &mut State, epoch: u64, now: Duration) -> bool {
        if state.voter.record().epoch < epoch {
            self.release_leader(state, now);
        }
        self.vote_for_me(state, epoch, now)
    }

    /// A new right to promote this follower; every earlier one is void.
    pub(crate) fn issue_ticket(&self, ticket: u64) {
        self.state().ticket = Some((ticket, clock::now()));
    }

    /// Use the right up; says when it was given. None where it is not the last one that was given.
    pub(crate) fn redeem_ticket(&self, ticket: u64) -> Option<Duration> {
        self.state().ticket.take().filter(|(issued, _)| *issued == ticket).map(|(_, at)| at)
    }

    /// The leader of the record has agreed to another one, so it is closed and this voter need not wait for its lease.
    pub(super) fn release_leader(&self, state: &mut State, now: Duration) {
        let Record { epoch, leader, .. } = state.voter.record().clone();
        if let Some(leader) = leader.filter(|leader| *leader != self.me) {
            state.voter.release(&Release { epoch, leader }, now);
        }
    }
}
