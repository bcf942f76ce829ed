//! This agent's part in who leads its pair: its vote, which it keeps on the persistent disk, and the lease of its own
//! leadership. The rules are `quorum.rs` of the library; here they meet the disk and the server.
//!
//! The server is *open* from the moment before it is made writable until it is known to be read-only or dead. An open server
//! gives its vote to nobody, and confirms nobody.

mod campaign;
mod handing;
mod keeper;
mod kept;
mod promise;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent::client::VoterClient;
use agent::quorum::{Answer, Ballot, Lease, Record, Release, Renewal, Voter};
use anyhow::{Context, Result, ensure};
use tokio::sync::Notify;

use crate::clock;
use crate::instance::Instance;

pub(crate) use campaign::{Claim, Poll, campaign, force, poll};
pub(crate) use keeper::{close_now, keep_lease, lease_for_opening, release_to_others, watch_lease};
use kept::{Keeper, Kept};
use promise::Promise;

/// A leader that was chosen by nobody takes an epoch that nobody who is out of reach can have come to.
const FORCED_LEAP: u64 = 100;

/// The agent's part.
pub(crate) struct Leadership {
    me: String,
    lease: Duration,
    /// Without a witness nobody can be chosen without this agent's vote, so a leader needs no lease.
    pub(crate) is_leased: bool,
    /// The plan promises that a failover loses no acknowledged transaction.
    promises_sync: bool,
    state: Mutex<State>,
    /// Only with the state.
    keeper: Mutex<Keeper>,
    /// The other server's agent, then the witness.
    pub(crate) others: Vec<Other>,
    /// Something changed that the loops wait for.
    pub(crate) changed: Notify,
    /// Held while the server is opened or closed, until its guard and this memory know it, so that the one that came later
    /// is what it is.
    pub(crate) gate: tokio::sync::Mutex<()>,
}

/// Who acts next when a leadership is laid down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    OfTheOther,
    OfAnOperator,
}

/// Another voter.
pub(crate) struct Other {
    pub(crate) client: VoterClient,
    pub(crate) is_witness: bool,
}

#[derive(Clone)]
struct State {
    voter: Voter,
    led: u64,
    yielded: u64,
    lease: Lease,
    is_open: bool,
    /// The last epoch in which this agent began to open the server; 0 for none.
    opened: u64,
    /// A human took the place of the other voters, until one of them confirms.
    is_forced: bool,
    promise: Promise,
    /// Another voter knows a later epoch.
    superseded: Option<Record>,
    /// The right to promote this follower that was given last, and when.
    ticket: Option<(u64, Duration)>,
}

impl Leadership {
    /// What was kept. A file that is there and cannot be read stops the agent: a vote that is forgotten could be given twice.
    pub(crate) fn new(instance: &Instance) -> Result<Leadership> {
        let (keeper, kept) = Keeper::open(instance.store().join("leadership"))?;
        let pair = instance.pair.as_ref();
        let lease = pair.map_or(Duration::ZERO, |pair| pair.lease);
        let mut others = Vec::new();
        if let Some(pair) = pair {
            let agent = VoterClient::agent(pair.peer.address, &instance.spec.deployment, &instance.tls);
            others.push(Other { client: agent.context("property tls is not usable")?, is_witness: false });
            if let Some(witness) = &pair.witness {
                let client = VoterClient::witness(&witness.host, witness.port, &instance.tls);
                others.push(Other { client: client.context("property tls is not usable")?, is_witness: true });
            }
        }
        let state = State {
            voter: Voter::started(kept.record, clock::now()),
            led: kept.led,
            yielded: kept.yielded,
            lease: Lease::new(lease),
            // A server that an earlier agent has left may be writable.
            is_open: true,
            opened: 0,
            is_forced: false,
            promise: kept.promise,
            superseded: None,
            ticket: None,
        };
        let is_leased = others.iter().any(|other| other.is_witness);
        Ok(Leadership {
            me: instance.name(),
            lease,
            is_leased,
            promises_sync: instance.promises_sync(),
            state: Mutex::new(state),
            keeper: Mutex::new(keeper),
            others,
            changed: Notify::new(),
            gate: tokio::sync::Mutex::new(()),
        })
    }

    pub(crate) fn record(&self) -> Record {
        self.state().voter.record().clone()
    }

    pub(crate) fn led(&self) -> u64 {
        self.state().led
    }

    /// This server laid its leadership down for the other one, and not because an operator wants nobody to lead.
    pub(crate) fn has_yielded(&self) -> bool {
        let state = self.state();
        state.yielded == state.voter.record().epoch
    }

    /// The epoch that is this server's, where one is.
    pub(crate) fn own_epoch(&self) -> Option<u64> {
        self.owned(&self.state())
    }

    /// May this server be writable, as far as its lease goes?
    pub(crate) fn may_write(&self) -> bool {
        let state = self.state();
        !self.is_leased || state.is_forced || state.lease.is_held(clock::now())
    }

    /// The other server has had its lease confirmed here not long ago.
    pub(crate) fn hears_a_leader(&self) -> bool {
        self.state().voter.is_leased(clock::now())
    }

    /// How much of the lease is left, where there is one.
    pub(crate) fn lease_left(&self) -> Option<Duration> {
        let state = self.state();
        let end = state.lease.closes_at().filter(|_| self.is_leased && self.owned(&state).is_some())?;
        Some(end.saturating_sub(clock::now()))
    }

    /// Another server's question. An open server lets nobody pass; it closes first.
    pub(crate) fn answer_renewal(&self, renewal: &Renewal) -> Result<Answer> {
        let answer = self.change(|me, state, now| {
            let record = state.voter.record().clone();
            if renewal.leader == me.me {
                return Answer::Refused(record);
            }
            if state.is_open {
                if renewal.epoch > record.epoch {
                    state.superseded = Some(renewal.record());
                }
                return Answer::Refused(record);
            }
            state.voter.renew(renewal, now)
        })?;
        self.changed.notify_waiters();
        Ok(answer)
    }

    /// Another server's candidature.
    pub(crate) fn answer_ballot(&self, ballot: &Ballot) -> Result<Answer> {
        self.change(|me, state, now| match state.is_open && ballot.leader != me.me {
            true => Answer::Refused(state.voter.record().clone()),
            false => state.voter.vote(ballot, now),
        })
    }

    /// Another server lays its leadership down.
    pub(crate) fn answer_release(&self, release: &Release) -> Result<()> {
        self.change(|_, state, now| state.voter.release(release, now))
    }

    /// Agree to what another voter has agreed to. The server is closed.
    pub(crate) fn adopt(&self, record: &Record) -> Result<()> {
        self.change(|me, state, now| {
            let Some(leader) = record.leader.clone().filter(|_| !state.is_open) else { return };
            if leader == me.me {
                me.vote_for_me(state, record.epoch, now);
                return;
            }
            let Record { epoch, lease_ms, in_sync, withdrawals, .. } = *record;
            let renewal = Renewal { epoch, leader: leader.clone(), lease_ms, in_sync, withdrawals };
            state.voter.renew(&renewal, now);
            if record.is_vacant {
                state.voter.release(&Release { epoch, leader }, now);
            }
        })
    }

    /// The server is about to be made writable; says under which epoch. From here on it counts as writable.
    pub(crate) fn begin_opening(&self) -> Result<u64> {
        let mut state = self.state();
        let epoch = self.owned(&state).context("the leadership is not this server's")?;
        ensure!(
            !self.is_leased || state.is_forced || state.lease.is_held(clock::now()),
            "neither the other server's agent nor the witness has confirmed in time that this server leads"
        );
        state.is_open = true;
        Ok(epoch)
    }

    /// The server is told now to be writable under this epoch.
    pub(crate) fn opens(&self, epoch: u64) {
        self.state().opened = epoch;
    }

    /// When the guard must end a server that is still writable.
    pub(crate) fn lease_end(&self) -> Option<Duration> {
        let state = self.state();
        state.lease.ends_at().filter(|_| self.is_leased && !state.is_forced)
    }

    /// The server is known to be read-only, or not to run.
    pub(crate) fn closed(&self) {
        self.state().is_open = false;
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state().is_open
    }

    /// The server may have acknowledged something as the leader that this agent made it last, whatever became of it since.
    pub(crate) fn has_opened(&self) -> bool {
        let state = self.state();
        state.led != 0 && state.opened == state.led
    }

    /// This server, which is closed, does not write under its epoch again.
    pub(crate) fn lay_down(&self, whose_turn: Turn) -> Result<Option<Release>> {
        self.change(|me, state, now| {
            state.yielded = match whose_turn {
                Turn::OfTheOther => me.owned(state).unwrap_or(state.yielded),
                Turn::OfAnOperator => 0,
            };
            let release = Release { epoch: me.owned(state)?, leader: me.me.clone() };
            state.voter.release(&release, now);
            state.lease.lost();
            Some(release)
        })
    }

    /// This server follows again: what it had as a leader is in its leader's history, or saved.
    pub(crate) fn has_followed(&self) -> Result<()> {
        self.change(|_, state, _| state.led = 0)
    }

    fn owned(&self, state: &State) -> Option<u64> {
        let record = state.voter.record();
        (record.leader.as_ref() == Some(&self.me) && !record.is_vacant).then_some(record.epoch)
    }

    fn vote_for_me(&self, state: &mut State, epoch: u64, now: Duration) -> bool {
        let ballot = Ballot { epoch, leader: self.me.clone(), is_canvass: false };
        let is_granted = matches!(state.voter.vote(&ballot, now), Answer::Granted(_));
        if is_granted {
            // An answer about an earlier epoch is no lease for this one.
            state.lease.lost();
            state.led = epoch;
            state.superseded = None;
        }
        is_granted
    }

    /// Change the state; what must not be forgotten is on the disk before anybody sees the change.
    fn change<T>(&self, act: impl FnOnce(&Leadership, &mut State, Duration) -> T) -> Result<T> {
        let mut state = self.state();
        let mut changed = state.clone();
        let done = act(self, &mut changed, clock::now());
        if changed.kept() != state.kept() {
            self.keeper().keep(&changed.kept())?;
        }
        *state = changed;
        Ok(done)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keeper(&self) -> MutexGuard<'_, Keeper> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn kept(&self) -> Kept {
        Kept { record: self.voter.record().clone(), led: self.led, yielded: self.yielded, promise: self.promise }
    }
}
