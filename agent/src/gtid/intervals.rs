//! PURE. The numbers of one source's transactions, as intervals.

/// First and last; sorted, and none touches another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Intervals(Vec<(u64, u64)>);

impl Intervals {
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The last number of all.
    pub(super) fn last(&self) -> u64 {
        self.0.last().map_or(0, |(_, last)| *last)
    }

    pub(super) fn contain(&self, other: &Intervals) -> bool {
        other.iter().all(|(first, last)| self.iter().any(|(from, to)| from <= first && last <= to))
    }

    pub(super) fn add(&mut self, other: &Intervals) {
        self.0.extend_from_slice(&other.0);
        self.0.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(self.0.len());
        for (first, last) in self.0.drain(..) {
            match merged.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                Some(_) | None => merged.push((first, last)),
            }
        }
        self.0 = merged;
    }

    pub(super) fn minus(&self, other: &Intervals) -> Intervals {
        let cut = |left: Vec<_>, taken| left.into_iter().flat_map(|interval| without(interval, taken)).collect();
        Intervals(other.iter().fold(self.0.clone(), cut))
    }
}

impl From<(u64, u64)> for Intervals {
    fn from(interval: (u64, u64)) -> Intervals {
        Intervals(vec![interval])
    }
}

/// What is left of one interval.
fn without((first, last): (u64, u64), (from, to): (u64, u64)) -> impl Iterator<Item = (u64, u64)> {
    let before = (first < from).then(|| (first, last.min(from - 1)));
    let behind = (to < last).then(|| (first.max(to + 1), last));
    before.into_iter().chain(behind)
}
