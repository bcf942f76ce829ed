//! The broker as the third voter of its pairs (`agent::quorum` has the rules). One voter for each service instance, under a
//! lock of its own, so that pairs do not wait for each other. What a voter must not forget is committed to the state database
//! before the answer leaves; leases are in memory only, and after a restart each voter waits out what it may have granted.

mod listener;
mod router;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use agent::quorum::Voter;

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
        Witness { store, origin, seats: Mutex::default() }
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
        let found = witness_records::find(&mut *self.store.connection().await?, certificate_name).await?;
        match found {
            Some((life, record)) => *state = State::Seated(life, Voter::started(record, since)),
            None => self.leave(certificate_name, seat, state),
        }
        Ok(())
    }

    async fn save(&self, life: &Life, voter: &Voter) -> anyhow::Result<bool> {
        let is_saved = witness_records::save(&mut *self.store.connection().await?, life, voter.record()).await?;
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
