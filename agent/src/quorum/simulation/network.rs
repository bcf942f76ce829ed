//! What travels between the three, and what can happen to it: loss, delay, duplication, other orders, cuts in one direction.

use rand::Rng;
use rand::rngs::StdRng;

use super::clock::{LEASE, Micros};
use crate::quorum::{Answer, Ballot, Release, Renewal};

/// A question or an answer.
#[derive(Clone, Debug)]
pub(super) enum Message {
    Renewal(Renewal),
    Ballot(Ballot),
    Release(Release),
    Answer(Answer),
    /// The leader of this epoch wants to hand over.
    Prepare,
    Ticket(u64),
    /// The leader is closed; the epoch is the receiver's, and so is a lease since it gave that ticket.
    Promote {
        ticket: u64,
        epoch: u64,
    },
    Promoted(bool),
}

/// A message on its way; an answer has the number of its question.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) number: u64,
    pub(super) message: Message,
}

/// The links between the three.
#[derive(Clone, Debug, Default)]
pub(super) struct Network {
    /// By sender and receiver.
    is_cut: [[bool; 3]; 3],
    loss_per_mille: u32,
    copies_per_mille: u32,
    late_per_mille: u32,
}

impl Network {
    pub(super) fn random(random: &mut StdRng, is_late: bool) -> Network {
        let mut one_of = |rates: [u32; 3]| rates[random.random_range(0..3)];
        Network {
            is_cut: Default::default(),
            loss_per_mille: one_of([0, 30, 200]),
            copies_per_mille: one_of([0, 30, 100]),
            late_per_mille: if is_late { 300 } else { one_of([0, 50, 300]) },
        }
    }

    pub(super) fn cut(&mut self, from: usize, to: usize) {
        self.is_cut[from][to] = true;
    }

    pub(super) fn mend(&mut self, from: usize, to: usize) {
        self.is_cut[from][to] = false;
    }

    /// How long each copy of a message takes that arrives at all.
    pub(super) fn delays(&self, from: usize, to: usize, random: &mut StdRng) -> [Option<Micros>; 2] {
        if self.is_cut[from][to] || chance(random, self.loss_per_mille) {
            return [None, None];
        }
        let copy = chance(random, self.copies_per_mille).then(|| random.random_range(0..4 * LEASE));
        [Some(self.delay(random)), copy]
    }

    fn delay(&self, random: &mut StdRng) -> Micros {
        if chance(random, self.late_per_mille) {
            return random.random_range(0..4 * LEASE);
        }
        random.random_range(100..LEASE / 50)
    }
}

/// So many times in a thousand.
pub(super) fn chance(random: &mut StdRng, per_mille: u32) -> bool {
    per_mille > 0 && random.random_range(0..1000) < per_mille
}
