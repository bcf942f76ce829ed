//! The steps of an operation, read off the broker's own requests to the director: a new step is known without a change here.
//! At each of them a test may stop the world and kill the broker.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::proxy::{Hold, Proxy, Seen, Side, Which};

/// A point in an operation: a request of this shape, after that one changed something.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    after: String,
    shape: String,
}

/// Names the step of each request that goes by.
#[derive(Default)]
struct Steps(Mutex<String>);

impl Steps {
    fn name(&self, seen: &Seen) -> Step {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let step = Step { after: last.clone(), shape: seen.shape() };
        if seen.method != "GET" {
            last.clone_from(&step.shape);
        }
        step
    }
}

/// The steps of what was seen, in order, each once, with the sides on which the broker is to die: a lost answer is the
/// hard case; a request that never arrived is another one only where it changes something.
#[must_use]
pub fn kills_of(seen: &[Seen]) -> Vec<(Step, Side)> {
    let steps = Steps::default();
    let mut found: BTreeMap<(Step, Side), usize> = BTreeMap::new();
    for (at, seen) in seen.iter().enumerate() {
        let step = steps.name(seen);
        if seen.method != "GET" {
            found.entry((step.clone(), Side::Before)).or_insert(at);
        }
        found.entry((step, Side::After)).or_insert(at);
    }
    let mut kills: Vec<_> = found.into_iter().collect();
    kills.sort_by_key(|((_, side), at)| (*at, *side));
    kills.into_iter().map(|(kill, _)| kill).collect()
}

/// Hold the first request that is this step, counted from now on.
#[must_use]
pub fn hold(proxy: &Proxy, step: &Step, side: Side) -> Hold {
    let (steps, step) = (Steps::default(), step.clone());
    proxy.hold(side, Which::First, move |seen| steps.name(seen) == step)
}
