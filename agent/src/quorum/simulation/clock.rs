//! True time, and the clocks of the machines, none of which runs quite like it.

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;

/// True time, in microseconds since the schedule began.
pub(super) type Micros = u64;

/// The lease of all schedules.
pub(super) const LEASE: Micros = 1_000_000;

/// From the guard's decision to the server's end.
pub(super) const LONGEST_KILL: Micros = LEASE / 200;
/// How far a clock's rate may be from true time, in parts of a million: a leader's 9/10 of the lease by the slowest clock, and
/// the kill, are over before the whole lease by the fastest: 0.9 / (1 - x) + 0.005 <= 1 / (1 + x), so x <= 1/20. (With a
/// kill that takes no time 1/19.)
const BOUND_PPM: u64 = 50_000;
/// Beyond the bound.
const BROKEN_PPM: u64 = 250_000;
const MILLION: u64 = 1_000_000;

/// A machine's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    offset: Micros,
    /// How many of its microseconds go by in a second of true time.
    rate: u64,
}

impl Clock {
    pub(super) fn random(random: &mut StdRng, is_in_bound: bool, is_extreme: bool) -> Clock {
        let bound = if is_in_bound { BOUND_PPM } else { BROKEN_PPM };
        let rate = match (is_extreme, random.random_bool(0.5)) {
            (true, true) => MILLION - bound,
            (true, false) => MILLION + bound,
            (false, _) => random.random_range(MILLION - bound..=MILLION + bound),
        };
        Clock { offset: random.random_range(0..100 * LEASE), rate }
    }

    /// The same clock after the machine has started again.
    pub(super) fn restarted(self, random: &mut StdRng) -> Clock {
        Clock { offset: random.random_range(0..100 * LEASE), ..self }
    }

    pub(super) fn read(self, now: Micros) -> Duration {
        Duration::from_micros(self.offset + now * self.rate / MILLION)
    }

    /// When it first shows this.
    pub(super) fn shows(self, local: Duration) -> Micros {
        let local = u64::try_from(local.as_micros()).unwrap_or(u64::MAX / MILLION);
        (local.saturating_sub(self.offset) * MILLION).div_ceil(self.rate)
    }
}
