//! The broker as the third voter of its pairs (`agent::quorum` has the rules). One voter for each service instance, under a
//! lock of its own, so that pairs do not wait for each other. What a voter must not forget is committed to the state database
//! before the answer leaves; leases are in memory only, and after a restart each voter waits out what it may have granted.
//!
//! Several brokers on one database are one witness, whichever of them a pair asks. The record names the run of the broker
//! that speaks for the voter. Before each answer a broker looks whether that is still itself, and what it writes is written
//! only if it is (compare-and-swap). Another one that is asked takes over by writing its own name, and is then a voter that
//! has just started: it gives no epoch away before the longest lease has run out, counted from after its name was written.
//! A leader counts a lease from when it asked, which was before its broker's look, which was before that name: so every
//! lease that the broker before has granted, or is about to, has run out by then. Two agents that ask two brokers in turn
//! take the voter from each other, which costs writes, and delays an election, but lets no two lead.

mod listener;
mod router;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use agent::quorum::{Record, Voter};
use anyhow::Context;
use uuid::Uuid;

use crate::store::Store;
use crate::store::witness_records::{self, Life};
pub(crate) use listener::{Listener, serve};
pub(crate) use router::router;

/// How often a question is put again because the instance was deleted meanwhile, and perhaps made again.
const ATTEMPTS: u32 = 5;

/// The voters of all pairs.
#[derive(Debug)]
pub(crate) struct Witness {
    store: Store,
    /// Whom the records name as the one who speaks: this run of the program, or, for a file, nobody else than us.
    holder: String,
    /// Where the voters' clock begins. No other process has answered for our pairs since.
    origin: Instant,
    seats: Mutex<HashMap<String, Arc<Seat>>>,
}

/// The place of one pair's voter.
type Seat = tokio::sync::Mutex<State>;

#[derive(Debug)]
enum State {
    /// The record is not read yet. Nothing was granted since the given time.
    Unread(Duration),
    Seated(Life, Voter),
    /// There is no such instance, and the seat is not in the map any more.
    Left,
}

/// The answer to a question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome<T> {
    Answered(T),
    /// There is no such service instance.
    Unknown,
}

impl Witness {
    pub(crate) fn new(store: Store, origin: Instant) -> Witness {
        let holder = if store.is_shared() { Uuid::new_v4().to_string() } else { String::new() };
        Witness { store, holder, origin, seats: Mutex::default() }
    }

    /// Put a question to the voter of the pair whose agents have this name.
    pub(crate) async fn ask<T>(
        &self,
        certificate_name: &str,
        question: impl Fn(&mut Voter, Duration) -> T,
    ) -> anyhow::Result<Outcome<T>> {
        for _ in 0..ATTEMPTS {
            let seat = self.seat(certificate_name);
            let mut state = seat.lock().await;
            match &*state {
                State::Left => continue,
                State::Unread(since) => {
                    let since = *since;
                    self.read(certificate_name, &seat, &mut state, since).await?;
                }
                State::Seated(life, _) if !self.is_ours(life).await? => {
                    self.read(certificate_name, &seat, &mut state, Duration::ZERO).await?;
                }
                State::Seated(..) => {}
            }
            let State::Seated(life, voter) = &mut *state else { return Ok(Outcome::Unknown) };
            // On a copy: what is not written down was not said, also where the write fails or the caller hangs up in it.
            let mut next = voter.clone();
            let answer = question(&mut next, self.origin.elapsed());
            if next.record() == voter.record() || self.save(life, &next).await? {
                *voter = next;
                return Ok(Outcome::Answered(answer));
            }
            self.leave(certificate_name, &seat, &mut state);
        }
        anyhow::bail!("the service instance of {certificate_name} comes and goes")
    }

    /// Whether nobody else may be chosen: one of the two servers goes, and it must not be the leader. Asked before a vote,
    /// which is given only when the lease of the last leader is over; whoever looks for the leader of the pair after the
    /// update was recorded finds the one that was chosen before.
    pub(crate) async fn keeps_leader(&self, certificate_name: &str) -> anyhow::Result<bool> {
        witness_records::keeps_leader(&mut self.store.connection().await?, certificate_name).await
    }

    /// An instance was deleted, or may have been. Always safe: a voter that is read again waits out what it may have granted.
    pub(crate) async fn look_again(&self, certificate_name: &str) {
        let Some(seat) = self.seats().get(certificate_name).cloned() else { return };
        let mut state = seat.lock().await;
        if let State::Left = *state {
            return;
        }
        let since = self.origin.elapsed();
        *state = State::Unread(since);
        if let Err(error) = self.read(certificate_name, &seat, &mut state, since).await {
            tracing::warn!(cause = format!("{error:#}"), "a witness record is read when it is asked for");
        }
    }

    async fn read(
        &self,
        certificate_name: &str,
        seat: &Arc<Seat>,
        state: &mut State,
        since: Duration,
    ) -> anyhow::Result<()> {
        let (found, since) = match self.store.is_shared() {
            // Another broker may have granted something until a moment ago.
            true => (self.take_over(certificate_name).await?, self.origin.elapsed()),
            false => (witness_records::find(&mut self.store.connection().await?, certificate_name).await?, since),
        };
        match found {
            Some((life, record)) => *state = State::Seated(life, Voter::started(record, since)),
            None => self.leave(certificate_name, seat, state),
        }
        Ok(())
    }

    async fn take_over(&self, certificate_name: &str) -> anyhow::Result<Option<(Life, Record)>> {
        let mut tx = self.store.begin().await?;
        let found = witness_records::find(&mut tx, certificate_name).await?;
        if let Some((life, _)) = &found {
            witness_records::hold(&mut tx, life, &self.holder).await?;
            tx.commit().await.context("take over a witness record")?;
        }
        Ok(found)
    }

    /// No other broker has answered for the pair since this one began to.
    async fn is_ours(&self, life: &Life) -> anyhow::Result<bool> {
        if !self.store.is_shared() {
            return Ok(true);
        }
        witness_records::is_held(&mut self.store.connection().await?, life, &self.holder).await
    }

    async fn save(&self, life: &Life, voter: &Voter) -> anyhow::Result<bool> {
        let mut tx = self.store.begin().await?;
        let is_saved = witness_records::save(&mut tx, life, voter.record(), &self.holder).await?;
        tx.commit().await.context("write a witness record")?;
        tracing::info!(instance_id = %life.instance, record = ?voter.record(), is_saved, "the witness has agreed");
        Ok(is_saved)
    }

    fn seat(&self, certificate_name: &str) -> Arc<Seat> {
        let mut seats = self.seats();
        let new = || Arc::new(Seat::new(State::Unread(Duration::ZERO)));
        Arc::clone(seats.entry(certificate_name.to_owned()).or_insert_with(new))
    }

    /// Whoever holds the seat's lock takes it off the map; those who wait for it look for another.
    fn leave(&self, certificate_name: &str, seat: &Arc<Seat>, state: &mut State) {
        *state = State::Left;
        let mut seats = self.seats();
        if seats.get(certificate_name).is_some_and(|there| Arc::ptr_eq(there, seat)) {
            seats.remove(certificate_name);
        }
    }

    /// Never held across a wait.
    fn seats(&self) -> MutexGuard<'_, HashMap<String, Arc<Seat>>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
