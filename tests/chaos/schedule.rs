//! PURE. A schedule: what happens in a cell and when, all of it chosen by the seed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::cell::{Cell, Errand, Fault};

/// When the fault and the errand come together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The errand begins this long after the fault.
    FaultFirst(Duration),
    /// The fault comes this long after the errand began.
    ErrandFirst(Duration),
    /// The fault comes when the errand says its n-th line, or ends.
    AtLine(usize),
}

/// One schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub(crate) cell: Cell,
    pub(crate) seed: u64,
    pub(crate) order: Order,
    /// From the fault to its end.
    pub(crate) duration: Duration,
}

/// The longest fault.
const LONGEST: Duration = Duration::from_secs(60);

/// The schedule of a cell and a seed.
pub(crate) fn schedule(cell: Cell, seed: u64, lease: Duration) -> Schedule {
    let mut random = StdRng::seed_from_u64(seed);
    let order = order(&mut random, cell.errand, lease);
    // A promotion takes time; a fault that ends earlier only shows that it is refused.
    let (short, middle) = if cell.errand.is_for_a_lost_leader() { (10, 20) } else { (45, 80) };
    let duration = match random.random_range(0..100) {
        _ if cell.fault == Fault::Nothing => Duration::ZERO,
        chance if chance < short => between(&mut random, lease / 20, lease / 2),
        chance if chance < middle => between(&mut random, lease / 2, lease * 2),
        chance if chance < 97 => between(&mut random, lease * 2, lease * 6),
        _ => between(&mut random, lease * 4, LONGEST),
    };
    Schedule { cell, seed, order, duration }
}

fn order(random: &mut StdRng, errand: Errand, lease: Duration) -> Order {
    match (errand.is_for_a_lost_leader(), random.random_range(0..10)) {
        (true, 0..8) | (false, 0..2) => Order::FaultFirst(between(random, Duration::ZERO, lease)),
        (_, 2..6) => Order::AtLine(random.random_range(1..=5)),
        (_, _) => Order::ErrandFirst(between(random, Duration::ZERO, Duration::from_millis(150))),
    }
}

fn between(random: &mut StdRng, least: Duration, most: Duration) -> Duration {
    Duration::from_micros(random.random_range(least.as_micros() as u64..=most.as_micros() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_schedule_each_time_and_bounded_ones_only() {
        let cell: Cell = "network/mariadb/async/cut-leader-off/make-leader".parse().unwrap();
        let lease = Duration::from_secs(2);
        for seed in 0..1000 {
            let first = schedule(cell, seed, lease);
            assert_eq!(schedule(cell, seed, lease), first);
            assert!(first.duration >= lease / 20 && first.duration <= LONGEST, "{first:?}");
        }
    }
}
