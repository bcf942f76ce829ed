//! What is to happen, in the order of true time; at the same time, in the order in which it was scheduled.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::clock::Micros;
use super::world::Event;

#[derive(Default)]
pub(super) struct Queue {
    events: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
}

struct Scheduled {
    place: (Micros, u64),
    event: Event,
}

impl Queue {
    pub(super) fn push(&mut self, at: Micros, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse(Scheduled { place: (at, self.scheduled), event }));
    }

    /// The next that happens no later than then.
    pub(super) fn pop_until(&mut self, end: Micros) -> Option<(Micros, Event)> {
        if self.events.peek()?.0.place.0 > end {
            return None;
        }
        self.events.pop().map(|Reverse(next)| (next.place.0, next.event))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Scheduled) -> bool {
        self.place == other.place
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Scheduled) -> Ordering {
        self.place.cmp(&other.place)
    }
}
